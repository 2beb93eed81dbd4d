# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
One recorder's episode from start to finish: recording, stopping, being written out, done.

Nothing here waits: ``step``, called often, moves an ending on. Only ``finish_now`` blocks, for a
process that is about to end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time
from typing import Any

from ssl_vla_ros.episodes.books import Books
from ssl_vla_ros.episodes.recording import Outcome, Recording
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import EpisodeError


@dataclass(frozen=True)
class RecordingLimits:
    """
    What a recording may take.

    Attributes
    ----------
    queue_size, queue_bytes
        Messages and bytes that may wait for the disk.
    min_free_bytes
        Free disk below which an episode is ended.
    drain_s
        Longest wait for messages on their way at the stop, in seconds.
    join_s
        Longest wait for the disk in ``finish_now``, in seconds.

    """

    queue_size: int = 2000
    queue_bytes: int = 256 * 2**20
    min_free_bytes: int = 0
    drain_s: float = 1.0
    join_s: float = 30.0


class EpisodeControl:
    """
    At most one open episode, and the last one's outcome.

    Parameters
    ----------
    books
        The books of the subscriptions, which begin and end with the episode.
    limits
        What the recording may take.
    opened
        Called on some thread when the disk has made an episode, or cannot: ``step`` has news.

    Attributes
    ----------
    success
        What the operator said of the open episode, if anything.
    task
        What is being done, where that was said after the start; None otherwise.
    notes : dict
        More for episode.json, under ``extra``.
    last
        How the last episode ended.

    """

    def __init__(self, books: Books, limits: RecordingLimits,
                 opened: Callable[[], None] = lambda: None) -> None:
        self.books = books
        self.success: bool | None = None
        self.task: str | None = None
        self.notes: dict[str, Any] = {}
        self.last: Outcome | None = None
        self._limits = limits
        self._opened = opened
        self._recording: Recording | None = None
        #: The one to go on in, while the disk makes it, and why.
        self._next: tuple[Recording, str] | None = None
        self._started_at = 0.0
        self._how: dict[str, Any] | None = None
        self._written_out = False
        #: Parts of a long recording that the disk has not finished yet.
        self._parts: list[Recording] = []
        #: Made to go on in, and not needed.
        self._unwanted: list[Recording] = []

    @property
    def phase(self) -> str:
        """``idle``, ``starting``, ``recording``, ``paused`` or ``stopping``."""
        if self._recording is None:
            return 'idle'
        if self._how is not None:
            return 'stopping'
        if not self._recording.name:
            return 'starting'
        return 'paused' if self.books.paused else 'recording'

    @property
    def running(self) -> bool:
        """Whether an episode is open and nobody has ended it."""
        return self.phase in ('recording', 'paused')

    @property
    def name(self) -> str | None:
        """Name of the open episode, once the disk has made it."""
        return None if self._recording is None else self._recording.name or None

    @property
    def elapsed_s(self) -> float:
        """How long the open episode has been recorded, in seconds."""
        return 0.0 if self._recording is None else time.monotonic() - self._started_at

    @property
    def size_bytes(self) -> int:
        """Bytes of messages in the open episode, before compression."""
        return 0 if self._recording is None else self._recording.taken_bytes

    @property
    def depth(self) -> int:
        """Messages waiting for the disk."""
        return sum(item.depth for item in (self._recording, *self._parts) if item is not None)

    def counts(self) -> dict[str, Any]:
        """Count the open episode's messages so far, by topic."""
        if self._recording is None:
            return {}
        written = self._recording.written
        return {topic: intake.account.to_dict() | {'written': written[topic]}
                for topic, intake in self.books.intakes.items()}

    def start(self, open_writer: Callable[[], EpisodeWriter], start_ns: int | None = None
              ) -> None:
        """
        Begin the books of an episode, and have the disk make it.

        What comes meanwhile is queued. ``name`` says when it is there; where it cannot be made,
        ``step`` says so.

        Parameters
        ----------
        open_writer
            Makes the episode, on a thread of its own.
        start_ns
            When the episode begins (our system clock), where what came since is at hand; now if
            None.

        Raises
        ------
        EpisodeError
            If one is open already.

        """
        if self._recording is not None:
            what = {'stopping': 'finished; wait for it', 'starting': 'started; wait for it'}.get(
                self.phase, 'recorded; stop it')
            raise EpisodeError(f'{self._recording.name or "an episode"} is being {what} first')
        self._recording = self._open(open_writer)
        self._started_at = time.monotonic()
        self.success, self.task, self.notes = None, None, {}
        self._how, self._written_out = None, False
        self.books.begin(start_ns)

    def _open(self, open_writer: Callable[[], EpisodeWriter]) -> Recording:
        return Recording(
            open_writer, self.books.intakes, queue_size=self._limits.queue_size,
            queue_bytes=self._limits.queue_bytes, min_free_bytes=self._limits.min_free_bytes,
            opened=self._opened)

    def put(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int, *,
            before: bool = False) -> None:
        """
        Queue a message that the books gave ``Fate.KEEP``, or count it as dropped.

        ``before`` is for one from before the start, which no limit of the queue holds back.
        """
        account = self.books.intakes[topic].account
        if self._recording is None:
            account.dropped += 1
        elif before:
            self._recording.put_before(topic, cdr, log_time_ns, publish_time_ns)
        elif not self._recording.put(topic, cdr, log_time_ns, publish_time_ns):
            account.dropped += 1

    @property
    def may_split(self) -> bool:
        """
        Whether ``split`` is possible.

        Not while the disk is making the next part, nor while it still writes the last one: each
        has a queue of its own, and memory must not grow with every part.
        """
        return self.phase == 'recording' and self._next is None and not self._parts

    def split(self, open_writer: Callable[[], EpisodeWriter], reason: str) -> None:
        """
        Have the disk make another episode, for ``switch`` to go on in.

        Parameters
        ----------
        open_writer
            Makes it, on a thread of its own.
        reason
            Why, for the open one's episode.json.

        """
        assert self.may_split
        self._next = self._open(open_writer), reason

    def switch(self, clock: str) -> str | None:
        """
        Go on in the episode that ``split`` asked for, without a message between the two.

        Parameters
        ----------
        clock
            As in ``step``.

        Returns
        -------
        str or None
            Its name; None while the disk is not ready, or nobody asked for one.

        Raises
        ------
        EpisodeError
            If it cannot be made; the open one then goes on.

        """
        if self._next is None:
            return None
        recording, reason = self._next
        if recording.refusal:
            self._next = None
            raise EpisodeError(recording.refusal)
        ended = self._recording
        if not recording.name or ended is None or not self.running:
            return None
        self._next, self._recording, self._started_at = None, recording, time.monotonic()
        part = int(self.notes.get('part', 1))
        ended.finish(
            self.books.split(), status='complete', reason=reason, success=None, task=self.task,
            clock=clock, extra={**self.notes, 'part': part, 'goes_on_in': recording.name})
        self._parts.append(ended)
        self.notes = {'part': part + 1, 'continues': ended.name}
        return recording.name

    def stop(self, status: str = 'complete', reason: str = '', *, discard: bool = False) -> None:
        """End the open episode now; ``step`` does the rest."""
        self.books.stop()
        if self._next is not None:
            unwanted, _ = self._next
            self._next = None
            unwanted.discard({}, 'made to go on in, but the episode before it ended first')
            self._unwanted.append(unwanted)
        self._how = ({'discard': True, 'reason': reason} if discard
                     else {'status': status, 'reason': reason})

    def step(self, clock: str, jump: str = '') -> Outcome | None:
        """
        Move on; gives the outcome once, when an episode has ended.

        That of an episode that could not be made has no name and the status ``refused``.

        Parameters
        ----------
        clock
            ``system`` or ``sim``, for episode.json.
        jump
            A jump of that clock since the last step, in words: it ends the episode.

        """
        for part in self._parts:
            if part.outcome is not None:
                part.join()
                self._parts.remove(part)
                return part.outcome
        for item in list(self._unwanted):
            if item.join(0.0):
                self._unwanted.remove(item)
                if item.outcome is not None and item.outcome.error:
                    return item.outcome
        recording = self._recording
        if recording is None:
            return None
        if recording.refusal:
            return self._refused(recording)
        if self._how is None:
            if jump:
                self.stop('incomplete', f'clock_jump: {jump}')
            elif recording.failure:
                self.stop('incomplete', recording.failure)
        elif not self._written_out:
            if self.books.drained(self._limits.drain_s):
                self._write_out(recording, clock, drained=True)
        elif recording.outcome is not None:
            return self._conclude(recording, recording.outcome)
        return None

    def finish_now(self, reason: str, clock: str) -> list[Outcome]:
        """
        End an open episode and wait for the disk; messages on their way are not waited for.

        Raises
        ------
        EpisodeError
            If the disk does not answer.

        """
        recording = self._recording
        if recording is not None:
            if self._how is None:
                self.stop('incomplete', reason)
            if not self._written_out:
                self._write_out(recording, clock, drained=False)
        outcomes = []
        for item in [*self._unwanted, *self._parts, *([] if recording is None else [recording])]:
            if not item.join(self._limits.join_s):
                raise EpisodeError(
                    f'{item.name or "an episode"} is still being written after '
                    f'{self._limits.join_s:g} s; the disk does not answer')
            if item.outcome is not None and item not in self._unwanted:
                outcomes.append(item.outcome)
        self._parts, self._unwanted = [], []
        if recording is not None and recording.outcome is not None:
            self._conclude(recording, recording.outcome)
        elif recording is not None:
            outcomes.append(self._refused(recording))
        return outcomes

    def _refused(self, recording: Recording) -> Outcome:
        """Be as before a start that the disk refused."""
        recording.join()
        if self.books.running:
            self.books.end(drained=False)
        self._recording, self._how = None, None
        return Outcome('', 'refused', '', {}, recording.refusal)

    def _write_out(self, recording: Recording, clock: str, *, drained: bool) -> None:
        assert self._how is not None
        accounts = self.books.end(drained=drained)
        self._written_out = True
        if self._how.get('discard'):
            recording.discard(accounts, self._how['reason'])
        else:
            recording.finish(accounts, success=self.success, clock=clock, task=self.task,
                             extra=self.notes, **self._how)

    def _conclude(self, recording: Recording, outcome: Outcome) -> Outcome:
        recording.join()
        self.last, self._recording, self._how = outcome, None, None
        return outcome
