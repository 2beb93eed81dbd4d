# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading back the datasets that ``DatasetWriter`` wrote: LeRobotDataset v3.0 with a contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

from ssl_vla_ros.contract import Contract, parse_contract, suggestion
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.assemble import SCHEMA_VERSION
from ssl_vla_ros.dataset.files import read_json, replaced_name
from ssl_vla_ros.dataset.video import read_frames
from ssl_vla_ros.dataset.writer import DatasetWriter
from ssl_vla_ros.errors import DatasetError

__all__ = ['Dataset', 'DatasetWriter']


@dataclass(frozen=True)
class Dataset:
    """
    An opened dataset.

    Attributes
    ----------
    path
        Its root.
    contract
        The robot it belongs to.
    fps
        Rows a second.
    lengths
        Rows of each episode.
    tasks
        The sentences by task index.
    episode_tasks
        The sentence of each episode.
    success
        For each episode whether it achieved its task; None if nobody said.

    """

    path: Path
    contract: Contract
    fps: int
    lengths: list[int]
    tasks: list[str]
    episode_tasks: list[str]
    success: list[bool | None]
    _extra: dict[str, Any] = field(repr=False)
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Dataset:  # noqa: A003
        """
        Open a dataset; rows and pictures are read when asked for.

        Raises
        ------
        DatasetError
            If it is incomplete, of another version, or without a contract.
        ContractError
            If its contract is wrong.

        """
        root = Path(path)
        if not (root / layout.INFO).is_file():
            part = root.with_name(root.name + '.part')
            hint = ' (an interrupted build is beside it: build again)' if part.is_dir() else ''
            if replaced_name(root).is_dir():
                hint = (f' (a replacement of it was interrupted: the old one is '
                        f'{replaced_name(root)}; build again, or rename it back)')
            raise DatasetError(f'{root}: no dataset here: {layout.INFO} is missing{hint}')
        info = read_json(root / layout.INFO)
        version = info.get('codebase_version')
        if version != layout.VERSION:
            raise DatasetError(
                f'{root / layout.INFO}: codebase_version is {version!r}, must be '
                f'{layout.VERSION!r}; `ssl_vla dataset import` converts v2.0 and v2.1')
        if not (root / layout.CONTRACT).is_file():
            raise DatasetError(
                f'{root}: {layout.CONTRACT} is missing: this dataset was not written by '
                '`ssl_vla dataset build` or `import`, so which value is which is unknown')
        contract = parse_contract(
            read_json(root / layout.CONTRACT), str(root / layout.CONTRACT))
        extra = read_json(root / layout.EXTRA)
        if extra.get('schema_version') != SCHEMA_VERSION:
            raise DatasetError(
                f'{root / layout.EXTRA}: schema_version is {extra.get("schema_version")!r}, must '
                f'be {SCHEMA_VERSION}; build the dataset again with this version of ssl_vla_ros')
        episodes = extra.get('episodes')
        if not isinstance(episodes, list) or not episodes:
            raise DatasetError(f'{root / layout.EXTRA}: episodes is {episodes!r}, must be a list')
        try:
            lengths = [int(entry['length']) for entry in episodes]
            episode_tasks = [str(entry['task']) for entry in episodes]
            success = [entry['success'] for entry in episodes]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f'{root / layout.EXTRA}: an episode lacks {error}') from error
        for key, found in (('total_episodes', len(lengths)), ('total_frames', sum(lengths))):
            if info.get(key) != found:
                raise DatasetError(
                    f'{root / layout.INFO}: {key} is {info.get(key)!r}, but {layout.EXTRA} has '
                    f'{found}; build the dataset again')
        if info.get('fps') != contract.rate_hz:
            raise DatasetError(
                f'{root / layout.INFO}: fps is {info.get("fps")!r}, the contract says '
                f'{contract.rate_hz}; build the dataset again')
        return cls(root, contract, contract.rate_hz, lengths, list(dict.fromkeys(episode_tasks)),
                   episode_tasks, success, extra)

    @property
    def num_rows(self) -> int:
        """Rows of all episodes together."""
        return sum(self.lengths)

    @property
    def num_episodes(self) -> int:
        """How many episodes there are."""
        return len(self.lengths)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the contract's order."""
        return self.contract.camera_names

    @property
    def episode_index(self) -> NDArray[np.int64]:
        """Return the episode (N,) of each row."""
        return np.repeat(np.arange(len(self.lengths), dtype=np.int64), self.lengths)

    @property
    def episodes(self) -> list[dict[str, Any]]:
        """Return what ``meta/ssl_vla.json`` says of each episode: source, digest, report …."""
        found: list[dict[str, Any]] = self._extra['episodes']
        return found

    @property
    def origin(self) -> dict[str, Any]:
        """Return what the dataset was made from."""
        return dict(self._extra.get('origin', {}))

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, as ``column`` takes them."""
        return list(self._table().column_names)

    def rows(self, episode: int) -> slice:
        """Which rows belong to an episode."""
        start = sum(self.lengths[:episode])
        return slice(start, start + self.lengths[episode])

    def column(self, name: str) -> NDArray[Any]:
        """
        One column of all rows.

        Returns
        -------
        numpy.ndarray
            (N, D) in the dtype the dataset declares; scalars have D = 1. Shared between calls:
            not writable.

        Raises
        ------
        DatasetError
            If there is no such column, or the files do not hold what the dataset says.

        """
        table = self._table()
        if name not in table.column_names:
            raise DatasetError(
                f'{self.path}: there is no column {name!r}{suggestion(name, table.column_names)}')
        if name not in self._cache:
            values = layout.column_values(table, name)
            values.flags.writeable = False
            self._cache[name] = values
        found: NDArray[Any] = self._cache[name]
        return found

    def frames(self, camera: str, episode: int) -> NDArray[np.uint8]:
        """
        All pictures of one camera in one episode.

        Returns
        -------
        numpy.ndarray
            (T, H, W, 3) uint8 rgb8.

        Raises
        ------
        DatasetError
            If there is no such camera, or the video is broken or has another count.

        """
        if camera not in self.camera_names:
            raise DatasetError(
                f'{self.path}: there is no camera {camera!r}'
                f'{suggestion(camera, self.camera_names)}')
        found = self.contract.cameras[self.camera_names.index(camera)]
        return read_frames(
            self.video(camera, episode), self.lengths[episode], found.height, found.width)

    def digest(self) -> str:
        """SHA-256 of the content, as written; ``verify`` computes it anew."""
        return str(self._extra['digest'])

    def verify(self) -> None:
        """
        Compute every digest anew.

        Raises
        ------
        DatasetError
            Naming the first episode whose rows or videos were changed.

        """
        for episode, entry in enumerate(self._extra['episodes']):
            rows = self.rows(episode)
            columns = {name: self.column(name)[rows] for name in self._table().column_names}
            videos = [self.video(camera, episode) for camera in self.camera_names]
            if layout.rows_digest(columns, videos) != entry['digest']:
                raise DatasetError(
                    f'{self.path}: episode {episode} was changed after it was written; '
                    'build the dataset again')
        if layout.dataset_digest(self.contract, self._extra['episodes']) != self.digest():
            raise DatasetError(
                f'{self.path}: contract, tasks or success flags were changed after they were '
                'written; build the dataset again')

    def video(self, camera: str, episode: int) -> Path:
        """File of a camera's pictures of one episode."""
        return self.path / layout.path_of(
            layout.VIDEO_PATH, episode, layout.video_key(camera))

    def _table(self) -> pa.Table:
        if '' not in self._cache:
            tables = []
            for episode, length in enumerate(self.lengths):
                path = self.path / layout.path_of(layout.DATA_PATH, episode)
                table = layout.read_table(path)
                if table.num_rows != length:
                    raise DatasetError(
                        f'{path}: has {table.num_rows} rows, the dataset says {length}; '
                        'build the dataset again')
                tables.append(table)
            self._cache[''] = pa.concat_tables(tables)
        return self._cache['']
