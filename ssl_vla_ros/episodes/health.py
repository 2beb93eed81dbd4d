# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How a topic comes: rate, age and skew over the last moments, and whether it stands still."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
import statistics
import time

#: A topic is usual only after so many messages.
_ENOUGH = 8
#: Messages whose intervals say what is usual.
_USUAL = 32
#: Messages kept of a period of report.
_KEPT = 4096
#: Silence, in usual intervals, that counts as standing still. With a look every ``LOOK`` intervals
#: it is told before two intervals are over.
STALL, LOOK = 1.55, 0.4


@dataclass(frozen=True)
class Figures:
    """One topic over one period; None where nothing came or nothing is stamped."""

    rate_hz: float
    age_p50_ms: float | None
    age_p99_ms: float | None
    skew_ms: float | None


class TopicHealth:
    """
    What is known of one topic's messages as they come.

    Parameters
    ----------
    floor_s
        Silence of less than this is no standstill, in seconds.

    """

    def __init__(self, floor_s: float = 0.0) -> None:
        self._floor_ns = round(floor_s * 1e9)
        #: Whether it stands still (``look`` says when that changes).
        self.stalled = False
        self._intervals_ns: deque[int] = deque(maxlen=_USUAL)
        self._last_ns: int | None = None
        self._count = 0
        self._ages_ns: deque[int] = deque(maxlen=_KEPT)
        self._stamps: deque[int] = deque(maxlen=_KEPT)

    def came(self, steady_ns: int, stamp_ns: int | None, log_ns: int) -> None:
        """
        Take note of a message.

        Parameters
        ----------
        steady_ns
            When it came, by a clock that never jumps.
        stamp_ns, log_ns
            Its header's stamp, if it has one that is right, and when it came by the stamps' clock.

        """
        if self._last_ns is not None:
            # A standstill is not usual; the next one is to be found, too.
            if not self.stalled:
                self._intervals_ns.append(steady_ns - self._last_ns)
        self._last_ns = steady_ns
        self._count += 1
        if stamp_ns is not None:
            self._ages_ns.append(log_ns - stamp_ns)
            self._stamps.append(stamp_ns)

    def forget(self) -> None:
        """Begin anew: the publisher has changed."""
        self._intervals_ns.clear()
        self._last_ns = None
        self.stalled = False

    @property
    def usual_ns(self) -> int | None:
        """Give the usual interval, once enough came to tell."""
        if len(self._intervals_ns) < _ENOUGH:
            return None
        return round(statistics.median(self._intervals_ns))

    @property
    def silent_s(self) -> float:
        """How long nothing has come, in seconds; 0.0 before the first message."""
        return 0.0 if self._last_ns is None else (time.monotonic_ns() - self._last_ns) / 1e9

    def look(self, steady_ns: int) -> float | None:
        """
        See whether the topic has come to a standstill, or has left it.

        Returns
        -------
        float or None
            Seconds of silence if it has just stopped, 0.0 if it has just come back, else None.

        """
        usual = self.usual_ns
        if usual is None or self._last_ns is None:
            return None
        silent = steady_ns - self._last_ns
        stalled = silent > max(STALL * usual, self._floor_ns)
        if stalled == self.stalled:
            return None
        self.stalled = stalled
        return silent / 1e9 if stalled else 0.0

    def figures(self, period_s: float, reference: Sequence[int]) -> Figures:
        """
        Sum up the period since the last call, and begin the next one.

        Parameters
        ----------
        period_s
            How long it was.
        reference
            Rising stamps of the stream that sets the clock, for the skew: the largest distance of
            one of them from this topic's nearest stamp.

        """
        count, self._count = self._count, 0
        ages = sorted(self._ages_ns)
        stamps = sorted(self._stamps)
        self._ages_ns.clear()
        self._stamps.clear()
        return Figures(
            rate_hz=count / period_s,
            age_p50_ms=ages[len(ages) // 2] / 1e6 if ages else None,
            age_p99_ms=ages[len(ages) * 99 // 100] / 1e6 if ages else None,
            skew_ms=_skew_ms(stamps, reference))

    def stamps(self) -> list[int]:
        """Give the stamps of this period so far, rising."""
        return sorted(self._stamps)


def _skew_ms(stamps: Sequence[int], reference: Sequence[int]) -> float | None:
    # The ends are left out: what is nearest to them may have come in another period.
    inner = [stamp for stamp in reference if stamps and stamps[0] <= stamp <= stamps[-1]]
    if not inner:
        return None
    worst = 0
    for stamp in inner:
        place = bisect_left(stamps, stamp)
        near = [abs(stamps[index] - stamp) for index in (place - 1, place)
                if 0 <= index < len(stamps)]
        worst = max(worst, min(near))
    return worst / 1e6
