# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The one thread that writes an episode, behind a bounded queue.

Whoever receives messages only puts them here; making the episode's directory, compression, the
disk and the final rename happen on the thread. A full queue, or a disk that failed, drops what
comes next, and counts it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
import contextlib
import dataclasses
import shutil
import threading
import time
from typing import Any

from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.recover import how_to_recover, recover_part
from ssl_vla_ros.episodes.writer import EpisodeWriter, RESERVE_BYTES
from ssl_vla_ros.errors import EpisodeError, UserError

_DISK_CHECK_S = 0.5
_IDLE_S = 0.1


@dataclasses.dataclass(frozen=True)
class Outcome:
    """
    How an episode ended: ``name`` and ``status`` as on the disk, or the ``error`` instead.

    One that could not be made has no name, and the status ``refused``.
    """

    name: str
    status: str
    reason: str
    accounts: Mapping[str, TopicAccount]
    error: str = ''

    @property
    def told(self) -> str:
        """Say what the operator must know; '' of an episode that ended as it was asked to."""
        if self.error or self.status in ('complete', 'discarded'):
            return self.error
        return f'{self.name} is {self.status}: {self.reason}'


class Recording:
    """
    An open episode and its writer thread.

    Parameters
    ----------
    open_writer
        Makes the episode; called on the thread, like everything else of it.
    topics
        Its topics.
    queue_size
        Messages that may wait.
    queue_bytes
        Bytes that may wait: what bounds memory, whatever the image size.
    min_free_bytes
        Below this much free disk the recording asks to be stopped (see ``failure``).
    opened
        Called on the thread when the episode is there, or cannot be made.

    """

    def __init__(self, open_writer: Callable[[], EpisodeWriter], topics: Iterable[str], *,
                 queue_size: int, queue_bytes: int, min_free_bytes: int,
                 opened: Callable[[], None] = lambda: None) -> None:
        #: Its name on the disk; '' until it is there.
        self.name = ''
        #: Why it could not be made; '' if it is there, or is being made.
        self.refusal = ''
        #: Why the recording cannot go on: 'min_free_bytes: …' or 'disk: …'; '' if all is well.
        self.failure = ''
        #: Bytes of messages that were taken, written or not.
        self.taken_bytes = 0
        #: Set when the episode is finished, by ``finish`` or ``discard``.
        self.outcome: Outcome | None = None
        self._open_writer = open_writer
        self._opened = opened
        self._writer: EpisodeWriter
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._min_free_bytes = min_free_bytes
        self._queue: deque[tuple[str, bytes, int, int]] = deque()
        self._waiting_bytes = 0
        # Messages of before the start: in memory already, so no limit of the queue is theirs.
        self._before: deque[tuple[str, bytes, int, int]] = deque()
        self._condition = threading.Condition()
        self._broken = False
        self._unwritten = dict.fromkeys(topics, 0)
        self._end: dict[str, Any] | None = None
        self._accounts: dict[str, TopicAccount] = {}
        self._checked_at = 0.0
        # Not a daemon: the interpreter waits for the file.
        self._thread = threading.Thread(target=self._run, name='episode-writer')
        self._thread.start()

    @property
    def depth(self) -> int:
        """Messages waiting to be written."""
        return len(self._before) + len(self._queue)

    @property
    def _crowded(self) -> bool:
        return (2 * len(self._queue) > self._queue_size
                or 2 * self._waiting_bytes > self._queue_bytes)

    @property
    def written(self) -> dict[str, int]:
        """Messages written so far, by topic."""
        return dict(self._writer.written) if self.name else dict.fromkeys(self._unwritten, 0)

    def put(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int) -> bool:
        """Queue a message; False if it was dropped, which the caller counts."""
        with self._condition:
            if (self._broken or len(self._queue) >= self._queue_size
                    or self._waiting_bytes + len(cdr) > self._queue_bytes):
                return False
            self._queue.append((topic, cdr, log_time_ns, publish_time_ns))
            self._waiting_bytes += len(cdr)
            self.taken_bytes += len(cdr)
            self._condition.notify()
        return True

    def put_before(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """Queue a message from before the start, which whoever starts holds in memory already."""
        with self._condition:
            self._before.append((topic, cdr, log_time_ns, publish_time_ns))
            self.taken_bytes += len(cdr)
            self._condition.notify()

    def finish(self, accounts: Mapping[str, TopicAccount], **how: Any) -> None:
        """
        Write what waits and finish the episode, on the thread; returns at once.

        Parameters
        ----------
        accounts
            The books without ``written``, which the thread fills in.
        how
            As ``EpisodeWriter.close``.

        """
        self._request(accounts, how)

    def discard(self, accounts: Mapping[str, TopicAccount], reason: str) -> None:
        """Throw the episode away, on the thread; returns at once."""
        self._request(accounts, {'discard': True, 'reason': reason})

    def _request(self, accounts: Mapping[str, TopicAccount], how: dict[str, Any]) -> None:
        with self._condition:
            if self._end is None:
                self._accounts = {topic: dataclasses.replace(account)
                                  for topic, account in accounts.items()}
                self._end = how
                self._condition.notify()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread; True when it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- on the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._writer = self._open_writer()
        except BaseException as error:
            with self._condition:
                self._broken = True
            self.refusal = str(error) if isinstance(error, UserError) else (
                f'no episode could be made: {error!r}')
            self._tell()
            return
        self.name = self._writer.path.name
        self._tell()
        # Whatever happens, there is an outcome: the node waits for it.
        try:
            self._write_all()
            self.outcome = self._conclude(self._end or {})
        except BaseException as error:
            self.outcome = self._unfinished(error)
            with contextlib.suppress(OSError):  # a disk that is gone cannot even close a file
                self._writer.abandon()

    def _tell(self) -> None:
        # Whoever listened may be gone by now; that must not cost the episode.
        with contextlib.suppress(Exception):
            self._opened()

    def _write_all(self) -> None:
        while True:
            with self._condition:
                if not self._before and not self._queue and self._end is None:
                    self._condition.wait(_IDLE_S)
                item = None
                # What came before the start can wait, what comes now has a limit.
                if self._before and not self._crowded:
                    item = self._before.popleft()
                elif self._queue:
                    item = self._queue.popleft()
                    self._waiting_bytes -= len(item[1])
            if item is None:
                if self._end is not None:
                    return
                self._work(self._writer.sync_if_due)
            elif self._broken:
                self._unwritten[item[0]] += 1
            else:
                self._work(self._writer.write, *item)
            self._work(self._check_disk)

    def _work(self, work: Any, *arguments: Any) -> None:
        if self._broken:
            return
        try:
            work(*arguments)
        except (OSError, ValueError) as error:
            self._break(f'disk: {error}')
        except Exception as error:  # a mistake of ours; what is on the disk is still rescued
            self._break(f'writer: {error!r}')

    def _break(self, failure: str) -> None:
        with self._condition:
            self._broken = True
        self.failure = failure

    def _check_disk(self) -> None:
        now = time.monotonic()
        if self.failure or now - self._checked_at < _DISK_CHECK_S:
            return
        self._checked_at = now
        # What is kept for the episode's end is free again when it has ended.
        free = shutil.disk_usage(self._writer.part).free + RESERVE_BYTES
        if free < self._min_free_bytes:
            self.failure = (f'min_free_bytes: {free} bytes are free, fewer than '
                            f'{self._min_free_bytes}')

    def _conclude(self, how: dict[str, Any]) -> Outcome:
        reason = str(how.get('reason', ''))
        if how.pop('discard', False):
            self._fill_in_written()
            self._writer.discard(reason, self._accounts)
            return Outcome(self.name, 'discarded', reason, self._accounts)
        if self._broken:
            return self._rescue()
        self._fill_in_written()
        try:
            self._writer.close(self._accounts, **how)
        except OSError as error:
            self._break(f'disk: {error}')
            return self._rescue()
        info = self._writer.info
        return Outcome(self.name, info['status'], info['reason'], self._accounts)

    def _unfinished(self, error: BaseException) -> Outcome:
        self._break(self.failure or f'writer: {error!r}')
        self._fill_in_written()
        words = str(error) if isinstance(error, EpisodeError) else (
            f'{self._writer.part}: not finished: '
            f'{error if isinstance(error, OSError) else repr(error)}; '
            f'{how_to_recover(self._writer.part)}')
        return Outcome(self.name, 'unfinished', self.failure, self._accounts, words)

    def _fill_in_written(self) -> None:
        for topic, account in self._accounts.items():
            account.written = self._writer.written[topic]
            if self._broken:
                # Which message it broke on, and whether that one got through, nobody knows.
                account.dropped = (account.published - account.written - account.lost
                                   - account.rejected)
            else:
                account.dropped += self._unwritten[topic]

    def _rescue(self) -> Outcome:
        """Finish from what is readable on the disk; what is not there counts as dropped."""
        with self._writer.rescued() as (session, number):
            recovered = recover_part(
                session, number, status='incomplete', reason=self.failure,
                accounts=self._accounts, faults=[self.failure])
        self._accounts = recovered.accounts
        return Outcome(self.name, recovered.status, recovered.reason, self._accounts)
