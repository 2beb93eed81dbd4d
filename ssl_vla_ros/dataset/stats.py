# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Statistics of a dataset's features, exact over all of its data.

Vectors are kept whole until the end. Pictures have 256 values a channel, so their counts by value
say everything: minimum, maximum, mean, deviation and any quantile, exactly, without the pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

QUANTILES: Mapping[str, float] = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
Stats = dict[str, NDArray[Any]]


def vector_stats(values: NDArray[Any]) -> Stats:
    """
    Statistics of (N, D) values by column; NaN is left out.

    Returns
    -------
    dict
        min, max, mean, std (ddof 0), q01 … q99 of shape (D,) float64 and count (1,) int64, the
        number of rows. A column without a single number gets NaN.

    """
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    quantiles = list(QUANTILES.values())
    shape = values.shape[1:]
    names = ('min', 'max', 'mean', 'std', *QUANTILES)
    stats: Stats = {name: np.full(shape, np.nan) for name in names}
    for column in range(values.shape[1]):
        numbers = values[:, column]
        numbers = numbers[~np.isnan(numbers)]
        if numbers.size:
            found = (numbers.min(), numbers.max(), numbers.mean(), numbers.std(),
                     *np.quantile(numbers, quantiles))
            for name, value in zip(names, found, strict=True):
                stats[name][column] = value
    stats['count'] = np.array([len(values)], dtype=np.int64)
    return stats


class ImageStats:
    """Counts by value and channel of many pictures; sums of two are the counts of both."""

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros((3, 256), dtype=np.int64)
        self.frames = 0

    @classmethod
    def of(cls, counts: NDArray[np.int64], frames: int) -> ImageStats:
        """Make them from (3, 256) counts of ``frames`` pictures."""
        made = cls()
        made.counts, made.frames = counts.astype(np.int64), frames
        return made

    def add(self, frame: NDArray[np.uint8]) -> None:
        """Count one (H, W, 3) uint8 picture."""
        for channel in range(3):
            # Counts come as float32, exact below 2**24: one picture at a time stays below.
            found = cv2.calcHist([frame], [channel], None, [256], [0.0, 256.0])
            self.counts[channel] += found.reshape(-1).astype(np.int64)
        self.frames += 1

    def merge(self, other: ImageStats) -> None:
        """Add the counts of ``other``."""
        self.counts += other.counts
        self.frames += other.frames

    def result(self) -> Stats:
        """Statistics in [0, 1], shape (3, 1, 1), and count (1,): the number of pictures."""
        levels = np.arange(256) / 255.0
        total = self.counts.sum(axis=1)
        if not total.all():
            raise ValueError('no picture was counted')
        mean = self.counts @ levels / total
        variance = (self.counts * np.square(levels - mean[:, None])).sum(axis=1) / total
        stats: Stats = {
            'min': np.array([levels[np.flatnonzero(row)[0]] for row in self.counts]),
            'max': np.array([levels[np.flatnonzero(row)[-1]] for row in self.counts]),
            'mean': mean,
            'std': np.sqrt(variance),
        }
        for name, quantile in QUANTILES.items():
            stats[name] = np.array([_quantile(row, levels, quantile) for row in self.counts])
        shaped: Stats = {name: value.reshape(3, 1, 1) for name, value in stats.items()}
        shaped['count'] = np.array([self.frames], dtype=np.int64)
        return shaped


def _quantile(counts: NDArray[np.int64], levels: NDArray[np.float64], quantile: float) -> float:
    """``np.quantile(np.repeat(levels, counts), quantile)`` without the repetition."""
    upto = np.cumsum(counts)
    place = quantile * float(upto[-1] - 1)
    low = int(np.floor(place))
    high = min(low + 1, int(upto[-1]) - 1)
    first, second = (float(levels[np.searchsorted(upto, rank, side='right')])
                     for rank in (low, high))
    return first + (second - first) * (place - low)


def jsonable(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    """
    Statistics as JSON-ready lists.

    A feature with a column that never held a number is left out: JSON has no NaN, and zero
    would claim a value nobody measured.
    """
    return {
        name: {key: value.tolist() for key, value in entry.items()}
        for name, entry in stats.items()
        if all(np.isfinite(value).all() for value in entry.values())}
