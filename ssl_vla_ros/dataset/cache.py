# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Decoded pictures on disk, in the size a network takes: what training reads at random.

Pictures go through ``preprocess.resize``, as on the robot. The directory's name holds the
dataset's digest and the size, so another dataset never meets an old cache.
"""

from __future__ import annotations

from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import suggestion
from ssl_vla_ros.dataset.files import building, finish, Progress, read_json, tell, write_json
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize

_MANIFEST = 'cache.json'
#: Kept free on the disk, bytes.
_RESERVE = 64 << 20


class FrameCache:
    """An existing cache; ``FrameCache.build`` makes or finds one."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path = path
        self.shape: tuple[int, int, int, int] = (
            manifest['rows'], manifest['height'], manifest['width'], 3)
        self.camera_names: tuple[str, ...] = tuple(manifest['cameras'])

    @classmethod
    def build(cls, dataset: Dataset, height: int, width: int, directory: Path,
              progress: Progress | None = None) -> FrameCache:
        """
        Decode and resize every picture of a dataset, unless that was done before.

        Parameters
        ----------
        dataset
            Whose pictures.
        height, width
            Size in pixels.
        directory
            Where caches are kept; each has a directory of its own in it.
        progress
            Told after each episode of each camera. Processes that want the same cache at the
            same time wait for the one that builds it.

        Raises
        ------
        DatasetError
            If a video is broken or the disk has too little space.

        """
        manifest = {
            'digest': dataset.digest(), 'rows': dataset.num_rows, 'height': height,
            'width': width, 'cameras': list(dataset.camera_names)}
        target = Path(directory) / f'frames_{dataset.digest()[:16]}_{height}x{width}'
        if target.is_dir():
            return cls._open(target, manifest)
        steps = dataset.num_episodes * len(dataset.camera_names)
        known = (_MANIFEST, *(f'{camera}.npy' for camera in dataset.camera_names))
        with building(target, known, wait=lambda: tell(
                progress, 0, steps, 'waiting for another process that builds the frame cache')
                      ) as part:
            if target.is_dir():
                part.rmdir()
                return cls._open(target, manifest)
            need = dataset.num_rows * height * width * 3 * len(dataset.camera_names)
            free = shutil.disk_usage(part).free
            if free < need + _RESERVE:
                raise DatasetError(
                    f'{target}: the frame cache needs {need / 1e6:.0f} MB, the disk has '
                    f'{free / 1e6:.0f} MB free; free some space or choose a smaller size')
            done = 0
            for camera in dataset.camera_names:
                with (part / f'{camera}.npy').open('wb') as file:
                    np.lib.format.write_array_header_1_0(file, {
                        'descr': '|u1', 'fortran_order': False,
                        'shape': (dataset.num_rows, height, width, 3)})
                    for episode in range(dataset.num_episodes):
                        for frame in dataset.frames(camera, episode):
                            # Written, not mapped: a full disk is an error here, not a SIGBUS.
                            file.write(resize(frame, height, width).data)
                        done += 1
                        tell(progress, done, steps, f'frame cache: {camera}')
            write_json(part / _MANIFEST, manifest)
            finish(part, target)
        return cls._open(target, manifest)

    @classmethod
    def _open(cls, path: Path, manifest: dict[str, Any]) -> FrameCache:
        if read_json(path / _MANIFEST) != manifest:
            raise DatasetError(
                f'{path}: this frame cache belongs to another dataset; remove the directory')
        return cls(path, manifest)

    def frames(self, camera: str) -> np.memmap[Any, np.dtype[np.uint8]]:
        """
        Pictures of one camera in the order of the dataset's rows, read-only.

        Returns
        -------
        numpy.memmap
            (N, H, W, 3) uint8.

        Raises
        ------
        DatasetError
            If there is no such camera, or the file was cut off.

        """
        if camera not in self.camera_names:
            raise DatasetError(
                f'{self.path}: there is no camera {camera!r}'
                f'{suggestion(camera, self.camera_names)}')
        path = self.path / f'{camera}.npy'
        try:
            found: Any = np.load(path, mmap_mode='r')
        except (OSError, ValueError) as error:
            raise DatasetError(
                f'{path}: cannot read it: {error}; remove the directory, it is built again'
            ) from error
        if found.shape != self.shape:
            raise DatasetError(
                f'{path}: has shape {found.shape}, must be {self.shape}; remove the directory, '
                'it is built again')
        frames: np.memmap[Any, np.dtype[np.uint8]] = found
        return frames

    def read(self, camera: str, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pictures of some rows, (len(rows), H, W, 3), copied into memory."""
        return np.asarray(self.frames(camera)[rows])
