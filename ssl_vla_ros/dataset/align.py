# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
From a recorded episode to one row a tick of the control clock.

The first camera's stamps set the phase (without cameras the first state's): tick 0 is its first
picture at which every stream has data, and a tick follows every ``1 / rate_hz``. Pictures are the
nearest ones, states lie linearly between their neighbours, actions are the first command at or
after the tick. The episode ends where the first stream does. Every row knows how far off each of
its samples is; rows over the contract's bound are flagged, and an episode with too many of them
is refused, or falls into its clean runs. Linear interpolation treats every value alike: joints
that wrap and quaternions want ``state: nearest``.
"""

from __future__ import annotations

from collections.abc import Sequence
import math

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.dataset.align_pictures import KEEP_BYTES
from ssl_vla_ros.dataset.align_recording import Recording
from ssl_vla_ros.dataset.align_rows import Rows, StreamRows
from ssl_vla_ros.dataset.align_session import EpisodeRecording
from ssl_vla_ros.dataset.align_tracks import CameraTrack, NumberTrack, read_tracks, Track
from ssl_vla_ros.dataset.aligned import AlignedEpisode, AlignReport, StreamReport
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import DatasetError

__all__ = ['align_episode', 'align_recording', 'align_runs', 'AlignedEpisode', 'AlignReport',
           'recording_runs', 'StreamReport']


def align_episode(episode: Episode, contract: Contract) -> AlignedEpisode:
    """
    Bring an episode to the control clock.

    Pictures are read from the episode when they are iterated: it must not be changed or moved
    until then.

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
    return align_recording(EpisodeRecording(episode), contract)


def align_runs(episode: Episode, contract: Contract) -> list[AlignedEpisode]:
    """
    Bring an episode to the control clock, whole or in parts.

    An episode with more flagged ticks than ``sync.max_flagged_fraction`` allows falls, where
    ``sync.on_gap`` is ``split``, into its runs of at least ``sync.min_run_s`` seconds without a
    flagged tick. Each run's report is of its own span; messages that were refused are counted in
    the first one's.

    Returns
    -------
    list of AlignedEpisode
        One for an episode that is good as it is.

    Raises
    ------
    DatasetError, EpisodeError
        As ``align_episode``, and if no run is long enough.

    """
    return recording_runs(EpisodeRecording(episode), contract)


def align_recording(recording: Recording, contract: Contract, keep_bytes: int = KEEP_BYTES
                    ) -> AlignedEpisode:
    """
    Bring any recording to the control clock, as ``align_episode``.

    Parameters
    ----------
    recording, contract
        What is read, and which streams of it.
    keep_bytes
        How many bytes of pictures are kept in memory instead of being read twice.

    """
    rows = _rows(recording, contract, keep_bytes)
    complaint = rows.complaint(contract.sync.max_skew_s, contract.sync.max_flagged_fraction)
    if complaint:
        raise DatasetError(f'{recording.path}: {complaint}')
    return rows.episode()


def recording_runs(recording: Recording, contract: Contract) -> list[AlignedEpisode]:
    """Bring any recording to the control clock, whole or in parts, as ``align_runs``."""
    rows = _rows(recording, contract, KEEP_BYTES)
    complaint = rows.complaint(contract.sync.max_skew_s, contract.sync.max_flagged_fraction)
    if not complaint:
        return [rows.episode()]
    on_gap, min_run_s = contract.sync.on_gap, contract.sync.min_run_s
    if on_gap != 'split':
        raise DatasetError(f'{recording.path}: {complaint}')
    least = max(1, math.ceil(min_run_s * contract.rate_hz))
    runs = rows.clean_runs(least)
    if not runs:
        raise DatasetError(
            f'{recording.path}: {complaint}; and no run of at least sync.min_run_s = '
            f'{min_run_s:g} s is without such a tick')
    return [rows.part(start, stop, first=number == 0).episode()
            for number, (start, stop) in enumerate(runs)]


