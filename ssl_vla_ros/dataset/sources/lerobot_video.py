# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Videos of LeRobot datasets, checked against their rows while they are read.

Since v3.0 many episodes lie in one file, and a time says where each begins. Those times are sums
of durations, each rounded: after some dozens of episodes they lie beside the pictures' own times.
So where a file has as many pictures as its episodes have rows, they are counted; a time alone is
believed only up to a quarter of a picture. Nothing is taken from a file with fewer pictures than
its episodes need: a neighbour's pictures would be taken for their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.sources import video_file
from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize

Frame = NDArray[np.uint8]
#: Part of a picture's time by which a declared time alone may be off.
_SURE = 0.25


@dataclass(frozen=True)
class WholeVideo:
    """The pictures of a file that is one episode's (v2.0, v2.1)."""

    path: Path
    rows: int
    fps: int
    source_size: tuple[int, int]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[Frame]:
        """
        Yield ``rows`` pictures (H, W, 3) of ``size``.

        Raises
        ------
        DatasetError
            As soon as the video shows that it does not fit its episode.

        """
        count, start_s = 0, 0.0
        for time_s, frame in decode_video(self.path):
            start_s = time_s if not count else start_s
            _check_size(self.path, count, frame, self.source_size)
            if abs(time_s - start_s - count / self.fps) > 0.5 / self.fps:
                raise DatasetError(
                    f'{self.path}: picture {count} is at {time_s - start_s:.3f} s, at '
                    f'{self.fps} Hz it must be at {count / self.fps:.3f} s')
            count += 1
            if count <= self.rows:
                yield to_size(frame, *self.size)
        if count != self.rows:
            raise DatasetError(
                f'{self.path}: the video has {count} pictures, its episode {self.rows} rows')


@dataclass(frozen=True)
class VideoSpan:
    """
    Where in a file an episode's pictures are (v3.0), as the dataset says.

    Attributes
    ----------
    path
        The file.
    starts_s
        When the first picture of each episode in the file is shown, in their order.
    place
        Which of them is this one.
    first
        How many pictures of other episodes come before it; -1 where the episodes leave gaps.
    needed
        Pictures the file must have for all of its episodes.

    """

    path: Path
    starts_s: tuple[float, ...]
    place: int
    first: int
    needed: int

    def find(self, rows: int, fps: int) -> tuple[NDArray[np.int64], list[str]]:
        """
        Find the pictures of the episode in the file.

        Returns
        -------
        tuple
            When each is shown, (rows,) int64 in units of the video; and notes.

        Raises
        ------
        DatasetError
            If the file is missing or as ``choose`` says.

        """
        return self.choose(_times(self.path), rows, fps)

    def choose(self, times: video_file.PictureTimes, rows: int, fps: int
               ) -> tuple[NDArray[np.int64], list[str]]:
        """
        Choose the pictures of the episode among all of the file.

        Returns
        -------
        tuple
            When each is shown, (rows,) int64 in units of the video; and notes.

        Raises
        ------
        DatasetError
            If the file has too few pictures, or which are the episode's cannot be told.

        """
        starts_s = np.array(self.starts_s[:self.place + 1])
        seconds, count, notes = times.seconds(), len(times.stamps), []
        if count < self.needed:
            raise DatasetError(
                f'{self.path}: the video has {count} pictures, its episodes need {self.needed}: '
                'which are missing cannot be told, so none of them is taken')
        if count > self.needed:
            notes.append(f'{self.path.name}: the last {count - self.needed} of {count} pictures '
                         'belong to no episode')
        nearest = _nearest(seconds, starts_s)
        if self.first >= 0 and count == self.needed:
            first = self.first
            if first != nearest[-1]:
                notes.append(f'{self.path.name}: the declared times are more than half a picture '
                             'off: the pictures are counted instead')
        else:
            first = int(nearest[-1])
            # An error that grows from episode to episode is small again after a whole picture.
            off_s = float(np.abs(seconds[nearest] - starts_s).max())
            if off_s > _SURE / fps:
                raise DatasetError(
                    f'{self.path}: the episodes up to this one begin up to {off_s:.3f} s beside '
                    'the nearest picture, and there are others than theirs: which picture is '
                    'the first cannot be told')
        stamps = times.stamps[first:first + rows]
        _check_steps(self.path, seconds[first:first + rows], rows, fps)
        return stamps, notes


def _nearest(seconds: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    after = np.clip(np.searchsorted(seconds, wanted), 1, max(1, len(seconds) - 1))
    before = after - 1
    after = np.minimum(after, len(seconds) - 1)
    return np.where(wanted - seconds[before] <= seconds[after] - wanted, before, after)


def _check_steps(path: Path, seconds: NDArray[np.float64], rows: int, fps: int) -> None:
    if len(seconds) < rows:
        raise DatasetError(f'{path}: the video ends after {len(seconds)} of the {rows} pictures '
                           'of the episode')
    late = seconds - seconds[0] - np.arange(rows) / fps
    bad = np.flatnonzero(np.abs(late) > 0.5 / fps)
    if len(bad):
        row = int(bad[0])
        raise DatasetError(
            f'{path}: the picture of row {row} is at {seconds[row] - seconds[0]:.3f} s, at '
            f'{fps} Hz it must be at {row / fps:.3f} s')


def _times(path: Path) -> video_file.PictureTimes:
    try:
        status = path.stat()
    except OSError:
        raise DatasetError(f'{path}: the video is missing') from None
    return _read_times(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=8)
def _read_times(path: Path, size: int, mtime_ns: int) -> video_file.PictureTimes:
    """Read once for all the episodes of a file; size and time make a changed file another."""
    del size, mtime_ns
    return video_file.picture_times(path)


@dataclass(frozen=True)
class SpanPictures:
    """The pictures of one episode out of a file with many; ``stamps`` says when each is shown."""

    path: Path
    stamps: NDArray[np.int64]
    source_size: tuple[int, int]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[Frame]:
        """
        Yield the pictures (H, W, 3) in ``size``.

        Raises
        ------
        DatasetError
            If the video does not decode, or shows other pictures than it lists.

        """
        count = 0
        for stamp, picture in video_file.pictures_from(self.path, int(self.stamps[0])):
            if stamp != self.stamps[count]:
                raise DatasetError(f'{self.path}: picture {count} of the episode does not decode')
            frame = video_file.rgb(picture)
            _check_size(self.path, count, frame, self.source_size)
            yield to_size(frame, *self.size)
            count += 1
            if count == len(self.stamps):
                return
        raise DatasetError(f'{self.path}: {count} of the {len(self.stamps)} pictures of the '
                           'episode decode')


def _check_size(path: Path, count: int, frame: Frame, size: tuple[int, int]) -> None:
    if frame.shape[:2] != size:
        raise DatasetError(
            f'{path}: picture {count} is {frame.shape[0]}x{frame.shape[1]}, the other episodes '
            f'have {size[0]}x{size[1]}')


def to_size(frame: Frame, height: int, width: int) -> Frame:
    """Bring a picture to a size: one that is a pixel too large is cut, any other resized."""
    if 0 <= frame.shape[0] - height <= 1 and 0 <= frame.shape[1] - width <= 1:
        return np.ascontiguousarray(frame[:height, :width])
    return resize(frame, height, width)
