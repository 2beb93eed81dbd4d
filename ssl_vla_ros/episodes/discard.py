# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Throw a finished episode away, for good: what an operator does who wants it once more."""

from __future__ import annotations

from pathlib import Path

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.bag import sync_directory
from ssl_vla_ros.episodes.reader import read_info
from ssl_vla_ros.episodes.writer import bury
from ssl_vla_ros.errors import EpisodeError


def discard_finished(path: Path, reason: str) -> None:
    """
    Delete a finished episode's messages; its number and its books stay in ``discarded/``.

    It disappears from the session by one rename: a kill before that leaves it whole, a kill after
    it leaves something that the next recovery either brings back whole or finishes burying.

    Parameters
    ----------
    path
        The episode's directory, under its first name.
    reason
        Why, for its episode.json.

    Raises
    ------
    EpisodeError
        If there is no such episode, somebody else works on it, or the disk refuses.

    """
    info = read_info(path / sessions.INFO_FILE)
    number, session = int(info['episode']), path.parent
    lock = sessions.PartLock.take(session, number)
    if lock is None:
        raise EpisodeError(f'{path}: another process works on this episode; wait for it')
    try:
        part = session / sessions.part_name(number)
        path.rename(part)
        sync_directory(session)
        bury(part, info | {'status': 'discarded', 'reason': reason})
    except OSError as error:
        raise EpisodeError(f'{path}: cannot be thrown away: {error}') from error
    finally:
        lock.release()
