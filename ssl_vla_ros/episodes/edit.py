# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Changing a session after it was recorded: relabel and delete here, trim and merge beside it.

Each function looks at the session and returns an ``Edit``: what would happen, line by line. Only
its ``apply`` changes anything, as one ``Transaction``. Every change of an episode is noted in its
episode.json, under ``edits``, with what was there before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import datetime
from pathlib import Path
import shutil
from typing import Any

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.bag import write_json
from ssl_vla_ros.episodes.edit_select import check_free, held, number_of, ranges, select
from ssl_vla_ros.episodes.reader import Episode, read_info
from ssl_vla_ros.episodes.transaction import Transaction
from ssl_vla_ros.episodes.writer import SCHEMA_VERSION, software_versions
from ssl_vla_ros.errors import EpisodeError

#: Called with how many episodes are prepared, how many there are, and what is done.
Told = Callable[[int, int, str], None]
#: What ``--success`` may say.
OUTCOMES: Mapping[str, bool | None] = {'yes': True, 'no': False, 'unknown': None}
_WORDS = {True: 'success', False: 'failure', None: 'unknown'}


@dataclass(frozen=True)
class Edit:
    """
    A change that was looked into and not made.

    Attributes
    ----------
    title
        What it is, in a few words.
    lines
        What would happen, a line an episode; empty if nothing would.
    session
        The session that would change.
    apply
        Make the change; told how far it is. Raises EpisodeError, with nothing changed, if it is
        not possible (any more).

    """

    title: str
    lines: tuple[str, ...]
    session: Path
    apply: Callable[[Told], None]


