# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The last seconds before a start, kept in memory: what happened just before is not lost.

Everything that came is kept as it came, with the changes of publishers in between, so that an
episode takes it as if it had begun earlier: with the same judgement, and with exact books.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ssl_vla_ros.episodes.intake import TopicIntake


class Heard(NamedTuple):
    """A message as it came; times in nanoseconds."""

    topic: str
    sequence: int
    source_ns: int
    cdr: bytes
    received_ns: int
    log_ns: int


@dataclass(frozen=True)
class Change:
    """Something else that changes a topic's books, and when it happened."""

    topic: str
    received_ns: int
    change: Callable[[TopicIntake], None]


class PreRoll:
    """
    A memory of what came, as long as wanted and as large as allowed.

    Parameters
    ----------
    seconds
        How far back it reaches; 0 keeps nothing.
    max_bytes
        Bytes of messages it may hold: what bounds memory, whatever the image size.

    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._span_ns = round(seconds * 1e9)
        self._max_bytes = max_bytes
        self._items: deque[tuple[Heard | Change, int | None]] = deque()
        self._bytes = 0

    @property
    def wanted(self) -> bool:
        """Whether anything is kept at all."""
        return self._span_ns > 0

    @property
    def begins_ns(self) -> int | None:
        """When the first thing that is kept came (our system clock); None if there is nothing."""
        # Topics are taken one after the other, so the oldest need not be the first.
        return min((item.received_ns for item, _ in self._items), default=None)

    def keep(self, item: Heard | Change, last_sequence: int | None) -> None:
        """
        Remember something, and forget what is too old or too much.

        Parameters
        ----------
        item
            What came.
        last_sequence
            Of the message before it on its topic; None if nobody heard one.

        """
        self._items.append((item, last_sequence))
        if isinstance(item, Heard):
            self._bytes += len(item.cdr)
        while self._items and (
                self._bytes > self._max_bytes
                or item.received_ns - self._items[0][0].received_ns > self._span_ns):
            self._forget_oldest()

    def forget_before(self, now_ns: int) -> None:
        """Forget what is too old by now, though nothing has come since."""
        while self._items and now_ns - self._items[0][0].received_ns > self._span_ns:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        gone, _ = self._items.popleft()
        if isinstance(gone, Heard):
            self._bytes -= len(gone.cdr)

    def look(self) -> tuple[list[Heard | Change], dict[str, int | None]]:
        """
        Give everything in the order in which it came.

        Returns
        -------
        tuple
            The items; and for each of their topics the last sequence before its first item.

        """
        before: dict[str, int | None] = {}
        for item, last_sequence in self._items:
            before.setdefault(item.topic, last_sequence)
        return [item for item, _ in self._items], before

    def clear(self) -> None:
        """Forget everything: what belongs to one episode never comes into the next."""
        self._items.clear()
        self._bytes = 0
