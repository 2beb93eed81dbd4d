# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
One episode on the disk, whole, before it has a place in a dataset.

A staged episode is a directory that appears by one rename when everything in it is written, and
every video in it was decoded and compared with what went in. Its name is its key: a build that was
interrupted finds it again, and takes it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
import os
from pathlib import Path
import shutil
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels, unstamped_labels
from ssl_vla_ros.dataset.encoders import SOFTWARE
from ssl_vla_ros.dataset.files import read_json, sync_tree, write_json
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.proof import PictureTrace
from ssl_vla_ros.dataset.stats import ImageStats
from ssl_vla_ros.dataset.video import check_video, encode_videos
from ssl_vla_ros.errors import DatasetError

_ROWS, _INFO = 'rows.parquet', 'episode.json'
_FACTS = ('key', 'source', 'task', 'success', 'status', 'exact', 'notes', 'flagged', 'constant',
          'report', 'digest', 'encoder', 'images', 'seconds')


@dataclass(frozen=True)
class StagedEpisode:
    """
    An episode that is written and has no number yet.

    Attributes
    ----------
    columns
        (T, D) values by name: all that does not depend on the episode's place in a dataset.
    videos
        Its file of each camera.
    images
        Counts of its pictures' values, by camera.
    info
        JSON-ready: ``key, source, task, success, status, exact, notes, flagged, constant, report,
        digest, encoder, seconds``.

    """

    columns: Mapping[str, NDArray[Any]]
    videos: Mapping[str, Path]
    images: Mapping[str, ImageStats]
    info: Mapping[str, Any]

    @property
    def length(self) -> int:
        """Rows of the episode."""
        return len(self.columns['stamp_ns'])


def stage_episode(place: Path, loaded: LoadedEpisode, contract: Contract, *, key: str,
                  source: str, encoder: str = SOFTWARE, load_s: float = 0.0,
                  constant: str = '') -> StagedEpisode:
    """
    Write an episode into a directory of its own.

    Parameters
    ----------
    place
        The directory, which must not exist; it appears when the episode is whole.
    loaded
        The episode; pictures in the contract's size.
    contract
        The dataset's.
    key
        What the episode was made from: equal keys mean equal episodes.
    source
        Where it comes from, for people.
    encoder
        One of ``encoders.OPTIONS``.
    load_s
        What it took to load the episode, for the books.
    constant
        Why the episode is a dead recording that is kept all the same; '' if it is none.

    Raises
    ------
    DatasetError
        If the episode does not fit the contract, or a video does not come back whole. Nothing of
        the episode stays then.

    """
    aligned = loaded.aligned
    check_rows(aligned, loaded.task, contract, source)
    began = time.monotonic()
    part = place.with_name(f'.{place.name}.{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        columns = _columns(aligned, contract)
        seconds = {'load': load_s}
        images = _write_videos(part, aligned, contract, source, encoder, seconds)
        layout.write_table(layout.rows_table(columns, layout.describe_features(
            contract, contract.rate_hz, only=tuple(columns))), part / _ROWS)
        videos = [part / f'{camera}.mp4' for camera in contract.camera_names]
        write_json(part / _INFO, {
            'key': key, 'source': source, 'task': loaded.task, 'success': loaded.success,
            'status': loaded.status, 'exact': loaded.exact, 'notes': list(loaded.notes),
            'flagged': int(aligned.flagged.sum()), 'constant': constant,
            'report': None if aligned.report is None else aligned.report.to_dict(),
            'digest': layout.rows_digest(columns, videos), 'encoder': encoder,
            'images': {name: found.counts.tolist() for name, found in images.items()},
            'seconds': seconds | {'all': load_s + time.monotonic() - began}})
        sync_tree(part)
        part.rename(place)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return open_staged(place, contract)


def open_staged(place: Path, contract: Contract) -> StagedEpisode:
    """
    Open a staged episode.

    Raises
    ------
    DatasetError
        If a file of it is missing or broken.

    """
    info = read_json(place / _INFO)
    table = layout.read_table(place / _ROWS)
    images = {}
    missing = [name for name in _FACTS if name not in info]
    if missing:
        raise DatasetError(f'{place / _INFO}: lacks {", ".join(missing)}')
    for camera in contract.camera_names:
        try:
            counts = np.array(info['images'][camera], dtype=np.int64).reshape(3, 256)
            images[camera] = ImageStats.of(counts, table.num_rows)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f'{place / _INFO}: images.{camera} holds no counts: {error!r}') from error
    return StagedEpisode(
        columns={name: layout.column_values(table, name) for name in table.column_names},
        videos={camera: place / f'{camera}.mp4' for camera in contract.camera_names},
        images=images, info={name: value for name, value in info.items() if name != 'images'})


