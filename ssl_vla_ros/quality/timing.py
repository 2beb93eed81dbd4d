# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of when messages came: rate, gaps, order, edges, clocks and skew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import math

import numpy as np

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.quality.stamps import distance_s, Rhythm, rhythm, SECOND, Stamps
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import DOUBTFUL, grade, Reason, REFUSED

#: What a stream that need not be even can lack without a refusal: a hand may rest.
_COMMANDS = 'action'


@dataclass(frozen=True)
class Came:
    """
    How the messages of one stream came.

    Attributes
    ----------
    label, kind
        ``image.front`` and ``image``; kinds are image, state and action.
    stamps
        (N,) int64 nanoseconds, rising: header stamps, or receive times where there are none.
    messages
        How many were recorded, unusable ones included.
    order
        How many stamps were refused, by cause.
    unusable
        How many messages could not be read, by cause.
    delay_s
        Median time from stamp to receipt; None without header stamps.
    paused
        Messages refused because the operator had paused the recording.

    """

    label: str
    kind: str
    stamps: Stamps
    messages: int
    order: Mapping[str, int]
    unusable: Mapping[str, int]
    delay_s: float | None = None
    paused: int = 0

    @property
    def sensor(self) -> bool:
        """Whether it measures: a sensor must come evenly, commands come when there are any."""
        return self.kind != _COMMANDS

    def refuse_at(self, bound: float) -> float | None:
        """Return a bound that refuses sensors and only makes commands doubtful."""
        return bound if self.sensor else None


def check_messages(came: Came, thresholds: Thresholds) -> Iterator[Reason]:
    """Hold what could not be read, and stamps that do not rise, against their bounds."""
    total = came.messages
    if not len(came.stamps):
        causes = _listed({**came.unusable, **came.order})
        yield Reason(
            'empty', REFUSED, came.label, float(total), None,
            f'no usable message{causes}: check that its publisher runs and sends what the '
            'contract says, and record the episode again')
        return
    nan = came.unusable.get('nan', 0)
    if nan:
        share = nan / total
        severity, bound = grade(share, 0.0, thresholds.nan_refused) or (DOUBTFUL, 0.0)
        yield Reason(
            'nan', severity, came.label, share, bound,
            f'{nan} of {total} messages hold NaN or infinity: mend the driver; these messages are '
            'not used')
    others = {cause: count for cause, count in came.unusable.items() if cause != 'nan'}
    share = sum(others.values()) / total
    if found := grade(share, thresholds.unusable_doubtful, thresholds.unusable_refused):
        yield Reason(
            'unusable', found[0], came.label, share, found[1],
            f'{sum(others.values())} of {total} messages cannot be read{_listed(others)}: compare '
            'the driver with the contract')
    share = sum(came.order.values()) / total
    if found := grade(share, thresholds.order_doubtful, thresholds.order_refused):
        yield Reason(
            'order', found[0], came.label, share, found[1],
            f'{sum(came.order.values())} of {total} stamps do not rise{_listed(came.order)}: one '
            'publisher a topic, and one that stamps each message when it is measured')


def check_rhythm(came: Came, contract: Contract, thresholds: Thresholds) -> Iterator[Reason]:
    """Hold a stream's rate and gaps against what is expected of it."""
    if len(came.stamps) < 2:
        return
    found = rhythm(came.stamps)
    yield from _check_rate(came, found, contract, thresholds)
    if bad := grade(found.longest_s, max(thresholds.gap_doubtful_s, 3.0 * found.usual_s),
                    came.refuse_at(max(thresholds.gap_refused_s, 6.0 * found.usual_s))):
        yield Reason(
            'gap', bad[0], came.label, found.longest_s, bad[1],
            f'nothing came for {found.longest_s:.2f} s, {found.longest_at_s:.1f} s after its '
            f'beginning ({found.gaps} gaps in all): ' + (
                f'the recording was paused ({came.paused} messages were refused meanwhile); '
                'build with on_gap: split in the contract, or record again without a pause'
                if came.paused else
                'look at cable, driver and load, and record again or trim the gap away'))
    bad = grade(found.missing, thresholds.missing_doubtful, thresholds.missing_refused)
    if came.sensor and bad is not None:
        yield Reason(
            'missing', bad[0], came.label, found.missing, bad[1],
            f'{found.missing:.1%} of the time lies in {found.gaps} gaps beyond the usual '
            f'{found.usual_s * 1e3:.1f} ms: ' + (
                'the recording was paused' if came.paused else
                'look at the load of the machine and at the Fast DDS profile'))


