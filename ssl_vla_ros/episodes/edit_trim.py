# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Cutting time off the ends of an episode, without touching a byte of what stays.

The bag is written anew with the same serialized messages and the same receive times, then read
back and compared before the old one gives way. What belongs to an episode is decided by receive
time, as in the recorder: second 0 is the receipt of the first message.

The books stay true. A message that is cut is counted nowhere any more but in the edit's own
``cut``, so that published = written + lost + dropped + rejected still holds for what is left.
Whether a lost message would have been in the part that was cut nobody knows: all that were lost,
dropped or rejected stay in the books, and ``published_exact`` is then false.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
import hashlib
import json
from pathlib import Path
import shutil
from typing import Any

from mcap.reader import make_reader

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.accounting import silent, TopicAccount
from ssl_vla_ros.episodes.bag import BagFile, BagSummary, write_json, write_metadata
from ssl_vla_ros.episodes.edit import bag_of, check_room, Edit, note, size_of, Told, trash
from ssl_vla_ros.episodes.edit_select import check_free, held, ranges, select
from ssl_vla_ros.episodes.reader import Episode, RawMessage
from ssl_vla_ros.episodes.schemas import MessageSchema, starts_with_header
from ssl_vla_ros.episodes.transaction import Transaction
from ssl_vla_ros.errors import EpisodeError

_SECOND = 1_000_000_000
#: What MCAP writes for chunks that are not compressed, and what a bag of ours calls it.
_COMPRESSION = {'': 'none'}
#: An episode's own files; everything else in its directory is taken along.
_OWN = ('.mcap', 'metadata.yaml', sessions.INFO_FILE)


@dataclass(frozen=True)
class Cut:
    """
    What stays of an episode.

    Attributes
    ----------
    first_ns, last_ns
        Receive times of what stays, both ends inclusive.
    kept, cut
        Messages by topic.
    carried
        Latched messages of before the start, which stay and are received at the new start.

    """

    first_ns: int
    last_ns: int
    kept: Mapping[str, int]
    cut: Mapping[str, int]
    carried: int

    def stays(self, item: RawMessage, latched: Iterable[str]) -> bool:
        """Whether a message stays."""
        return item.log_time_ns <= self.last_ns and (
            item.log_time_ns >= self.first_ns or item.topic in latched)


def trim(session: Path, episodes: str, *, start_s: float | None = None,
         end_s: float | None = None, purge: bool = False) -> Edit:
    """
    Cut the beginning, the end, or both off episodes.

    Parameters
    ----------
    session, episodes
        Which episodes: ``3,5-9`` or ``all``.
    start_s, end_s
        What was received from ``start_s`` to ``end_s`` stays, in seconds after the first message;
        None keeps that end.
    purge
        Delete the episode as it was; otherwise it stays in ``discarded``.

    Raises
    ------
    EpisodeError
        If an episode is not there or held, cannot be read, or would lose all of a camera, state or
        action; if the span is empty or cuts nothing off any episode.

    """
    if start_s is None and end_s is None:
        raise EpisodeError('nothing is to be cut: give --start or --end, in seconds')
    begin_s = 0.0 if start_s is None else start_s
    for name, value in (('start', begin_s), ('end', end_s)):
        if value is not None and value < 0.0:
            raise EpisodeError(f'--{name} is {value:g}: seconds count from the first message and '
                               'cannot be negative')
    if not begin_s < (float('inf') if end_s is None else end_s):
        raise EpisodeError(
            f'--start is {begin_s:g} and --end is {"the end" if end_s is None else f"{end_s:g}"}: '
            'both count from the first message, and the start must come first')
    chosen = select(session, episodes)
    check_free(session, list(chosen))
    cuts = {number: _look(path, begin_s, end_s) for number, path in chosen.items()}
    cuts = {number: cut for number, cut in cuts.items() if any(cut.cut.values())}
    lines = tuple(_line(chosen[number], cut, purge) for number, cut in cuts.items())

    def apply(told: Told) -> None:
        title = f'trim {ranges(list(cuts))}'
        with Transaction.begin(session, title) as change, held(session, cuts):
            # All of them are made before the first old one goes.
            check_room(session, sum(size_of(chosen[number]) for number in cuts))
            for done, number in enumerate(cuts, 1):
                path = chosen[number]
                staged = change.staging / path.name
                _write(path, staged, begin_s, end_s)
                change.swap(staged, path)
                if not purge:
                    # After the exchange, the old directory is where the new one was made.
                    change.move(staged, _free(trash(session), f'{path.name}.untrimmed'))
                told(done, len(cuts), 'trim')
            change.commit()

    return Edit(f'trim {len(lines)} episodes of {session}', lines, session, apply)


def _look(path: Path, begin_s: float, end_s: float | None) -> Cut:
    """Count what stays and what goes; refuses a cut that leaves no episode."""
    episode = Episode.open(path)
    times: dict[str, list[int]] = {topic: [] for topic in episode.info['topics']}
    for item in episode.raw():
        times[item.topic].append(item.log_time_ns)
    latched = _latched(episode.contract)
    # A latched message may have been sent long before the episode.
    every = [time for topic, found in times.items() if topic not in latched for time in found]
    if not every:
        raise EpisodeError(f'{path}: has no message; delete it')
    origin, last = min(every), max(every)
    first_ns = origin + round(begin_s * _SECOND)
    # Without an end nothing is cut there, latched or not.
    last = max(last, max(time for found in times.values() for time in found))
    last_ns = last if end_s is None else min(last, origin + round(end_s * _SECOND))
    kept, carried = {}, 0
    for topic, found in times.items():
        kept[topic] = sum(
            time <= last_ns and (time >= first_ns or topic in latched) for time in found)
        carried += sum(time < first_ns for time in found) if topic in latched else 0
    for topic in _needed(episode.contract):
        if times.get(topic) and not kept[topic]:
            raise EpisodeError(
                f'{path}: nothing of {topic} would be left between {begin_s:g} s and '
                f'{"the end" if end_s is None else f"{end_s:g} s"}; it lasts '
                f'{(last - origin) / _SECOND:.1f} s')
    return Cut(first_ns, last_ns, kept,
               {topic: len(found) - kept[topic] for topic, found in times.items()}, carried)