def _rows(recording: Recording, contract: Contract, keep_bytes: int) -> Rows:
    tracks, decoders = read_tracks(recording, contract, keep_bytes)
    needed = [track for track in tracks if track.kind != 'evaluation']
    for track in needed:
        if not len(track.times):
            raise DatasetError(
                f'{recording.path}: {track.label} ({track.topic}) has no usable message'
                f'{_listed(track.rejected)}')
    period_ns = clock.SECOND // contract.rate_hz
    ticks, lost, limits = _window(recording, contract, needed, period_ns)
    max_skew_s = np.float32(contract.sync.max_skew_s)
    streams: list[StreamRows] = []
    values: dict[str, list[NDArray[np.float64]]] = {'state': [], 'action': [], 'evaluation': []}
    pictures = {}
    for track in tracks:
        found = _pick(track, ticks, contract, period_ns)
        skew = found.skew_s
        if isinstance(track, CameraTrack):
            pictures[track.label.removeprefix('image.')] = track.pictures(
                recording, decoders[track.topic], found.index)
        elif isinstance(track, NumberTrack) and _linear(track, contract):
            mixed, skew = clock.interpolate(ticks, track.times, track.values)
            values['state'].append(mixed)
        elif isinstance(track, NumberTrack):
            good = found.index >= 0
            if track.kind == 'evaluation':
                good &= skew <= contract.sync.max_skew_s
            taken = np.full((len(ticks), track.values.shape[1]), np.nan)
            taken[good] = track.values[found.index[good]]
            values[track.kind].append(taken)
        known = np.where(np.isfinite(skew), skew, np.nan).astype(np.float32)
        streams.append(StreamRows(
            track.label, track.topic, track.stamped, track.times, track.rejected, found.index,
            known, None if track.kind == 'evaluation' else ~(known <= max_skew_s)))
    return Rows(
        ticks_ns=ticks, rate_hz=contract.rate_hz, pictures=pictures,
        values={kind: np.concatenate(parts, axis=1) if parts else np.empty((len(ticks), 0))
                for kind, parts in values.items()},
        streams=tuple(streams), lost=lost, limits=limits,
        span_ns=(min(int(track.times[0]) for track in needed),
                 max(int(track.times[-1]) for track in needed)))


def _linear(track: Track, contract: Contract) -> bool:
    return track.kind == 'state' and contract.sync.state == 'linear'


def _pick(track: Track, ticks: clock.Stamps, contract: Contract, period_ns: int) -> clock.Picked:
    if track.kind == 'action' and contract.sync.action == 'next':
        return clock.pick_next(ticks, track.times, period_ns)
    return clock.pick_nearest(ticks, track.times)


def _window(recording: Recording, contract: Contract, needed: Sequence[Track], period_ns: int
            ) -> tuple[clock.Stamps, dict[str, int], tuple[str, str]]:
    """Ticks, ticks lost to streams that stopped early, and the limiting streams."""
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
            f'{recording.path}: {late} begins at {starts[late] / 1e9:.3f} s, when {early} has '
            f'ended ({ends[early] / 1e9:.3f} s): there is no moment with data of every '
            f'stream{hint}')
    ticks = clock.make_ticks(int(phase[0]), int(phase[0]), ends[early], contract.rate_hz)
    # Sensors should end together, and so should commands; commands may end before the sensors.
    groups = [[ends[track.label] for track in needed if (track.kind == 'action') == commands]
              for commands in (False, True)]
    expected = min(max(group) for group in groups if group)
    lost: dict[str, int] = {}
    for track in needed:
        usual = int(np.median(np.diff(track.times))) if len(track.times) > 1 else 0
        slack = max(usual, round(contract.sync.max_skew_s * clock.SECOND))
        missing = clock.make_ticks(
            int(phase[0]), max(ends[track.label] + slack, int(ticks[-1])) + 1, expected,
            contract.rate_hz)
        if len(missing) > max(lost.values(), default=0):
            lost = {track.label: len(missing)}
    return ticks, lost, (late, early)


def _listed(rejected: dict[str, int]) -> str:
    if not rejected:
        return ' (none was recorded)'
    return ' (rejected: ' + ', '.join(f'{n} {cause}' for cause, n in rejected.items()) + ')'
