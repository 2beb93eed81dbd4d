# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Pictures decoded when they are asked for: for a disk that is too small for a ``FrameCache``.

The same pictures bit for bit, at the price of decoding them each time. Nothing chooses this by
itself: whoever wants it asks for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.cursor import VideoCursor
from ssl_vla_ros.dataset.decoding import default_threads
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures, Rows
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize


@dataclass(frozen=True)
class _Part:
    """Pictures of one video: ``places`` (rising) go to ``targets`` of ``out``."""

    camera: str
    episode: int
    places: list[int]
    targets: list[Rows]
    out: NDArray[np.uint8]


class FrameStream(Pictures):
    """
    A dataset's pictures, decoded and resized on the fly.

    It can be sent to other processes, and be used after a fork: each opens the videos itself.

    Parameters
    ----------
    dataset
        Whose pictures.
    height, width
        Size in pixels.
    threads
        Videos decoded at once; by default as many as there are processor cores.
    open_videos
        Videos kept open between calls; a decoder of 640x480 pictures takes about 5 MB.

    """

    def __init__(self, dataset: Dataset, height: int, width: int, *, threads: int | None = None,
                 open_videos: int = 32) -> None:
        super().__init__(dataset, height, width)
        if open_videos < 1:
            raise DatasetError(f'open_videos is {open_videos}, must be at least 1')
        self._dataset = dataset
        self._sizes = {camera.name: (camera.height, camera.width)
                       for camera in dataset.contract.cameras}
        self._threads = threads or default_threads()
        self._most_open = open_videos
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._idle: OrderedDict[tuple[str, int], VideoCursor] = OrderedDict()
        self._pool: ThreadPoolExecutor | None = None

    def read_into(self, camera: str, rows: Rows, out: NDArray[np.uint8]) -> None:
        """Decode the pictures of ``rows`` (n,) to ``out`` (n, H, W, 3); see ``Pictures``."""
        self._run(self._parts(camera, rows, out))

    def gather(self, rows: Rows, cameras: Sequence[str] | None = None) -> NDArray[np.uint8]:
        """Pictures of several cameras, ``rows.shape`` + (cameras, H, W, 3), in parallel."""
        names = self.camera_names if cameras is None else tuple(cameras)
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((rows.size, len(names), *self.shape[1:]), np.uint8)
        self._run([part for place, camera in enumerate(names)
                   for part in self._parts(camera, rows.reshape(-1), out[:, place])])
        return out.reshape(*rows.shape, *out.shape[1:])

    def close(self) -> None:
        """Close the videos; they are opened again when they are asked for."""
        with self._lock:
            while self._idle:
                self._idle.popitem()[1].close()
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None

    def _parts(self, camera: str, rows: Rows, out: NDArray[np.uint8]) -> list[_Part]:
        """Sort rows by video, and within it by time; a row wanted twice is decoded once."""
        self._check(camera, rows)
        if not len(rows):
            return []
        order = np.argsort(rows, kind='stable')
        unique, first = np.unique(rows[order], return_index=True)
        targets = np.split(order, first[1:])
        episodes, places = self._places(unique)
        cuts = np.flatnonzero(np.diff(episodes)) + 1
        return [
            _Part(camera, int(episodes[begin]), places[begin:end].tolist(), targets[begin:end],
                  out)
            for begin, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(unique)], strict=True)]

    def _run(self, parts: list[_Part]) -> None:
        if self._process != os.getpid():
            # After a fork: threads are gone, and open files would share their position.
            self._begin()
        if len(parts) < 2 or self._threads < 2:
            for part in parts:
                self._decode(part)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, 'decode')
        for _ in self._pool.map(self._decode, parts):
            pass

    def _decode(self, part: _Part) -> None:
        key = part.camera, part.episode
        with self._lock:
            cursor = self._idle.pop(key, None)
        if cursor is None:
            cursor = VideoCursor(
                self._dataset.video(*key), self.lengths[part.episode], self._dataset.fps,
                self._sizes[part.camera])
        try:
            for targets, frame in zip(part.targets, cursor.read(part.places), strict=True):
                part.out[targets] = resize(frame, *self.shape[1:3])
        except BaseException:
            cursor.close()
            raise
        with self._lock:
            # Two threads may have had the same video open.
            doubled = self._idle.pop(key, None)
            self._idle[key] = cursor
            closing = [doubled] if doubled is not None else []
            while len(self._idle) > self._most_open:
                closing.append(self._idle.popitem(last=False)[1])
        for old in closing:
            old.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave open videos and threads behind."""
        left = {'_process', '_lock', '_idle', '_pool'}
        return {key: value for key, value in self.__dict__.items() if key not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with no video open."""
        self.__dict__.update(state)
        self._begin()
