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
        own word: none stays unused.

        Raises
        ------
        ValueError
            If there are fewer different samples than words.

        """
        book = self.get_buffer('rows')
        words = len(book)
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(len(samples), generator=generator)[:words * _ROWS_A_WORD]
        rows = samples[order.to(samples.device)].float()
        distinct = rows.unique(dim=0)
        if len(distinct) < words:
            raise ValueError(
                f'the training split has {len(distinct)} different patches, fewer than the '
                f'{words} words of the vocabulary; lower model.tokens')
        pick = torch.randperm(len(distinct), generator=generator)[:words]
        book.copy_(distinct[pick.to(rows.device)])
        for _ in range(_ROUNDS):
            nearest, distance = self._nearest(rows)
            count = torch.bincount(nearest, minlength=words)
            total = torch.zeros_like(book).index_add_(0, nearest, rows)
            book.copy_(torch.where(count[:, None] > 0, total / count.clamp_min(1)[:, None], book))
            empty = (count == 0).nonzero()[:, 0]
            if len(empty):
                book[empty] = rows[distance.argsort(descending=True)[:len(empty)]]

    def _nearest(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Word (N,) and squared distance (N,), less the square of the row itself."""
        book = self.get_buffer('rows')
        score = book.square().sum(dim=1) - 2.0 * rows.float() @ book.T
        distance, nearest = score.min(dim=1)
        return nearest, distance + rows.float().square().sum(dim=1)

    @torch.no_grad()
    def forward(self, rows: Tensor) -> Tensor:
        """Words (…,) of rows (…, size)."""
        with torch.autocast(rows.device.type, enabled=False):
            return self._nearest(rows.flatten(0, -2))[0].view(rows.shape[:-1])
