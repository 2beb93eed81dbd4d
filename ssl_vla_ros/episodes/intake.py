# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which messages belong to an episode, what is missing between them, and which are refused.

A subscription lives longer than an episode, so the publisher's sequence number is known before
the first message of an episode comes: ``published`` and ``lost`` are exact, gaps at the start
and the end included.

The episode is what was received between the start and the stop request, by the recorder's own
clock: a camera computer whose clock is an hour behind costs nothing, and what comes late over the
start is taken, not lost. What was published before the stop and is received after it belongs to
the episode, too. When that was, the publisher's stamps say once they are set right by the shortest
way that a message of this episode took from there to here, which holds the difference of the two
clocks.
"""

from __future__ import annotations

import enum

from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns

#: A stamp that falls back by more than this is no message out of order: either the clock behind it
#: was set, or those before it were wrong (nanoseconds).
FAR_BACK_NS = 1_000_000_000
#: What middleware without sequence numbers gives in their place (rmw's own constant).
NO_SEQUENCE = 2**64 - 1


class Fate(enum.Enum):
    """What is to be done with a message that came."""

    KEEP = 'keep'
    REFUSED = 'refused'
    OUTSIDE = 'outside'


class TopicIntake:
    """
    The books of one subscription, across episodes.

    Parameters
    ----------
    stamped
        Whether the messages start with a header.

    """

    def __init__(self, stamped: bool) -> None:
        self.stamped = stamped
        self.account = TopicAccount()
        self.publishers = 0
        self.late = 0
        self._last_sequence: int | None = None
        self._several = False
        self._start_ns: int | None = None
        self._stop_ns: int | None = None
        self._ended_ns: int | None = None
        self._begun = False
        self._shortest_way_ns: int | None = None
        self._last_stamp: int | None = None
        self._tail_known = False

    @property
    def tail_known(self) -> bool:
        """Whether a message from after the stop came: none from before it can follow."""
        return self._tail_known

    @property
    def last_sequence(self) -> int | None:
        """Sequence of the last message heard; None before the first one of a publisher."""
        return self._last_sequence

    def begin(self, start_ns: int) -> None:
        """Start an episode with messages received at or after this time (system clock)."""
        self.account = TopicAccount()
        self._start_ns, self._stop_ns = start_ns, None
        self._begun = False
        self._last_stamp = None
        self._tail_known = False
        self._several = self.publishers > 1
        self.account.published_exact = not self._several

    def rewind(self, sequence: int | None) -> None:
        """
        Be as before messages that are about to be taken again, of an episode that has begun.

        Parameters
        ----------
        sequence
            Of the last message before them; None if nobody heard one.

        """
        self._last_sequence = sequence

    def carry_over(self) -> None:
        """Count a message of before the start that belongs to every episode (a latched one)."""
        self.account.published += 1

    def split(self) -> TopicAccount:
        """End the episode with the last message taken, and begin the next with what follows."""
        ended, ended.publishers = self.account, self.publishers
        self.account = TopicAccount(published_exact=not self._several)
        return ended

    def stop(self, stop_ns: int) -> None:
        """End the episode with the last message published before this time (our clock)."""
        self._stop_ns = stop_ns

    def end(self) -> TopicAccount:
        """Close the books and give them out; what still comes for this episode is ``late``."""
        self._ended_ns = None if self._tail_known else self._stop_ns
        self._start_ns = self._stop_ns = None
        self.account.publishers = self.publishers
        return self.account

    def publishers_changed(self, current: int, added: int) -> None:
        """
        Take note of the publishers matched with this subscription.

        Parameters
        ----------
        current
            How many there are now.
        added
            How many came since the last call: a new one counts from a sequence of its own.

        """
        self.publishers = current
        if added or not current:
            self._last_sequence = None
            self._shortest_way_ns = None
        if current > 1 and self._start_ns is not None:
            self._several = True
            self.account.published_exact = False

    def transport_lost(self, count: int) -> None:
        """Take the transport's own report of lost messages, where sequences cannot tell."""
        if self._several and self._start_ns is not None and not self._tail_known:
            self.account.published += count
            self.account.lost += count

    def take(self, sequence: int, source_ns: int, cdr: bytes, *, received_ns: int,
             paused: bool = False) -> tuple[Fate, int | None]:
        """
        Judge and count one message that came.

        Parameters
        ----------
        sequence
            The publisher's sequence number, from 1; ``NO_SEQUENCE`` if the middleware has none.
        source_ns
            The publisher's system time when it published; its clock may be anywhere.
        cdr
            The serialized message.
        received_ns
            Our own system time when it arrived, however late it is taken.
        paused
            Refuse it because the operator paused the recording.

        Returns
        -------
        tuple
            The fate, and the header stamp in nanoseconds of a stamped message that is kept.

        """
        if self._start_ns is None:
            if self._ended_ns is not None:
                if self._published_ns(source_ns, received_ns) <= self._ended_ns:
                    self.late += 1
                else:
                    self._ended_ns = None
            self._last_sequence = sequence
            return Fate.OUTSIDE, None
        # Only what waited here for the start to be taken is from before it. After the first
        # message, not even a clock set back makes one too early.
        if (received_ns < self._start_ns and not self._begun) or self._tail_known:
            self._last_sequence = sequence
            return Fate.OUTSIDE, None
        missing = self._missing_before(sequence)
        self.account.lost += missing
        self.account.published += missing
        if (self._stop_ns is not None
                and self._published_ns(source_ns, received_ns) > self._stop_ns):
            self._tail_known = True
            return Fate.OUTSIDE, None
        way_ns = received_ns - source_ns
        # Anew in each episode: clocks drift, and may be set.
        if not self._begun or self._shortest_way_ns is None or way_ns < self._shortest_way_ns:
            self._shortest_way_ns = way_ns
        self._begun = True
        self.account.published += 1
        if paused:
            self.account.reject('paused')
            return Fate.REFUSED, None
        try:
            return Fate.KEEP, self._checked_stamp(cdr)
        except MessageError as error:
            self.account.reject(error.cause)
            return Fate.REFUSED, None

    def _published_ns(self, source_ns: int, received_ns: int) -> int:
        """Say when a message was published, by our own clock; at the latest when it came."""
        # Several publishers may have several clocks, and nobody says which message is whose.
        if self._shortest_way_ns is None or self._several:
            return received_ns
        return min(received_ns, source_ns + self._shortest_way_ns)

    def _missing_before(self, sequence: int) -> int:
        last, self._last_sequence = self._last_sequence, sequence
        if sequence == NO_SEQUENCE:
            self._several = True
            self.account.published_exact = False
        if self._several:
            return 0
        if last is None or sequence <= last:
            # A publisher that is new to us. Unless this is its very first message, nobody knows
            # how many it sent during the episode before it found us.
            if sequence != 1:
                self.account.published_exact = False
            return 0
        return sequence - last - 1

    def _checked_stamp(self, cdr: bytes) -> int | None:
        if not self.stamped:
            return None
        stamp = header_stamp_ns(cdr)
        last = self._last_stamp
        if stamp <= 0:
            raise MessageError('zero_stamp', f'header stamp is {stamp}')
        # Two publishers on one topic interleave their stamps rightly.
        if last is not None and not self._several:
            if stamp == last:
                raise MessageError('duplicate_stamp', f'header stamp {stamp} came twice')
            # Which side of a long fall back is wrong only the whole stream can tell: both are
            # kept, and whoever reads the episode judges (``quality.stamps.split_rising``).
            if last - FAR_BACK_NS <= stamp < last:
                raise MessageError('backward_stamp', f'header stamp {stamp} came after {last}')
        self._last_stamp = stamp
        return stamp
