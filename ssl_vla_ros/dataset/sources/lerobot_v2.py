# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
LeRobot v2.0 and v2.1: one Parquet file and one video a camera for each episode.

Everything ``meta/`` declares is held against the files. What is merely odd becomes a note; what
makes an episode unusable refuses that episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
import re
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode
from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.json_lines import json_lines
from ssl_vla_ros.dataset.sources.lerobot_common import (
    ACTION, camera_names, Described, Info, STATE)
from ssl_vla_ros.dataset.sources.lerobot_rows import read_rows, unknown_skews
from ssl_vla_ros.dataset.sources.lerobot_video import WholeVideo
from ssl_vla_ros.dataset.sources.made_contract import choose_contract
from ssl_vla_ros.errors import DatasetError

VERSIONS = ('v2.0', 'v2.1')
_TASKS = 'meta/tasks.jsonl'


def open_lerobot_v2(path: str | Path, options: ImportOptions) -> Source:
    """
    Open a LeRobot v2.0 or v2.1 dataset.

    Parameters
    ----------
    path
        Its root, which holds ``meta/info.json``.
    options
        ``task`` serves episodes whose rows name no sentence, ``robot`` a dataset that names none;
        a ``contract`` chooses cameras and values by name.

    Raises
    ------
    DatasetError
        If it is no such dataset, or nothing of it can be used.

    """
    meta = _Meta.read(Path(path))
    info = meta.info
    names = camera_names(meta.cameras)
    described = Described(
        info=info.path, fps=info.fps, columns=info.columns(),
        vectors={name: meta.names(name, part) for name, part in info.vectors()},
        cameras=tuple(info.camera(names[key], key, (
            meta.path('video_path', number, key) for number in meta.episodes))
            for key in meta.cameras))
    contract = choose_contract(options, info.contract(described, options.robot), info.root)
    return Source(
        kind=f'LeRobot {info.version}', path=info.root, contract=contract,
        jobs=[_Job(
            root=info.root, described=described, number=number,
            data=meta.path('data_path', number),
            videos={camera.name: meta.path('video_path', number, camera.key)
                    for camera in described.cameras if camera.name in contract.camera_names},
            length=meta.listed[number][0] if number in meta.listed else None,
            tasks=tuple(meta.listed[number][1]) if number in meta.listed else (),
            otherwise=options.task) for number in meta.episodes],
        found=info.found(described, len(meta.episodes), len(meta.tasks)),
        problems=info.notes, left_out=info.left_out(described, contract))


@dataclass(frozen=True)
class _Job:
    """One episode that is not loaded yet; ``length`` is None where no list has it."""

    root: Path
    described: Described
    number: int
    data: Path
    videos: Mapping[str, Path]
    length: int | None
    tasks: tuple[str, ...]
    otherwise: str

    @property
    def name(self) -> str:
        """Give the name."""
        return f'episode {self.number}'

    def fingerprint(self) -> str:
        """Digest what the episode is made from."""
        return fingerprint(
            self.root, [self.data, *self.videos.values(), self.root / _TASKS], self.number,
            self.length, self.tasks, self.otherwise, self.described.fps,
            {name: list(names) for name, names in self.described.vectors.items()})

    def load(self, contract: Contract) -> LoadedEpisode:
        """
        Read the rows; the pictures are read while they are iterated.

        Raises
        ------
        DatasetError
            If the episode must be refused.

        """
        rows = read_rows(self.data, self.described)
        if self.length is None:
            raise DatasetError(f'{self.data}: meta/episodes.jsonl does not list this episode')
        if len(rows) != self.length or not self.length:
            raise DatasetError(
                f'{self.data}: has {len(rows)} rows, meta/episodes.jsonl says {self.length}')
        state = rows.vector(STATE, contract.state_names)
        action = rows.vector(ACTION, contract.action_names)
        rows.check_columns(self.number)
        rows.check_moves(state, action, contract)
        aligned = AlignedEpisode(
            ticks_ns=rows.stamps(), pictures=self._pictures(contract), state=state, action=action,
            evaluation=np.full((self.length, len(contract.evaluation_names)), np.nan, np.float32),
            skew_s=unknown_skews(contract, self.length),
            flagged=np.zeros(self.length, dtype=bool))
        task = rows.task(_sentences(self.root), self.tasks, self.otherwise, _TASKS)
        return LoadedEpisode(aligned, task, rows.success(), tuple(rows.odd))

    def _pictures(self, contract: Contract) -> dict[str, Iterable[NDArray[np.uint8]]]:
        there = {camera.name: camera for camera in self.described.cameras}
        return {camera.name: WholeVideo(
            self.videos[camera.name], self.length or 0, self.described.fps,
            (there[camera.name].height, there[camera.name].width),
            (camera.height, camera.width)) for camera in contract.cameras}


