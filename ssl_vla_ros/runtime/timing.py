# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Latencies and deadlines, counted so that a node can publish what it really achieves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import threading

import numpy as np


@dataclass(frozen=True)
class LatencySummary:
    """What a window of latencies looks like; seconds, NaN while nothing was measured."""

    count: int
    p50_s: float
    p99_s: float
    max_s: float


class LatencyWindow:
    """
    The newest latencies, in bounded memory.

    Parameters
    ----------
    capacity
        How many samples the percentiles look back; ``count`` goes on counting all of them.

    """

    def __init__(self, capacity: int = 4096) -> None:
        if capacity < 1:
            raise ValueError(f'capacity is {capacity}, must be at least 1')
        self._ring = np.zeros(capacity)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        """Note one latency."""
        with self._lock:
            self._ring[self._count % len(self._ring)] = seconds
            self._count += 1

    def clear(self) -> None:
        """Forget every sample."""
        with self._lock:
            self._count = 0

    def summary(self) -> LatencySummary:
        """Return the count of all samples, and p50, p99 and maximum of the window."""
        with self._lock:
            count = self._count
            samples = self._ring[:min(count, len(self._ring))].copy()
        if not count:
            return LatencySummary(0, float('nan'), float('nan'), float('nan'))
        p50, p99 = np.percentile(samples, (50.0, 99.0))
        return LatencySummary(count, float(p50), float(p99), float(samples.max()))


class DeadlineCounter:
    """
    Count the control periods in which a source gave an input and nothing was published for it.

    Periods are numbered from the first stamp seen. One without any input counts as missed if the
    input was lost on the way; if the source gave none, it is counted as silent. A jump of the
    stamps by more than ``jump_s``, back or forth, is a stopped or restarted source, unless inputs
    were lost in that time, and as much of it really passed, or they fill it: numbering begins
    again, and the time between is a counted jump. (Simulated time that runs faster or slower than
    the real one has only the second way.)

    Parameters
    ----------
    period_s
        The control period.
    jump_s
        Longest silence of the source within one row of periods.

    """

    #: One input may be under way and one waiting: these are not missed yet.
    _IN_FLIGHT = 2

    def __init__(self, period_s: float, jump_s: float = 1.0) -> None:
        if not period_s > 0.0:
            raise ValueError(f'period_s is {period_s}, must be above 0')
        self._period_ns = period_s * 1e9
        self._jump_ns = jump_s * 1e9
        self._lock = threading.Lock()
        self._origin_ns: int | None = None
        self._newest_ns = 0
        self._newest_s: float | None = None     # when that came, by a clock that never jumps
        self._observed = -1     # number of the newest period with an input
        self._answered = -1     # number of the newest period with an output
        self._flying: deque[int] = deque(maxlen=self._IN_FLIGHT)
        self._periods = 0
        self._published = 0
        self._lost = 0
        #: Jumps of the stamps.
        self.jumps = 0
        #: Periods in which the source gave no input; no part of ``periods``.
        self.silent = 0
        #: Outputs older than one period when they were published.
        self.late = 0

    def observe(self, stamp_ns: int, lost: int = 0, now_s: float | None = None) -> None:
        """
        Note an input that arrived here.

        Parameters
        ----------
        stamp_ns
            Its header stamp.
        lost
            Inputs that the source sent since the last call and that never arrived.
        now_s
            When it arrived, in seconds of a clock that never jumps; None if that is unknown.

        """
        with self._lock:
            passed_s = None if now_s is None or self._newest_s is None else now_s - self._newest_s
            if self._origin_ns is not None and self._jumped(
                    stamp_ns, self._lost + lost, passed_s):
                self._origin_ns = None
                self.jumps += 1
            if self._origin_ns is None:
                self._origin_ns = stamp_ns
                self._observed = self._answered = -1
                self._flying.clear()
                self._lost = lost = 0
            self._lost += lost
            number = self._number(stamp_ns)
            if number > self._observed:
                skipped = number - self._observed - 1
                missing = min(skipped, self._lost)
                self._periods += 1 + missing
                self.silent += skipped - missing
                self._lost = 0
                self._observed = number
                self._newest_ns, self._newest_s = stamp_ns, now_s
                self._flying.append(number)

    def _jumped(self, stamp_ns: int, lost: int, passed_s: float | None) -> bool:
        step = stamp_ns - self._newest_ns
        # A source that sent all the while has not jumped: what it sent did not arrive.
        filled = step > 0 and 2.0 * (lost + 1) * self._period_ns >= step
        # Nor has a slow one, or one that a full queue held up, if its clock went as ours did.
        lived = lost > 0 and passed_s is not None and (
            abs(step - passed_s * 1e9) <= 0.1 * step + self._period_ns)
        return abs(step) > self._jump_ns and not filled and not lived

    def publish(self, stamp_ns: int, age_s: float = 0.0) -> None:
        """
        Note that something was published for the input of ``stamp_ns``.

        An output older than one period still answers its input, and is counted as late.
        """
        with self._lock:
            half_ns = 0.5 * self._period_ns
            if self._origin_ns is None or not (
                    self._origin_ns - half_ns <= stamp_ns <= self._newest_ns + half_ns):
                return  # of before a jump: its period was settled already
            number = self._number(stamp_ns)
            if number > self._answered:
                self._answered = number
                self._published += 1
            if age_s * 1e9 > self._period_ns:
                self.late += 1

    def _number(self, stamp_ns: int) -> int:
        assert self._origin_ns is not None
        return round((stamp_ns - self._origin_ns) / self._period_ns)

    @property
    def periods(self) -> int:
        """Control periods for which the source gave an input."""
        with self._lock:
            return self._periods

    @property
    def missed(self) -> int:
        """How many of these are over with nothing published for them."""
        with self._lock:
            flying = sum(number > self._answered for number in self._flying)
            return self._periods - self._published - flying
