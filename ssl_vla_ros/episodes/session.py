# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Names inside a session directory, and who holds an unfinished episode.

A number is given once: numbers of finished, discarded, quarantined and deleted episodes never
come back. The lock stands beside the unfinished episode and ends with the process that holds it,
however that ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
import re
import time

from ssl_vla_ros.episodes.bag import write_durably
from ssl_vla_ros.errors import EpisodeError

QUARANTINE = 'quarantine'
DISCARDED = 'discarded'
INFO_FILE = 'episode.json'
#: Room kept in an unfinished episode, so that a disk that fills up lets it be finished.
RESERVE_FILE = '.reserve'
_COUNTER = '.next_episode'
#: ``is_locked`` holds a lock no longer than this, in seconds: whoever wants it waits.
_LOOK_S = 0.02
_NAME = re.compile(r'\.?episode_(\d{6,})(\.part|\.lock)?')
_PART = re.compile(r'\.episode_(\d{6,})\.part')
_FINISHED = re.compile(r'episode_(\d{6,})')


def episode_name(number: int) -> str:
    """Directory of a finished episode."""
    return f'episode_{number:06d}'


def part_name(number: int) -> str:
    """Directory of an episode that is being written."""
    return f'.{episode_name(number)}.part'


def mcap_name(number: int) -> str:
    """File of an episode's messages, as rosbag2 numbers them."""
    return f'{episode_name(number)}_0.mcap'


def existing(session: Path) -> Path:
    """
    Give the session back if it is there.

    Raises
    ------
    EpisodeError
        If there is no such directory: a mistyped name must not look like an empty session.

    """
    if session.exists() and not session.is_dir():
        raise EpisodeError(
            f'{session}: no such session directory: it is a file; name the directory that the '
            'recorder writes to')
    if not session.is_dir():
        raise EpisodeError(f'{session}: no such session directory; record into it first')
    return session


def finished(session: Path) -> list[Path]:
    """Finished episodes in the order of their numbers."""
    return [path for _, path in sorted(_matching(session, _FINISHED))]


def unfinished(session: Path) -> list[tuple[int, Path]]:
    """Unfinished episodes, held by a live process or left by a dead one."""
    return sorted(_matching(session, _PART))


def _matching(directory: Path, pattern: re.Pattern[str]) -> list[tuple[int, Path]]:
    if not directory.is_dir():
        return []
    return [(int(match[1]), path) for path in directory.iterdir()
            if (match := pattern.fullmatch(path.name)) and path.is_dir()]


def lock_path(session: Path, number: int) -> Path:
    """File whose lock is the claim on an unfinished episode."""
    return session / f'.{episode_name(number)}.lock'


def is_locked(path: Path) -> bool:
    """Whether a live process holds the file's lock; nothing is written to find that out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class PartLock:
    """The claim of a live process on an unfinished episode."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, session: Path, number: int) -> PartLock | None:
        """Take the lock, or None if a live process holds it."""
        path = lock_path(session, number)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        end = time.monotonic() + _LOOK_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(path, descriptor)
            except BlockingIOError:
                if time.monotonic() >= end:
                    os.close(descriptor)
                    return None
                time.sleep(0.001)

    def release(self) -> None:
        """Give the lock up; a second call does nothing."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            # Unlinked while still held: whoever opens the name later finds no episode to it. On a
            # disk that is gone the name does not matter: the claim ends with the descriptor.
            with contextlib.suppress(OSError):
                self._path.unlink()
        finally:
            os.close(descriptor)


def reserve(session: Path) -> tuple[int, Path, PartLock]:
    """
    Make the directory of the next episode.

    Returns
    -------
    tuple
        Its number, its unfinished directory and the lock on it.

    Raises
    ------
    EpisodeError
        If the session directory cannot be made or written.

    """
    try:
        session.mkdir(parents=True, exist_ok=True)
        number = next_number(session)
        while True:
            lock = PartLock.take(session, number)
            if lock is not None:
                part = session / part_name(number)
                try:
                    part.mkdir()
                except FileExistsError:
                    lock.release()
                except BaseException:
                    lock.release()
                    raise
                else:
                    _count_on(session, number, part, lock)
                    return number, part, lock
            number += 1
    except OSError as error:
        raise EpisodeError(
            f'{session}: cannot make a new episode there: {error}; give a session directory that '
            'can be written and has room') from error


def _count_on(session: Path, number: int, part: Path, lock: PartLock) -> None:
    """Note that a number is given away; nothing of it stays if that cannot be noted."""
    try:
        write_durably(session / _COUNTER, f'{number + 1}\n')
    except BaseException:
        with contextlib.suppress(OSError):
            part.rmdir()
        lock.release()
        raise


def next_number(session: Path) -> int:
    """Find a number that no episode of a session has or had; 0 without a session."""
    taken = [-1]
    for directory in (session, session / QUARANTINE, session / DISCARDED):
        taken.extend(number for number, _ in _matching(directory, _NAME))
    counter = session / _COUNTER
    if counter.is_file():
        text = counter.read_text(encoding='utf-8').strip()
        if text.isdigit():
            taken.append(int(text) - 1)
    return max(taken) + 1
