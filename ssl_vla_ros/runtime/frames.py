# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Hand the newest pictures of all cameras from callbacks to one worker, and never queue.

The first camera sets the ticks, or a clock does; the others are matched to it by header stamp.
Pictures of one tick arrive one after another, so the worker waits a moment for those still on
their way rather than pairing a picture with the one of the tick before.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import math
import threading
import time
from typing import Any

from ssl_vla_ros.runtime.history import JUMP_S, TickGate
from ssl_vla_ros.runtime.timing import DeadlineCounter

#: What makes a tick.
TRIGGERS = ('image', 'rate')
#: Messages kept of each further camera: enough to find the nearest one on either side.
_RING = 4


@dataclass(frozen=True)
class FrameSet:
    """
    One message of each source for one tick.

    Attributes
    ----------
    stamp_ns
        Header stamp of the first source's message.
    tick_ns
        By what ``Mailbox.deadlines`` counts it: the stamp, or the clock's tick.
    messages
        By source name.
    received_s, waited_s
        Steady time at which the first source's message came, or the clock ticked, and how long
        the others were waited for after that.
    jumped
        Whether the stamps jumped since the tick before.

    """

    stamp_ns: int
    tick_ns: int
    messages: Mapping[str, Any]
    received_s: float
    waited_s: float
    jumped: bool


@dataclass
class _Pending:
    stamp_ns: int
    tick_ns: int
    message: Any
    received_s: float
    jumped: bool


class Mailbox:
    """
    Newest wins: what the worker has not taken when the next tick comes is dropped and counted.

    Parameters
    ----------
    sources
        Names; the first one sets the ticks.
    period_s
        The control period.
    max_skew_s
        How far the stamps of other sources may be from the first one's.
    wait_s
        How long to wait for sources that are not there yet.
    trigger
        ``image``: a message of the first source is a tick, if one is due by its stamp. ``rate``:
        the clock ticks, and takes the newest message that it has not taken before.
    clock
        Seconds of a clock that never jumps.

    """

    def __init__(self, sources: Sequence[str], period_s: float, max_skew_s: float,
                 wait_s: float, trigger: str = 'image',
                 clock: Callable[[], float] = time.monotonic) -> None:
        if trigger not in TRIGGERS:
            raise ValueError(f'trigger is {trigger!r}, must be one of {", ".join(TRIGGERS)}')
        self._first, *others = sources
        self._rings: dict[str, deque[tuple[int, Any]]] = {
            name: deque(maxlen=_RING) for name in others}
        self._max_skew_ns = max_skew_s * 1e9
        self._wait_s = wait_s
        self._clock = clock
        self._period_s = period_s
        self._by_clock = trigger == 'rate'
        self._began_s = clock()
        # With no period every newer stamp passes.
        self._gate = TickGate(0.0 if self._by_clock else period_s)
        self._condition = threading.Condition()
        self._pending: _Pending | None = None
        self._closed = False
        self._jumped = False
        self._lost = 0
        #: What was left out, by cause.
        self.drops: Counter[str] = Counter()
        self.deadlines = DeadlineCounter(period_s)

    def put(self, source: str, stamp_ns: int, message: Any, lost: int = 0) -> bool:
        """
        Keep a message; called by callbacks.

        Parameters
        ----------
        source, stamp_ns, message
            What came from where.
        lost
            Messages of this source known to be lost just before this one.

        Returns
        -------
        bool
            False if the message was left out for its stamp.

        """
        with self._condition:
            if self._closed:
                return False
            if source != self._first:
                return self._put_other(source, stamp_ns, message)
            self._lost += lost
            verdict = self._gate.judge(stamp_ns)
            if verdict not in ('tick', 'jump'):
                self.drops[verdict] += 1
                return False
            received_s = self._clock()
            tick_ns = self._tick_ns(received_s) if self._by_clock else stamp_ns
            self.deadlines.observe(tick_ns, self._lost, received_s)
            self._lost = 0
            # Kept until a set is taken: a jump must not vanish with a picture that was dropped.
            self._jumped = self._jumped or verdict == 'jump'
            if self._pending is not None:
                # Before the clock's tick a newer one is what was asked for.
                self.drops['decimated' if self._pending.tick_ns == tick_ns else 'superseded'] += 1
            self._pending = _Pending(stamp_ns, tick_ns, message, received_s, self._jumped)
            self._condition.notify()
            return True

    def _tick_ns(self, now_s: float) -> int:
        """Time of the first tick of the clock that is not over, since the mailbox was made."""
        number = math.ceil((now_s - self._began_s) / self._period_s)
        return round(number * self._period_s * 1e9)

    def _due_s(self, pending: _Pending) -> float:
        return self._began_s + pending.tick_ns * 1e-9 if self._by_clock else pending.received_s

    def _put_other(self, source: str, stamp_ns: int, message: Any) -> bool:
        ring = self._rings[source]
        verdict = ''
        if stamp_ns <= 0:
            verdict = 'zero_stamp'
        elif ring and stamp_ns < ring[-1][0] - JUMP_S * 1e9:
            ring.clear()
        elif ring and stamp_ns <= ring[-1][0]:
            verdict = 'duplicate_stamp' if stamp_ns == ring[-1][0] else 'backward_stamp'
        if verdict:
            self.drops[f'{source}.{verdict}'] += 1
            return False
        ring.append((stamp_ns, message))
        self._condition.notify()
        return True

    def take(self) -> FrameSet | None:
        """Wait for the next whole set; None once the mailbox is closed."""
        while True:
            with self._condition:
                while not self._closed:
                    left = (None if self._pending is None
                            else self._due_s(self._pending) - self._clock())
                    if left is not None and left <= 0.0:
                        break
                    self._condition.wait(left)
                pending, self._pending = self._pending, None
                if pending is None or self._closed:
                    return None
                began = self._clock()
                self._wait_for_others(pending)
                chosen = self._choose(pending)
                if chosen is not None:
                    self._jumped = False
                    # From when it was due: waiting for the clock's tick is no work.
                    due_s = max(pending.received_s, self._due_s(pending))
                    return FrameSet(pending.stamp_ns, pending.tick_ns, chosen, due_s,
                                    self._clock() - began, pending.jumped)

    def _wait_for_others(self, pending: _Pending) -> None:
        until = pending.received_s + self._wait_s
        while not self._closed and not all(
                # Stamps only grow: from one at or after ours on, nothing nearer can come. One far
                # after ours is of before a jump of the clock.
                ring and 0 <= ring[-1][0] - pending.stamp_ns <= JUMP_S * 1e9
                for ring in self._rings.values()):
            left = until - self._clock()
            if left <= 0.0:
                return
            self._condition.wait(left)

    def _choose(self, pending: _Pending) -> dict[str, Any] | None:
        chosen = {self._first: pending.message}
        for name, ring in self._rings.items():
            if not ring:
                self.drops[f'{name}.missing'] += 1
                return None
            stamp_ns, message = min(ring, key=lambda entry: abs(entry[0] - pending.stamp_ns))
            if abs(stamp_ns - pending.stamp_ns) > self._max_skew_ns:
                self.drops[f'{name}.skew'] += 1
                return None
            chosen[name] = message
        return chosen

    def close(self) -> None:
        """Let the worker go; nothing is taken from now on."""
        with self._condition:
            self._closed = True
            self._pending = None
            self._condition.notify_all()
