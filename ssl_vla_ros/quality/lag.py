# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How long after an action the state moves, and whether that can be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ssl_vla_ros.quality.stamps import Floats
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import DOUBTFUL, Reason

#: A column that spreads less than this does not move.
_STILL = 1e-9
#: An unlikely lag must fit better than every likely one by this much.
_CLEARLY = 0.1


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
    curve = lag_curve(action, state, rate_hz, reach_s)
    return None if curve is None else max(curve, key=lambda point: point[1])


def lag_curve(action: Floats, state: Floats, rate_hz: float, reach_s: float = 1.0
              ) -> list[tuple[float, float]] | None:
    """Give (lag, correlation) for every lag in reach; see ``command_lag``."""
    reach = round(reach_s * rate_hz)
    if len(action) < 3 * reach or len(action) < 8 or not action.shape[1] or not state.shape[1]:
        return None
    moved = _amount(np.diff(state, axis=0), about=0.0)
    signals = (_amount(action, about=None)[:-1], _amount(np.diff(action, axis=0), about=0.0))
    curve = []
    for lag in range(-reach, reach + 1):
        follow = moved[max(0, lag):len(moved) - max(0, -lag)]
        scores = []
        for signal in signals:
            lead = signal[max(0, -lag):len(signal) - max(0, lag)]
            if lead.std() >= _STILL and follow.std() >= _STILL:
                scores.append(float(np.corrcoef(lead, follow)[0, 1]))
        if scores:
            curve.append((lag / rate_hz, max(scores)))
    return curve or None


def _amount(values: Floats, about: float | None) -> Floats:
    """Length of each row about the median or a given value, each column by its own spread."""
    centre = np.median(values, axis=0) if about is None else about
    spread = values.std(axis=0)
    scaled = (values - centre) / np.where(spread > _STILL, spread, np.inf)
    return np.asarray(np.sqrt(np.square(scaled).sum(axis=1)))


def check_lag(curve: list[tuple[float, float]] | None, thresholds: Thresholds
              ) -> Iterator[Reason]:
    """Doubt an action that comes long before the state, or after it."""
    if curve is None:
        return
    seconds, sure = max(curve, key=lambda point: point[1])
    likely = max((score for lag, score in curve
                  if -thresholds.lead_doubtful_s <= lag <= thresholds.lag_doubtful_s),
                 default=-1.0)
    # A slow motion fits nearly as well at many lags: then the likely ones have precedence.
    if sure < thresholds.lag_correlation or sure - likely < _CLEARLY:
        return
    if seconds > thresholds.lag_doubtful_s:
        yield Reason(
            'lag', DOUBTFUL, '', seconds, thresholds.lag_doubtful_s,
            f'the state follows the action after {seconds:.2f} s (correlation {sure:.2f}): find '
            'the delay between command and controller, or compare the clocks of both publishers')
    elif -seconds > thresholds.lead_doubtful_s:
        yield Reason(
            'lag', DOUBTFUL, '', seconds, -thresholds.lead_doubtful_s,
            f'the state moves {-seconds:.2f} s before the action (correlation {sure:.2f}): record '
            'what is commanded rather than what was measured, and compare the clocks of both '
            'publishers')