def check_rows(aligned: AlignedEpisode, task: str, contract: Contract, source: str) -> None:
    """
    Hold an episode against the contract.

    Raises
    ------
    DatasetError
        Naming the source and what does not fit.

    """
    length = len(aligned.ticks_ns)
    if not length:
        raise DatasetError(f'{source}: the episode has no rows')
    if not task.strip():
        raise DatasetError(f'{source}: the task is empty; say in words what was done')
    wanted = {'state': len(contract.state_names), 'action': len(contract.action_names),
              'evaluation': len(contract.evaluation_names)}
    for name, width in wanted.items():
        values = getattr(aligned, name)
        if values.shape != (length, width):
            raise DatasetError(
                f'{source}: {name} is {values.shape}, the contract and the ticks make it '
                f'({length}, {width})')
        if name != 'evaluation' and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise DatasetError(f'{source}: {name} has no number in row {row}')
    if aligned.flagged.shape != (length,):
        raise DatasetError(f'{source}: flagged is {aligned.flagged.shape}, not ({length},)')
    missing = [camera for camera in contract.camera_names if camera not in aligned.pictures]
    missing += [label for label, _, _ in stream_labels(contract)
                if aligned.skew_s.get(label, np.empty(0)).shape != (length,)]
    if missing:
        raise DatasetError(f'{source}: the aligned episode lacks {", ".join(missing)}')


def _columns(aligned: AlignedEpisode, contract: Contract) -> dict[str, NDArray[Any]]:
    length = len(aligned.ticks_ns)
    steps = np.arange(length, dtype=np.int64)
    columns: dict[str, NDArray[Any]] = {}
    for name, values, wanted in (
            ('observation.state', aligned.state, contract.state),
            ('action', aligned.action, contract.action),
            ('observation.evaluation', aligned.evaluation, contract.evaluation)):
        if wanted:
            columns[name] = values.astype(np.float32)
    columns |= {
        'timestamp': (steps / contract.rate_hz).astype(np.float32)[:, None],
        'frame_index': steps[:, None],
        'stamp_ns': aligned.ticks_ns.astype(np.int64)[:, None],
        'flagged': aligned.flagged.astype(bool)[:, None]}
    if unstamped_labels(contract):
        # Every row has a value of every stream, so that of the unstamped one is in each.
        columns[layout.UNSTAMPED] = np.ones((length, 1), dtype=bool)
    for label, _, _ in stream_labels(contract):
        columns[layout.skew_key(label)] = aligned.skew_s[label].astype(np.float32)[:, None]
    return columns


def _write_videos(part: Path, aligned: AlignedEpisode, contract: Contract, source: str,
                  encoder: str, seconds: dict[str, float]) -> dict[str, ImageStats]:
    """Encode, then decode, count and compare; what it took goes into ``seconds``."""
    paths = {camera.name: part / f'{camera.name}.mp4' for camera in contract.cameras}
    traces = {name: PictureTrace(path) for name, path in paths.items()}
    began = time.monotonic()
    given = encode_videos(
        {path: traces[name].watch(aligned.pictures[name]) for name, path in paths.items()},
        contract.rate_hz, encoder)
    encoded = time.monotonic()
    rows = len(aligned.ticks_ns)
    found = {}
    for camera in contract.cameras:
        name, path = camera.name, paths[camera.name]
        if given[path] != rows:
            raise DatasetError(
                f'{source}: {name} gave {given[path]} pictures for {rows} rows; every row needs '
                'its own picture')
        found[name] = stats = ImageStats()
        size = check_video(path, rows, contract.rate_hz, partial(_visit, traces[name], stats))
        if size != (camera.height, camera.width):
            raise DatasetError(
                f'{source}: pictures of {name} are {size[0]}x{size[1]}, the contract says '
                f'{camera.height}x{camera.width}')
    seconds['encode'], seconds['check'] = encoded - began, time.monotonic() - encoded
    return found


def _visit(trace: PictureTrace, stats: ImageStats, frame: NDArray[np.uint8]) -> None:
    trace.check(frame)
    stats.add(frame)
