# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a model may look back on, kept by header stamp and in bounded memory.

The rules are those by which datasets are aligned (the contract's ``sync``: state interpolated
between its neighbours or the nearest, an action the first command at or after its tick, held
until the next, or the nearest), so that a model meets in service what it met in training.
Whatever breaks the steady row of ticks (a gap, a jump of the clock) empties the history: a
context with a hole in it is never passed off as a whole one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A stamp further from the last one than this is a jump of the clock or a restarted source.
JUMP_S = 1.0

Vector = NDArray[np.float64]


class TickGate:
    """
    Choose from a source's stamps the one for each control tick, and refuse the broken ones.

    A source at the control rate passes whole; from a faster one about every stamp nearest to a
    tick passes, so that a model trained on ticks never gets frames at another rate. ``period_s``
    is the control period.
    """

    #: Share of a period by which a stamp may be early: drivers' stamps jitter.
    _EARLY = 0.25

    def __init__(self, period_s: float) -> None:
        self._period_ns = round(period_s * 1e9)
        self._last_ns: int | None = None
        self._due_ns = 0

    def judge(self, stamp_ns: int) -> str:
        """
        Judge the next stamp.

        Returns
        -------
        str
            ``tick`` to use it; ``jump`` to use it after forgetting everything before it;
            ``decimated`` (between two ticks), ``zero_stamp``, ``duplicate_stamp`` or
            ``backward_stamp`` to leave it out and count it.

        """
        if stamp_ns <= 0:
            return 'zero_stamp'
        last = self._last_ns
        if last is None or abs(stamp_ns - last) > JUMP_S * 1e9:
            self._last_ns = stamp_ns
            self._due_ns = stamp_ns + self._period_ns
            return 'tick' if last is None else 'jump'
        if stamp_ns == last:
            return 'duplicate_stamp'
        if stamp_ns < last:
            return 'backward_stamp'
        self._last_ns = stamp_ns
        if stamp_ns < self._due_ns - self._EARLY * self._period_ns:
            return 'decimated'
        # The grid follows the source: after a hole it goes on from the stamp that came.
        late = stamp_ns - self._due_ns
        self._due_ns += self._period_ns
        if late > 0.5 * self._period_ns:
            self._due_ns = stamp_ns + self._period_ns
        return 'tick'

    def clear(self) -> None:
        """Forget the last stamp; the next one begins a new row of ticks."""
        self._last_ns = None


class TickHistory:
    """
    The rows of the last ``length`` ticks, one control period apart.

    Parameters
    ----------
    length
        How many ticks are kept.
    period_s
        The control period; neighbours must be 0.5 to 1.5 periods apart.

    """

    def __init__(self, length: int, period_s: float) -> None:
        if length < 1:
            raise ValueError(f'length is {length}, must be at least 1')
        self.length = length
        self._period_ns = period_s * 1e9
        self._ticks: deque[tuple[int, tuple[NDArray[Any], ...]]] = deque(maxlen=length)

    def push(self, stamp_ns: int, *rows: NDArray[Any]) -> str:
        """
        Append a tick.

        Returns
        -------
        str
            ``next`` after its neighbour, ``first`` into an empty history; ``gap`` or ``jump``
            when everything before it was forgotten; ``late`` when it was older than the newest
            tick, and left out.

        """
        verdict = 'first'
        if self._ticks:
            step = stamp_ns - self._ticks[-1][0]
            if abs(step) > JUMP_S * 1e9:
                verdict = 'jump'
            elif step < 0.5 * self._period_ns:
                return 'late'
            else:
                verdict = 'gap' if step > 1.5 * self._period_ns else 'next'
            if verdict != 'next':
                self._ticks.clear()
        self._ticks.append((stamp_ns, rows))
        return verdict

    def clear(self) -> None:
        """Forget every tick."""
        self._ticks.clear()

    def __len__(self) -> int:
        return len(self._ticks)

    @property
    def full(self) -> bool:
        """Whether ``length`` neighbouring ticks are there."""
        return len(self._ticks) == self.length

    @property
    def stamps(self) -> list[int]:
        """Stamps of the ticks in ns, oldest first."""
        return [stamp for stamp, _ in self._ticks]

    def stack(self, column: int = 0) -> NDArray[Any]:
        """Rows of the given column, oldest first, as one array (ticks, …)."""
        return np.stack([rows[column] for _, rows in self._ticks])


