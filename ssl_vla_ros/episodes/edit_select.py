# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Which episodes a user means: numbers, ranges or all, each of which must be there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
import contextlib
from pathlib import Path
import re

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.errors import EpisodeError

_PART = re.compile(r'\s*(\d+)\s*(?:-\s*(\d+)\s*)?')


def numbered(session: Path) -> dict[int, Path]:
    """
    Finished episodes by number.

    Raises
    ------
    EpisodeError
        If there is no such session.

    """
    return {number_of(path): path for path in sessions.finished(sessions.existing(session))}


def number_of(path: Path) -> int:
    """Read an episode's number off its directory's name."""
    return int(path.name.removeprefix('episode_'))


def select(session: Path, text: str) -> dict[int, Path]:
    """
    Find the finished episodes that a user names.

    Parameters
    ----------
    session
        The session's directory.
    text
        ``3,5-9``, or ``all``.

    Returns
    -------
    dict
        Each episode by its number, in order.

    Raises
    ------
    EpisodeError
        If there is no session, the text says nothing that can be understood, or any number in it
        is not a finished episode: then nothing is selected at all.

    """
    there = numbered(session)
    if text.strip() == 'all':
        if not there:
            raise EpisodeError(f'{session}: there is no finished episode')
        return there
    spans = [_span(part, text) for part in text.split(',')]
    asked: set[int] = set()
    for low, high in spans:
        # The ends first: a slip of the keyboard must not make a list of a milliard numbers.
        for number in (low, high):
            if number not in there:
                raise _absent(session, number, there)
        asked.update(range(low, high + 1))
    for number in sorted(asked):
        if number not in there:
            raise _absent(session, number, there)
    return {number: there[number] for number in sorted(asked)}


def _span(part: str, text: str) -> tuple[int, int]:
    match = _PART.fullmatch(part)
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise EpisodeError(
            f'{text!r} are no episode numbers; write them as 3,5-9, or all')
    return int(match[1]), int(match[2] or match[1])


def _absent(session: Path, number: int, there: dict[int, Path]) -> EpisodeError:
    if any(number == open_number for open_number, _ in sessions.unfinished(session)):
        return EpisodeError(f'{session}: episode {number} {_unfinished(session, number)}')
    names = {
        'was discarded or deleted': sessions.DISCARDED, 'is in quarantine': sessions.QUARANTINE}
    why = ''.join(f' (it {words})' for words, place in names.items()
                  if (session / place / sessions.episode_name(number)).is_dir())
    have = f'it has {ranges(sorted(there))}' if there else 'it has none'
    return EpisodeError(f'{session}: there is no episode {number}{why}; {have}')


def _unfinished(session: Path, number: int) -> str:
    lock = sessions.PartLock.take(session, number)
    if lock is None:
        return 'is being recorded; stop the recorder first'
    lock.release()
    return ('was not finished, because its recorder was killed; run '
            f'`ssl_vla episodes recover {session} --yes` first')


def check_free(session: Path, chosen: Sequence[int]) -> None:
    """
    Refuse episodes that a live recorder still holds, without leaving a trace.

    Raises
    ------
    EpisodeError
        Naming the first of them.

    """
    for number in chosen:
        # Without such a file nobody holds it, and asking would make one.
        if (session / f'.{sessions.episode_name(number)}.lock').exists():
            with held(session, [number]):
                pass


@contextlib.contextmanager
def held(session: Path, chosen: Iterable[int]) -> Iterator[None]:
    """
    Hold episodes against recorders, one of which may want to discard the last it made.

    Raises
    ------
    EpisodeError
        If a live process holds one of them.

    """
    locks: list[sessions.PartLock] = []
    try:
        for number in chosen:
            lock = sessions.PartLock.take(session, number)
            if lock is None:
                raise EpisodeError(
                    f'{session}: episode {number} is held by a live recorder; wait until it has '
                    'finished it, or stop the recorder')
            locks.append(lock)
        yield
    finally:
        for lock in locks:
            lock.release()


def ranges(numbers: Sequence[int]) -> str:
    """Write rising numbers as ``3,5-9``."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ','.join(str(low) if low == high else f'{low}-{high}' for low, high in found)
