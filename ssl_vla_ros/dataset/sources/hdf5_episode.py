# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One episode of an HDF5 recording: arrays below a group become rows and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.hdf5_file import (
    attribute, find_array, find_group, opened, read_array, row_blocks, where_of)
from ssl_vla_ros.dataset.sources.pictures import decode, EncodedPictures
from ssl_vla_ros.dataset.sources.rows import (
    even_rows, finite_rows, numbered, SIZES, UnsuitableError)
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize

#: Attributes of an array that may name its values.
_NAMES = ('names', 'joint_names', 'labels')
#: Longer vectors are embeddings.
_WIDEST = 64


@dataclass(frozen=True)
class Hdf5Camera:
    """
    An array of pictures.

    Attributes
    ----------
    key
        Its path below the episode's group.
    encoded
        Whether it holds a JPEG or PNG a row instead of pixels.
    swapped
        Whether red was encoded as blue.

    """

    key: str
    name: str
    height: int
    width: int
    encoded: bool = False
    swapped: bool = False


@dataclass(frozen=True)
class Hdf5Vector:
    """An array of numbers, which part of a contract it is, and the names of its values."""

    key: str
    part: str
    names: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Hdf5Schema:
    """What is read of each episode."""

    cameras: tuple[Hdf5Camera, ...]
    vectors: tuple[Hdf5Vector, ...]

    def names(self, part: str) -> list[str]:
        """Names of the values in a part."""
        return [name for vector in self.vectors if vector.part == part for name in vector.names]


@dataclass(frozen=True)
class Hdf5Job:
    """
    One episode; see ``EpisodeJob``.

    Attributes
    ----------
    group
        Where it is in the file.
    length
        How many rows the file says it has; None if it does not.
    sparse_reward
        The array of rewards, if they are 1 where the task is achieved and 0 elsewhere.

    """

    name: str
    root: Path
    path: Path
    group: str
    schema: Hdf5Schema
    task: str
    length: int | None = None
    sparse_reward: str = ''

    def fingerprint(self) -> str:
        """See ``EpisodeJob``."""
        return fingerprint(self.root, [self.path], self.group, asdict(self.schema), self.task,
                           self.sparse_reward)

    def load(self, contract: Contract) -> LoadedEpisode:
        """See ``EpisodeJob``."""
        where = f'{self.path}: {self.group}' if self.group else str(self.path)
        if not self.task.strip():
            raise DatasetError(f'{where}: nothing says what was done; say it with --task')
        with opened(self.path) as file:
            group = find_group(file, self.group)
            arrays = {key: find_array(group, key) for key in (
                *(vector.key for vector in self.schema.vectors),
                *(camera.key for camera in self.schema.cameras))}
            rows = _common_length(arrays, where)
            values: dict[str, dict[str, NDArray[np.float32]]] = {
                'state': {}, 'action': {}, 'evaluation': {}}
            for vector in self.schema.vectors:
                columns = _read_vector(arrays[vector.key], vector)
                values[vector.part].update(zip(vector.names, columns.T, strict=True))
            for camera in self.schema.cameras:
                _check_pictures(arrays[camera.key], camera)
            success = self._success(group)
        pictures: dict[str, Iterable[NDArray[np.uint8]]] = {}
        sizes = {camera.name: (camera.height, camera.width) for camera in contract.cameras}
        for camera in self.schema.cameras:
            if camera.name in sizes:
                pictures[camera.name] = self._pictures(camera, sizes[camera.name])
        notes = () if self.length in (None, rows) else (
            f'num_samples is {self.length}, there are {rows} rows',)
        return LoadedEpisode(even_rows(contract, where, values, pictures, rows), self.task,
                             success, notes)

    def _pictures(self, camera: Hdf5Camera, size: tuple[int, int]
                  ) -> Iterable[NDArray[np.uint8]]:
        source_size = (camera.height, camera.width)
        key = f'{self.group}/{camera.key}'.lstrip('/')
        if not camera.encoded:
            return RawPictures(self.path, key, size)
        return EncodedPictures(f'{self.path}: {key}', EncodedRows(self.path, key), source_size,
                               size, camera.swapped)

    def _success(self, group: h5py.Group) -> bool | None:
        if not self.sparse_reward:
            return None
        rewards = read_array(find_array(group, self.sparse_reward))
        return bool((rewards == 1).any()) if np.isin(rewards, (0, 1)).all() else None


