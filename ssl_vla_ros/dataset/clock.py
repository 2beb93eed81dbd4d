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

Stamps = NDArray[np.int64]
Floats = NDArray[np.float64]
SECOND = 1_000_000_000
#: An interval this many times the usual one counts as a gap.
GAP_FACTOR = 1.5


@dataclass(frozen=True)
class Picked:
    """For every tick: the sample's index (-1: none) and its skew in seconds (inf: none)."""

    index: NDArray[np.int64]
    skew_s: Floats


def keep_rising(stamps: Stamps) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """
    Which stamps rise, in the order of arrival.

    Returns
    -------
    tuple
        A mask of the same length; and how many were refused as ``zero_stamp`` (zero or below),
        ``duplicate_stamp`` (equal to the last good one) or ``backward_stamp`` (before it).

    """
    keep = np.zeros(len(stamps), dtype=bool)
    refused: dict[str, int] = {}
    last = 0
    for position, stamp in enumerate(stamps.tolist()):
        if stamp > last:
            keep[position] = True
            last = stamp
            continue
        cause = ('zero_stamp' if stamp <= 0
                 else 'duplicate_stamp' if stamp == last else 'backward_stamp')
        refused[cause] = refused.get(cause, 0) + 1
    return keep, refused


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
    if len(stamps) < 2:
        return 0.0, 0, 0.0
    steps = np.diff(stamps) / SECOND
    rate = (len(stamps) - 1) / float((stamps[-1] - stamps[0]) / SECOND)
    gaps = int((steps > GAP_FACTOR * float(np.median(steps))).sum())
    return rate, gaps, float(steps.max())


def command_lag(action: Floats, state: Floats, rate_hz: float, reach_s: float = 1.0
                ) -> tuple[float, float] | None:
    """
    How long after an action the state moves, by cross-correlation of how much both move.

    Actions that command a velocity move the state while they are large, those that command a
    position while they change: whichever fits better is used.

    Parameters
    ----------
    action, state
        (T, A) and (T, S) at the same ticks, finite.
    rate_hz
        Ticks a second.
    reach_s
        Lags up to this long, either way, are tried.

    Returns
    -------
    tuple or None
        Lag in seconds (positive: the state follows) and its correlation; None where either side
        never moves or the episode is shorter than three times the reach.

    """
    reach = round(reach_s * rate_hz)
    if len(action) < 3 * reach or len(action) < 8 or not action.shape[1] or not state.shape[1]:
        return None
    moved = _amount(np.diff(state, axis=0), about=0.0)
    best: tuple[float, float] | None = None
    for signal in (_amount(action, about=None)[:-1], _amount(np.diff(action, axis=0), about=0.0)):
        for lag in range(-reach, reach + 1):
            lead = signal[max(0, -lag):len(signal) - max(0, lag)]
            follow = moved[max(0, lag):len(moved) - max(0, -lag)]
            if lead.std() < 1e-9 or follow.std() < 1e-9:
                continue
            score = float(np.corrcoef(lead, follow)[0, 1])
            if best is None or score > best[1]:
                best = (lag / rate_hz, score)
    return best


def _amount(values: Floats, about: float | None) -> Floats:
    """Length of each row about the median or a given value, each column by its own spread."""
    centre = np.median(values, axis=0) if about is None else about
    spread = values.std(axis=0)
    scaled = (values - centre) / np.where(spread > 1e-9, spread, np.inf)
    return np.asarray(np.sqrt(np.square(scaled).sum(axis=1)))
