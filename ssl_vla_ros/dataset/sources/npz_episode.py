# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Which array of an npz file is which, by name and shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.sources import npz_facts as facts
from ssl_vla_ros.dataset.sources.npz_file import ArrayHeader, read_array
from ssl_vla_ros.dataset.sources.rows import distinct, finite_rows, identifier, SIZES
from ssl_vla_ros.errors import DatasetError

_OBSERVATIONS = ('observations', 'observation', 'obs')
_PICTURES = ('images', 'image', 'frames', 'video', 'rgb', *_OBSERVATIONS)
_STATE = ('states', 'state', 'observation.state', 'proprio', 'qpos')
_ACTION = ('actions', 'action')
_USED = {*_STATE, *_ACTION, *facts.RATE, *facts.TIMES, *facts.TASK, 'dt', 'success', 'state_names',
         'action_names'}
_CAMERA = re.compile(r'(?:observation\.)?(?:images?|frames|video|rgb)[._/](\w+)')


@dataclass(frozen=True)
class PictureArray:
    """An array of pictures: its key, header and size, and the camera it becomes."""

    key: str
    camera: str
    header: ArrayHeader
    size: tuple[int, int]


@dataclass(frozen=True)
class NpzEpisode:
    """
    One file.

    Attributes
    ----------
    path, rows
        The file, and how many rows it has.
    pictures
        One entry a camera.
    state, action
        Keys of the values, '' for none.
    state_names, action_names
        Names of the values.
    named
        Which of ``state`` and ``action`` the file names itself.
    rate_hz
        Rows a second as the file says, None if it does not.
    times
        (T,) seconds, if the file has them.
    task, success
        As the file says.
    left_out
        Arrays without a place in a dataset.

    """

    path: Path
    rows: int
    pictures: Sequence[PictureArray]
    state: str
    action: str
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    named: frozenset[str]
    rate_hz: float | None
    times: NDArray[np.float64] | None
    task: str
    success: bool | None
    left_out: Sequence[str]
    shortened: bool

    def unnamed(self) -> Iterator[tuple[str, str]]:
        """List (part, key) of the values that have numbers for names."""
        for part, key in (('state', self.state), ('action', self.action)):
            if key and part not in self.named:
                yield part, key

    def values(self, part: str) -> NDArray[np.float32]:
        """
        Values of ``state`` or ``action``, (T, N).

        Raises
        ------
        DatasetError
            If one is no number.

        """
        key = self.state if part == 'state' else self.action
        if not key:
            return np.empty((self.rows, 0), np.float32)
        values = _unbatched(read_array(self.path, key), 2)
        values = values.reshape(len(values), -1)[:self.rows]
        return finite_rows(values, f'{self.path}: {key}')

    def stamps(self) -> NDArray[np.int64] | None:
        """
        Stamps of the rows, (T,) int64 nanoseconds; None if the file has no times.

        Raises
        ------
        DatasetError
            If they do not rise.

        """
        if self.times is None:
            return None
        bad = np.flatnonzero(~(np.diff(self.times, prepend=-np.inf) > 0))
        if len(bad):
            raise DatasetError(f'{self.path}: the times do not rise at row {int(bad[0])}')
        return np.asarray(np.rint(self.times[:self.rows] * 1e9), dtype=np.int64)

    def notes(self, rate_hz: int) -> Iterator[str]:
        """Say what is odd about the file at a rate."""
        if self.shortened:
            yield f'{self.action} has one row less than the others: the last row is left out'
        if self.times is not None:
            even = self.times[0] + np.arange(len(self.times)) / rate_hz
            if np.abs(self.times - even).max() > 0.5 / rate_hz:
                yield (f'the times leave {rate_hz} rows a second by more than half a row: the '
                       'recording was not regular')


