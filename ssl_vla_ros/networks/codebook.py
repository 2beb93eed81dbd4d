# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A visual vocabulary: rows of a codebook, and which of them is nearest."""

from __future__ import annotations

import torch
from torch import nn, Tensor

_ROUNDS = 20
#: Rows that the codebook is fitted on, for each word.
_ROWS_A_WORD = 64


class Codebook(nn.Module):
    """
    A frozen codebook, found by k-means.

    Parameters
    ----------
    words
        Rows of the codebook.
    size
        Numbers of a row.

    Raises
    ------
    ValueError
        If there are fewer than two words.

    """

    def __init__(self, words: int, size: int) -> None:
        super().__init__()
        if words < 2:
            raise ValueError(f'tokens is {words}, must be at least 2')
        self.register_buffer('rows', torch.zeros(words, size))

    @torch.no_grad()
    def fit(self, samples: Tensor) -> None:
        """
        Find the words among samples (N, size): k-means, seeded by the samples themselves.

        A word that no sample is nearest to is put where the sample is that is farthest from its
        own word: none stays unused. Equal samples count once for that, as often as they occur for
        the means.

        Raises
        ------
        ValueError
            If there are fewer different samples than words.

        """
        book = self.get_buffer('rows')
        words = len(book)
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(samples), generator=generator)[:words * _ROWS_A_WORD]
        rows, times = samples[order.to(samples.device)].float().unique(dim=0, return_counts=True)
        if len(rows) < words:
            raise ValueError(
                f'of {len(order)} patches of the training split {len(rows)} are different, fewer '
                f'than the {words} words of the vocabulary; lower model.tokens')
        pick = torch.randperm(len(rows), generator=generator)[:words]
        book.copy_(rows[pick.to(rows.device)])
        for _ in range(_ROUNDS):
            nearest, distance = self._nearest(rows)
            count = torch.zeros_like(book[:, 0]).index_add_(0, nearest, times.float())
            total = torch.zeros_like(book).index_add_(0, nearest, rows * times[:, None])
            book.copy_(torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], book))
            self._reseat(rows, count == 0, distance)
        # The last means may have left a word without a sample; without new means, each that is
        # put on a sample keeps it.
        for _ in range(words):
            nearest, distance = self._nearest(rows)
            empty = torch.bincount(nearest, minlength=words) == 0
            if not bool(empty.any()):
                return
            self._reseat(rows, empty, distance)
        raise ValueError(
            f'patches of the training split differ too little for the {words} words of the '
            'vocabulary; lower model.tokens')

    def _reseat(self, rows: Tensor, empty: Tensor, distance: Tensor) -> None:
        """Put words without a sample where samples are farthest from the nearest word."""
        book = self.get_buffer('rows')
        book[empty] = rows[distance.argsort(descending=True, stable=True)[:int(empty.sum())]]

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Word (N,) and squared distance (N,)."""
        # Taken from their middle: far from zero, float32 has no room for what tells them apart.
        middle = self.get_buffer('rows').mean(dim=0)
        book, samples = self.get_buffer('rows') - middle, rows.float() - middle
        score = book.square().sum(dim=1) - 2.0 * samples @ book.T
        distance, nearest = score.min(dim=1)
        return nearest, distance + samples.square().sum(dim=1)

    @torch.no_grad()
    def forward(self, rows: Tensor) -> Tensor:
        """Words (…,) of rows (…, size)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self._nearest(rows.flatten(0, -2))[0].view(rows.shape[:-1])
