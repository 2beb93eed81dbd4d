# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Decoded pictures on disk, in the size a network takes: what training reads at random.

One file an episode and camera, named by the episode's digest: a dataset that grew decodes its new
episodes alone, and an interrupted build goes on where it was. A file is never written again, so
whoever has it mapped reads on whatever else happens.

    DIRECTORY/96x96.1/CAMERA/DIGEST.npy     (1: how pictures are resized)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
import fcntl
import os
from pathlib import Path
import shutil
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.cache_files import CacheFile
from ssl_vla_ros.dataset.decoding import decode_all, DecodeJob, default_threads
from ssl_vla_ros.dataset.files import Progress, tell
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures, Rows
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import RESIZE_VERSION

#: Kept free on the disk, bytes.
_RESERVE = 64 << 20
#: Files mapped at once: Linux allows a process 65530 mappings.
_MOST_MAPS = 16384


class FrameCache(Pictures):
    """
    A dataset's pictures in a cache; ``FrameCache.build`` makes what is missing of it.

    It can be sent to other processes: each maps the files itself.
    """

    def __init__(self, dataset: Dataset, height: int, width: int, directory: Path) -> None:
        super().__init__(dataset, height, width)
        self.path = Path(directory) / f'{height}x{width}.{RESIZE_VERSION}'
        self._files = {
            camera: [CacheFile(self.path / camera / f'{entry["digest"][:32]}.npy',
                               (length, height, width, 3))
                     for entry, length in zip(dataset.episodes, dataset.lengths, strict=True)]
            for camera in dataset.camera_names}
        self._forget()

    def _forget(self) -> None:
        self._maps: dict[str, list[NDArray[np.uint8] | None]] = {
            camera: [None] * len(files) for camera, files in self._files.items()}
        self._mapped: deque[tuple[str, int]] = deque()

    @classmethod
    def build(cls, dataset: Dataset, height: int, width: int, directory: Path,
              progress: Progress | None = None, threads: int | None = None) -> FrameCache:
        """
        Decode and resize the pictures of a dataset that the cache does not hold yet.

        Parameters
        ----------
        dataset
            Whose pictures.
        height, width
            Size in pixels.
        directory
            Where caches are kept; datasets may share it.
        progress
            Told after each episode of each camera. Of processes that want the same pictures at
            the same time one decodes them, the others wait.
        threads
            Videos decoded at once; by default as many as there are processor cores.

        Warns
        -----
        UserWarning
            About files that were cut off; they are made again.

        Raises
        ------
        DatasetError
            If a video is broken or the disk has too little space. Episodes that were finished
            stay.

        """
        cache = cls(dataset, height, width, directory)
        if not cache._missing(dataset):  # then nothing is written, and the disk may be read-only
            return cache
        steps = dataset.num_episodes * len(dataset.camera_names)
        with _writing(cache.path, lambda: tell(
                progress, 0, steps, 'waiting for another process that builds the frame cache')):
            jobs = cache._missing(dataset, warn=True)
            cache._require_space(jobs)
            for camera in dataset.camera_names:
                (cache.path / camera).mkdir(exist_ok=True)
                for left in (cache.path / camera).glob('.*.part'):
                    left.unlink()
            decode_all(jobs, threads or default_threads(), cache.path,
                       lambda done, what: tell(
                           progress, steps - len(jobs) + done, steps, f'frame cache: {what}'))
        return cache

    def read_into(self, camera: str, rows: Rows, out: NDArray[np.uint8]) -> None:
        """Copy the pictures of ``rows`` (n,) to ``out`` (n, H, W, 3); see ``Pictures``."""
        self._check(camera, rows)
        if not len(rows):
            return
        episodes, places = self._places(rows)
        steps = np.diff(places)
        step = max(1, int(steps[0])) if len(steps) else 1
        # Rows a step apart in one episode, as a clip has them, are copied at once.
        cuts = np.flatnonzero((steps != step) | (np.diff(episodes) != 0)) + 1
        begins = np.concatenate([[0], cuts])
        maps = self._maps[camera]
        begin = 0
        for end, episode, place in zip(
                [*cuts.tolist(), len(rows)], episodes[begins].tolist(), places[begins].tolist(),
                strict=True):
            frames = maps[episode]
            if frames is None:
                frames = self._map(camera, episode)
            if end - begin == 1:
                out[begin] = frames[place]
            else:
                out[begin:end] = frames[place:place + (end - begin - 1) * step + 1:step]
            begin = end

    def verify(self) -> None:
        """
        Read every file and hold it against its checksum.

        Raises
        ------
        DatasetError
            Naming the first file that is missing or was changed.

        """
        for files in self._files.values():
            for file in files:
                file.verify()

    def _map(self, camera: str, episode: int) -> NDArray[np.uint8]:
        if len(self._mapped) >= _MOST_MAPS:
            oldest, number = self._mapped.popleft()
            self._maps[oldest][number] = None
        frames = self._maps[camera][episode] = self._files[camera][episode].open()
        self._mapped.append((camera, episode))
        return frames

    def _missing(self, dataset: Dataset, *, warn: bool = False) -> list[DecodeJob]:
        """List what must be decoded; an episode that a dataset holds twice, once."""
        jobs: dict[Path, DecodeJob] = {}
        for camera in dataset.contract.cameras:
            for episode, file in enumerate(self._files[camera.name]):
                size = file.found_size()
                if size == file.size or file.path in jobs:
                    continue
                if size is not None and warn:
                    warnings.warn(
                        f'{file.path}: has {size} bytes, must have {file.size}: it is made again',
                        stacklevel=3)
                jobs[file.path] = DecodeJob(
                    dataset.video(camera.name, episode), file, (camera.height, camera.width),
                    camera.name)
        return list(jobs.values())

    def _require_space(self, jobs: list[DecodeJob]) -> None:
        need = sum(job.file.size for job in jobs)
        free = shutil.disk_usage(self.path).free
        if free >= need + _RESERVE:
            return
        wanted = {file.path for files in self._files.values() for file in files}
        other = sum(path.stat().st_size for path in self.path.glob('*/*.npy')
                    if path not in wanted)
        stale = (f' ({other / 1e6:.0f} MB in {self.path} belong to episodes that this dataset '
                 'does not have: remove them)' if other else '')
        raise DatasetError(
            f'{self.path}: the frame cache needs {need / 1e6:.0f} MB, the disk has '
            f'{free / 1e6:.0f} MB free; free some space{stale}, choose a smaller size, or decode '
            'while training with pictures=stream: slower, but nothing is written')

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: pickled, they would be whole copies."""
        return {key: value for key, value in self.__dict__.items()
                if key not in ('_maps', '_mapped')}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no file mapped."""
        self.__dict__.update(state)
        self._forget()


@contextmanager
def _writing(path: Path, wait: Any) -> Iterator[None]:
    """Be the only process that writes to a cache; the lock ends with the process."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise DatasetError(f'{path}: cannot write here: {error.strerror}') from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)
