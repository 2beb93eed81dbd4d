# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Write one episode so that it is there whole, or recoverable, or not at all.

Everything goes into a hidden directory that one rename makes the episode; the rename comes after
every file is on the disk. A killed process costs at most what came since the last sync.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import contextlib
import importlib.metadata
import json
from pathlib import Path
import shutil
import time
from typing import Any

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.accounting import mostly_rejected, silent, TopicAccount, unbalanced
from ssl_vla_ros.episodes.bag import (
    BagFile, reserve_room, sync_directory, write_json, write_metadata)
from ssl_vla_ros.episodes.schemas import message_schema
from ssl_vla_ros.errors import EpisodeError

SCHEMA_VERSION = 1
#: Status of an episode.json that its writer has not finished; never seen in a finished episode.
RECORDING = 'recording'
#: For the index and the books of an episode that filled the disk: those of some 6000 chunks.
RESERVE_BYTES = 2**20
STATUSES = ('complete', 'incomplete', 'recovered', 'discarded')


class EpisodeWriter:
    """
    One episode being written.

    Parameters
    ----------
    session
        Directory of the session; made if it is not there.
    contract
        The robot contract, embedded in the episode.
    task
        What is being done, in words.
    topics
        Each topic as the contract names it, with its message type.
    fsync_interval_s
        How much time a power cut or a kill may cost, in seconds.
    operator
        Who teleoperates.
    bag_topics
        Names in the bag, where they are not the topic with a slash before it.
    compression
        ``zstd``, ``lz4`` or ``none``.

    Attributes
    ----------
    number
        The episode's number, given once in a session.
    part, path
        Where it is written, and where it will be when finished.
    written
        Messages written, by topic.
    info
        What episode.json says, or will say.

    Raises
    ------
    EpisodeError
        If the directory cannot be written or a message type is not installed.

    """

    def __init__(self, session: Path, contract: Contract, *, task: str,
                 topics: Mapping[str, str], fsync_interval_s: float = 1.0, operator: str = '',
                 bag_topics: Mapping[str, str] | None = None, compression: str = 'zstd') -> None:
        schemas = {topic: message_schema(kind) for topic, kind in topics.items()}
        names = {topic: (bag_topics or {}).get(topic, f'/{topic.lstrip("~/")}')
                 for topic in topics}
        session = Path(session)
        self.number, self.part, self._lock = sessions.reserve(session)
        self.path = session / sessions.episode_name(self.number)
        self.written = dict.fromkeys(topics, 0)
        self._needed = dict.fromkeys((
            *(camera.topic for camera in contract.cameras),
            *(stream.topic for stream in (*contract.state, *contract.action))))
        self._fsync_interval_s = fsync_interval_s
        self._synced_at = time.monotonic()
        self.info: dict[str, Any] = {
            'schema_version': SCHEMA_VERSION, 'episode': self.number, 'status': RECORDING,
            'reason': '', 'faults': [], 'task': task, 'success': None, 'operator': operator,
            'contract': contract.to_dict(), 'clock': '', 'topics': names, 'counts': {},
            'first_stamp_ns': None, 'last_stamp_ns': None, 'duration_s': 0.0,
            'software': software_versions()}
        try:
            # First: without it, a killed episode would not know its contract.
            write_json(self.part / sessions.INFO_FILE, self.info)
            reserve_room(self.part / sessions.RESERVE_FILE, RESERVE_BYTES)
            self._bag = BagFile(
                self.part / sessions.mcap_name(self.number),
                {topic: (names[topic], schemas[topic]) for topic in topics},
                {'contract': json.dumps(contract.to_dict()), 'task': task,
                 'episode': str(self.number)}, compression,
                [item.topic for item in contract.extra if item.durability == 'transient_local'])
        except OSError as error:
            shutil.rmtree(self.part, ignore_errors=True)
            self._lock.release()
            raise EpisodeError(f'{self.part}: cannot be written: {error}') from error

    def write(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """
        Append one serialized message; syncs when the interval has passed.

        Raises
        ------
        OSError
            If the disk is full or gone; the episode can then only be abandoned.

        """
        self._bag.write(topic, cdr, log_time_ns, publish_time_ns)
        self.written[topic] += 1
        self.sync_if_due()

    def sync_if_due(self) -> None:
        """Bring what is written to the disk, if the interval has passed since the last time."""
        if time.monotonic() - self._synced_at >= self._fsync_interval_s:
            self.sync()

    def sync(self) -> None:
        """Bring what is written to the disk: no kill and no power cut can take it any more."""
        self._bag.sync()
        # After the sync: a slow disk must not spend all its time on syncing.
        self._synced_at = time.monotonic()

    def close(self, accounts: Mapping[str, TopicAccount], *, status: str = 'complete',
              reason: str = '', success: bool | None = None, task: str | None = None,
              clock: str = 'system', extra: Mapping[str, Any] | None = None) -> Path:
        """
        Finish the episode.

        An account that does not balance, or does not say what was written, and a camera, state or
        action without a single message make the episode ``incomplete``: it is never complete in
        silence. Each is among its ``faults`` and in its reason.

        Parameters
        ----------
        accounts
            What became of the messages, by topic.
        status, reason, success
            One of ``STATUSES``; why, if not complete; whether the task was done, if known.
        task
            Replaces the task given at the start.
        clock
            ``system``, or ``sim`` if the times come from /clock.
        extra
            More JSON-ready values for episode.json, under ``extra``.

        Returns
        -------
        pathlib.Path
            The finished episode.

        """
        wrong = [topic for topic, count in self.written.items()
                 if topic not in accounts or not accounts[topic].balanced
                 or accounts[topic].written != count]
        faults = [*filter(None, (unbalanced(wrong) if wrong else '',
                                 silent(self._needed, accounts),
                                 mostly_rejected(self._needed, accounts)))]
        if faults:
            reason = '; '.join([*filter(None, [reason]), *faults])
            status = 'incomplete' if status == 'complete' else status
        free_reserve(self.part)
        self._bag.finish()
        write_metadata(self.part / 'metadata.yaml', self._bag.summary)
        self.info.update(
            status=status, reason=reason, faults=faults, success=success, clock=clock,
            counts={topic: account.to_dict() for topic, account in accounts.items()},
            **self._bag.summary.times())
        if task is not None:
            self.info['task'] = task
        if extra:
            self.info['extra'] = dict(extra)
        write_json(self.part / sessions.INFO_FILE, self.info)
        publish(self.part, self.path)
        self._lock.release()
        return self.path

    def discard(self, reason: str = '', accounts: Mapping[str, TopicAccount] | None = None
                ) -> None:
        """Delete the episode's messages; its number and its books stay in ``discarded/``."""
        self._bag.abandon()
        free_reserve(self.part)
        self.info.update(
            status='discarded', reason=reason,
            counts={topic: account.to_dict() for topic, account in (accounts or {}).items()})
        bury(self.part, self.info)
        self._lock.release()

    def abandon(self) -> None:
        """Leave the episode as it is on the disk, for ``recover``."""
        self._bag.abandon()
        self._lock.release()

    @contextlib.contextmanager
    def rescued(self) -> Iterator[tuple[Path, int]]:
        """Give up writing but keep the claim, while the caller recovers session and number."""
        self._bag.abandon()
        try:
            yield self.path.parent, self.number
        finally:
            self._lock.release()


def free_reserve(part: Path) -> None:
    """Give an unfinished episode the room that was kept for its end."""
    (part / sessions.RESERVE_FILE).unlink(missing_ok=True)


def bury(part: Path, info: Mapping[str, Any]) -> None:
    """Delete an unfinished directory; what is known of the episode stays in ``discarded/``."""
    # First, so that a kill in between does not bring the episode back.
    write_json(part / sessions.INFO_FILE, info)
    grave = part.parent / sessions.DISCARDED / sessions.episode_name(int(info['episode']))
    grave.mkdir(parents=True, exist_ok=True)
    write_json(grave / sessions.INFO_FILE, info)
    shutil.rmtree(part)


def publish(part: Path, path: Path) -> None:
    """Make a complete unfinished directory the finished episode, durably."""
    if path.exists():
        raise EpisodeError(f'{path}: exists already, so {part} cannot be finished; move one away')
    for left in part.glob('*.new'):  # a small file whose writing was cut off by a kill
        left.unlink()
    sync_directory(part)
    part.rename(path)
    sync_directory(path.parent)


def software_versions() -> dict[str, str]:
    """Versions that wrote an episode."""
    found = {}
    for package in ('ssl_vla_ros', 'mcap'):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = 'unknown'
    return found
