# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""When the arm moves and how far: what frozen pictures and idle time are held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.quality.stamps import Floats, SECOND, Stamps
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.values import Numbers
from ssl_vla_ros.quality.verdict import DOUBTFUL, Reason


class Motion:
    """
    The positions of an episode's state on one even grid.

    Parameters
    ----------
    streams
        State streams; those that hold positions are used, or all if none does.
    rate_hz
        Of the grid.

    """

    def __init__(self, streams: Sequence[Numbers], rate_hz: float) -> None:
        streams = [item for item in streams if len(item.stamps) > 1]
        used = [item for item in streams if item.positions] or list(streams)
        self.stamps: Stamps = np.empty(0, dtype=np.int64)
        self.values: Floats = np.empty((0, 0))
        self._rate_hz = rate_hz
        if not used:
            return
        begin = max(int(item.stamps[0]) for item in used)
        end = min(int(item.stamps[-1]) for item in used)
        if end <= begin:
            return
        self.stamps = np.arange(begin, end + 1, round(SECOND / rate_hz), dtype=np.int64)
        self.values = np.concatenate([item.at(self.stamps) for item in used], axis=1)

    @property
    def known(self) -> bool:
        """Whether there is any state to tell motion from."""
        return len(self.stamps) > 1

    def between(self, stamps: Stamps) -> Floats:
        """How far the farthest value moved from each stamp to the next, (len - 1,)."""
        if not self.known:
            return np.full(max(len(stamps) - 1, 0), np.inf)
        seconds = (self.stamps - self.stamps[0]) / SECOND
        asked = (stamps - self.stamps[0]) / SECOND
        there = np.stack([np.interp(asked, seconds, column) for column in self.values.T], axis=1)
        return np.asarray(np.abs(np.diff(there, axis=0)).max(axis=1))

    def travel(self, begin: int, end: int) -> float:
        """How far the farthest value ranged from one stamp to another."""
        if not self.known:
            return float('inf')
        first, last = np.searchsorted(self.stamps, (begin, end))
        part = self.values[max(first - 1, 0):last + 1]
        return float(np.ptp(part, axis=0).max()) if len(part) else 0.0

    def moving(self, window_s: float, motion: float) -> NDArray[np.bool_]:
        """Whether some value ranges over ``motion`` within ``window_s`` about each grid point."""
        half = max(1, round(0.5 * window_s * self._rate_hz))
        wide = np.zeros(len(self.stamps))
        low, high = self.values.copy(), self.values.copy()
        for shift in range(1, half + 1):
            for there, here in ((slice(shift, None), slice(None, -shift)),
                                (slice(None, -shift), slice(shift, None))):
                low[here] = np.minimum(low[here], self.values[there])
                high[here] = np.maximum(high[here], self.values[there])
        if self.values.shape[1]:
            wide = (high - low).max(axis=1)
        return np.asarray(wide > motion)


def check_idle(motion: Motion, thresholds: Thresholds) -> Iterator[Reason]:
    """Doubt an episode in which the arm mostly rests, or rests long at its ends."""
    if not motion.known:
        return
    moving = motion.moving(thresholds.idle_window_s, thresholds.idle_motion)
    length_s = float((motion.stamps[-1] - motion.stamps[0]) / SECOND)
    share = 1.0 - float(moving.mean())
    if share > thresholds.idle_doubtful:
        longest_s = _longest(moving) * length_s
        yield Reason(
            'idle', DOUBTFUL, '', share, thresholds.idle_doubtful,
            f'the arm rests in {share:.0%} of the episode (for up to {longest_s:.1f} s): record '
            'what the task needs, or trim')
    busy = np.flatnonzero(moving)
    if not len(busy):
        return
    seconds = (motion.stamps - motion.stamps[0]) / SECOND
    start_s, end_s = float(seconds[busy[0]]), float(seconds[-1] - seconds[busy[-1]])
    for key, rests_s, where, option in (
            ('idle_start', start_s, 'at its start', f'--start {start_s:.1f}'),
            ('idle_end', end_s, 'at its end', f'--end {length_s - end_s:.1f}')):
        if rests_s > thresholds.idle_edge_s:
            yield Reason(
                key, DOUBTFUL, '', rests_s, thresholds.idle_edge_s,
                f'the arm rests for {rests_s:.1f} s {where}: `ssl_vla episodes trim` with '
                f'{option} cuts it off')


def _longest(moving: NDArray[np.bool_]) -> float:
    """Longest idle stretch as a share of the whole."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], moving, [True]])))
    stretches = edges[1::2] - edges[::2]
    return float(stretches.max(initial=0)) / len(moving)
