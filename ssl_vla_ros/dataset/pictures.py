# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures of a dataset at the size a network takes, by camera and row.

Two kinds give the same pictures bit for bit: ``FrameCache`` from the disk, where every video was
decoded once, and ``FrameStream`` by decoding when asked. Whoever reads takes either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import suggestion
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError

Rows = NDArray[np.int64]


class FrameRows(Protocol):
    """What gives pictures (…, H, W, 3) for rows: an array, a memory map, a camera's frames."""

    def __len__(self) -> int:
        """Count the rows."""
        ...

    def __getitem__(self, rows: Any, /) -> Any:
        """Pictures of a slice or an array of rows."""
        ...


class Pictures(ABC):
    """
    All pictures of a dataset, resized by ``preprocess.resize``.

    Attributes
    ----------
    shape
        (N, H, W, 3) of each camera's pictures; N is the dataset's rows.
    camera_names
        In the contract's order.
    lengths
        Rows of each episode.

    """

    def __init__(self, dataset: Dataset, height: int, width: int) -> None:
        if height < 1 or width < 1:
            raise DatasetError(
                f'{dataset.path}: pictures of {height}x{width} pixels; both must be at least 1')
        self.shape = (dataset.num_rows, height, width, 3)
        self.camera_names = dataset.camera_names
        self.lengths = tuple(dataset.lengths)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)]).astype(np.int64)
        self._where = str(dataset.path)

    @abstractmethod
    def read_into(self, camera: str, rows: Rows, out: NDArray[np.uint8]) -> None:
        """
        Write the pictures of ``rows`` (n,) to ``out`` (n, H, W, 3), any order, twice if wanted.

        Raises
        ------
        DatasetError
            If there is no such camera or row, or pictures cannot be read.

        """

    def read(self, camera: str, rows: Rows) -> NDArray[np.uint8]:
        """Pictures of one camera, ``rows.shape`` + (H, W, 3)."""
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((rows.size, *self.shape[1:]), np.uint8)
        self.read_into(camera, rows.reshape(-1), out)
        return out.reshape(*rows.shape, *self.shape[1:])

    def gather(self, rows: Rows, cameras: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """Pictures of several cameras (default: all), ``rows.shape`` + (cameras, H, W, 3)."""
        names = self.camera_names if cameras is None else tuple(cameras)
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((rows.size, len(names), *self.shape[1:]), np.uint8)
        for place, camera in enumerate(names):
            self.read_into(camera, rows.reshape(-1), out[:, place])
        return out.reshape(*rows.shape, *out.shape[1:])

    def frames(self, camera: str) -> CameraFrames:
        """All pictures of one camera as something that is indexed like an array."""
        self._check_camera(camera)
        return CameraFrames(self, camera)

    def _check_camera(self, camera: str) -> None:
        if camera not in self.camera_names:
            raise DatasetError(
                f'{self._where}: there is no camera {camera!r}'
                f'{suggestion(camera, self.camera_names)}')

    def _check(self, camera: str, rows: Rows) -> None:
        self._check_camera(camera)
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < self.shape[0]:
            wrong = int(rows.min()) if rows.min() < 0 else int(rows.max())
            raise DatasetError(
                f'{self._where}: there is no row {wrong}; the dataset has rows 0 to '
                f'{self.shape[0] - 1}')

    def _places(self, rows: Rows) -> tuple[Rows, Rows]:
        """Episode and number within it of each row."""
        episodes = np.searchsorted(self._starts, rows, side='right') - 1
        return episodes, rows - self._starts[episodes]


class CameraFrames:
    """
    Pictures of one camera, read when indexed: ``frames[rows]`` is a copy in memory.

    Attributes
    ----------
    shape, dtype
        (N, H, W, 3), uint8.

    """

    dtype = np.dtype(np.uint8)

    def __init__(self, pictures: Pictures, camera: str) -> None:
        self._pictures = pictures
        self._camera = camera
        self.shape = pictures.shape

    def __len__(self) -> int:
        """Count the rows."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Sequence[int] | Rows) -> NDArray[np.uint8]:
        """Pictures of one row (H, W, 3), a slice, or rows of any shape, + (H, W, 3)."""
        if isinstance(rows, slice):
            picked: Rows = np.arange(*rows.indices(len(self)), dtype=np.int64)
        else:
            picked = np.asarray(rows)
            if picked.size and picked.dtype.kind not in 'iu':
                raise TypeError(f'rows are {picked.dtype}, must be whole numbers')
        return self._pictures.read(self._camera, picked)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Pictures one after the other."""
        return (self[row] for row in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Read every picture into memory."""
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)
