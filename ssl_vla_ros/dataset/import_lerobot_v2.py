# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Importing LeRobot v2.0 and v2.1 datasets into datasets of ours, with a contract.

The contract is made up from what the source declares: topics under ``imported/``, no limits, so
it records nothing and runs no policy until somebody writes a real one for the robot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.files import building, finish, Progress, tell
from ssl_vla_ros.dataset.v2_source import ACTION, camera_name, STATE, V2Source
from ssl_vla_ros.dataset.v2_video import VideoFrames
from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.dataset.writer import DatasetWriter
from ssl_vla_ros.errors import DatasetError

#: Columns every episode has in LeRobot; they are made anew.
_STANDARD = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class ImportReport:
    """
    What an import found, kept and refused.

    Attributes
    ----------
    found
        Version, robot, fps, episodes, rows, cameras with sizes, state and action sizes.
    kept
        Numbers of the episodes that were imported.
    refused
        Each other episode's number and what is wrong with it.
    problems
        What the source says that is not so; none of it hinders the import.
    left_out
        Declared features that were not imported.
    digest
        Of the dataset that was written.

    """

    source: str
    out: str
    found: dict[str, Any]
    kept: list[int]
    refused: list[tuple[int, str]]
    problems: list[str]
    left_out: list[str]
    digest: str

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready values."""
        return asdict(self)

    def text(self) -> str:
        """Return the report for people."""
        lines = [f'{self.source}: ' + ', '.join(
            f'{key} {value}' for key, value in self.found.items())]
        lines += [f'  wrong: {problem}' for problem in self.problems]
        lines += [f'  refused: episode {number}: {why}' for number, why in self.refused]
        if self.left_out:
            lines.append(f'  not imported: {", ".join(self.left_out)}')
        lines.append(f'kept {len(self.kept)} of {len(self.kept) + len(self.refused)} episodes '
                     f'in {self.out}')
        return '\n'.join(lines)


def import_lerobot(src: str | Path, out: str | Path, progress: Progress | None = None, *,
                   overwrite: bool = False) -> ImportReport:
    """
    Import a LeRobot v2.0 or v2.1 dataset.

    Parameters
    ----------
    src
        The source's root, which holds ``meta/info.json``; it is not changed.
    out
        The dataset to write; it appears when it is complete.
    progress
        Told after each episode.
    overwrite
        Whether an existing dataset in ``out`` may be replaced.

    Raises
    ------
    DatasetError
        If the source cannot be used at all, or no episode of it can, or ``out`` exists.

    """
    source, target = V2Source.open(Path(src)), Path(out)
    layout.check_target(target, overwrite=overwrite)
    sizes = {camera: _first_size(source, camera) for camera in source.cameras}
    contract = _make_contract(source, sizes)
    kept: list[int] = []
    refused: list[tuple[int, str]] = []
    spans: dict[str, list[NDArray[np.float32]]] = {STATE: [], ACTION: []}
    with building(target, layout.TOP_LEVEL) as part:
        writer = DatasetWriter(part, contract, source.fps)
        for done, number in enumerate(source.episodes, 1):
            try:
                aligned, task, success = _read_episode(source, number, contract, sizes)
                writer.add_episode(
                    aligned, task, success, f'{source.root.name} episode {number}')
            except DatasetError as error:
                refused.append((number, str(error)))
            else:
                kept.append(number)
                for name, values in ((STATE, aligned.state), (ACTION, aligned.action)):
                    spans[name].append(np.stack([values.min(axis=0), values.max(axis=0)]))
            tell(progress, done, len(source.episodes), f'import: episode {number}')
        if not kept:
            raise DatasetError(
                f'{source.root}: none of the {len(refused)} episodes can be used; the first: '
                f'{refused[0][1]}')
        digest = writer.finish()
        finish(part, target, replace=overwrite)
    _note_constants(source, contract, spans)
    known = {*source.cameras, STATE, ACTION, *_STANDARD}
    return ImportReport(
        source=str(source.root), out=str(target),
        found={
            'version': source.version, 'robot': source.robot, 'fps': source.fps,
            'episodes': len(source.episodes), 'tasks': len(source.tasks),
            'cameras': ' '.join(f'{camera_name(camera)} {size[0]}x{size[1]}'
                                for camera, size in sizes.items()) or 'none',
            'state': len(contract.state_names), 'action': len(contract.action_names)},
        kept=kept, refused=refused, problems=source.flaws.lines(),
        left_out=[name for name in source.features if name not in known], digest=digest)


def _first_size(source: V2Source, camera: str) -> tuple[int, int]:
    """Height and width of the first video that decodes, held against what is declared."""
    reason: DatasetError | None = None
    for number in source.episodes:
        path = source.path('video_path', number, camera)
        try:
            for _, frame in decode_video(path):
                size = (frame.shape[0], frame.shape[1])
                shape = list(source.features[camera].get('shape') or [])
                if list(size) != shape[:2]:
                    source.flaws.add(
                        f'meta/info.json: features.{camera}.shape is {shape}, the videos are '
                        f'{size[0]}x{size[1]}')
                return size
        except DatasetError as error:
            reason = reason or error
    raise DatasetError(f'{source.root}: no video of {camera} can be read: {reason}')


def _make_contract(source: V2Source, sizes: dict[str, tuple[int, int]]) -> Contract:
    cameras = {}
    for key, (height, width) in sizes.items():
        name = camera_name(key)
        if height % 2 or width % 2:
            source.flaws.add(f'{key}: {height}x{width} is odd: stored one pixel smaller')
        cameras[name] = {'topic': f'imported/{name}', 'type': 'sensor_msgs/Image',
                         'height': height - height % 2, 'width': width - width % 2}

    def stream(feature: str, part: str) -> list[dict[str, Any]]:
        return [{'topic': f'imported/{part}', 'type': 'std_msgs/Float64MultiArray',
                 'names': source.names(feature, part)}]

    robot = ''.join(letter if letter.isalnum() and letter.isascii() or letter in '_.-' else '_'
                    for letter in source.robot)
    return parse_contract(
        {'robot': robot, 'rate_hz': source.fps, 'cameras': cameras,
         'state': stream(STATE, 'state'), 'action': stream(ACTION, 'action')},
        f'{source.root}/meta/info.json')


def _read_episode(source: V2Source, number: int, contract: Contract,
                  sizes: dict[str, tuple[int, int]]
                  ) -> tuple[AlignedEpisode, str, bool | None]:
    path = source.path('data_path', number)
    table = layout.read_table(path)
    rows = table.num_rows
    if number not in source.listed:
        raise DatasetError(f'{path}: meta/episodes.jsonl does not list this episode')
    if rows != source.listed[number][0] or not rows:
        raise DatasetError(
            f'{path}: has {rows} rows, meta/episodes.jsonl says {source.listed[number][0]}')
    state, action = (_vectors(source, path, table, name) for name in (STATE, ACTION))
    _check_columns(source, number, table)
    pictures: dict[str, Iterable[NDArray[np.uint8]]] = {}
    for camera in contract.cameras:
        key = next(key for key in sizes if camera_name(key) == camera.name)
        pictures[camera.name] = VideoFrames(
            source.path('video_path', number, key), rows, source.fps, sizes[key],
            (camera.height, camera.width))
    unknown = np.full(rows, np.nan, dtype=np.float32)
    said = 'next.success' in table.column_names
    success = bool(layout.column_values(table, 'next.success')[-1, 0]) if said else None
    aligned = AlignedEpisode(
        ticks_ns=_stamps(source, number, path, table), pictures=pictures,
        state=state, action=action, evaluation=np.empty((rows, 0), np.float32),
        skew_s={label: unknown for label, _, _ in stream_labels(contract)},
        flagged=np.zeros(rows, dtype=bool))
    return aligned, _task(source, number, path, table), success


def _vectors(source: V2Source, path: Path, table: pa.Table, name: str) -> NDArray[np.float32]:
    if name not in table.column_names:
        raise DatasetError(f'{path}: there is no column {name!r}')
    try:
        values = layout.column_values(table, name).astype(np.float32)
    except (DatasetError, TypeError, ValueError) as error:
        raise DatasetError(f'{path}: {name}: {error}') from error
    if values.shape[1] != source.width(name):
        raise DatasetError(
            f'{path}: {name} has {values.shape[1]} values a row, meta/info.json says '
            f'{source.width(name)}')
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise DatasetError(f'{path}: {name} has no number in row {int(np.flatnonzero(bad)[0])}')
    return values


def _stamps(source: V2Source, number: int, path: Path, table: pa.Table) -> NDArray[np.int64]:
    """Row stamps from the source's own time; what is odd about it is noted."""
    even = np.arange(table.num_rows) / source.fps
    if 'timestamp' not in table.column_names:
        return np.asarray(np.rint(even * _SECOND), dtype=np.int64)
    times = layout.column_values(table, 'timestamp')[:, 0].astype(np.float64)
    # "not greater" rather than "less or equal": it holds for NaN too.
    bad = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0))
    if len(bad):
        raise DatasetError(f'{path}: timestamp does not rise at row {int(bad[0])}')
    if abs(times[0]) > 1e-4:
        source.flaws.add(
            f'timestamp starts at {times[0]:.4f} s instead of 0: written anew as '
            'frame_index / fps', number)
    off = float(np.abs(times - times[0] - even).max())
    if off > 0.5 / source.fps:
        source.flaws.add(
            'timestamp leaves frame_index / fps by more than half a row: the recording was not '
            'regular', number)
    elif off > 1e-4:
        source.flaws.add('timestamp drifts from frame_index / fps by more than 0.1 ms', number)
    return np.asarray(np.rint(times * _SECOND), dtype=np.int64)


