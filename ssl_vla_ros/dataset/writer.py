# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Writing a LeRobotDataset v3.0, one episode at a time.

Every video is decoded and counted right after it was encoded. ``info.json`` comes last: a
directory without it is no dataset, whatever else it holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.files import write_json
from ssl_vla_ros.dataset.stats import ImageStats, jsonable, Stats, vector_stats
from ssl_vla_ros.dataset.video import check_video, encode_video
from ssl_vla_ros.errors import DatasetError

SCHEMA_VERSION = 1


class DatasetWriter:
    """
    Write a dataset into a directory of the caller's, who also makes it appear at once.

    Parameters
    ----------
    out
        An existing or new directory.
    contract
        Which robot; its digest becomes part of the dataset's.
    fps
        Rows a second: the contract's rate.

    Raises
    ------
    DatasetError
        If ``fps`` is not the contract's rate, or a camera's size cannot be stored.

    """

    def __init__(self, out: Path, contract: Contract, fps: int) -> None:
        if fps != contract.rate_hz:
            raise DatasetError(
                f'{out}: fps is {fps}, must be the rate_hz of {contract.source}: '
                f'{contract.rate_hz}')
        for camera in contract.cameras:
            if camera.height % 2 or camera.width % 2:
                raise DatasetError(
                    f'{contract.source}: cameras.{camera.name} is '
                    f'{camera.height}x{camera.width}; a video needs an even height and width')
        self.out = out
        self.contract = contract
        self.fps = fps
        self._features = layout.describe_features(contract, fps)
        self._episodes: list[dict[str, Any]] = []
        self._tasks: dict[str, int] = {}
        self._columns: list[dict[str, NDArray[Any]]] = []
        self._images = {camera.name: ImageStats() for camera in contract.cameras}
        self._rows = 0
        write_json(out / layout.CONTRACT, contract.to_dict())

    def add_episode(self, aligned: AlignedEpisode, task: str, success: bool | None,
                    source: str) -> int:
        """
        Write one episode: rows, videos and its line of the episodes table.

        Parameters
        ----------
        aligned
            The episode; pictures in the contract's size.
        task
            What was done, in words.
        success
            Whether it was achieved; None if nobody said.
        source
            Where the episode comes from, for people.

        Returns
        -------
        int
            The episode's index.

        Raises
        ------
        DatasetError
            If the episode does not fit the contract or a video does not come back whole. Nothing
            of the episode stays then.

        """
        self._check(aligned, task, source)
        episode, length = len(self._episodes), len(aligned.ticks_ns)
        task_index = self._tasks.get(task, len(self._tasks))
        columns = self._make_columns(aligned, episode, task_index)
        written: list[Path] = []
        try:
            images = self._write_videos(aligned, episode, source, written)
            stats: dict[str, Stats] = {
                layout.video_key(camera): found.result() for camera, found in images.items()}
            stats |= {name: vector_stats(values) for name, values in columns.items()}
            data = self.out / layout.path_of(layout.DATA_PATH, episode)
            digest = layout.rows_digest(columns, written)
            written.append(data)
            layout.write_table(layout.rows_table(columns, self._features), data)
            meta = self.out / layout.path_of(layout.EPISODES_PATH, episode)
            written.append(meta)
            layout.write_table(layout.episode_table(
                self.contract, self.fps, episode=episode, start=self._rows, length=length,
                task=task, stats=stats), meta)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        for camera, found in images.items():
            self._images[camera].merge(found)
        self._tasks[task] = task_index
        self._columns.append(columns)
        self._rows += length
        self._episodes.append({
            'episode_index': episode, 'length': length, 'task': task, 'success': success,
            'source': source, 'flagged': int(aligned.flagged.sum()), 'digest': digest,
            'report': None if aligned.report is None else aligned.report.to_dict()})
        return episode

    def finish(self) -> str:
        """
        Write what concerns all episodes, ``info.json`` last.

        Returns
        -------
        str
            The dataset's digest.

        Raises
        ------
        DatasetError
            If there is no episode.

        """
        if not self._episodes:
            raise DatasetError(f'{self.out}: a dataset needs at least one episode')
        stats: dict[str, Stats] = {
            layout.video_key(camera): found.result() for camera, found in self._images.items()}
        for name in self._columns[0]:
            stats[name] = vector_stats(np.concatenate([part[name] for part in self._columns]))
        write_json(self.out / layout.STATS, jsonable(stats))
        layout.write_table(layout.tasks_table(self._tasks), self.out / layout.TASKS)
        digest = layout.dataset_digest(self.contract, self._episodes)
        write_json(self.out / layout.EXTRA, {
            'schema_version': SCHEMA_VERSION, 'digest': digest,
            'unstamped': [label for label, kind, stream in stream_labels(self.contract)
                          if kind != 'image' and not getattr(stream, 'stamped', True)],
            'episodes': self._episodes})
        count = len(self._episodes)
        write_json(self.out / layout.INFO, {
            'codebase_version': layout.VERSION, 'robot_type': self.contract.robot,
            'total_episodes': count, 'total_frames': self._rows,
            'total_tasks': len(self._tasks), 'chunks_size': layout.CHUNK_SIZE,
            'data_files_size_in_mb': 100, 'video_files_size_in_mb': 200, 'fps': self.fps,
            'splits': {'train': f'0:{count}'}, 'data_path': layout.DATA_PATH,
            'video_path': layout.VIDEO_PATH if self.contract.cameras else None,
            'features': self._features})
        return digest

    def _check(self, aligned: AlignedEpisode, task: str, source: str) -> None:
        length = len(aligned.ticks_ns)
        if not length:
            raise DatasetError(f'{source}: the episode has no rows')
        if not task.strip():
            raise DatasetError(f'{source}: the task is empty; say in words what was done')
        wanted = {
            'state': len(self.contract.state_names), 'action': len(self.contract.action_names),
            'evaluation': len(self.contract.evaluation_names)}
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
        missing = [camera for camera in self.contract.camera_names
                   if camera not in aligned.pictures]
        missing += [label for label, _, _ in stream_labels(self.contract)
                    if aligned.skew_s.get(label, np.empty(0)).shape != (length,)]
        if missing:
            raise DatasetError(f'{source}: the aligned episode lacks {", ".join(missing)}')

    def _make_columns(self, aligned: AlignedEpisode, episode: int, task_index: int
                      ) -> dict[str, NDArray[Any]]:
        length = len(aligned.ticks_ns)
        steps = np.arange(length, dtype=np.int64)
        columns: dict[str, NDArray[Any]] = {
            'observation.state': aligned.state.astype(np.float32),
            'action': aligned.action.astype(np.float32),
            'timestamp': (steps / self.fps).astype(np.float32)[:, None],
            'frame_index': steps[:, None],
            'episode_index': np.full((length, 1), episode, dtype=np.int64),
            'index': (self._rows + steps)[:, None],
            'task_index': np.full((length, 1), task_index, dtype=np.int64),
            'stamp_ns': aligned.ticks_ns.astype(np.int64)[:, None],
            'flagged': aligned.flagged.astype(bool)[:, None]}
        if self.contract.evaluation:
            columns['observation.evaluation'] = aligned.evaluation.astype(np.float32)
        for label, _, _ in stream_labels(self.contract):
            columns[layout.skew_key(label)] = aligned.skew_s[label].astype(np.float32)[:, None]
        return columns

    def _write_videos(self, aligned: AlignedEpisode, episode: int, source: str,
                      written: list[Path]) -> dict[str, ImageStats]:
        found: dict[str, ImageStats] = {}
        for camera in self.contract.cameras:
            path = self.out / layout.path_of(
                layout.VIDEO_PATH, episode, layout.video_key(camera.name))
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            encode_video(path, aligned.pictures[camera.name], self.fps)
            stats = ImageStats()
            size = check_video(path, len(aligned.ticks_ns), self.fps, stats.add)
            if size != (camera.height, camera.width):
                raise DatasetError(
                    f'{source}: pictures of {camera.name} are {size[0]}x{size[1]}, the contract '
                    f'says {camera.height}x{camera.width}')
            found[camera.name] = stats
        return found
