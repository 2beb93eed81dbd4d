# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of numbers: NaN, values that never change, jumps, joint limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, Stream
from ssl_vla_ros.quality.stamps import Floats, SECOND, Stamps
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import DOUBTFUL, grade, NOTE, Reason, REFUSED

#: Fields of messages that say where something is, rather than how fast or how strong.
_POSITIONS = ('position', 'positions', 'pose', 'data')
#: So few samples prove nothing about what never changes, or about noise.
_FEW, _MANY = 8, 50
#: Steps on either side of a jump that it is compared with.
_AROUND = 5
#: A value is at one of its two ends within this share of its range; a switch is there …
_AT_END = 0.05
#: … in this share of the samples, and stays for as many.
_SWITCHED, _STAYS = 0.9, 3


@dataclass(frozen=True)
class Numbers:
    """
    The values of one stream.

    Attributes
    ----------
    label, kind
        ``state.joint_states`` and ``state``, or ``action``.
    names
        The values' names in the contract, as its limits use them.
    stamps
        (N,) int64 nanoseconds, rising.
    values
        (N, D) float64.
    positions
        Whether they are positions, in which the arm's motion shows.

    """

    label: str
    kind: str
    names: tuple[str, ...]
    stamps: Stamps
    values: Floats
    positions: bool

    def at(self, stamps: Stamps) -> Floats:
        """Return the values (len, D) at other stamps, linear between their neighbours."""
        begin = self.stamps[0]
        own, asked = (self.stamps - begin) / SECOND, (stamps - begin) / SECOND
        return np.stack([np.interp(asked, own, column) for column in self.values.T], axis=1)

    def held(self, stamps: Stamps) -> Floats:
        """Return the values (len, D) that were last said at other stamps, as commands hold."""
        last = np.searchsorted(self.stamps, stamps, side='right') - 1
        return np.asarray(self.values[np.maximum(last, 0)])


def holds_positions(stream: Stream) -> bool:
    """Whether a contract's stream says where something is."""
    return stream.field in _POSITIONS


def check_finite(numbers: Numbers, thresholds: Thresholds) -> Iterator[Reason]:
    """Find rows with NaN or infinity, which no later check could read."""
    bad = np.asarray(~np.isfinite(numbers.values).all(axis=1))
    if not bad.any():
        return
    share = float(bad.mean())
    severity, bound = grade(share, 0.0, thresholds.nan_refused) or (DOUBTFUL, 0.0)
    names = [name for name, column in zip(numbers.names, numbers.values.T, strict=True)
             if not np.isfinite(column).all()]
    yield Reason(
        'nan', severity, numbers.label, share, bound,
        f'{int(bad.sum())} of {len(bad)} rows hold NaN or infinity in '
        f'{_few(names)}: mend the source and make them anew')


def check_constant(streams: Sequence[Numbers], thresholds: Thresholds) -> Iterator[Reason]:
    """Refuse an episode whose state, or whose action, never changes; note single values."""
    for kind, words in (('state', 'the arm never moves'), ('action', 'nothing is commanded')):
        found = [item for item in streams if item.kind == kind and item.values.shape[1]]
        if kind == 'state':
            # Velocities and efforts tremble when the arm stands: positions tell.
            found = [item for item in found if item.positions] or found
        if not found or min(len(item.values) for item in found) < _FEW:
            continue
        still = [_ranges(item) <= thresholds.constant_range for item in found]
        noise = [mask | (_is_noise(item, thresholds) if kind == 'state' else False)
                 for item, mask in zip(found, still, strict=True)]
        names = [name for item, mask in zip(found, still, strict=True)
                 for name, flag in zip(item.names, mask, strict=True) if flag]
        total = sum(item.values.shape[1] for item in found)
        widest = max(float(_ranges(item).max()) for item in found)
        if all(bool(mask.all()) for mask in noise):
            measured = ('constant' if len(names) == total
                        else f'noise within {widest:.2g}' if not names
                        else f'constant or noise within {widest:.2g}')
            yield Reason(
                'constant', REFUSED, found[0].label if len(found) == 1 else kind, widest,
                thresholds.constant_range,
                f'all {total} values are {measured} from start to end: {words}, so the recording '
                f'is dead; check the topic of the {kind} and record again')
        elif names:
            yield Reason(
                'constant', NOTE, found[0].label if len(found) == 1 else kind,
                float(len(names)), None,
                f'{len(names)} of {total} values never change ({_few(names)}): nothing can be '
                'learned from them')


def _ranges(numbers: Numbers) -> Floats:
    return np.asarray(np.ptp(numbers.values, axis=0))


