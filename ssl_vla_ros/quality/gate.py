# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""All checks in a row: from the streams of one episode to the reasons of its verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.quality.lag import check_lag, lag_curve
from ssl_vla_ros.quality.motion import check_idle, Motion
from ssl_vla_ros.quality.pictures import check_pictures, Pictures
from ssl_vla_ros.quality.stamps import SECOND
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.timing import Came, check_messages, check_rhythm, check_together
from ssl_vla_ros.quality.values import (
    check_constant, check_finite, check_jumps, check_limits, Numbers)
from ssl_vla_ros.quality.verdict import DOUBTFUL, Reason, REFUSED


def judge_timing(streams: Sequence[Came], contract: Contract, thresholds: Thresholds
                 ) -> Iterator[Reason]:
    """Judge when the messages of a recording came, and whether they could be read."""
    for came in streams:
        yield from check_messages(came, thresholds)
        yield from check_rhythm(came, contract, thresholds)
    yield from check_together(streams, contract, thresholds)


def judge_values(numbers: Sequence[Numbers], contract: Contract, thresholds: Thresholds
                 ) -> Iterator[Reason]:
    """Judge what the streams of state and action say, finite or not."""
    broken = [reason for item in numbers for reason in check_finite(item, thresholds)]
    yield from broken
    if broken:
        # Nothing else can be computed from NaN.
        return
    constant = list(check_constant(numbers, thresholds))
    yield from constant
    state = [item for item in numbers if item.kind == 'state']
    for item in state:
        yield from check_jumps(item, contract, thresholds)
        yield from check_limits(item, contract, thresholds)
    if any(reason.severity == REFUSED for reason in constant):
        # That a dead arm rests, and follows nothing, goes without saying.
        return
    yield from check_idle(Motion(state, contract.rate_hz), thresholds)
    yield from check_lag(_lags(numbers, contract.rate_hz), thresholds)


def _lags(numbers: Sequence[Numbers], rate_hz: int) -> list[tuple[float, float]] | None:
    state = [item for item in numbers if item.kind == 'state' and len(item.stamps)]
    action = [item for item in numbers if item.kind == 'action' and len(item.stamps)]
    if not state or not action:
        return None
    begin = max(int(item.stamps[0]) for item in (*state, *action))
    end = min(int(item.stamps[-1]) for item in (*state, *action))
    ticks = np.arange(begin, end + 1, SECOND // rate_hz, dtype=np.int64)
    if len(ticks) < 2:
        return None
    return lag_curve(
        np.concatenate([item.held(ticks) for item in action], axis=1),
        np.concatenate([item.at(ticks) for item in state], axis=1), rate_hz)


def judge_pictures(cameras: Sequence[Pictures], numbers: Sequence[Numbers], contract: Contract,
                   thresholds: Thresholds) -> Iterator[Reason]:
    """Judge the cameras' pictures against the motion that the state shows."""
    state = [item for item in numbers if item.kind == 'state' and item.values.shape[1]
             and np.isfinite(item.values).all()]
    motion = Motion(state, contract.rate_hz)
    for pictures in cameras:
        yield from check_pictures(pictures, motion, thresholds)


def judge_length(seconds: float, rows: int, thresholds: Thresholds) -> Iterator[Reason]:
    """Judge how long an episode is."""
    if rows < thresholds.min_rows:
        yield Reason(
            'short', REFUSED, '', float(rows), float(thresholds.min_rows),
            f'it has {rows} rows at the control rate, {thresholds.min_rows} are needed: delete it')
    elif seconds < thresholds.short_s:
        yield Reason(
            'short', DOUBTFUL, '', seconds, thresholds.short_s,
            f'it lasts {seconds:.2f} s: delete it if it was stopped by mistake')
