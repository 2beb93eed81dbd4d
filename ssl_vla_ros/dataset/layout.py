# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Where things lie in a LeRobotDataset v3.0 and what they are called.

One data, video and meta file for each episode conforms fully and makes every episode a unit.
Reference: https://github.com/huggingface/lerobot, dataset format v3.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.aligned import stream_labels, unstamped_labels
from ssl_vla_ros.dataset.encoders import PIXEL_FORMAT
from ssl_vla_ros.dataset.stats import Stats
from ssl_vla_ros.errors import DatasetError

VERSION = 'v3.0'
CHUNK_SIZE = 1000
DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
EPISODES_PATH = 'meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
INFO, STATS, TASKS = 'meta/info.json', 'meta/stats.json', 'meta/tasks.parquet'
#: Ours, beside what LeRobot knows: the robot contract; successes, sources and reports.
CONTRACT, EXTRA = 'meta/contract.json', 'meta/ssl_vla.json'
#: Ours: how often each value of each channel occurs, from which statistics are exact again.
IMAGE_COUNTS = 'meta/image_counts.parquet'
#: Columns that say where in a dataset an episode stands, not what is in it.
PLACE_COLUMNS = frozenset(('episode_index', 'index', 'task_index'))
#: Column of a dataset with a stream whose messages have no header: true where a value of the row
#: was placed by its receive time. Which streams those are stands in ``EXTRA``.
UNSTAMPED = 'unstamped'
#: What a dataset's directory holds, and thus what an interrupted build may leave.
TOP_LEVEL = ('meta', 'data', 'videos')

_ARROW: Mapping[str, Any] = {
    'float32': pa.float32(), 'float64': pa.float64(), 'int64': pa.int64(), 'bool': pa.bool_()}


def video_key(camera: str) -> str:
    """Name of a camera's feature."""
    return f'observation.images.{camera}'


def skew_key(label: str) -> str:
    """
    Name of the column with a stream's skews.

    None holds ``image``: lerobot takes such a name for pictures and refuses to go on with the
    dataset.
    """
    return f'skew.{label}'.replace('image', 'camera')


def place(episode: int) -> tuple[int, int]:
    """Chunk and file number of an episode."""
    return episode // CHUNK_SIZE, episode % CHUNK_SIZE


def path_of(template: str, episode: int, key: str = '') -> str:
    """Path of an episode's file under the dataset's root."""
    chunk, file = place(episode)
    return template.format(chunk_index=chunk, file_index=file, video_key=key)


def describe_features(contract: Contract, fps: int, only: Iterable[str] | None = None
                      ) -> dict[str, dict[str, Any]]:
    """Every feature (or ``only`` some) of a contract's dataset, as ``info.json`` declares it."""
    features: dict[str, dict[str, Any]] = {}
    for camera in contract.cameras:
        features[video_key(camera.name)] = {
            'dtype': 'video', 'shape': [camera.height, camera.width, 3],
            'names': ['height', 'width', 'channels'],
            'info': {
                'video.height': camera.height, 'video.width': camera.width,
                'video.codec': 'h264', 'video.pix_fmt': PIXEL_FORMAT,
                'video.is_depth_map': False, 'video.fps': fps, 'video.channels': 3,
                'has_audio': False}}
    vectors = {'observation.state': contract.state_names, 'action': contract.action_names,
               'observation.evaluation': contract.evaluation_names}
    for name, names in vectors.items():
        if names:
            features[name] = {'dtype': 'float32', 'shape': [len(names)], 'names': list(names)}
    scalars = {'timestamp': 'float32', 'frame_index': 'int64', 'episode_index': 'int64',
               'index': 'int64', 'task_index': 'int64', 'stamp_ns': 'int64', 'flagged': 'bool'}
    if unstamped_labels(contract):
        scalars[UNSTAMPED] = 'bool'
    scalars |= {skew_key(label): 'float32' for label, _, _ in stream_labels(contract)}
    for name, dtype in scalars.items():
        features[name] = {'dtype': dtype, 'shape': [1], 'names': None}
    if only is None:
        return features
    return {name: features[name] for name in only}


def rows_table(columns: Mapping[str, NDArray[Any]], features: Mapping[str, Mapping[str, Any]]
               ) -> pa.Table:
    """Arrow table of one episode's rows, columns typed as declared."""
    arrays, fields = [], []
    for name, feature in features.items():
        if feature['dtype'] == 'video':
            continue
        kind = _ARROW[feature['dtype']]
        values = np.ascontiguousarray(columns[name])
        array: Any = pa.array(values.reshape(-1), type=kind)
        width = int(feature['shape'][0])
        if width > 1:  # LeRobot reads whatever has the shape [1] as plain numbers
            array = pa.FixedSizeListArray.from_arrays(array, width)
        arrays.append(array)
        fields.append(pa.field(name, array.type))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def tasks_table(tasks: Iterable[str]) -> pa.Table:
    """
    Arrow table of the tasks, as pandas writes a frame whose index is the text.

    The footer's metadata says which column is the index; without it the loader takes the text
    for data and finds no task.
    """
    names = list(tasks)
    index = '__index_level_0__'
    metadata = {
        'index_columns': [index],
        'column_indexes': [{
            'name': None, 'field_name': None, 'pandas_type': 'unicode', 'numpy_type': 'object',
            'metadata': {'encoding': 'UTF-8'}}],
        'columns': [
            {'name': 'task_index', 'field_name': 'task_index', 'pandas_type': 'int64',
             'numpy_type': 'int64', 'metadata': None},
            {'name': None, 'field_name': index, 'pandas_type': 'unicode', 'numpy_type': 'object',
             'metadata': None}],
        'creator': {'library': 'pyarrow', 'version': pa.__version__},
        'pandas_version': '2.0.0'}
    return pa.table(
        {'task_index': pa.array(range(len(names)), pa.int64()),
         index: pa.array(names, pa.string())},
    ).replace_schema_metadata({'pandas': json.dumps(metadata)})


