# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Batches as a function of seed and step.

Batch ``i`` depends on nothing but the seed and ``i``: a run that was killed and resumed sees what
it would have seen, without any state of a sampler to store.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.errors import DatasetError
import torch
from torch import Tensor
from torch.utils.data import get_worker_info, IterableDataset


class BatchSource(Protocol):
    """Anything that gives batch ``step`` of a run, and rows to take statistics of."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """Batch number ``step``."""
        ...

    def statistics_rows(self) -> dict[str, Tensor]:
        """Rows of the training split, for normalisation."""
        ...


def episode_rows(lengths: Sequence[int], episodes: Sequence[int]) -> NDArray[np.int64]:
    """Row numbers of the given episodes, of a dataset with episodes of ``lengths`` rows."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    if not episodes:
        return np.zeros(0, dtype=np.int64)
    return np.concatenate([
        np.arange(starts[episode], starts[episode + 1]) for episode in episodes])


@dataclass(frozen=True)
class Table:
    """Rows of a dataset without pixels: features, state and actions, with episode lengths."""

    features: NDArray[np.float32]   # (N, tokens, dim)
    state: NDArray[np.float32]      # (N, S)
    actions: NDArray[np.float32]    # (N, A)
    lengths: tuple[int, ...]


class WindowSource:
    """
    Windows over consecutive rows of one episode.

    A window around row ``t`` holds ``history`` frames up to ``t`` (the first repeated at an
    episode's start) and ``chunk`` actions from ``t`` on (the last repeated past its end, marked
    not ``valid``). With ``whole=True`` only windows that lie inside their episode are drawn, and
    frames and actions cover it all: what a world model needs. ``split`` names the episodes in
    error messages.
    """

    def __init__(self, table: Table, episodes: Sequence[int], *, history: int, chunk: int,
                 batch_size: int, seed: int, whole: bool = False, split: str = 'training'
                 ) -> None:
        self._table = table
        self._history = history
        self._chunk = chunk
        self._batch_size = batch_size
        self._seed = seed
        self._whole = whole
        starts = np.concatenate([[0], np.cumsum(table.lengths)])
        self._rows = episode_rows(table.lengths, episodes)
        self._first = np.concatenate([
            np.full(table.lengths[e], starts[e]) for e in episodes]
            or [np.zeros(0, dtype=np.int64)])
        self._last = np.concatenate([
            np.full(table.lengths[e], starts[e + 1] - 1) for e in episodes]
            or [np.zeros(0, dtype=np.int64)])
        inside = np.ones(len(self._rows), dtype=bool)
        if whole:
            inside = ((self._rows - (history - 1) >= self._first)
                      & (self._rows + chunk <= self._last))
        self._draw = np.flatnonzero(inside)
        if len(self._draw) == 0:
            raise DatasetError(
                f'no episode of the {split} split holds a window of '
                f'{history + chunk if whole else 1} rows; '
                'record longer episodes, or shorten context or horizon')

    def batch(self, step: int) -> dict[str, Tensor]:
        """Features, state, actions and ``valid`` of ``batch_size`` random windows."""
        rng = np.random.default_rng([self._seed, step])
        return self.windows(rng.choice(self._draw, self._batch_size))

    def all_windows(self) -> NDArray[np.int64]:
        """Numbers of every window, for evaluation."""
        return self._draw

    def windows(self, pick: NDArray[np.int64]) -> dict[str, Tensor]:
        """Gather the windows with the given numbers."""
        row, first, last = self._rows[pick], self._first[pick], self._last[pick]
        table = self._table
        if self._whole:
            span = row[:, None] + np.arange(1 - self._history, self._chunk + 1)
            return {'features': torch.from_numpy(table.features[span]),
                    'actions': torch.from_numpy(table.actions[span[:, :-1]])}
        past = np.maximum(row[:, None] + np.arange(1 - self._history, 1), first[:, None])
        ahead = row[:, None] + np.arange(self._chunk)
        valid = ahead <= last[:, None]
        ahead = np.minimum(ahead, last[:, None])
        return {'features': torch.from_numpy(table.features[past]),
                'state': torch.from_numpy(table.state[past]),
                'actions': torch.from_numpy(table.actions[ahead]),
                'valid': torch.from_numpy(valid)}

    def statistics_rows(self) -> dict[str, Tensor]:
        """Every row of the training split."""
        rows, table = self._rows, self._table
        return {'features': torch.from_numpy(table.features[rows]),
                'state': torch.from_numpy(table.state[rows]),
                'actions': torch.from_numpy(table.actions[rows])}


class StepDataset(IterableDataset[tuple[int, dict[str, Tensor]]]):
    """Batches ``first`` … ``count − 1``, numbered; ``first`` is set before training goes on."""

    def __init__(self, source: BatchSource, count: int) -> None:
        super().__init__()
        self._source = source
        self._count = count
        self.first = 0

    def __iter__(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Batches from ``first`` on; with several workers, each gives every other one."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(self.first + worker, self._count, workers):
            yield number, self._source.batch(number)
