# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What recovering a session would do, found by reading alone."""

from __future__ import annotations

from dataclasses import dataclass
import json
from pathlib import Path

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.mend import readable_messages
from ssl_vla_ros.episodes.transaction import interrupted
from ssl_vla_ros.episodes.writer import RECORDING
from ssl_vla_ros.errors import EpisodeError


@dataclass(frozen=True)
class Leftovers:
    """
    What a killed recorder or edit left in a session.

    Attributes
    ----------
    changes
        What recovering would do, a line each; none if there is nothing to do.
    held
        Names of the episodes that a live process is writing: they are left alone.

    """

    changes: tuple[str, ...]
    held: tuple[str, ...]


def leftovers(session: Path, *, count: bool = True) -> Leftovers:
    """
    Look for unfinished episodes and edits; nothing is written.

    Parameters
    ----------
    session
        Where to look.
    count
        Whether to read how many messages would be recovered, which takes as long as reading does.

    Raises
    ------
    EpisodeError
        If there is no such directory.

    """
    session = sessions.existing(Path(session))
    edit = interrupted(session)
    changes, held = [edit] if edit else [], []
    for number, part in sessions.unfinished(session):
        if sessions.is_locked(sessions.lock_path(session, number)):
            held.append(sessions.episode_name(number))
        elif part.is_dir():                 # not finished by its writer in between
            changes.append(f'{sessions.episode_name(number)}: '
                           + (_fate(part, number) if count else 'unfinished'))
    return Leftovers(tuple(changes), tuple(held))


def _fate(part: Path, number: int) -> str:
    try:
        info = json.loads((part / sessions.INFO_FILE).read_text(encoding='utf-8'))
        status = str(info['status'])
        if status == 'discarded':
            return 'would be discarded, as its operator said'
        if status != RECORDING:
            return f'would become {status}: all but its last rename had been done'
        messages = readable_messages(part / sessions.mcap_name(number))
    except (ValueError, KeyError, TypeError, OSError, EpisodeError) as error:
        return f'would go to quarantine: {type(error).__name__}: {error}'
    if not messages:
        return 'would go to quarantine: there is no readable message in it'
    return f'would be recovered with {messages} messages'
