# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Arrays of stamps in nanoseconds: which of them rise, how regularly they came."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]
Floats = NDArray[np.float64]
SECOND = 1_000_000_000
#: An interval this many times the usual one counts as a gap.
GAP_FACTOR = 1.5
#: Why a stamp is not used.
STAMP_CAUSES = ('zero_stamp', 'duplicate_stamp', 'backward_stamp', 'future_stamp')
#: Stamps that run ahead by more than this, and then fall back, are wrong themselves …
AHEAD_NS = SECOND
#: … if they are no more than this many: beyond that, the clock was set.
MOST_AHEAD = 10


def split_rising(stamps: Stamps) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """
    Tell stamps that rise from those that do not, in the order of arrival.

    A few stamps far ahead of all that follow are wrong themselves: were they believed, a single
    one would cost the rest of the stream.

    Returns
    -------
    tuple
        A mask of the same length, true where a stamp is above zero and above every one that is
        kept before it; and how many of the others are ``zero_stamp``, ``duplicate_stamp`` (equal
        to the highest before), ``backward_stamp`` or ``future_stamp``.

    """
    if not len(stamps):
        return np.zeros(0, dtype=bool), {}
    ahead = _ahead(stamps)
    highest = np.maximum.accumulate(
        np.concatenate([[0], np.where(ahead, 0, stamps)[:-1]]))
    counts = dict(zip(STAMP_CAUSES, (
        int((stamps <= 0).sum()), int(((stamps == highest) & (stamps > 0)).sum()),
        int(((stamps < highest) & (stamps > 0)).sum()), int(ahead.sum())), strict=True))
    return (stamps > highest) & ~ahead, {
        cause: count for cause, count in counts.items() if count}


def _ahead(stamps: Stamps) -> NDArray[np.bool_]:
    """Find the few stamps that are over ``AHEAD_NS`` above more that come after them."""
    wrong = np.zeros(len(stamps), dtype=bool)
    places = np.flatnonzero(stamps > 0)
    # Most streams never fall back as far, and need no walk.
    if not (np.diff(stamps[places]) < -AHEAD_NS).any():
        return wrong
    kept: list[int] = []                    # places in a rising order of their stamps
    for number, place in enumerate(places.tolist()):
        stamp = int(stamps[place])
        above = 0
        while above < min(len(kept), MOST_AHEAD + 1) and stamps[kept[-1 - above]] >= stamp:
            above += 1
        if above:
            low = int(stamps[kept[-1 - above]]) if above < len(kept) else 0
            high = int(stamps[kept[-above]])
            following = stamps[places[number:number + above + 1]]
            if (above > MOST_AHEAD or high - stamp <= AHEAD_NS or len(following) <= above
                    or not ((following > low) & (following < high)).all()):
                continue                    # it is this one that is behind
            # Those of them, too, that did not rise among themselves.
            since = np.arange(kept[-above], place)
            wrong[since[stamps[since] > stamp]] = True
            del kept[-above:]
        kept.append(place)
    return wrong


@dataclass(frozen=True)
class Rhythm:
    """
    How regularly a stream came.

    Attributes
    ----------
    rate_hz
        Messages a second over its whole length; 0 for fewer than two.
    usual_s
        The median interval.
    longest_s, longest_at_s
        The longest interval, and when it began after the first stamp.
    gaps
        Intervals over ``GAP_FACTOR`` times the usual one.
    missing
        Share of the time that gaps take beyond the usual interval: the share of messages that
        are not there, if they came at an even rate.

    """

    rate_hz: float
    usual_s: float
    longest_s: float
    longest_at_s: float
    gaps: int
    missing: float


def rhythm(stamps: Stamps) -> Rhythm:
    """Describe how regularly rising stamps came."""
    if len(stamps) < 2:
        return Rhythm(0.0, 0.0, 0.0, 0.0, 0, 0.0)
    steps = np.diff(stamps) / SECOND
    total = float(steps.sum())
    usual = float(np.median(steps))
    longest = int(np.argmax(steps))
    wide = steps > GAP_FACTOR * usual
    return Rhythm(
        rate_hz=(len(stamps) - 1) / total, usual_s=usual, longest_s=float(steps[longest]),
        longest_at_s=float((stamps[longest] - stamps[0]) / SECOND), gaps=int(wide.sum()),
        missing=float((steps[wide] - usual).sum()) / total)


def distance_s(ticks: Stamps, stamps: Stamps) -> Floats:
    """Seconds from each tick to the nearest of some rising stamps."""
    after = np.clip(np.searchsorted(stamps, ticks), 0, len(stamps) - 1)
    before = np.maximum(after - 1, 0)
    nearest = np.minimum(np.abs(stamps[after] - ticks), np.abs(ticks - stamps[before]))
    return np.asarray(nearest / SECOND)
