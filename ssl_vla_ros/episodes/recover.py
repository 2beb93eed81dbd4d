# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Finish what a killed process left: keep what can be read, quarantine what cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import json
from pathlib import Path

from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.bag import write_json, write_metadata
from ssl_vla_ros.episodes.mend import mend, NothingReadableError
from ssl_vla_ros.episodes.reader import read_info
from ssl_vla_ros.episodes.transaction import settle
from ssl_vla_ros.episodes.writer import bury, free_reserve, publish, RECORDING
from ssl_vla_ros.errors import EpisodeError


@dataclass(frozen=True)
class Recovered:
    """
    What became of one unfinished episode.

    Attributes
    ----------
    path
        The finished episode, or where it lies in quarantine.
    status
        ``recovered``; ``quarantined``; or the status its writer gave it, when all but the last
        rename had been done.
    messages
        Messages kept.
    reason
        Why it had to be recovered, or why that was not possible.
    accounts
        The books of a recovered episode, by topic.

    """

    path: Path
    status: str
    messages: int
    reason: str
    accounts: dict[str, TopicAccount] = field(default_factory=dict)


def recover_session(session: Path) -> list[Recovered]:
    """
    Finish or quarantine every unfinished episode that no live process holds.

    Raises
    ------
    EpisodeError
        If there is no such directory, or the disk does not let an episode be finished (it stays
        as it was).

    """
    session = sessions.existing(Path(session))
    settle(session)
    results = []
    for number, part in sessions.unfinished(session):
        lock = sessions.PartLock.take(session, number)
        if lock is None:
            continue
        try:
            # Its writer may have finished it between our listing and our lock.
            if part.is_dir():
                results.append(recover_part(session, number))
        finally:
            lock.release()
    return results


def recover_part(session: Path, number: int, *, status: str = 'recovered',
                 reason: str = 'the recording process ended before it finished the episode',
                 accounts: Mapping[str, TopicAccount] | None = None,
                 faults: Sequence[str] = ()) -> Recovered:
    """
    Finish or quarantine one unfinished episode; the caller holds its lock.

    Parameters
    ----------
    session, number
        Which one.
    status, reason
        What episode.json is to say.
    accounts
        What is known of the messages, if the process that wrote them still lives: what is not
        found in the file counts as dropped. Without, only what was written is known.
    faults
        What nobody accounts for, in words; see ``Episode.faults``.

    Raises
    ------
    EpisodeError
        If the disk does not let it be finished.

    """
    part = session / sessions.part_name(number)
    path = session / sessions.episode_name(number)
    try:
        free_reserve(part)
        try:
            info = json.loads((part / sessions.INFO_FILE).read_text(encoding='utf-8'))
            if info['status'] != RECORDING:
                info = read_info(part / sessions.INFO_FILE)
                if info['status'] == 'discarded':
                    # Thrown away by the operator: it must not come back.
                    bury(part, info)
                    return Recovered(path, 'discarded', 0, info['reason'])
                publish(part, path)
                return Recovered(
                    path, info['status'],
                    sum(account['written'] for account in info['counts'].values()),
                    'all but the last rename had been done')
            summary = mend(
                part / sessions.mcap_name(number),
                {bag: topic for topic, bag in info['topics'].items()})
        except (ValueError, KeyError, TypeError, FileNotFoundError, NothingReadableError,
                EpisodeError) as error:
            return _quarantine(session, number, part, f'{type(error).__name__}: {error}')
        books = {topic: _account(statistics.count, (accounts or {}).get(topic))
                 for topic, statistics in summary.topics.items()}
        info.update(status=status, reason=reason, faults=list(faults),
                    counts={topic: account.to_dict() for topic, account in books.items()},
                    **summary.times())
        write_metadata(part / 'metadata.yaml', summary)
        write_json(part / sessions.INFO_FILE, info)
        publish(part, path)
    except OSError as error:
        raise EpisodeError(
            f'{part}: cannot be finished: {error}; {how_to_recover(part)}') from error
    return Recovered(path, status, summary.message_count, reason, books)


def how_to_recover(part: Path) -> str:
    """Say what to do about an unfinished episode that the disk did not let be finished."""
    try:
        there = part.is_dir()
    except OSError:  # such as the input/output errors of a disk that was pulled out
        there = False
    first = ('make room on the disk' if there else
             'its directory is gone: bring it back, or the disk that it is on')
    return (f'{first}, then the next start of the recorder or '
            f'"ssl_vla episodes recover {part.parent} --yes" recovers it')


def _account(written: int, known: TopicAccount | None) -> TopicAccount:
    if known is None:
        return TopicAccount(published=written, written=written, published_exact=False)
    dropped = known.published - known.lost - known.rejected - written
    return TopicAccount(
        published=known.published, written=written, lost=known.lost, dropped=dropped,
        rejected=known.rejected, rejected_by_cause=dict(known.rejected_by_cause),
        published_exact=known.published_exact, publishers=known.publishers)


def _quarantine(session: Path, number: int, part: Path, reason: str) -> Recovered:
    place = session / sessions.QUARANTINE / sessions.episode_name(number)
    part.stat()  # raises if it is gone, before a place is made for it
    place.parent.mkdir(exist_ok=True)
    part.rename(place)
    write_json(place / 'quarantine.json', {'reason': reason})
    return Recovered(place, 'quarantined', 0, reason)
