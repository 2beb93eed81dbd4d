# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Real-time pacing on the steady clock, without drift, and with the truth about being late."""

from __future__ import annotations

from collections.abc import Callable
import time

_SECOND = 1_000_000_000


class Pacer:
    """
    Hold simulated time to the steady clock.

    Each instant of simulated time is due at a fixed place on the steady clock, so that small
    delays are made up for and never add up. A delay of more than ``max_backlog_s`` is not made
    up for, because a burst of old pictures helps nobody: the schedule moves, and the time lost
    is kept in ``slipped_s``.

    Parameters
    ----------
    speed
        Simulated seconds for each second; 0 is as fast as possible.
    wait
        Sleeps for some seconds; an ``Event.wait`` lets another thread end the sleep.
    max_backlog_s
        Seconds of the steady clock.
    clock
        Nanoseconds of a clock that never jumps.

    """

    def __init__(self, speed: float, wait: Callable[[float], object], *,
                 max_backlog_s: float = 0.25,
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        if speed < 0.0:
            raise ValueError(f'speed is {speed}, must be 0 (as fast as possible) or more')
        self.speed = speed
        self.slipped_s = 0.0
        self._wait = wait
        self._clock = clock
        self._max_backlog_ns = round(max_backlog_s * _SECOND)
        self._origin_ns = clock()

    def due_ns(self, simulated_ns: int) -> int:
        """When a simulated instant is due on the steady clock; now, if there is no pace."""
        if self.speed == 0.0:
            return self._clock()
        return self._origin_ns + round(simulated_ns / self.speed)

    def wait_until(self, simulated_ns: int) -> float:
        """
        Sleep until a simulated instant is due.

        Returns
        -------
        float
            Seconds of the steady clock by which the caller came too late; 0 if it was early.

        """
        if self.speed == 0.0:
            return 0.0
        due = self.due_ns(simulated_ns)
        late_ns = self._clock() - due
        if late_ns < 0:
            self._wait(-late_ns / _SECOND)
            return 0.0
        if late_ns > self._max_backlog_ns:
            self._origin_ns += late_ns
            self.slipped_s += late_ns / _SECOND
        return late_ns / _SECOND
