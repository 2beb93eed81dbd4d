# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The books of all subscriptions of a recorder, and the two clocks an episode is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
import time

from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.intake import TopicIntake

#: After a stop, a topic without a message for this long has no more on their way (seconds).
QUIET_S = 0.15


class Books:
    """
    One ``TopicIntake`` a topic, begun and ended together.

    Parameters
    ----------
    topics
        Each topic, and whether its messages are stamped.
    reliable
        Each topic, and whether the transport repeats what was lost.

    """

    def __init__(self, topics: Mapping[str, bool], reliable: Mapping[str, bool]) -> None:
        self.intakes = {topic: TopicIntake(stamped) for topic, stamped in topics.items()}
        #: Whether the operator has what comes refused for now.
        self.paused = False
        self._reliable = dict(reliable)
        self._received_at = dict.fromkeys(topics, 0.0)
        #: Whether an episode is open.
        self.running = False
        self._stopped_at: float | None = None

    def begin(self, start_ns: int | None = None) -> None:
        """Start an episode now, or with what was received since ``start_ns``."""
        start_ns = time.time_ns() if start_ns is None else start_ns
        self._stopped_at = None
        self.paused = False
        self.running = True
        for intake in self.intakes.values():
            intake.begin(start_ns)

    def split(self) -> dict[str, TopicAccount]:
        """Close the books of an episode, and go on with the next at the very next message."""
        return {topic: intake.split() for topic, intake in self.intakes.items()}

    def stop(self) -> None:
        """End the episode now; what was published before is still taken."""
        now = time.time_ns()
        self._stopped_at = time.monotonic()
        for intake in self.intakes.values():
            intake.stop(now)

    def heard(self, topic: str) -> None:
        """Take note that a message came, for ``drained``."""
        self._received_at[topic] = time.monotonic()

    def drained(self, limit_s: float) -> bool:
        """Whether nothing from before the stop is on its way, or ``limit_s`` is over."""
        if self._stopped_at is None:
            return True
        now = time.monotonic()
        if now - self._stopped_at >= limit_s:
            return True
        return all(
            intake.tail_known
            or now - max(self._stopped_at, self._received_at[topic]) >= QUIET_S
            for topic, intake in self.intakes.items())

    def end(self, *, drained: bool) -> dict[str, TopicAccount]:
        """
        Close the books of the episode.

        Parameters
        ----------
        drained
            Whether ``drained`` was waited for. If not, or if a best-effort topic fell silent
            before the end, its last messages may be missing without a trace.

        """
        accounts = {}
        for topic, intake in self.intakes.items():
            known = intake.tail_known or (drained and self._reliable[topic])
            account = intake.end()
            if account.published and not known:
                account.published_exact = False
            accounts[topic] = account
        self._stopped_at = None
        self.running = False
        return accounts


class ClockWatch:
    """
    Finds jumps of the system clock by comparing it with the steady one.

    Parameters
    ----------
    threshold_s
        Smallest jump reported, in seconds.
    system_ns, steady_ns
        The two clocks.

    """

    #: Two clocks read further apart than this (the process was stopped) compare to nothing.
    _APART_NS = 50_000_000

    def __init__(self, threshold_s: float, *, system_ns: Callable[[], int] = time.time_ns,
                 steady_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._threshold_ns = round(threshold_s * 1e9)
        self._system_ns = system_ns
        self._steady_ns = steady_ns
        self._offset: int | None = None

    def jump_s(self) -> float:
        """Jump since the last call in seconds, forward positive; 0.0 if there was none."""
        before = self._steady_ns()
        system = self._system_ns()
        if self._steady_ns() - before > self._APART_NS:
            return 0.0
        offset, last = system - before, self._offset
        self._offset = offset
        if last is None or abs(offset - last) < self._threshold_ns:
            return 0.0
        return (offset - last) / 1e9