def _check_rate(came: Came, found: Rhythm, contract: Contract, thresholds: Thresholds
                ) -> Iterator[Reason]:
    expected = thresholds.expected_hz.get(came.label, float(contract.rate_hz))
    share = found.rate_hz / expected if expected else 1.0
    if share >= thresholds.rate_doubtful:
        return
    refused = came.sensor and share <= thresholds.rate_refused
    bound = (thresholds.rate_refused if refused else thresholds.rate_doubtful) * expected
    yield Reason(
        'rate', REFUSED if refused else DOUBTFUL, came.label, found.rate_hz, bound,
        f'{found.rate_hz:.2f} Hz, {expected:g} Hz are expected: rows repeat what is not there; '
        'raise the rate of the driver or lower rate_hz of the contract')


def check_together(streams: Sequence[Came], contract: Contract, thresholds: Thresholds
                   ) -> Iterator[Reason]:
    """Hold the streams of an episode against each other: edges, clocks, skew."""
    usable = [came for came in streams if len(came.stamps)]
    if len(usable) < 2:
        return
    yield from _check_edges(usable, thresholds)
    yield from _check_clocks(usable, thresholds)
    yield from _check_skew(usable, contract, thresholds)


def _check_edges(streams: Sequence[Came], thresholds: Thresholds) -> Iterator[Reason]:
    first = min(int(came.stamps[0]) for came in streams)
    last = max(int(came.stamps[-1]) for came in streams)
    length = max(last - first, 1)
    for came in streams:
        late, early = int(came.stamps[0]) - first, last - int(came.stamps[-1])
        for lacks, words in ((late, 'begins {:.1f} s after the first stream'),
                             (early, 'ends {:.1f} s before the last stream')):
            seconds = lacks / SECOND
            if seconds <= thresholds.edge_doubtful_s:
                continue
            refused = came.sensor and lacks / length >= thresholds.edge_refused
            yield Reason(
                'edge', REFUSED if refused else DOUBTFUL, came.label, seconds,
                thresholds.edge_refused * length / SECOND if refused
                else thresholds.edge_doubtful_s,
                f'{words.format(seconds)}, and rows end where any stream does: start everything '
                'before the recorder and stop it afterwards; one that died must be recorded again')


def _check_clocks(streams: Sequence[Came], thresholds: Thresholds) -> Iterator[Reason]:
    delays = {came.label: came.delay_s for came in streams if came.delay_s is not None}
    if len(delays) < 2:
        return
    for label, delay in delays.items():
        # Of two streams nobody can say which one is off, and both are told.
        compared = [other for name, other in delays.items() if len(delays) > 2 or name != label]
        apart = delay - float(np.median(compared))
        if bad := grade(abs(apart), thresholds.clock_doubtful_s, thresholds.clock_refused_s):
            when = 'later' if apart > 0 else 'earlier'
            yield Reason(
                'clock', bad[0], label, apart, bad[1],
                f'its messages come {abs(apart):.2f} s {when} after their stamps than those of '
                'the other streams: set the clocks of the machines alike (chrony) and stamp when '
                'measuring, or pictures and joints are matched wrongly')


def _check_skew(streams: Sequence[Came], contract: Contract, thresholds: Thresholds
                ) -> Iterator[Reason]:
    begin = max(int(came.stamps[0]) for came in streams)
    end = min(int(came.stamps[-1]) for came in streams)
    if end <= begin:
        yield Reason(
            'skew', REFUSED, '', (begin - end) / SECOND, 0.0,
            'there is no moment with data of every stream: compare the clocks of the publishers')
        return
    ticks = np.arange(begin, end + 1, SECOND // contract.rate_hz, dtype=np.int64)
    bound = contract.sync.max_skew_s
    for came in streams:
        apart = distance_s(ticks, came.stamps)
        share = float((apart > bound).mean())
        if bad := grade(share, thresholds.skew_doubtful,
                        math.nextafter(max(contract.sync.max_flagged_fraction,
                                           thresholds.skew_doubtful), 2.0)):
            yield Reason(
                'skew', bad[0], came.label, share, bad[1],
                f'in {share:.1%} of the ticks its nearest message is over {bound:g} s away (up to '
                f'{float(apart.max()):.2f} s): the build flags such rows, and refuses an episode '
                'with too many of them')


def _listed(causes: Mapping[str, int]) -> str:
    if not causes:
        return ''
    return ' (' + ', '.join(f'{count} {cause}' for cause, count in causes.items()) + ')'