def note(info: dict[str, Any], operation: str, **details: Any) -> None:
    """Add to an episode's list of edits what was done to it, when, and by what."""
    info['edits'] = [*info.get('edits', []), {
        'operation': operation,
        'at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'software': software_versions(), **details}]


def relabel(session: Path, episodes: str, *, task: str | None = None,
            success: str | None = None, operator: str | None = None) -> Edit:
    """
    Say anew what was done, how it went, or who did it.

    Parameters
    ----------
    session, episodes
        Which episodes: ``3,5-9`` or ``all``.
    task, operator
        The new words; None leaves them.
    success
        ``yes``, ``no`` or ``unknown``; None leaves it.

    Raises
    ------
    EpisodeError
        If an episode is not there or held, nothing is to be changed, or the task is empty.

    """
    if success is not None and success not in OUTCOMES:
        raise EpisodeError(f'--success is {success!r}, must be one of {", ".join(OUTCOMES)}')
    if task is not None and not task.strip():
        raise EpisodeError('--task is empty: say what was done, in words')
    new: dict[str, Any] = {key: value for key, value in (
        ('task', task), ('operator', operator)) if value is not None}
    if success is not None:
        new['success'] = OUTCOMES[success]
    if not new:
        raise EpisodeError('nothing is to be changed: give --task, --success or --operator')
    chosen = select(session, episodes)
    check_free(session, list(chosen))
    changes = {number: _changes(path, new) for number, path in chosen.items()}
    changes = {number: found for number, found in changes.items() if found}
    lines = tuple(f'{sessions.episode_name(number)}: ' + ', '.join(
        f'{key} {_said(key, was)} -> {_said(key, new[key])}' for key, was in found.items())
        for number, found in changes.items())

    def apply(told: Told) -> None:
        title = f'relabel {ranges(list(changes))}'
        with Transaction.begin(session, title) as change, held(session, changes):
            for done, number in enumerate(changes, 1):
                target = chosen[number] / sessions.INFO_FILE
                info = read_info(target)
                was = {key: info.get(key) for key in changes[number]}
                info.update({key: new[key] for key in was})
                note(info, 'relabel', was=was)
                staged = change.staging / f'{number}.json'
                write_json(staged, info)
                change.replace(staged, target)
                told(done, len(changes), 'relabel')
            change.commit()

    return Edit(f'relabel {len(lines)} episodes of {session}', lines, session, apply)


def _changes(path: Path, new: Mapping[str, Any]) -> dict[str, Any]:
    info = read_info(path / sessions.INFO_FILE)
    return {key: info.get(key) for key, value in new.items() if info.get(key) != value}


def _said(key: str, value: Any) -> str:
    return _WORDS[value] if key == 'success' else repr(value)


def delete(session: Path, episodes: str, *, purge: bool = False) -> Edit:
    """
    Move episodes to the session's ``discarded``, or delete their messages for good.

    Numbers are not given again: the directory in ``discarded`` keeps them, and after a purge it
    still holds episode.json, with the books.

    Parameters
    ----------
    session, episodes
        Which episodes: ``3,5-9`` or ``all``.
    purge
        Delete the messages.

    Raises
    ------
    EpisodeError
        If an episode is not there or held, or there is one of its number in ``discarded``.

    """
    chosen = select(session, episodes)
    check_free(session, list(chosen))
    lines = tuple(
        f'{path.name}: {_described(path)}: '
        + ('messages deleted for good' if purge else f'moved to {sessions.DISCARDED}/{path.name}')
        for path in chosen.values())

    def apply(told: Told) -> None:
        verb = 'purge' if purge else 'delete'
        title = f'{verb} {ranges(list(chosen))}'
        with Transaction.begin(session, title) as change, held(session, chosen):
            for done, path in enumerate(chosen.values(), 1):
                grave = trash(session) / path.name
                if purge:
                    change.move(_books(path, change.staging), grave)
                    # Goes with the staging area, once everything else is done.
                    change.move(path, change.staging / 'purged' / path.name)
                else:
                    change.move(path, grave)
                told(done, len(chosen), verb)
            change.commit()

    what = 'delete for good' if purge else 'delete'
    return Edit(f'{what} {len(lines)} episodes of {session}', lines, session, apply)


def _described(path: Path) -> str:
    try:
        info = Episode.open(path).info
    except EpisodeError as error:
        return f'unreadable ({error})'
    messages = sum(account['written'] for account in info['counts'].values())
    return (f'{info["status"]}, {info["duration_s"]:.1f} s, {messages} messages, '
            f'{info["task"]!r}')


def _books(path: Path, staging: Path) -> Path:
    """Prepare what stays of a purged episode: its number and its books."""
    staged = staging / 'books' / path.name
    staged.mkdir(parents=True)
    try:
        info = read_info(path / sessions.INFO_FILE)
    except EpisodeError:
        # Nothing can be said of it, but its number must not come back.
        info = {'schema_version': SCHEMA_VERSION, 'episode': number_of(path),
                'status': 'unreadable'}
    note(info, 'purge', was={'status': info['status'], 'reason': info.get('reason', '')})
    info.update(status='discarded', reason='its messages were deleted by `ssl_vla episodes delete'
                ' --purge`')
    write_json(staged / sessions.INFO_FILE, info)
    return staged


def trash(session: Path) -> Path:
    """
    Name the directory of discarded episodes; the first one moved there makes it.

    Raises
    ------
    EpisodeError
        If it lies on another disk, where nothing can be renamed to.

    """
    place = session / sessions.DISCARDED
    if place.exists() and place.stat().st_dev != session.stat().st_dev:
        raise EpisodeError(
            f'{place}: lies on another disk than {session}, so no episode can be moved there in '
            'one step; make it a directory of the session')
    return place


def check_room(place: Path, needed: int) -> None:
    """
    Refuse to begin what the disk has no room for.

    Raises
    ------
    EpisodeError
        Naming both sizes.

    """
    free = shutil.disk_usage(place).free
    if free < needed:
        raise EpisodeError(
            f'{place}: {needed / 1e6:.1f} MB are needed and {free / 1e6:.1f} MB are free; make '
            'room on the disk')


def size_of(path: Path) -> int:
    """Bytes of the files in a directory."""
    return sum(file.stat().st_size for file in path.rglob('*') if file.is_file())


def bag_of(path: Path, info: Mapping[str, Any]) -> Path:
    """
    Find an episode's bag.

    Raises
    ------
    EpisodeError
        If there is none, or more than one.

    """
    named = path / sessions.mcap_name(int(info['episode']))
    found: Sequence[Path] = [named] if named.is_file() else sorted(path.glob('*.mcap'))
    if len(found) != 1:
        raise EpisodeError(f'{path}: has {len(found)} .mcap files, must have one')
    return found[0]


__all__ = ['bag_of', 'check_room', 'delete', 'Edit', 'note', 'number_of', 'OUTCOMES', 'relabel',
           'size_of', 'Told', 'trash']
