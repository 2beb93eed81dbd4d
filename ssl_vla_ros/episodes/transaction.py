# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Changes of a session that happen as a whole or not at all.

Everything new is made in ``SESSION/.edit`` and brought to the disk. Then one rename puts the plan
there: from that moment on the change is decided, and what is left are renames, each of which may
be repeated. A process killed before that moment has changed nothing; one killed after it leaves a
plan that the next edit, or ``ssl_vla episodes recover``, carries out to its end (``settle``). At
no moment is an episode half old and half new: its directory is exchanged in one system call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
import contextlib
from dataclasses import asdict, dataclass
import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.bag import sync_directory, write_json
from ssl_vla_ros.episodes.transaction_exchange import exchange
from ssl_vla_ros.errors import EpisodeError

STAGING = '.edit'
_LOCK = '.edit.lock'
_PLAN = 'plan.json'
_ASIDE = '.aside'


@dataclass(frozen=True)
class Step:
    """
    One rename of a plan; both paths are relative to the session.

    Attributes
    ----------
    do
        ``move`` a directory to a free name, ``replace`` a file, or ``swap`` two directories.
    source, target
        Of a move or a replacement; for a swap, the new directory in the staging area and the
        name it is to have.
    mark
        For a swap, the SHA-256 of the new directory's episode.json: how it is known afterwards.

    """

    do: str
    source: str
    target: str
    mark: str = ''


class _BusyError(EpisodeError):
    """A live process edits the session."""


class Transaction:
    """
    A change that is being prepared; made by ``Transaction.begin``.

    Attributes
    ----------
    session
        The session's directory.
    staging
        Where whatever is new is made.

    """

    def __init__(self, session: Path, title: str) -> None:
        self.session = session
        self.staging = session / STAGING
        self._title = title
        self._steps: list[Step] = []

    @classmethod
    @contextlib.contextmanager
    def begin(cls, session: Path, title: str) -> Iterator[Transaction]:
        """
        Hold the session against other edits while a change is prepared and committed.

        What an interrupted edit left is settled first. Without ``commit``, or after an error,
        nothing has changed.

        Raises
        ------
        EpisodeError
            If another process edits the session, or the disk is full or read-only.

        """
        try:
            with _held(session):
                _settle(session)
                change = cls(session, title)
                change.staging.mkdir()
                try:
                    yield change
                finally:
                    if not (change.staging / _PLAN).exists():
                        shutil.rmtree(change.staging, ignore_errors=True)
        except OSError as error:
            done = ('nothing was changed' if not pending(session) else
                    f'it is half done: `ssl_vla episodes recover {session} --yes` does the rest')
            raise EpisodeError(f'{session}: cannot be edited: {error}; {done}') from error

    def move(self, source: Path, target: Path) -> None:
        """Plan to rename a directory to a name that is free."""
        if not source.is_dir():
            raise EpisodeError(f'{source}: is not there any more; nothing was changed')
        if target.exists():
            raise EpisodeError(f'{target}: exists already; move it away first')
        self._steps.append(self._step('move', source, target))

    def replace(self, source: Path, target: Path) -> None:
        """Plan to put a file in another one's place."""
        self._steps.append(self._step('replace', source, target))

    def swap(self, source: Path, target: Path) -> None:
        """Plan to exchange an episode's directory for a new one from the staging area."""
        self._steps.append(self._step('swap', source, target, _mark(source)))

    def _step(self, do: str, source: Path, target: Path, mark: str = '') -> Step:
        return Step(do, str(source.relative_to(self.session)),
                    str(target.relative_to(self.session)), mark)

    def commit(self) -> None:
        """
        Bring everything to the disk, decide, and carry the plan out.

        Raises
        ------
        OSError
            If the disk fails; ``settle`` goes on once it is mended.

        """
        _sync_tree(self.staging)
        sync_directory(self.session)
        write_json(self.staging / _PLAN, {
            'title': self._title, 'steps': [asdict(step) for step in self._steps]})
        try:
            _carry_out(self.session, self._steps)
        except KeyboardInterrupt:
            # It is decided; a few renames are not worth an unfinished edit.
            _carry_out(self.session, self._steps)
            raise


def pending(session: Path) -> bool:
    """Whether an edit was interrupted after it had been decided."""
    return (session / STAGING / _PLAN).is_file()


