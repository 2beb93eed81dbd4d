# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
From a recorded episode to one row a tick of the control clock.

The first camera's stamps set the phase: tick 0 is its first picture at which every stream has
data, and a tick follows every ``1 / rate_hz``. Pictures are the nearest ones, states lie linearly
between their neighbours, actions are the first command at or after the tick. The episode ends
where the first stream does. Every row knows how far off each of its samples is; rows over
the contract's bound are flagged, and an episode with too many of them is refused. Linear
interpolation treats every value alike: joints that wrap and quaternions want ``state: nearest``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Camera, Contract, Stream
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.dataset.aligned import AlignedEpisode, AlignReport, stream_labels, StreamReport
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import DatasetError, MessageError
from ssl_vla_ros.messages.images import camera_rgb
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.preprocess import resize

__all__ = ['align_episode', 'AlignedEpisode', 'AlignReport', 'StreamReport']


@dataclass
class _Track:
    """One stream while it is read: what is good so far, and what was refused."""

    label: str
    kind: str
    source: Camera | Stream
    stamps: list[int] = field(default_factory=list)
    samples: list[NDArray[np.generic]] = field(default_factory=list)
    rejected: dict[str, int] = field(default_factory=dict)
    times: clock.Stamps = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    _size: tuple[int, ...] = ()

    @property
    def stamped(self) -> bool:
        return not isinstance(self.source, Stream) or self.source.stamped

    def take(self, message: object, stamp: int) -> None:
        """Keep one message's sample, or count why not."""
        try:
            if isinstance(self.source, Camera):
                picture = camera_rgb(self.source, message)
                if picture.shape != (self._size or picture.shape):
                    raise MessageError('size_changed', f'{picture.shape} after {self._size}')
                self._size = picture.shape
                sample: NDArray[np.generic] = resize(
                    picture, self.source.height, self.source.width)
            else:
                sample = read_stream(self.source, message)
        except MessageError as error:
            self.rejected[error.cause] = self.rejected.get(error.cause, 0) + 1
            return
        self.stamps.append(stamp)
        self.samples.append(sample)

    def close(self) -> None:
        """Refuse what does not rise."""
        every = np.array(self.stamps, dtype=np.int64)
        keep, refused = clock.keep_rising(every)
        self.times = every[keep]
        self.samples = [self.samples[index] for index in np.flatnonzero(keep)]
        for cause, count in refused.items():
            self.rejected[cause] = self.rejected.get(cause, 0) + count

    def matrix(self) -> NDArray[np.float64]:
        """Return all samples of a stream of numbers, (N, D)."""
        width = len(self.source.names) if isinstance(self.source, Stream) else 0
        return np.array(self.samples, dtype=np.float64).reshape(-1, width)


@dataclass(frozen=True)
class _PickedFrames:
    """Pictures by tick, without a copy of those that are taken twice."""

    samples: Sequence[NDArray[np.generic]]
    index: NDArray[np.int64]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for index in self.index:
            yield np.asarray(self.samples[index], dtype=np.uint8)


def align_episode(episode: Episode, contract: Contract) -> AlignedEpisode:
    """
    Bring an episode to the control clock.

    All pictures of the episode are held in memory in the contract's size.

    Parameters
    ----------
    episode
        The recording.
    contract
        Which streams, how they are synchronised, and the pictures' size.

    Raises
    ------
    DatasetError
        If the episode is refused: a stream without a usable message, streams that never overlap,
        or too many flagged ticks. The message names the stream.
    EpisodeError
        If the bag cannot be read.

    """
    tracks = _read(episode, contract)
    needed = [track for track in tracks if track.kind != 'evaluation']
    for track in needed:
        if not len(track.times):
            raise DatasetError(
                f'{episode.path}: {track.label} ({track.source.topic}) has no usable message'
                f'{_listed(track.rejected)}')
    period_ns = clock.SECOND // contract.rate_hz
    ticks, lost, limits, trimmed_s = _window(episode, contract, needed, period_ns)
    picked: dict[str, clock.Picked] = {}
    values: dict[str, list[NDArray[np.float64]]] = {'state': [], 'action': [], 'evaluation': []}
    skews: dict[str, NDArray[np.float32]] = {}
    pictures: dict[str, _PickedFrames] = {}
    for track in tracks:
        if track.kind == 'action' and contract.sync.action == 'next':
            found = clock.pick_next(ticks, track.times, period_ns)
        else:
            found = clock.pick_nearest(ticks, track.times)
        skew = found.skew_s
        if isinstance(track.source, Camera):
            pictures[track.source.name] = _PickedFrames(track.samples, found.index)
        elif track.kind == 'state' and contract.sync.state == 'linear':
            mixed, skew = clock.interpolate(ticks, track.times, track.matrix())
            values['state'].append(mixed)
        else:
            taken = np.full((len(ticks), len(track.source.names)), np.nan)
            good = found.index >= 0
            if track.kind == 'evaluation':
                good &= skew <= contract.sync.max_skew_s
            taken[good] = track.matrix()[found.index[good]]
            values[track.kind].append(taken)
        picked[track.label] = found
        skews[track.label] = np.where(np.isfinite(skew), skew, np.nan).astype(np.float32)
    over = {track.label: ~(skews[track.label] <= np.float32(contract.sync.max_skew_s))
            for track in needed}
    flagged = np.any(list(over.values()), axis=0)
    _refuse_bad(episode, contract, over, skews, lost)
    joined = {
        kind: np.concatenate(parts, axis=1) if parts else np.empty((len(ticks), 0))
        for kind, parts in values.items()}
    lag = clock.command_lag(joined['action'], joined['state'], contract.rate_hz)
    report = AlignReport(
        streams=tuple(_describe(track, picked[track.label], skews[track.label])
                      for track in tracks),
        flagged=int(flagged.sum()), lost_ticks=sum(lost.values()), limits=limits,
        trimmed_s=trimmed_s,
        lag_s=None if lag is None else lag[0], lag_correlation=None if lag is None else lag[1])
    return AlignedEpisode(
        ticks_ns=ticks, pictures=pictures, state=joined['state'].astype(np.float32),
        action=joined['action'].astype(np.float32),
        evaluation=joined['evaluation'].astype(np.float32), skew_s=skews, flagged=flagged,
        report=report)