def _latched(contract: Contract) -> frozenset[str]:
    """Topics whose last message holds until the next: tf_static and the like."""
    return frozenset(item.topic for item in contract.extra
                     if item.durability == 'transient_local')


def _needed(contract: Contract) -> list[str]:
    return [*(camera.topic for camera in contract.cameras),
            *(stream.topic for stream in (*contract.state, *contract.action))]


def _line(path: Path, cut: Cut, purge: bool) -> str:
    kept_s = (cut.last_ns - cut.first_ns) / _SECOND
    where = 'deleted for good' if purge else f'kept in {sessions.DISCARDED}'
    return (f'{path.name}: {kept_s:.1f} s and {sum(cut.kept.values())} messages stay, '
            f'{sum(cut.cut.values())} are cut; the episode as it was is {where}')


def _write(path: Path, staged: Path, begin_s: float, end_s: float | None) -> None:
    """Make the trimmed episode in the staging area, and prove that it is what it should be."""
    cut = _look(path, begin_s, end_s)
    episode = Episode.open(path)
    staged.mkdir()
    for item in path.iterdir():
        if not item.name.endswith(_OWN):
            (shutil.copytree if item.is_dir() else shutil.copy2)(item, staged / item.name)
    info = json.loads(json.dumps(episode.info))
    name = sessions.mcap_name(int(info['episode']))
    latched = _latched(episode.contract)
    summary = _write_bag(bag_of(path, info), staged / name, episode, cut, latched)
    write_metadata(staged / 'metadata.yaml', summary)
    accounts = {topic: _account(account, cut.cut.get(topic, 0))
                for topic, account in episode.accounts.items()}
    silence = silent(_needed(episode.contract), accounts)
    note(info, 'trim', start_s=begin_s, end_s=end_s, cut=dict(cut.cut), carried=cut.carried,
         was={key: info.get(key) for key in ('first_stamp_ns', 'last_stamp_ns', 'duration_s')})
    info.update(counts={topic: account.to_dict() for topic, account in accounts.items()},
                **summary.times())
    if silence and info['status'] == 'complete':
        info.update(status='incomplete', reason=silence)
    write_json(staged / sessions.INFO_FILE, info)
    _prove(episode, staged, cut, latched)


def _write_bag(source: Path, target: Path, episode: Episode, cut: Cut, latched: Iterable[str]
               ) -> BagSummary:
    with source.open('rb') as stream:
        reader = make_reader(stream)
        found = reader.get_summary()
        records = {key: value for record in reader.iter_metadata()
                   for key, value in record.metadata.items()}
    if found is None:
        raise EpisodeError(f'{source}: has no index; it was damaged after it was finished')
    names = {bag: topic for topic, bag in episode.info['topics'].items()}
    topics = {}
    for channel in found.channels.values():
        schema = found.schemas[channel.schema_id]
        text = schema.data.decode()
        topics[names[channel.topic]] = (channel.topic, MessageSchema(
            schema.name, text, channel.metadata.get('topic_type_hash', ''),
            starts_with_header(text)))
    written = found.chunk_indexes[0].compression if found.chunk_indexes else 'zstd'
    bag = BagFile(target, topics, records, _COMPRESSION.get(written, written), latched)
    try:
        for item in episode.raw():
            if cut.stays(item, latched):
                bag.write(item.topic, item.data, max(item.log_time_ns, cut.first_ns),
                          item.publish_time_ns)
    except BaseException:
        bag.abandon()
        raise
    bag.finish()
    return bag.summary


def _account(account: TopicAccount, cut: int) -> TopicAccount:
    unknown = account.lost + account.dropped + account.rejected
    return replace(
        account, published=account.published - cut, written=account.written - cut,
        published_exact=account.published_exact and not (cut and unknown))


def _prove(episode: Episode, staged: Path, cut: Cut, latched: Iterable[str]) -> None:
    """Read the new bag back: the same bytes in the same order, or an error."""
    wanted = (item for item in episode.raw() if cut.stays(item, latched))
    new = Episode.open(staged)
    if (_digest(wanted, cut.first_ns) != _digest(new.raw(), cut.first_ns)
            or not all(account.balanced for account in new.accounts.values())):
        raise EpisodeError(
            f'{staged}: what was written is not what was read from {episode.path}; nothing was '
            'changed; check disk and memory of this machine')


def _digest(items: Iterable[RawMessage], first_ns: int) -> dict[str, str]:
    """Digest each topic's messages, in their order."""
    found: dict[str, Any] = {}
    for item in items:
        digest = found.setdefault(item.topic, hashlib.sha256())
        digest.update(b'%d %d %d\0' % (
            max(item.log_time_ns, first_ns), item.publish_time_ns, len(item.data)))
        digest.update(item.data)
    return {topic: digest.hexdigest() for topic, digest in found.items()}


def _free(place: Path, name: str) -> Path:
    """Return a name that is not taken, with a number behind it from the second on."""
    path, number = place / name, 2
    while path.exists():
        path, number = place / f'{name}{number}', number + 1
    return path
