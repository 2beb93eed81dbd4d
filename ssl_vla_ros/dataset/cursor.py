# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An open video that gives single pictures: it seeks to key frames, and only where that pays."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.video import to_rgb, TOLERANCE_S
from ssl_vla_ros.errors import DatasetError


class VideoCursor:
    """
    Pictures of one video by their number; for one thread at a time.

    Parameters
    ----------
    path
        The video, of constant rate with times from 0.
    rows
        How many pictures it must have.
    fps
        Picture ``i`` is at ``i / fps``.
    size
        Height and width it must have.

    Raises
    ------
    DatasetError
        If the video is missing or broken, or does not fit.

    """

    def __init__(self, path: Path, rows: int, fps: int, size: tuple[int, int]) -> None:
        self._path = path
        self._rows = rows
        self._fps = fps
        self._size = size
        if not path.is_file():
            raise DatasetError(f'{path}: the video is missing')
        try:
            self._container: Any = av.open(str(path))
        except av.error.FFmpegError as error:
            raise self._broken(error) from error
        try:
            if not self._container.streams.video:
                raise DatasetError(f'{path}: there is no video stream in this file')
            self._stream: Any = self._container.streams.video[0]
            context = self._stream.codec_context
            if context is None:
                raise DatasetError(f'{path}: the video does not decode: its header is cut off')
            context.thread_count = 1
            if self._stream.frames and self._stream.frames != rows:
                raise DatasetError(f'{path}: the video has {self._stream.frames} pictures, its '
                                   f'episode {rows} rows')
            #: Numbers of the key frames, for the choice between seeking and going on alone.
            entries: Any = self._stream.index_entries
            self._keys = [round(float(entry.timestamp * self._stream.time_base) * fps)
                          for entry in entries if entry.is_keyframe]
            self._coming: Iterator[Any] = self._container.decode(self._stream)
            self._next = 0
        except BaseException:
            self._container.close()
            raise

    def read(self, numbers: Iterable[int]) -> Iterator[NDArray[np.uint8]]:
        """
        Give (H, W, 3) uint8 pictures by their numbers, fastest if these rise.

        Raises
        ------
        DatasetError
            If the video does not decode there.

        """
        try:
            for number in numbers:
                picture = self._find(number)
                if (picture.height, picture.width) != self._size:
                    raise DatasetError(
                        f'{self._path}: picture {number} is {picture.height}x{picture.width}, '
                        f'the dataset says {self._size[0]}x{self._size[1]}')
                yield to_rgb(picture)
        except av.error.FFmpegError as error:
            raise self._broken(error) from error

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _find(self, number: int) -> Any:
        key = bisect_right(self._keys, number)
        # Between here and there lies no key frame: whatever lies there must be decoded anyway.
        if number < self._next or (key and self._keys[key - 1] > self._next):
            self._seek(number)
        picture = self._forward_to(number)
        if picture is None:  # an index that points behind the picture
            self._seek(0)
            picture = self._forward_to(number)
        if picture is None:
            raise DatasetError(f'{self._path}: there is no picture at {number / self._fps:.3f} s; '
                               'build the dataset again')
        return picture

    def _seek(self, number: int) -> None:
        stamp = round(number / self._fps / self._stream.time_base)
        self._container.seek(stamp, stream=self._stream, backward=True)
        self._coming = self._container.decode(self._stream)

    def _forward_to(self, number: int) -> Any:
        """Decode up to a picture; None if the video is past it."""
        for picture in self._coming:
            if picture.pts is None:
                raise DatasetError(f'{self._path}: a picture has no time')
            time_s = float(picture.pts * picture.time_base)
            found = round(time_s * self._fps)
            if abs(time_s - found / self._fps) > TOLERANCE_S:
                raise DatasetError(f'{self._path}: picture {found} is at {time_s:.6f} s, must be '
                                   f'at {found / self._fps:.6f} s')
            self._next = found + 1
            if found == number:
                return picture
            if found > number:
                return None
        self._next = self._rows
        return None

    def _broken(self, error: Exception) -> DatasetError:
        return DatasetError(f'{self._path}: the video does not decode: {error}')