def image_counts_table(counts: Iterable[tuple[int, str, NDArray[np.int64]]]) -> pa.Table:
    """Arrow table of (episode, camera, counts (3, 256)) for ``IMAGE_COUNTS``."""
    rows = list(counts)
    flat = np.array([found.reshape(-1) for _, _, found in rows], dtype=np.int64).reshape(-1)
    return pa.table({
        'episode_index': pa.array([episode for episode, _, _ in rows], pa.int64()),
        'camera': pa.array([camera for _, camera, _ in rows], pa.string()),
        'counts': pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.int64()), 3 * 256)})


def read_image_counts(path: Path) -> dict[tuple[int, str], NDArray[np.int64]]:
    """
    Read ``IMAGE_COUNTS``: (3, 256) by episode and camera.

    Raises
    ------
    DatasetError
        If it is missing or broken.

    """
    table = read_table(path)
    try:
        found = column_values(table, 'counts').astype(np.int64).reshape(-1, 3, 256)
        places = zip(table.column('episode_index').to_pylist(),
                     table.column('camera').to_pylist(), strict=True)
        return {(int(episode), str(camera)): found[row]
                for row, (episode, camera) in enumerate(places)}
    except (KeyError, ValueError) as error:
        raise DatasetError(f'{path}: holds no counts of pictures: {error}') from error


def episode_table(contract: Contract, fps: int, *, episode: int, start: int, length: int,
                  task: str, stats: Mapping[str, Stats]) -> pa.Table:
    """Arrow table with the one row of ``meta/episodes`` that describes an episode."""
    chunk, file = place(episode)
    row: dict[str, Any] = {
        'episode_index': episode, 'tasks': [task], 'length': length,
        'data/chunk_index': chunk, 'data/file_index': file,
        'dataset_from_index': start, 'dataset_to_index': start + length}
    for camera in contract.cameras:
        key = f'videos/{video_key(camera.name)}'
        row |= {f'{key}/chunk_index': chunk, f'{key}/file_index': file,
                f'{key}/from_timestamp': 0.0, f'{key}/to_timestamp': length / fps}
    for name, entry in stats.items():
        for key, value in entry.items():
            row[f'stats/{name}/{key}'] = value.tolist()
    row |= {'meta/episodes/chunk_index': chunk, 'meta/episodes/file_index': file}
    return pa.table({name: pa.array([value]) for name, value in row.items()})


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def read_table(path: Path) -> pa.Table:
    """
    Read a Parquet file.

    Raises
    ------
    DatasetError
        If it is missing or broken.

    """
    try:
        # ParquetFile, not read_table: that one would take part of the path for a column.
        with pq.ParquetFile(path) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f'{path}: cannot read this Parquet file: {error}') from error


def column_values(table: pa.Table, name: str) -> NDArray[Any]:
    """One column as (rows, width); scalars have width 1."""
    column = table.column(name).combine_chunks()
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        width = len(flat) // len(column) if len(column) else 0
        # Not by the sum alone: a short row and a long one would shift all values between them.
        lengths = set(pc.list_value_length(column).to_pylist())
        if lengths - {width} or width * len(column) != len(flat):
            raise DatasetError(f'column {name!r} has rows of different lengths')
        return np.asarray(flat).reshape(len(column), width)
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(len(column), 1)


def rows_digest(columns: Mapping[str, NDArray[Any]], videos: Iterable[Path]) -> str:
    """
    SHA-256 of an episode's rows and video files, wherever in a dataset the episode stands.

    The Parquet encoding does not matter, nor do the columns in ``PLACE_COLUMNS``.
    """
    total = hashlib.sha256()
    for name in sorted(set(columns) - PLACE_COLUMNS):
        values = np.ascontiguousarray(columns[name])
        total.update(f'{name} {values.dtype.str} {values.size}\n'.encode())
        total.update(values.tobytes())
    for video in videos:
        with video.open('rb') as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def dataset_digest(contract: Contract, episodes: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of a dataset's content: contract, and task, success and rows of each episode."""
    keys = ('task', 'success', 'digest')
    text = json.dumps([contract.digest(), [[entry[key] for key in keys] for entry in episodes]])
    return hashlib.sha256(text.encode()).hexdigest()


def check_target(target: Path, *, overwrite: bool) -> None:
    """
    Refuse early to write where something is already, or to replace what is no dataset.

    Raises
    ------
    DatasetError
        Saying what is there.

    """
    if not target.exists():
        return
    if not overwrite:
        raise DatasetError(
            f'{target}: exists already; choose another output directory, or replace it '
            'with --overwrite')
    if not (target / INFO).is_file():
        raise DatasetError(f'{target}: is no dataset ({INFO} is missing): not overwritten')
