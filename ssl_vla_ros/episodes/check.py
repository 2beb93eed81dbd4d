# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The quality gate over raw bags: a verdict an episode, and one of the session.

Every message of cameras, state and action is decoded once, as the build would; of a picture only
a few numbers are kept, so memory does not grow with the length of an episode's videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ssl_vla_ros.contract import Camera, Contract, Stream
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import ConfigError, ContractError, EpisodeError, MessageError
from ssl_vla_ros.messages.images import camera_rgb
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.parallel import each
from ssl_vla_ros.quality.gate import (
    judge_length, judge_pictures, judge_timing, judge_values)
from ssl_vla_ros.quality.labels import stream_labels
from ssl_vla_ros.quality.pictures import PictureWatch
from ssl_vla_ros.quality.stamps import Floats, SECOND, split_rising, STAMP_CAUSES, Stamps
from ssl_vla_ros.quality.thresholds import check_labels, parse_thresholds, Thresholds
from ssl_vla_ros.quality.timing import Came
from ssl_vla_ros.quality.values import holds_positions, Numbers
from ssl_vla_ros.quality.verdict import DOUBTFUL, grade, NOTE, Reason, REFUSED, Verdict

#: The operator's own doing.
_MEANT = 'paused'


@dataclass
class _Track:
    """One stream while it is read: its stamps, and its values or what is kept of its pictures."""

    label: str
    kind: str
    source: Camera | Stream
    watch: PictureWatch
    stamps: list[int] = field(default_factory=list)
    delays: list[int] = field(default_factory=list)
    values: list[Floats] = field(default_factory=list)
    unusable: dict[str, int] = field(default_factory=dict)
    _size: tuple[int, ...] = ()

    def take(self, message: Any, stamp_ns: int | None, log_time_ns: int) -> None:
        """Look at one message, or count why that is not possible."""
        stamp = log_time_ns if stamp_ns is None else stamp_ns
        try:
            if isinstance(self.source, Camera):
                picture = camera_rgb(self.source, message)
                if picture.shape != (self._size or picture.shape):
                    raise MessageError('size_changed', f'{picture.shape} after {self._size}')
                self._size = picture.shape
                self.watch.take(stamp, picture)
            else:
                self.values.append(read_stream(self.source, message))
        except MessageError as error:
            self.unusable[error.cause] = self.unusable.get(error.cause, 0) + 1
            return
        self.stamps.append(stamp)
        if stamp_ns is not None:
            self.delays.append(log_time_ns - stamp_ns)

    def came(self, account: TopicAccount | None) -> Came:
        """Say how its messages came, with those that the recorder did not let into the bag."""
        every = np.array(self.stamps, dtype=np.int64)
        keep, order = split_rising(every)
        if isinstance(self.source, Stream) and not self.source.stamped:
            # Receive times may coincide; nobody stamped them.
            order = {}
        unusable = dict(self.unusable)
        for cause, count in (account.rejected_by_cause if account else {}).items():
            if cause != _MEANT:
                counts = order if cause in STAMP_CAUSES else unusable
                counts[cause] = counts.get(cause, 0) + count
        messages = int(keep.sum()) + sum(order.values()) + sum(unusable.values())
        delay = float(np.median(self.delays)) / SECOND if self.delays else None
        paused = account.rejected_by_cause.get(_MEANT, 0) if account else 0
        return Came(self.label, self.kind, every[keep], messages, order, unusable, delay, paused)

    def numbers(self) -> Numbers | None:
        """Return its values; None of a camera, or without any."""
        if not isinstance(self.source, Stream) or not self.values:
            return None
        stamps: Stamps = np.array(self.stamps, dtype=np.int64)
        keep, _ = split_rising(stamps)
        return Numbers(self.label, self.kind, self.source.columns, stamps[keep],
                       np.array(self.values)[keep], holds_positions(self.source))


def check_episode(path: Path, thresholds: Thresholds) -> Verdict:
    """
    Judge one recorded episode.

    Parameters
    ----------
    path
        Its directory.
    thresholds
        Where the lines are drawn.

    Returns
    -------
    Verdict
        ``refused`` with the key ``unreadable`` if the bag or episode.json cannot be read.

    Raises
    ------
    ConfigError
        If the thresholds name a stream that the episode's contract has not.

    """
    try:
        episode = Episode.open(path)
        check_labels(thresholds, tuple(
            label for label, _, _ in stream_labels(episode.contract)))
        return Verdict.of(path.name, list(_reasons(episode, thresholds)))
    except (EpisodeError, ContractError) as error:
        return Verdict.of(path.name, [Reason(
            'unreadable', REFUSED, '', None, None,
            f'{error}; delete it if it cannot be mended')])