@dataclass(frozen=True)
class RawPictures:
    """Pictures stored as pixels, read some at a time."""

    path: Path
    key: str
    size: tuple[int, int]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """
        Yield the pictures (H, W, 3) in ``size``.

        Raises
        ------
        DatasetError
            If the file is damaged.

        """
        with opened(self.path) as file:
            for block in row_blocks(find_array(file, self.key)):
                for image in block:
                    yield resize(image, *self.size)


@dataclass(frozen=True)
class EncodedRows:
    """The bytes of JPEG or PNG files, one a row, as arrays of bytes store them."""

    path: Path
    key: str

    def __iter__(self) -> Iterator[bytes]:
        """Yield each row's bytes, with what it was padded with."""
        with opened(self.path) as file:
            for block in row_blocks(find_array(file, self.key)):
                yield from map(_bytes, block)


def _bytes(row: NDArray[np.uint8] | bytes) -> bytes:
    return row.tobytes() if isinstance(row, np.ndarray) else bytes(row)


def describe_array(group: h5py.Group, key: str, name: str, part: str, swapped: bool = False
                   ) -> Hdf5Camera | Hdf5Vector:
    """
    Tell what an array is: pictures or vectors.

    Parameters
    ----------
    group, key
        The episode's group and the array's path below it.
    name
        Begins the names of its values; the camera's name.
    part
        Of the contract, if it is vectors.
    swapped
        Whether its writer encodes red as blue, if it holds encoded pictures.

    Raises
    ------
    UnsuitableError
        If it is neither.
    DatasetError
        If it has no rows, or its first picture is damaged.

    """
    array = find_array(group, key)
    shape, is_pixels = array.shape, array.dtype == np.uint8
    is_bytes = array.dtype.kind == 'S' or h5py.check_vlen_dtype(array.dtype) is not None
    if not shape[0]:
        raise DatasetError(f'{where_of(array)} has no rows')
    if is_pixels and len(shape) == 4 and shape[3] == 3:
        if shape[1] not in SIZES or shape[2] not in SIZES:
            raise UnsuitableError(where_of(array), f'has pictures of {shape[1]}x{shape[2]}, must '
                                                   'be 16 to 4096')
        return Hdf5Camera(key, name, shape[1], shape[2])
    if len(shape) == 1 and is_bytes or len(shape) == 2 and is_pixels and shape[1] > _WIDEST:
        first = decode(_bytes(read_array(array, 0, 1)[0]), f'{where_of(array)}: picture 0')
        return Hdf5Camera(key, name, first.shape[0], first.shape[1], True, swapped)
    if len(shape) <= 2 and not is_bytes:
        return _describe_vector(array, key, name, part)
    raise UnsuitableError(where_of(array), f'is {array.dtype} {shape}, must be pictures '
                                           '(T, H, W, 3) uint8 or vectors (T, N)')


def _describe_vector(array: h5py.Dataset, key: str, name: str, part: str) -> Hdf5Vector:
    width = array.shape[1] if len(array.shape) == 2 else 1
    if not 0 < width <= _WIDEST:
        raise UnsuitableError(where_of(array), f'has {width} values a row, must be 1 to {_WIDEST}')
    for label in _NAMES:
        names = attribute(array, label)
        if isinstance(names, list) and len(set(names)) == width == len(names) and all(names):
            return Hdf5Vector(key, part, tuple(names))
    return Hdf5Vector(key, part, numbered(name, width), numbered=True)


def _common_length(arrays: dict[str, h5py.Dataset], where: str) -> int:
    first, *others = arrays
    for key in others:
        if len(arrays[key]) != len(arrays[first]):
            raise DatasetError(f'{where}: {first} has {len(arrays[first])} rows, {key} '
                               f'{len(arrays[key])}')
    return len(arrays[first])


def _read_vector(array: h5py.Dataset, vector: Hdf5Vector) -> NDArray[np.float32]:
    width = array.shape[1] if len(array.shape) == 2 else 1
    if len(array.shape) > 2 or array.dtype.kind not in 'biuf' or width != len(vector.names):
        raise DatasetError(f'{where_of(array)} is {array.dtype} {array.shape}, must be '
                           f'{len(vector.names)} numbers a row')
    return finite_rows(read_array(array).reshape(len(array), width), where_of(array))


def _check_pictures(array: h5py.Dataset, camera: Hdf5Camera) -> None:
    wanted = (len(array), camera.height, camera.width, 3)
    if not camera.encoded and (array.shape != wanted or array.dtype != np.uint8):
        raise DatasetError(
            f'{where_of(array)} is {array.dtype} {array.shape}, must be uint8 {wanted}')