def _is_noise(numbers: Numbers, thresholds: Thresholds) -> NDArray[np.bool_]:
    """
    Whether each value is noise about a standstill, by von Neumann's ratio.

    The mean square step over the variance is 2 for independent noise and near 0 for a motion
    that was sampled often enough.
    """
    if len(numbers.values) < _MANY:
        return np.zeros(numbers.values.shape[1], dtype=bool)
    variance = numbers.values.var(axis=0)
    steps = np.square(np.diff(numbers.values, axis=0)).mean(axis=0)
    return np.asarray(steps >= thresholds.noise_ratio * np.maximum(variance, 1e-300))


def check_jumps(numbers: Numbers, contract: Contract, thresholds: Thresholds) -> Iterator[Reason]:
    """Find steps of a position that no joint can take."""
    if not numbers.positions or len(numbers.stamps) < 3:
        return
    seconds = np.diff(numbers.stamps) / SECOND
    # Two stamps close together by jitter must not make a speed of an ordinary step.
    seconds = np.maximum(seconds, float(np.median(seconds)))
    limits = contract.limits.joints if contract.limits else {}
    jumps, worst = 0, (0.0, 0.0, '', 0)
    for column, name in enumerate(numbers.names):
        values = numbers.values[:, column]
        speed = np.abs(np.diff(values)) / seconds
        limit = limits.get(name)
        if limit is not None and np.isfinite(limit.max_velocity):
            bound = thresholds.speed_factor * limit.max_velocity
            fast = speed > bound
        elif is_switch(values):
            continue
        else:
            bound = thresholds.jump_speed
            fast = (speed > bound) & (speed > thresholds.jump_alone * _around(speed))
        jumps += int(fast.sum())
        if fast.any() and float(speed[fast].max()) / bound > worst[0]:
            at = int(np.flatnonzero(fast)[np.argmax(speed[fast])])
            worst = (float(speed[at]) / bound, float(speed[at]), name, at)
    if not jumps:
        return
    ratio, speed_at, name, at = worst
    when = float((numbers.stamps[at] - numbers.stamps[0]) / SECOND)
    yield Reason(
        'jump', REFUSED if jumps >= thresholds.jumps_refused else DOUBTFUL, numbers.label,
        speed_at, speed_at / ratio,
        f'{jumps} steps are faster than a joint can move, the worst of {name} at {when:.2f} s '
        f'(by {abs(float(np.diff(numbers.values[:, numbers.names.index(name)])[at])):.3g} at '
        f'{speed_at:.3g} a second): look for lost messages, a wrapped angle or a broken encoder')


def _around(speed: Floats) -> Floats:
    """
    Second largest of the steps around each one.

    Second: a sample that is wrong alone makes two large steps, out and back.
    """
    padded = np.pad(speed, _AROUND)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _AROUND + 1)
    others = np.delete(windows, _AROUND, axis=1)
    return np.asarray(np.sort(others, axis=1)[:, -2])


def is_switch(values: Floats) -> bool:
    """
    Whether a value only changes between two levels and stays there, as a gripper does.

    One sample away from all others is no switch: it does not stay.
    """
    low, high = float(values.min()), float(values.max())
    room = _AT_END * (high - low)
    level = np.where(values <= low + room, 0, np.where(values >= high - room, 1, -1))
    if high <= low or (level >= 0).mean() < _SWITCHED:
        return False
    settled = level[level >= 0]
    edges = np.flatnonzero(np.diff(settled)) + 1
    stays = np.diff(np.concatenate([[0], edges, [len(settled)]]))
    return bool(stays.min() >= _STAYS)


def check_limits(numbers: Numbers, contract: Contract, thresholds: Thresholds) -> Iterator[Reason]:
    """Find joints that stay at the limits of the contract."""
    if contract.limits is None or numbers.kind != 'state':
        return
    for column, name in enumerate(numbers.names):
        limit = contract.limits.joints.get(name)
        if limit is None:
            continue
        values = numbers.values[:, column]
        hits = (values <= limit.min + limit.margin) | (values >= limit.max - limit.margin)
        share = float(hits.mean())
        if share > thresholds.limit_doubtful:
            yield Reason(
                'limit', DOUBTFUL, numbers.label, share, thresholds.limit_doubtful,
                f'{name} is at its limit in {share:.1%} of the time (it ranges from '
                f'{float(values.min()):.3g} to {float(values.max()):.3g}, limits.joints.{name} '
                f'allows {limit.min + limit.margin:.3g} to {limit.max - limit.margin:.3g}): a '
                'policy halts there; move the workplace or correct the limit')


def _few(names: Sequence[str], count: int = 6) -> str:
    """Name some, and how many more there are."""
    more = len(names) - count
    return ', '.join(names[:count]) + (f' and {more} more' if more > 0 else '')