def _task(source: V2Source, number: int, path: Path, table: pa.Table) -> str:
    if 'task_index' not in table.column_names:
        raise DatasetError(f'{path}: there is no column task_index')
    indices = sorted({int(value) for value in layout.column_values(table, 'task_index')[:, 0]})
    if len(indices) != 1 or indices[0] not in source.tasks:
        raise DatasetError(
            f'{path}: task_index has the values {indices}, must be one that meta/tasks.jsonl has')
    task = source.tasks[indices[0]]
    extra = [text for text in source.listed[number][1] if text != task]
    if task not in source.listed[number][1]:
        source.flaws.add(f'meta/episodes.jsonl does not name the task of its rows, {task!r}',
                         number)
    elif extra:
        source.flaws.add('meta/episodes.jsonl lists beside the task of its rows also '
                         + ', '.join(repr(text) for text in extra) + ', which no row has', number)
    return task


def _check_columns(source: V2Source, number: int, table: pa.Table) -> None:
    declared = [name for name, feature in source.features.items()
                if feature.get('dtype') not in ('video', 'image')]
    for name in dict.fromkeys((*declared, *_STANDARD)):
        if name not in table.column_names:
            source.flaws.add(f'the rows lack the column {name!r}', number)
    for name in table.column_names:
        if name not in source.features:
            source.flaws.add(f'the rows have a column {name!r} that info.json does not declare',
                             number)
    if 'episode_index' in table.column_names:
        found = {int(value) for value in layout.column_values(table, 'episode_index')[:, 0]}
        if found != {number}:
            source.flaws.add(f'episode_index in the rows is {sorted(found)}', number)


def _note_constants(source: V2Source, contract: Contract,
                    spans: dict[str, list[NDArray[np.float32]]]) -> None:
    for feature, names in ((STATE, contract.state_names), (ACTION, contract.action_names)):
        every = np.concatenate(spans[feature])
        still = every.max(axis=0) - every.min(axis=0) <= 1e-9
        if still.any():
            which = ', '.join(name for name, flag in zip(names, still, strict=True) if flag)
            source.flaws.add(
                f'{feature}: {int(still.sum())} of {len(names)} values never change: {which}')