@dataclass
class _Meta:
    """
    What ``meta/`` says and which files there are.

    Attributes
    ----------
    cameras
        Features of video cameras for which at least one file exists.
    modality
        GR00T's ``meta/modality.json``, empty without it.
    listed
        For each episode of ``meta/episodes.jsonl`` its declared length and tasks.
    episodes
        Numbers of all episodes, listed or found on disk.

    """

    info: Info
    chunk_size: int
    cameras: list[str] = field(default_factory=list)
    modality: dict[str, Any] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    listed: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    episodes: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path) -> _Meta:
        """Read everything and hold it against the files."""
        info = Info.read(root, VERSIONS)
        for key in ('data_path', *(['video_path'] if info.data.get('video_path') else [])):
            info.check_template(
                key, 'episode_index', {'episode_index', 'episode_chunk', 'video_key'})
        size = info.data.get('chunks_size') or 1000
        if not isinstance(size, int) or size < 1:
            raise DatasetError(f'{info.path}: chunks_size is {size!r}, must be a whole number '
                               'above 0')
        found = cls(info, size, tasks=_sentences(root))
        found._read_lists()
        found._find_episodes()
        found._find_cameras()
        found.info.check_totals({
            'total_episodes': len(found.episodes), 'total_tasks': len(found.tasks),
            'total_frames': sum(length for length, _ in found.listed.values()),
            'total_videos': sum(1 for _ in (root / 'videos').rglob('*.mp4')),
            'total_chunks': max(found.episodes) // size + 1})
        return found

    def path(self, key: str, episode: int, camera: str = '') -> Path:
        """Where ``data_path`` or ``video_path`` puts a file of an episode."""
        return self.info.root / str(self.info.data[key]).format(
            episode_chunk=episode // self.chunk_size, episode_index=episode, video_key=camera)

    def names(self, name: str, part: str) -> tuple[str, ...]:
        """Names of a vector's values: modality.json's groups, else info.json's, else numbers."""
        width = self.info.width(name)
        groups = self.modality.get(part)
        if groups:
            found = _group_names(groups, name, width) if _is_groups(groups) else None
            if found is not None:
                return found
            self.info.notes.add(
                f'meta/modality.json: the ranges of {part} do not cover the {width} values of '
                f'{name} once each: not used for names')
        return self.info.names(name, part)

    def _read_lists(self) -> None:
        root = self.info.root
        for entry in json_lines(
                root / 'meta' / 'episodes.jsonl', ('episode_index', 'length')):
            tasks = entry.get('tasks') or []
            if not isinstance(tasks, list):
                self.info.notes.add(
                    'meta/episodes.jsonl: tasks is no list: taken as one sentence')
                tasks = [tasks]
            self.listed[entry['episode_index']] = (
                entry['length'], [str(task) for task in tasks])
        if (root / 'meta' / 'modality.json').is_file():
            self.modality = read_json(root / 'meta' / 'modality.json')

    def _find_episodes(self) -> None:
        on_disk = set()
        for path in sorted((self.info.root / 'data').rglob('*.parquet')):
            number = re.search(r'(\d+)\D*$', path.stem)
            if number is not None and self.path('data_path', int(number[1])) == path:
                on_disk.add(int(number[1]))
            else:
                self.info.notes.add(f'{path.relative_to(self.info.root)} is not where data_path '
                                    'puts an episode: left out')
        self.episodes = sorted(on_disk | set(self.listed))
        if not self.episodes:
            raise DatasetError(f'{self.info.root}: no episode is listed and none is there')

    def _find_cameras(self) -> None:
        for key in self.info.video_keys():
            if self.info.data.get('video_path') and any(
                    self.path('video_path', episode, key).is_file() for episode in self.episodes):
                self.cameras.append(key)
            else:
                self.info.note_no_video(key)
        videos = self.modality.get('video') or {}
        if not _is_groups(videos):
            self.info.notes.add('meta/modality.json: video is no mapping of mappings: not used')
            videos = {}
        declared = {str(entry.get('original_key', name)): name for name, entry in videos.items()}
        for key, name in declared.items():
            if key not in self.cameras:
                self.info.notes.add(f'meta/modality.json: video.{name} is {key!r}, which is no '
                                    'camera with videos')
        for camera in self.cameras:
            if declared and camera not in declared:
                self.info.notes.add(
                    f'meta/modality.json does not mention the camera {camera!r}')


def _sentences(root: Path) -> dict[int, str]:
    """Sentences by task index; read once a process, and again when the file has changed."""
    path = root / _TASKS
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error
    return _read_sentences(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read_sentences(path: Path, size: int, mtime_ns: int) -> dict[int, str]:
    del size, mtime_ns
    return {entry['task_index']: str(entry['task'])
            for entry in json_lines(path, ('task_index',), 'task')}


def _is_groups(value: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    return isinstance(value, Mapping) and all(
        isinstance(entry, Mapping) for entry in value.values())


def _group_names(groups: Mapping[str, Mapping[str, Any]], feature: str, width: int
                 ) -> tuple[str, ...] | None:
    names: dict[int, str] = {}
    for group, entry in groups.items():
        if entry.get('original_key', feature) != feature:
            return None
        start, end = entry.get('start'), entry.get('end')
        if not isinstance(start, int) or not isinstance(end, int):
            return None
        for number, index in enumerate(range(start, min(end, width + 1))):
            if index in names:
                return None
            names[index] = f'{group}_{number}'
    if sorted(names) != list(range(width)):
        return None
    return tuple(names[index] for index in range(width))
