# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What LeRobot datasets of every version share: ``meta/info.json`` and the contract made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import Any

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.made_contract import make_contract
from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.errors import DatasetError

STATE, ACTION, EVALUATION = 'observation.state', 'action', 'observation.evaluation'
SUCCESS = 'next.success'
#: Columns every episode has in LeRobot; they are made anew.
STANDARD = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
_CAMERA_PREFIX = 'observation.images.'
_PLACEHOLDER = re.compile(r'\{(\w+)(?::[^}]*)?\}')


@dataclass(frozen=True)
class VideoFeature:
    """A camera: its name in the contract, its feature's name, and its videos' size in pixels."""

    name: str
    key: str
    height: int
    width: int


@dataclass(frozen=True)
class Described:
    """
    What the rows and videos of each episode have to be.

    Attributes
    ----------
    info
        The file that says so, for messages.
    fps
        Rows a second.
    columns
        Every declared feature that is a column.
    vectors
        For state, action and evaluation, where declared: the names of the values.
    cameras
        The cameras that have videos.

    """

    info: Path
    fps: int
    columns: tuple[str, ...]
    vectors: Mapping[str, tuple[str, ...]]
    cameras: tuple[VideoFeature, ...]


@dataclass
class Info:
    """``meta/info.json`` of a dataset, checked as far as every version has it."""

    root: Path
    version: str
    fps: int
    robot: str
    data: dict[str, Any]
    features: dict[str, dict[str, Any]]
    notes: Notes = field(default_factory=Notes)

    @property
    def path(self) -> Path:
        """Where it was read."""
        return self.root / 'meta' / 'info.json'

    @classmethod
    def read(cls, root: Path, versions: Sequence[str]) -> Info:
        """
        Read and check it.

        Raises
        ------
        DatasetError
            If version, rate or features are not usable.

        """
        path = root / 'meta' / 'info.json'
        info = read_json(path)
        version, fps, features = (info.get(key) for key in ('codebase_version', 'fps', 'features'))
        if version not in versions:
            raise DatasetError(
                f'{path}: codebase_version is {version!r}, must be one of {", ".join(versions)}')
        if (not isinstance(fps, int | float) or isinstance(fps, bool) or fps != round(fps)
                or not 1 <= fps <= 1000):
            raise DatasetError(f'{path}: fps is {fps!r}, must be a whole number from 1 to 1000')
        if not isinstance(features, dict) or not all(
                isinstance(entry, dict) for entry in features.values()):
            raise DatasetError(f'{path}: features must be a mapping from name to description')
        return cls(root, str(version), int(fps), str(info.get('robot_type') or ''), info, features)

    def check_template(self, key: str, need: str, known: set[str]) -> None:
        """
        Refuse a path template that cannot name an episode's file below the dataset's root.

        Raises
        ------
        DatasetError
            Naming the key and its value.

        """
        text = str(self.data.get(key))
        names = set(_PLACEHOLDER.findall(text))
        bad = need not in names or names - known or text.startswith('/') or '..' in text
        try:
            text.format(**{name: '' if name == 'video_key' else 0 for name in known})
        except (ValueError, LookupError):
            bad = True
        if bad:
            raise DatasetError(f'{self.path}: {key} is {self.data.get(key)!r}, which names no '
                               'file')

    def width(self, name: str) -> int:
        """How many values a vector feature is declared to have."""
        shape = self.features[name].get('shape')
        if not isinstance(shape, list) or len(shape) != 1 or not isinstance(shape[0], int):
            raise DatasetError(
                f'{self.path}: features.{name}.shape is {shape!r}, must be one number in a list')
        return shape[0]

    def names(self, name: str, part: str) -> tuple[str, ...]:
        """Names of a vector's values as declared; numbers where they are not."""
        width, declared = self.width(name), self.features[name].get('names')
        if isinstance(declared, Mapping):
            declared = [item for items in declared.values()
                        for item in (items if isinstance(items, list) else [])]
        if (isinstance(declared, list) and len(declared) == width
                and len({str(item) for item in declared}) == width and all(declared)):
            return tuple(str(item) for item in declared)
        self.notes.add(f'meta/info.json: features.{name}.names does not name {width} different '
                       f'values: they are called {part}_0 and so on')
        return tuple(f'{part}_{index}' for index in range(width))

    def vectors(self) -> list[tuple[str, str]]:
        """List (feature, part) of state and action; a note where one is not declared."""
        found = []
        for name, part in ((STATE, 'state'), (ACTION, 'action')):
            if name in self.features:
                found.append((name, part))
            else:
                self.notes.add(f'meta/info.json: features lacks {name!r}: the episodes have no '
                               f'{part}')
        return found

    def columns(self) -> tuple[str, ...]:
        """Every declared feature that is a column of the rows."""
        return tuple(name for name, feature in self.features.items()
                     if feature.get('dtype') not in ('video', 'image'))

    def video_keys(self) -> list[str]:
        """Features that are videos to be read; notes on pictures that are not."""
        found = []
        for name, feature in self.features.items():
            if feature.get('dtype') == 'image':
                self.notes.add(f'{name}: pictures inside of Parquet files are not read: left out')
            elif feature.get('dtype') == 'video':
                if '/' in name or '..' in name:
                    raise DatasetError(f'{self.path}: features has the camera {name!r}, which no '
                                       'file may be called')
                details = {**_mapping(feature.get('video_info')), **_mapping(feature.get('info'))}
                if details.get('video.is_depth_map') is True:
                    self.notes.add(f'{name}: depth, no picture: left out')
                else:
                    found.append(name)
        return found

    def note_no_video(self, key: str) -> None:
        """Say that a camera exists in the declaration alone."""
        shape = self.features[key].get('shape')
        size = 'x'.join(str(side) for side in (shape if isinstance(shape, list) else [])[:2])
        self.notes.add(f'meta/info.json declares the camera {key!r} ({size}), but no episode has '
                       'a video of it: left out')

    def camera(self, name: str, key: str, videos: Iterable[Path]) -> VideoFeature:
        """
        Take a camera's size from the first video that decodes, against what is declared.

        Raises
        ------
        DatasetError
            If none does.

        """
        reason: DatasetError | None = None
        for path in videos:
            try:
                for _, frame in decode_video(path):
                    height, width = frame.shape[:2]
                    shape = self.features[key].get('shape')
                    if not isinstance(shape, list) or not _same_size(shape, height, width):
                        self.notes.add(f'meta/info.json: features.{key}.shape is {shape}, the '
                                       f'videos are {height}x{width}')
                    return VideoFeature(name, key, height, width)
            except DatasetError as error:
                reason = reason or error
        raise DatasetError(f'{self.root}: no video of {key} can be read: {reason}')

    def check_totals(self, there: Mapping[str, int]) -> None:
        """Note every total and split that the files contradict."""
        for key, count in there.items():
            if key in self.data and self.data[key] != count:
                self.notes.add(f'meta/info.json: {key} is {self.data[key]!r}, there are {count}')
        episodes, splits = there['total_episodes'], self.data.get('splits') or {}
        if not isinstance(splits, Mapping):
            self.notes.add(f'meta/info.json: splits is {splits!r}, no mapping: not used')
            splits = {}
        for name, text in splits.items():
            bounds = re.fullmatch(r'(\d+):(\d+)', str(text))
            if bounds is None or int(bounds[2]) > episodes:
                self.notes.add(f'meta/info.json: splits.{name} is {text!r}, there are {episodes} '
                               'episodes')

    def left_out(self, described: Described, contract: Contract) -> list[str]:
        """List what is there and does not come into a dataset of this contract."""
        known = {*(camera.key for camera in described.cameras), *described.vectors, *STANDARD}
        found = [name for name in self.features if name not in known]
        found += [camera.key for camera in described.cameras
                  if camera.name not in contract.camera_names]
        for name, wanted in ((STATE, contract.state_names), (ACTION, contract.action_names)):
            values = [value for value in described.vectors.get(name, ()) if value not in wanted]
            if values:
                found.append(f'{name} ({", ".join(values)})')
        return found

    def contract(self, described: Described, robot: str) -> Contract:
        """Make a contract of what is declared: it records nothing and runs no policy."""
        for camera in described.cameras:
            if camera.height % 2 or camera.width % 2:
                self.notes.add(f'{camera.key}: {camera.height}x{camera.width} is odd: stored one '
                               'pixel smaller')
        if not described.cameras and not described.vectors.get(STATE):
            raise DatasetError(f'{self.path}: features has neither a camera with videos nor '
                               f'{STATE!r}: nothing to learn from')
        return make_contract(
            self.path, robot=self.robot or robot, rate_hz=self.fps,
            cameras={camera.name: (camera.height, camera.width) for camera in described.cameras},
            state=described.vectors.get(STATE, ()), action=described.vectors.get(ACTION, ()))

    def found(self, described: Described, episodes: int, tasks: int) -> dict[str, Any]:
        """Sum up the dataset, for the report."""
        return {
            'robot': self.robot or 'not named', 'fps': self.fps, 'episodes': episodes,
            'tasks': tasks,
            'cameras': ' '.join(f'{camera.name} {camera.height}x{camera.width}'
                                for camera in described.cameras) or 'none',
            'state': len(described.vectors.get(STATE, ())),
            'action': len(described.vectors.get(ACTION, ()))}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _same_size(shape: list[Any], height: int, width: int) -> bool:
    # (3, H, W) is also in use, for pictures that a loader turns round.
    return shape[:2] == [height, width] or (shape[:1] == [3] and shape[1:] == [height, width])


def camera_names(keys: Iterable[str]) -> dict[str, str]:
    """Name of each camera in a contract, by its feature's name; no two are equal."""
    found: dict[str, str] = {}
    for key in keys:
        name = re.sub(r'[^A-Za-z0-9_]', '_', key.removeprefix(_CAMERA_PREFIX))
        base = name = name if name[:1].isalpha() else f'camera_{name}'
        number = 2
        while name in found.values():
            name, number = f'{base}_{number}', number + 1
        found[key] = name
    return found