def check_session(paths: Sequence[Path], thresholds: Thresholds, *, workers: int = 1,
                  progress: Callable[[int, int, str], None] | None = None) -> list[Verdict]:
    """
    Judge some episodes, several at a time.

    Parameters
    ----------
    paths
        Their directories; see ``episodes_to_check``.
    thresholds
        Where the lines are drawn.
    workers
        Processes that work at the same time.
    progress
        Told how many are done, how many there are, and what is done.

    Raises
    ------
    ConfigError
        As ``check_episode``.
    WorkerError
        If a worker process was killed.

    """
    found: dict[int, Verdict] = {}
    for place, verdict in each(partial(check_episode, thresholds=thresholds), paths, workers):
        found[place] = verdict
        if progress is not None:
            progress(len(found), len(paths), 'check')
    return [found[place] for place in range(len(paths))]


def _reasons(episode: Episode, thresholds: Thresholds) -> Iterator[Reason]:
    contract = episode.contract
    tracks = _read(episode, contract)
    accounts = episode.accounts
    came = [track.came(accounts.get(track.source.topic)) for track in tracks]
    numbers = [found for track in tracks if (found := track.numbers()) is not None]
    yield from _judge_account(episode, thresholds)
    first = max((int(item.stamps[0]) for item in came if len(item.stamps)), default=0)
    last = min((int(item.stamps[-1]) for item in came if len(item.stamps)), default=0)
    seconds = max(last - first, 0) / SECOND
    yield from judge_length(seconds, int(seconds * contract.rate_hz) + 1, thresholds)
    yield from judge_timing(came, contract, thresholds)
    yield from judge_values(numbers, contract, thresholds)
    cameras = [track.watch.result() for track in tracks if track.kind == 'image']
    yield from judge_pictures(cameras, numbers, contract, thresholds)


def _read(episode: Episode, contract: Contract) -> list[_Track]:
    tracks = [_Track(label, kind, source, PictureWatch(label))
              for label, kind, source in stream_labels(contract) if kind != 'evaluation']
    by_topic: dict[str, list[_Track]] = {}
    for track in tracks:
        # A topic that was not recorded leaves its track empty, which is judged as that.
        if track.source.topic in episode.info['topics']:
            by_topic.setdefault(track.source.topic, []).append(track)
    for item in episode.decoded(list(by_topic)):
        for track in by_topic[item.topic]:
            track.take(item.message, item.stamp_ns, item.log_time_ns)
    return tracks


def _judge_account(episode: Episode, thresholds: Thresholds) -> Iterator[Reason]:
    """Judge what the recorder itself says of the episode."""
    info = episode.info
    faults = [] if info['status'] == 'recovered' else list(episode.faults)
    for fault in faults:
        yield Reason('fault', REFUSED, '', None, None,
                     f'{fault}: mend the cause and record it again')
    if info['status'] == 'discarded':
        yield Reason('status', REFUSED, '', None, None, 'the operator discarded it')
    elif info['status'] == 'recovered':
        yield Reason('status', DOUBTFUL, '', None, None,
                     'it was recovered after a kill: what was lost at its end is not known; look '
                     'at it before you train on it')
    elif episode.ended_early:
        why = info.get('reason') or 'no reason given'
        yield Reason('status', DOUBTFUL, '', None, None,
                     f'it ended early ({why}): see whether the task was done, and say so with '
                     '`ssl_vla episodes relabel`')
    if not str(info.get('task', '')).strip():
        yield Reason('task', NOTE, '', None, None,
                     'nothing says what was done: `ssl_vla episodes relabel --task TEXT`, or '
                     'build with --task TEXT')
    needed = {source.topic: label for label, kind, source in stream_labels(episode.contract)
              if kind != 'evaluation'}
    for topic, account in episode.accounts.items():
        if topic in needed:
            yield from _judge_topic(needed[topic], account, thresholds)


def _judge_topic(label: str, account: TopicAccount, thresholds: Thresholds) -> Iterator[Reason]:
    # What was rejected is judged with the messages in the bag: by its cause.
    gone = account.lost + account.dropped
    share = gone / max(account.published, 1)
    if found := grade(share, thresholds.lost_doubtful, thresholds.lost_refused):
        yield Reason(
            'lost', found[0], label, share, found[1],
            f'{gone} of {account.published} messages did not reach the bag ({account.fate()}): '
            'look at the load of the machine, its disk and the Fast DDS profile')


def load_thresholds(path: Path | None) -> Thresholds:
    """
    Read a thresholds file; the defaults without one.

    Raises
    ------
    ConfigError
        If it cannot be read or its content is wrong.

    """
    if path is None:
        return Thresholds()
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: cannot read the thresholds: {error}') from error
    return parse_thresholds(text, str(path))


def episodes_to_check(path: Path) -> Sequence[Path]:
    """
    Find what a user means: one episode's directory, or a session.

    Raises
    ------
    EpisodeError
        If it is neither, or a session without a finished episode.

    """
    if (path / sessions.INFO_FILE).is_file():
        return [path]
    found = sessions.finished(sessions.existing(path))
    if not found:
        raise EpisodeError(
            f'{path}: there is no finished episode; record some first, or run '
            f'`ssl_vla episodes recover {path} --yes` after a kill')
    return found