def _read(episode: Episode, contract: Contract) -> list[_Track]:
    tracks = [_Track(*found) for found in stream_labels(contract)]
    by_topic: dict[str, list[_Track]] = {}
    recorded = episode.info['topics']
    for track in tracks:
        if track.source.topic in recorded:
            by_topic.setdefault(track.source.topic, []).append(track)
        elif track.kind != 'evaluation':
            raise DatasetError(
                f'{episode.path}: {track.label} needs the topic {track.source.topic!r}, which '
                f'was not recorded; recorded: {", ".join(recorded)}')
    for item in episode.decoded(list(by_topic)):
        for track in by_topic[item.topic]:
            stamp = item.log_time_ns if item.stamp_ns is None else item.stamp_ns
            track.take(item.message, stamp)
    for track in tracks:
        track.close()
    return tracks


def _window(episode: Episode, contract: Contract, needed: Sequence[_Track], period_ns: int
            ) -> tuple[clock.Stamps, dict[str, int], tuple[str, str], tuple[float, float]]:
    """Ticks, ticks lost to streams that stopped early, limiting streams, and time cut off."""
    # A command counts from the tick in whose period it comes.
    starts = {track.label: int(track.times[0]) - (period_ns - 1) * (track.kind == 'action')
              for track in needed}
    ends = {track.label: int(track.times[-1]) for track in needed}
    late, early = max(starts, key=starts.__getitem__), min(ends, key=ends.__getitem__)
    phase = needed[0].times[np.searchsorted(needed[0].times, starts[late]):]
    if not len(phase) or phase[0] > ends[early]:
        unstamped = [track.label for track in needed if not track.stamped]
        hint = ('; are receive times (of ' + ', '.join(unstamped) + ') and header stamps on one '
                'clock?' if unstamped else '')
        raise DatasetError(
            f'{episode.path}: {late} begins at {starts[late] / 1e9:.3f} s, when {early} has '
            f'ended ({ends[early] / 1e9:.3f} s): there is no moment with data of every '
            f'stream{hint}')
    ticks = clock.make_ticks(int(phase[0]), int(phase[0]), ends[early], contract.rate_hz)
    # Sensors should end together, and so should commands; commands may end before the sensors.
    expected = min(
        max(ends[track.label] for track in needed if (track.kind == 'action') == commands)
        for commands in (False, True))
    lost: dict[str, int] = {}
    for track in needed:
        usual = int(np.median(np.diff(track.times))) if len(track.times) > 1 else 0
        slack = max(usual, round(contract.sync.max_skew_s * clock.SECOND))
        missing = clock.make_ticks(
            int(phase[0]), max(ends[track.label] + slack, int(ticks[-1])) + 1, expected,
            contract.rate_hz)
        if len(missing) > max(lost.values(), default=0):
            lost = {track.label: len(missing)}
    first = min(int(track.times[0]) for track in needed)
    return ticks, lost, (late, early), (
        (int(ticks[0]) - first) / clock.SECOND,
        (max(ends.values()) - int(ticks[-1])) / clock.SECOND)


def _refuse_bad(episode: Episode, contract: Contract, over: Mapping[str, NDArray[np.bool_]],
                skews: Mapping[str, NDArray[np.float32]], lost: Mapping[str, int]
                ) -> None:
    flagged = np.any(list(over.values()), axis=0)
    count, total = int(flagged.sum()) + sum(lost.values()), len(flagged) + sum(lost.values())
    if count <= contract.sync.max_flagged_fraction * total:
        return
    causes = [f'{label} in {int(mask.sum())} (up to {float(np.nanmax(skews[label])):.3f} s off)'
              for label, mask in over.items() if mask.any()]
    causes += [f'{label} ended {number} ticks before the others' for label, number in lost.items()]
    raise DatasetError(
        f'{episode.path}: {count} of {total} ticks lack data within '
        f'sync.max_skew_s = {contract.sync.max_skew_s:g} s, sync.max_flagged_fraction allows '
        f'{contract.sync.max_flagged_fraction:g}: {"; ".join(causes)}')


def _describe(track: _Track, picked: clock.Picked, skew: NDArray[np.float32]) -> StreamReport:
    rate, gaps, longest = clock.intervals(track.times)
    known = skew[np.isfinite(skew)].astype(np.float64)
    p50, p99 = np.quantile(known, [0.5, 0.99]) if len(known) else (0.0, 0.0)
    repeated = int((np.diff(picked.index) == 0).sum()) if len(track.times) else 0
    return StreamReport(
        name=track.label, topic=track.source.topic, messages=len(track.times),
        stamped=track.stamped, rate_hz=rate, gaps=gaps, longest_s=longest,
        skew_p50_s=float(p50), skew_p99_s=float(p99), repeated=repeated,
        rejected=dict(track.rejected))


def _listed(rejected: Mapping[str, int]) -> str:
    if not rejected:
        return ' (none was recorded)'
    return ' (rejected: ' + ', '.join(f'{n} {cause}' for cause, n in rejected.items()) + ')'