def describe(path: Path, headers: Mapping[str, ArrayHeader]) -> NpzEpisode:
    """
    Find out what the arrays of a file are.

    Parameters
    ----------
    path
        The file.
    headers
        Of its arrays.

    Raises
    ------
    DatasetError
        If there is neither a picture nor a state, or an array is not what its name says.

    """
    pictures = _pictures(path, headers)
    used = {array.key for array in pictures}
    state = facts.one(path, headers, _STATE) or next(
        (key for key in _OBSERVATIONS if key in headers and key not in used), '')
    action = facts.one(path, headers, _ACTION)
    if not pictures and not state:
        raise DatasetError(
            f'{path}: there is neither a picture (uint8, T x H x W x 3) nor a state '
            f'({", ".join(_STATE)}); it has {_listed(headers)}')
    counts = {array.key: _unbatched_shape(array.header.shape, 4)[0] for array in pictures}
    for key in filter(None, (state, action)):
        counts[key] = _vector_shape(path, key, headers[key])[0]
    rows = counts[pictures[0].key if pictures else state]
    shortened = action != '' and counts[action] == rows - 1
    if shortened:
        rows -= 1
    wrong = {key: count for key, count in counts.items() if count != rows + (
        shortened and key != action)}
    if wrong or not rows:
        raise DatasetError(f'{path}: the arrays have different numbers of rows: ' + ', '.join(
            f'{key} {count}' for key, count in counts.items()))
    names, named = {}, set()
    for part, key in (('state', state), ('action', action)):
        width = _vector_shape(path, key, headers[key])[1] if key else 0
        names[part] = facts.names(path, headers, part, width)
        if f'{part}_names' in headers:
            named.add(part)
    times, rate_hz = facts.clock(path, headers, rows + shortened)
    return NpzEpisode(
        path, rows, pictures, state, action, names['state'], names['action'], frozenset(named),
        rate_hz, times, facts.text(path, headers), facts.success(path, headers),
        [f'{key} (Python objects: never read)' if header.dtype.hasobject else key
         for key, header in headers.items() if key not in used | _USED | {state}], shortened)


def _pictures(path: Path, headers: Mapping[str, ArrayHeader]) -> list[PictureArray]:
    keys, sizes, cameras = [], [], []
    for key, header in headers.items():
        match = _CAMERA.fullmatch(key)
        called = key in _PICTURES or match is not None
        shape = header.shape if key in _USED else _unbatched_shape(header.shape, 4)
        fits = header.dtype == np.uint8 and len(shape) == 4 and shape[3] == 3
        if called and not fits and not (key in _OBSERVATIONS and len(shape) < 4):
            facts.refuse_objects(path, key, header)
            raise DatasetError(f'{path}: {key} is {header.dtype} {header.shape}: pictures must '
                               'be uint8 (T, H, W, 3), one sequence a file')
        if not fits or key in _USED:
            continue
        if shape[1] not in SIZES or shape[2] not in SIZES:
            raise DatasetError(f'{path}: {key} has pictures of {shape[1]}x{shape[2]}, sides must '
                               f'be {SIZES[0]} to {SIZES[-1]} pixels')
        keys.append(key)
        sizes.append((shape[1], shape[2]))
        cameras.append(identifier(match[1], 'camera') if match else
                       'camera' if called else identifier(key, 'camera'))
    return [PictureArray(key, camera, headers[key], size)
            for key, camera, size in zip(keys, distinct(cameras), sizes, strict=True)]


def _unbatched_shape(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Shape without a leading batch dimension of 1."""
    return shape[1:] if len(shape) == rank + 1 and shape[0] == 1 else shape


def _unbatched(values: NDArray[np.generic], rank: int) -> NDArray[np.generic]:
    return values.reshape(_unbatched_shape(values.shape, rank))


def _vector_shape(path: Path, key: str, header: ArrayHeader) -> tuple[int, int]:
    """Rows and values a row; one value a row may come without a dimension of its own."""
    facts.refuse_objects(path, key, header)
    shape = _unbatched_shape(header.shape, 2)
    if header.dtype.kind not in 'fiub' or not 1 <= len(shape) <= 2:
        raise DatasetError(f'{path}: {key} is {header.dtype} {header.shape}, must be numbers '
                           '(T, N), one sequence a file')
    return shape[0], shape[1] if len(shape) == 2 else 1


def _listed(headers: Mapping[str, ArrayHeader]) -> str:
    return ', '.join(f'{key} {header.dtype} {header.shape}' for key, header in headers.items()
                     ) or 'no arrays'
