# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading a LeRobot v2.0 or v2.1 dataset without believing what it says about itself.

Everything ``meta/`` declares is held against the files. What is merely odd becomes a note; what
makes an episode unusable is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
import json
from pathlib import Path
import re
from typing import Any, TypeGuard

from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.errors import DatasetError

VERSIONS = ('v2.0', 'v2.1')
STATE, ACTION = 'observation.state', 'action'
_CAMERA_PREFIX = 'observation.images.'
_PLACEHOLDER = re.compile(r'\{(\w+)(?::[^}]*)?\}')


@dataclass
class V2Source:
    """
    An opened dataset.

    Attributes
    ----------
    root, version, fps, robot
        Where and what it is.
    features
        As ``info.json`` declares them.
    cameras
        Features of video cameras for which at least one file exists.
    modality
        GR00T's ``meta/modality.json``, empty without it.
    tasks
        Sentences by task index.
    listed
        For each episode of ``meta/episodes.jsonl`` its declared length and tasks.
    episodes
        Numbers of all episodes, listed or found on disk.
    flaws
        What was found wrong so far.

    """

    root: Path
    version: str
    fps: int
    robot: str
    info: dict[str, Any]
    features: dict[str, dict[str, Any]]
    cameras: list[str] = field(default_factory=list)
    modality: dict[str, Any] = field(default_factory=dict)
    tasks: dict[int, str] = field(default_factory=dict)
    listed: dict[int, tuple[int, list[str]]] = field(default_factory=dict)
    episodes: list[int] = field(default_factory=list)
    flaws: Notes = field(default_factory=Notes)

    @classmethod
    def open(cls, root: Path) -> V2Source:  # noqa: A003
        """
        Read ``meta/`` and hold it against the files.

        Raises
        ------
        DatasetError
            If there is no dataset of these versions, or no state, action or episode in it.

        """
        path = root / 'meta' / 'info.json'
        info = read_json(path)
        version, fps, features = (info.get(key) for key in ('codebase_version', 'fps', 'features'))
        if version not in VERSIONS:
            raise DatasetError(
                f'{path}: codebase_version is {version!r}, must be one of {", ".join(VERSIONS)}')
        if not isinstance(fps, int | float) or fps != round(fps) or not 1 <= fps <= 1000:
            raise DatasetError(f'{path}: fps is {fps!r}, must be a whole number from 1 to 1000')
        if not isinstance(features, dict) or not all(
                isinstance(entry, dict) for entry in features.values()):
            raise DatasetError(f'{path}: features must be a mapping from name to description')
        for name in (STATE, ACTION):
            if name not in features:
                raise DatasetError(f'{path}: features lacks {name!r}: nothing to learn from')
        for key in ('data_path', *(['video_path'] if info.get('video_path') else [])):
            names = set(_PLACEHOLDER.findall(str(info.get(key))))
            if 'episode_index' not in names or names - {
                    'episode_index', 'episode_chunk', 'video_key'}:
                raise DatasetError(f'{path}: {key} is {info.get(key)!r}, which names no file')
        found = cls(root, str(version), int(fps), str(info.get('robot_type') or 'imported'),
                    info, features)
        found._read_lists()
        found._find_episodes()
        found._find_cameras()
        found._check_totals()
        return found

    @property
    def chunk_size(self) -> int:
        """Episodes in one folder."""
        size = self.info.get('chunks_size') or 1000
        if not isinstance(size, int) or size < 1:
            raise DatasetError(f'{self.root}/meta/info.json: chunks_size is {size!r}, must be a '
                               'whole number above 0')
        return size

    def path(self, key: str, episode: int, camera: str = '') -> Path:
        """Where ``data_path`` or ``video_path`` puts a file of an episode."""
        return self.root / str(self.info[key]).format(
            episode_chunk=episode // self.chunk_size, episode_index=episode, video_key=camera)

    def width(self, name: str) -> int:
        """How many values a vector feature is declared to have."""
        shape = self.features[name].get('shape')
        if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
            raise DatasetError(
                f'{self.root}/meta/info.json: features.{name}.shape is {shape!r}, must be one '
                'number in a list')
        return shape[0]

    def names(self, name: str, part: str) -> list[str]:
        """Names of a vector's values: modality.json's groups, else info.json's, else numbers."""
        width = self.width(name)
        groups = self.modality.get(part)
        if groups:
            found = _group_names(groups, name, width) if _is_groups(groups) else None
            if found is not None:
                return found
            self.flaws.add(f'meta/modality.json: the ranges of {part} do not cover the {width} '
                           f'values of {name} once each: not used for names')
        declared = self.features[name].get('names')
        if isinstance(declared, Mapping):
            declared = [item for items in declared.values() for item in items]
        if (isinstance(declared, list) and len(declared) == width
                and len({str(item) for item in declared}) == width and all(declared)):
            return [str(item) for item in declared]
        self.flaws.add(f'meta/info.json: features.{name}.names does not name {width} different '
                       f'values: they are called {part}_0 and so on')
        return [f'{part}_{index}' for index in range(width)]

    def _read_lists(self) -> None:
        for entry in _json_lines(self.root / 'meta' / 'tasks.jsonl', ('task_index',), 'task'):
            self.tasks[entry['task_index']] = str(entry['task'])
        for entry in _json_lines(
                self.root / 'meta' / 'episodes.jsonl', ('episode_index', 'length')):
            tasks = entry.get('tasks') or []
            if not isinstance(tasks, list):
                self.flaws.add('meta/episodes.jsonl: tasks is no list: taken as one sentence')
                tasks = [tasks]
            self.listed[entry['episode_index']] = (
                entry['length'], [str(task) for task in tasks])
        if (self.root / 'meta' / 'modality.json').is_file():
            self.modality = read_json(self.root / 'meta' / 'modality.json')

    def _find_episodes(self) -> None:
        on_disk = set()
        for path in sorted((self.root / 'data').rglob('*.parquet')):
            number = re.search(r'(\d+)\D*$', path.stem)
            if number is not None and self.path('data_path', int(number[1])) == path:
                on_disk.add(int(number[1]))
            else:
                self.flaws.add(f'{path.relative_to(self.root)} is not where data_path puts an '
                               'episode: left out')
        self.episodes = sorted(on_disk | set(self.listed))
        if not self.episodes:
            raise DatasetError(f'{self.root}: no episode is listed and none is there')

    def _find_cameras(self) -> None:
        for name, feature in self.features.items():
            if feature.get('dtype') == 'image':
                self.flaws.add(f'{name}: pictures inside of Parquet files are not read: left out')
            if feature.get('dtype') != 'video':
                continue
            shape = 'x'.join(str(size) for size in list(feature.get('shape') or [])[:2])
            if self.info.get('video_path') and any(
                    self.path('video_path', episode, name).is_file()
                    for episode in self.episodes):
                self.cameras.append(name)
            else:
                self.flaws.add(f'meta/info.json declares the camera {name!r} ({shape}), but no '
                               'episode has a video of it: left out')
        videos = self.modality.get('video') or {}
        if not _is_groups(videos):
            self.flaws.add('meta/modality.json: video is no mapping of mappings: not used')
            videos = {}
        declared = {str(entry.get('original_key', name)): name for name, entry in videos.items()}
        for key, name in declared.items():
            if key not in self.cameras:
                self.flaws.add(f'meta/modality.json: video.{name} is {key!r}, which is no camera '
                               'with videos')
        for camera in self.cameras:
            if declared and camera not in declared:
                self.flaws.add(f'meta/modality.json does not mention the camera {camera!r}')

    def _check_totals(self) -> None:
        videos = sum(1 for _ in (self.root / 'videos').rglob('*.mp4'))
        there = {'total_episodes': len(self.episodes), 'total_tasks': len(self.tasks),
                 'total_frames': sum(length for length, _ in self.listed.values()),
                 'total_videos': videos,
                 'total_chunks': max(self.episodes) // self.chunk_size + 1}
        for key, count in there.items():
            if key in self.info and self.info[key] != count:
                self.flaws.add(f'meta/info.json: {key} is {self.info[key]!r}, there are {count}')
        splits = self.info.get('splits') or {}
        if not isinstance(splits, Mapping):
            self.flaws.add(f'meta/info.json: splits is {splits!r}, no mapping: not used')
            splits = {}
        for name, text in splits.items():
            bounds = re.fullmatch(r'(\d+):(\d+)', str(text))
            if bounds is None or int(bounds[2]) > len(self.episodes):
                self.flaws.add(f'meta/info.json: splits.{name} is {text!r}, there are '
                               f'{len(self.episodes)} episodes')


def camera_name(key: str) -> str:
    """Name of a camera in a contract, from its feature's name."""
    name = re.sub(r'[^A-Za-z0-9_]', '_', key.removeprefix(_CAMERA_PREFIX))
    return name if name[:1].isalpha() else f'camera_{name}'


def _is_groups(value: object) -> TypeGuard[Mapping[str, Mapping[str, Any]]]:
    return isinstance(value, Mapping) and all(
        isinstance(entry, Mapping) for entry in value.values())


def _group_names(groups: Mapping[str, Mapping[str, Any]], feature: str, width: int
                 ) -> list[str] | None:
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
    return [names[index] for index in range(width)]


def _json_lines(path: Path, numbers: tuple[str, ...], *others: str) -> Iterator[dict[str, Any]]:
    """Objects of a file, one a line; ``numbers`` are keys of whole numbers from 0 on."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path}: cannot read it: {error}') from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f'{path}: line {number} is not valid JSON: {error}') from error
        missing = [key for key in (*numbers, *others)
                   if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise DatasetError(f'{path}: line {number} lacks {", ".join(missing)}')
        for key in numbers:
            if type(entry[key]) is not int or entry[key] < 0:
                raise DatasetError(f'{path}: line {number}: {key} is {entry[key]!r}, must be a '
                                   'whole number from 0 on')
        yield entry
