# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One episode on the control clock: what alignment produces and a dataset stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.quality.labels import stream_labels, unstamped_labels

__all__ = ['AlignedEpisode', 'AlignReport', 'stream_labels', 'StreamReport', 'unstamped_labels']


@dataclass(frozen=True)
class StreamReport:
    """
    How one stream came, and how well it meets the ticks.

    Attributes
    ----------
    name
        Kind and name, as in the dataset's column ``skew.NAME``.
    messages
        Messages that were read and used.
    stamped
        False where the messages have no header: receive times stand for stamps.
    rate_hz, gaps, longest_s
        Mean rate; intervals over 1.5 times the usual one; the longest interval.
    skew_p50_s, skew_p99_s
        Quantiles over the ticks, seconds.
    repeated
        Ticks that took the same sample as the tick before them.
    rejected
        Messages that were not used, by cause.

    """

    name: str
    topic: str
    messages: int
    stamped: bool
    rate_hz: float
    gaps: int
    longest_s: float
    skew_p50_s: float
    skew_p99_s: float
    repeated: int
    rejected: Mapping[str, int]


@dataclass(frozen=True)
class AlignReport:
    """
    What alignment found in one episode.

    Attributes
    ----------
    streams
        One entry a stream, cameras first.
    flagged
        Ticks with a skew over the contract's bound.
    lost_ticks
        Ticks missing at the end because a stream stopped before its like.
    limits
        Which stream set the first and which the last tick.
    trimmed_s
        Recorded time before the first and after the last tick.
    lag_s, lag_correlation
        How long the state follows the action, and how surely; None if it cannot be told.

    """

    streams: tuple[StreamReport, ...]
    flagged: int
    lost_ticks: int
    limits: tuple[str, str]
    trimmed_s: tuple[float, float]
    lag_s: float | None
    lag_correlation: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class AlignedEpisode:
    """
    One episode, one row a tick.

    Attributes
    ----------
    ticks_ns
        (T,) int64, the stamp of every row.
    pictures
        For each camera, something that yields T pictures (H, W, 3) uint8 of the contract's size,
        each time it is iterated. They may be read from the recording then, and iterating raises
        UserError if it does not give what was picked. Cameras that are iterated in turns, a
        picture of each, share what is read.
    state, action, evaluation
        (T, S), (T, A), (T, E) float32; only ``evaluation`` may hold NaN (not recorded).
    skew_s
        For each stream (T,) float32 seconds: how far the sample used is from the tick; NaN where
        that is unknown, infinite never.
    flagged
        (T,) bool: some skew is over the contract's bound.

    """

    ticks_ns: NDArray[np.int64]
    pictures: Mapping[str, Iterable[NDArray[np.uint8]]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    evaluation: NDArray[np.float32]
    skew_s: Mapping[str, NDArray[np.float32]]
    flagged: NDArray[np.bool_]
    report: AlignReport | None = field(default=None)

    def frames(self, camera: str) -> NDArray[np.uint8]:
        """All pictures of a camera, (T, H, W, 3) uint8."""
        return np.stack(list(self.pictures[camera]))
