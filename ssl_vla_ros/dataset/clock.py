# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
From stamps to the ticks of the control clock: pure functions over arrays of nanoseconds.

Stamps stay integers all the way, so nothing drifts. Each ``pick_*`` function answers, for every
tick, which sample it takes and how far off that sample is (its skew); none ever decides that a
skew is acceptable, that is for the caller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.quality.lag import command_lag
from ssl_vla_ros.quality.stamps import (
    Floats, GAP_FACTOR, rhythm, SECOND, split_rising as keep_rising, Stamps)

__all__ = ['command_lag', 'Floats', 'GAP_FACTOR', 'interpolate', 'intervals', 'keep_rising',
           'make_ticks', 'pick_nearest', 'pick_next', 'Picked', 'SECOND', 'Stamps']


@dataclass(frozen=True)
class Picked:
    """For every tick: the sample's index (-1: none) and its skew in seconds (inf: none)."""

    index: NDArray[np.int64]
    skew_s: Floats


def make_ticks(phase_ns: int, from_ns: int, to_ns: int, rate_hz: int) -> Stamps:
    """
    Ticks ``phase_ns + i / rate_hz`` (i any whole number) from ``from_ns`` to ``to_ns``, inclusive.

    Each tick is rounded on its own from whole numbers: no error adds up however long it runs.
    """
    # The smallest i with phase + floor(i * SECOND / rate) >= from, and the largest one up to to.
    first = -((phase_ns - from_ns) * rate_hz // SECOND)
    last = ((to_ns - phase_ns + 1) * rate_hz - 1) // SECOND
    steps = range(first, last + 1)
    return np.array([phase_ns + step * SECOND // rate_hz for step in steps], dtype=np.int64)


def pick_nearest(ticks: Stamps, stamps: Stamps) -> Picked:
    """Take the sample nearest to each tick; of two equally near ones the earlier."""
    if not len(stamps):
        return _nothing(len(ticks))
    after = np.clip(np.searchsorted(stamps, ticks), 0, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    index = np.where(np.abs(ticks - stamps[before]) <= np.abs(stamps[after] - ticks),
                     before, after).astype(np.int64)
    return Picked(index, np.abs(stamps[index] - ticks) / SECOND)


def pick_next(ticks: Stamps, stamps: Stamps, period_ns: int) -> Picked:
    """
    Take the first command in ``[tick, tick + period)``; without one, hold the last before it.

    The skew of a held command is its age: a commander that fell silent shows.
    """
    if not len(stamps):
        return _nothing(len(ticks))
    after = np.searchsorted(stamps, ticks, side='left')
    candidate = np.minimum(after, len(stamps) - 1)
    fresh = (after < len(stamps)) & (stamps[candidate] - ticks < period_ns)
    index = np.where(fresh, candidate, after - 1).astype(np.int64)
    skew = np.abs(stamps[np.maximum(index, 0)] - ticks) / SECOND
    return Picked(index, np.where(index < 0, np.inf, skew))


def interpolate(ticks: Stamps, stamps: Stamps, values: Floats) -> tuple[Floats, Floats]:
    """
    Linear between the neighbours of each tick.

    Parameters
    ----------
    ticks, stamps
        (T,) and (N,) int64 nanoseconds, stamps rising.
    values
        (N, D) float64.

    Returns
    -------
    tuple
        (T, D) values, and (T,) skews in seconds: the distance to the farther of the two samples
        used. Outside of the stamps the nearest value is held and its distance is the skew.

    """
    if not len(stamps):
        return np.full((len(ticks), values.shape[1]), np.nan), _nothing(len(ticks)).skew_s
    after = np.clip(np.searchsorted(stamps, ticks, side='left'), 0, len(stamps) - 1)
    exact = stamps[after] == ticks
    outside = (ticks < stamps[0]) | (ticks > stamps[-1])
    before = np.where(exact | outside, after, after - 1)
    before_ns, after_ns = stamps[before], stamps[after]
    span = np.maximum(after_ns - before_ns, 1)
    weight = np.where(before == after, 0.0, (ticks - before_ns) / span)[:, None]
    mixed = values[before] * (1.0 - weight) + values[after] * weight
    skew = np.maximum(np.abs(ticks - before_ns), np.abs(after_ns - ticks)) / SECOND
    return mixed, skew


def _nothing(ticks: int) -> Picked:
    return Picked(np.full(ticks, -1, dtype=np.int64), np.full(ticks, np.inf))


def intervals(stamps: Stamps) -> tuple[float, int, float]:
    """
    Describe how regularly a stream came.

    Returns
    -------
    tuple
        Mean rate (Hz), the number of gaps (intervals over ``GAP_FACTOR`` times the median), and
        the longest interval (s); zeros for fewer than two stamps.

    """
    found = rhythm(stamps)
    return found.rate_hz, found.gaps, found.longest_s
