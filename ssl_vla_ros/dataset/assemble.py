# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Finished episodes become a LeRobotDataset v3.0: numbered, linked into place, summed up.

No picture is touched here. Statistics are those of all rows and pictures, never a mean of means.
``info.json`` comes last: a directory without it is no dataset, whatever else it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import unstamped_labels
from ssl_vla_ros.dataset.files import link_or_copy, write_json
from ssl_vla_ros.dataset.staging import StagedEpisode
from ssl_vla_ros.dataset.stats import ImageStats, jsonable, Stats, vector_stats
from ssl_vla_ros.errors import DatasetError

SCHEMA_VERSION = 3
#: What ``meta/ssl_vla.json`` keeps of an episode beside its number and length.
_KEPT = ('task', 'success', 'source', 'key', 'status', 'exact', 'notes', 'flagged', 'constant',
         'encoder', 'digest', 'report')


def assemble(out: Path, contract: Contract, episodes: Sequence[StagedEpisode],
             origin: Mapping[str, Any] | None = None) -> str:
    """
    Write a dataset of these episodes, in this order.

    Parameters
    ----------
    out
        A new or empty directory; the caller makes it appear at once.
    contract
        The one all episodes were staged with.
    episodes
        At least one. Their videos get a second name in ``out``.
    origin
        JSON-ready: what the dataset was made from.

    Returns
    -------
    str
        The dataset's digest.

    Raises
    ------
    DatasetError
        If there is no episode.

    """
    if not episodes:
        raise DatasetError(f'{out}: a dataset needs at least one episode')
    fps = contract.rate_hz
    tasks = {text: index for index, text in enumerate(
        dict.fromkeys(str(episode.info['task']) for episode in episodes))}
    features = layout.describe_features(contract, fps)
    entries: list[dict[str, Any]] = []
    every: dict[str, list[NDArray[Any]]] = {}
    start = 0
    for number, episode in enumerate(episodes):
        columns = _placed(episode, number, start, tasks[episode.info['task']])
        for camera, video in episode.videos.items():
            link_or_copy(video, out / layout.path_of(
                layout.VIDEO_PATH, number, layout.video_key(camera)))
        layout.write_table(layout.rows_table(columns, features),
                           out / layout.path_of(layout.DATA_PATH, number))
        stats: dict[str, Stats] = {
            layout.video_key(camera): found.result() for camera, found in episode.images.items()}
        stats |= {name: vector_stats(values) for name, values in columns.items()}
        layout.write_table(layout.episode_table(
            contract, fps, episode=number, start=start, length=episode.length,
            task=episode.info['task'], stats=stats),
            out / layout.path_of(layout.EPISODES_PATH, number))
        for name, values in columns.items():
            every.setdefault(name, []).append(values)
        entries.append({'episode_index': number, 'length': episode.length}
                       | {name: episode.info[name] for name in _KEPT})
        start += episode.length
    digest = layout.dataset_digest(contract, entries)
    write_json(out / layout.CONTRACT, contract.to_dict())
    _write_statistics(out, contract, episodes, every)
    layout.write_table(layout.tasks_table(tasks), out / layout.TASKS)
    write_json(out / layout.EXTRA, {
        'schema_version': SCHEMA_VERSION, 'digest': digest, 'origin': dict(origin or {}),
        'unstamped': unstamped_labels(contract), 'episodes': entries})
    write_json(out / layout.INFO, {
        'codebase_version': layout.VERSION, 'robot_type': contract.robot,
        'total_episodes': len(entries), 'total_frames': start, 'total_tasks': len(tasks),
        'chunks_size': layout.CHUNK_SIZE, 'data_files_size_in_mb': 100,
        'video_files_size_in_mb': 200, 'fps': fps, 'splits': {'train': f'0:{len(entries)}'},
        'data_path': layout.DATA_PATH,
        'video_path': layout.VIDEO_PATH if contract.cameras else None, 'features': features})
    return digest


def _placed(episode: StagedEpisode, number: int, start: int, task_index: int
            ) -> dict[str, NDArray[Any]]:
    """Add the columns that say where the episode stands."""
    steps = np.arange(episode.length, dtype=np.int64)
    return dict(episode.columns) | {
        'episode_index': np.full((episode.length, 1), number, dtype=np.int64),
        'index': (start + steps)[:, None],
        'task_index': np.full((episode.length, 1), task_index, dtype=np.int64)}


def _write_statistics(out: Path, contract: Contract, episodes: Sequence[StagedEpisode],
                      every: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    stats: dict[str, Stats] = {}
    counts = []
    for camera in contract.camera_names:
        total = ImageStats()
        for number, episode in enumerate(episodes):
            total.merge(episode.images[camera])
            counts.append((number, camera, episode.images[camera].counts))
        stats[layout.video_key(camera)] = total.result()
    for name, parts in every.items():
        stats[name] = vector_stats(np.concatenate(parts))
    write_json(out / layout.STATS, jsonable(stats))
    layout.write_table(layout.image_counts_table(counts), out / layout.IMAGE_COUNTS)