def settle(session: Path) -> str:
    """
    Finish an edit that was interrupted, or remove what it prepared if it was not decided.

    An edit that a live process is making is left alone.

    Returns
    -------
    str
        What was done, in words; '' if there was nothing to do.

    Raises
    ------
    EpisodeError
        If the plan cannot be read, or the disk does not let it be carried out.

    """
    try:
        _drop_stale_locks(session)
        if not (session / STAGING).is_dir():
            return ''
        with _held(session):
            return _settle(session)
    except _BusyError:
        return ''
    except OSError as error:
        raise EpisodeError(
            f'{session / STAGING}: an interrupted edit cannot be finished: {error}') from error


def _settle(session: Path) -> str:
    staging = session / STAGING
    if not staging.is_dir():
        return ''
    if not pending(session):
        shutil.rmtree(staging)
        return 'removed what an interrupted edit had prepared; nothing was changed'
    title, steps = _read_plan(staging)
    _carry_out(session, steps)
    return f'finished an interrupted edit: {title}'


def _read_plan(staging: Path) -> tuple[str, list[Step]]:
    try:
        plan = json.loads((staging / _PLAN).read_text(encoding='utf-8'))
        return str(plan['title']), [Step(**step) for step in plan['steps']]
    except (ValueError, KeyError, TypeError) as error:
        raise EpisodeError(
            f'{staging / _PLAN}: cannot be read: {error!r}; look at what lies beside it and move '
            f'{staging} away') from error


def interrupted(session: Path) -> str:
    """
    Say what ``settle`` would do, '' if nothing; nothing is written.

    Raises
    ------
    EpisodeError
        If the plan cannot be read.

    """
    staging = session / STAGING
    if not staging.is_dir() or sessions.is_locked(session / _LOCK):
        return ''
    if not pending(session):
        return 'what an interrupted edit had prepared would be removed; it changed nothing'
    title, _ = _read_plan(staging)
    return f'an interrupted edit would be finished: {title}'


def _carry_out(session: Path, steps: Sequence[Step]) -> None:
    """Do every step that is not done yet, then forget the plan."""
    for step in steps:
        source, target = session / step.source, session / step.target
        if step.do == 'swap':
            _swap(source, target, step.mark)
        elif step.do == 'replace':
            if source.exists():
                source.replace(target)
                sync_directory(target.parent)
        elif source.exists():
            if target.exists():
                raise EpisodeError(f'{target}: is in the way of {source}; move it away, then run '
                                   f'`ssl_vla episodes recover {session} --yes`')
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
            sync_directory(source.parent)
            sync_directory(target.parent)
    plan = session / STAGING / _PLAN
    # First, and for good: a plan must not be carried out again after what it moved was changed.
    plan.unlink(missing_ok=True)
    sync_directory(plan.parent)
    shutil.rmtree(plan.parent)


def _swap(source: Path, target: Path, mark: str) -> None:
    aside = source.with_name(source.name + _ASIDE)
    if _mark(target) != mark:
        if aside.exists() or not exchange(source, target):
            # No exchange on this disk: in between, the episode is under neither name. Readers
            # miss it for that moment; a kill in it is what the plan is for.
            if target.exists():
                target.rename(aside)
                sync_directory(target.parent)
            source.rename(target)
    if aside.exists() and not source.exists():
        aside.rename(source)
    sync_directory(target.parent)
    sync_directory(source.parent)


def _mark(directory: Path) -> str:
    try:
        return hashlib.sha256((directory / sessions.INFO_FILE).read_bytes()).hexdigest()
    except FileNotFoundError:
        return ''


@contextlib.contextmanager
def _held(session: Path) -> Iterator[None]:
    path = session / _LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it before may have removed the name between our two calls.
            alone = path.exists() and path.stat().st_ino == os.fstat(descriptor).st_ino
        except BlockingIOError:
            alone = False
        if not alone:
            raise _BusyError(
                f'{session}: another process edits this session; wait until it has ended')
        try:
            yield
        finally:
            # While it is still held, so that nobody else can hold a file of that name.
            path.unlink()
    finally:
        os.close(descriptor)


def _drop_stale_locks(session: Path) -> None:
    """Remove the claims on numbers that a killed edit left; those of the living stay."""
    for path in session.glob('.episode_*.lock'):
        number = path.stem.removeprefix('.episode_')
        lock = sessions.PartLock.take(session, int(number)) if number.isdigit() else None
        if lock is not None:
            lock.release()


def _sync_tree(top: Path) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(folder))