class StreamLog:
    """
    The newest messages of one stream by stamp, decoded only when they are asked for.

    Appending is all that a subscription callback has to do: at 125 Hz of joint states and 20 Hz
    of ticks most messages are never looked at.

    Parameters
    ----------
    decode
        Turns a message into its values (width,); what it raises reaches the caller of a lookup.
    capacity
        How many messages are kept.

    """

    def __init__(self, decode: Callable[[Any], Vector], capacity: int = 256) -> None:
        self._decode = decode
        self._capacity = capacity
        self._stamps: list[int] = []
        self._messages: list[Any] = []
        self._lock = threading.Lock()

    def append(self, stamp_ns: int, message: Any) -> str:
        """
        Keep a message.

        Returns
        -------
        str
            ``ok``; ``jump`` when everything before it was forgotten; ``zero_stamp``,
            ``duplicate_stamp`` or ``backward_stamp`` when it was left out.

        """
        if stamp_ns <= 0:
            return 'zero_stamp'
        with self._lock:
            verdict = 'ok'
            if self._stamps:
                step = stamp_ns - self._stamps[-1]
                if step < -JUMP_S * 1e9:
                    self._stamps.clear()
                    self._messages.clear()
                    verdict = 'jump'
                elif step <= 0:
                    return 'duplicate_stamp' if step == 0 else 'backward_stamp'
            self._stamps.append(stamp_ns)
            self._messages.append(message)
            if len(self._stamps) >= 2 * self._capacity:
                # In blocks: shifting a list at each message would cost more than the message.
                del self._stamps[:self._capacity]
                del self._messages[:self._capacity]
            return verdict

    def clear(self) -> None:
        """Forget every message."""
        with self._lock:
            self._stamps.clear()
            self._messages.clear()

    def __len__(self) -> int:
        return len(self._stamps)

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest message."""
        with self._lock:
            return self._stamps[-1] if self._stamps else None

    def at(self, stamp_ns: int, how: str, max_skew_s: float) -> Vector | None:
        """
        Values at a stamp.

        Parameters
        ----------
        stamp_ns
            When.
        how
            ``linear`` between the neighbours before and after, or ``nearest``. Where only one
            neighbour is there yet, its values are taken.
        max_skew_s
            No neighbour used may be further away.

        Returns
        -------
        numpy.ndarray or None
            (width,) float64; None where no message is near enough.

        """
        limit = max_skew_s * 1e9
        with self._lock:
            after = bisect_left(self._stamps, stamp_ns)
            near = [(abs(self._stamps[index] - stamp_ns), self._stamps[index],
                     self._messages[index])
                    for index in (after - 1, after) if 0 <= index < len(self._stamps)]
        near = [entry for entry in near if entry[0] <= limit]
        if not near:
            return None
        if how == 'nearest' or len(near) == 1:
            return self._decode(min(near, key=lambda entry: entry[0])[2])
        (before_gap, _, before), (after_gap, _, behind) = near
        share = before_gap / (before_gap + after_gap)
        low, high = self._decode(before), self._decode(behind)
        return low + share * (high - low)

    def commanded(self, start_ns: int, end_ns: int, how: str = 'next') -> Vector | None:
        """
        Values commanded for the tick at ``start_ns`` before that at ``end_ns``; None if none.

        ``next`` is the first command stamped in [start, end), or the one held from before;
        ``nearest`` the one nearest to start, of two equally near ones the earlier.
        """
        with self._lock:
            index = bisect_left(self._stamps, start_ns)
            if how == 'nearest' and self._stamps:
                # The later one only where it is nearer than the one before it, if there is one.
                end_ns = 2 * start_ns - self._stamps[index - 1] if index else self._stamps[0] + 1
            if index == len(self._stamps) or self._stamps[index] >= end_ns:
                index -= 1
            if index < 0:
                return None
            message = self._messages[index]
        return self._decode(message)

    def latest(self) -> Vector | None:
        """Values of the newest message; None if there is none."""
        with self._lock:
            if not self._messages:
                return None
            message = self._messages[-1]
        return self._decode(message)


def joined(parts: Sequence[Vector | None]) -> Vector | None:
    """Join the values of all streams; None if any has none."""
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def commanded(logs: Sequence[StreamLog], start_ns: int, end_ns: int,
              how: str = 'next') -> Vector | None:
    """Join the actions (A,) of a tick, see ``StreamLog``; None if any stream is silent."""
    return joined([log.commanded(start_ns, end_ns, how) for log in logs])


def latest(logs: Sequence[StreamLog]) -> Vector | None:
    """Join the newest values of all streams; None if any stream never carried some."""
    return joined([log.latest() for log in logs])
