# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
H.264 videos with one picture a row: written at a constant rate, read back whole.

A loader asks for the picture nearest to ``frame_index / fps`` and never notices a missing one, so
whoever writes a video here decodes it afterwards and counts (``check_video``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, ExitStack, suppress
import errno
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange
import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.encoders import open_stream, PIXEL_FORMAT, SOFTWARE
from ssl_vla_ros.errors import DatasetError

#: A loader accepts the nearest picture within this many seconds of the time it asks for.
TOLERANCE_S = 1e-4
_LIMITED = (ColorRange.UNSPECIFIED, ColorRange.MPEG)
_BT601 = (2, 5, 6)  # unspecified, BT.470BG, SMPTE 170M: one matrix

Frame = NDArray[np.uint8]

# ITU-R BT.601, limited range: rows Y, Cb, Cr; columns R, G, B and a constant.
_LUMA = np.array([[65.481, 128.553, 24.966, 16.0 * 255.0]]) / 255.0
_CHROMA = np.array([[-37.797, -74.203, 112.0, 128.0 * 255.0],
                    [112.0, -93.786, -18.214, 128.0 * 255.0]]) / 255.0


def rgb_to_yuv(frame: Frame) -> Frame:
    """
    Convert (H, W, 3) rgb8 to planar yuv420p, (H * 3 / 2, W) uint8; H and W even.

    Rounded and averaged over each 2x2 block. swscale's own conversion truncates: it darkens every
    picture by about one grey level, which live pictures would not have.
    """
    height, width = frame.shape[:2]
    out = np.empty(height * width * 3 // 2, np.uint8)
    pixels = height * width
    out[:pixels] = cv2.transform(frame, _LUMA).reshape(-1)
    half = cv2.resize(frame.astype(np.float32), (width // 2, height // 2),
                      interpolation=cv2.INTER_AREA)
    chroma = np.rint(cv2.transform(half, _CHROMA)).astype(np.uint8)
    out[pixels:] = chroma.transpose(2, 0, 1).reshape(-1)
    return out.reshape(height * 3 // 2, width)


def to_rgb(picture: Any) -> Frame:
    """Convert a decoded PyAV picture to (H, W, 3) rgb8."""
    # OpenCV's conversion rounds and is 20 times faster; it knows limited-range BT.601 alone,
    # which is also what an untagged file of this size means.
    if (picture.format.name == PIXEL_FORMAT and picture.height % 2 == 0 and picture.width % 2 == 0
            and picture.color_range in _LIMITED and picture.colorspace in _BT601):
        converted: Frame = np.asarray(
            cv2.cvtColor(picture.to_ndarray(), cv2.COLOR_YUV2RGB_I420), dtype=np.uint8)
        return converted
    other: Frame = picture.to_ndarray(format='rgb24')
    return other


def encode_video(path: Path, frames: Iterable[Frame], fps: int, encoder: str = SOFTWARE) -> int:
    """
    Write pictures of one size as an MP4 (H.264, yuv420p, constant rate, pts from 0).

    Parameters
    ----------
    path
        The file to write; an existing one is overwritten.
    frames
        (H, W, 3) uint8 rgb8, H and W even.
    fps
        Pictures a second.
    encoder
        One of ``encoders.OPTIONS``.

    Returns
    -------
    int
        How many pictures were given to the encoder.

    Raises
    ------
    DatasetError
        If there is no picture, sizes differ or are odd, or the encoder fails.

    """
    return encode_videos({path: frames}, fps, encoder)[path]


def encode_videos(videos: Mapping[Path, Iterable[Frame]], fps: int, encoder: str = SOFTWARE
                  ) -> dict[Path, int]:
    """
    Write several videos picture by picture in turns, as ``encode_video`` writes one.

    Cameras of a recording lie side by side in it: reading them in turns reads it once.

    Returns
    -------
    dict
        How many pictures were given to each encoder.

    """
    counts = dict.fromkeys(videos, 0)
    with ExitStack() as stack:
        written = {path: stack.enter_context(_Video(path, fps, encoder)) for path in videos}
        sources = {path: iter(frames) for path, frames in videos.items()}
        while sources:
            for path, source in list(sources.items()):
                frame = next(source, None)
                if frame is None:
                    del sources[path]
                    written[path].finish()
                else:
                    written[path].add(frame)
                    counts[path] += 1
    return counts


class _Video:
    """One MP4 being written; FFmpeg's errors come out as ours."""

    def __init__(self, path: Path, fps: int, encoder: str) -> None:
        self._path = path
        self._fps = fps
        self._encoder = encoder
        self._count = 0
        self._size: tuple[int, ...] = ()
        self._container: Any = None
        self._stream: Any = None

    def __enter__(self) -> _Video:
        with self._explained():
            self._container = av.open(str(self._path), 'w', format='mp4')
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with suppress(av.error.FFmpegError) if kind else self._explained():
            self._container.close()

    def add(self, frame: Frame) -> None:
        """Encode the next picture."""
        if self._stream is None:
            self._size = frame.shape
            _check_size(self._path, self._size)
        elif frame.shape != self._size:
            raise DatasetError(
                f'{self._path}: picture {self._count} is {frame.shape}, the first is '
                f'{self._size}; a video has one size')
        with self._explained():
            if self._stream is None:
                self._stream = open_stream(
                    self._container, self._encoder, self._size[0], self._size[1], self._fps)
            picture: Any = av.VideoFrame.from_ndarray(rgb_to_yuv(frame), format=PIXEL_FORMAT)
            picture.pts = self._count
            picture.time_base = Fraction(1, self._fps)
            self._container.mux(self._stream.encode(picture))
        self._count += 1

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is None:
            raise DatasetError(f'{self._path}: no pictures to write')
        with self._explained():
            self._container.mux(self._stream.encode(None))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except av.error.FFmpegError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                # No fault of this episode: whoever builds the dataset has to stop.
                raise OSError(error.errno, 'the disk is full', str(self._path)) from error
            raise DatasetError(f'{self._path}: cannot write the video: {error}') from error


def _check_size(path: Path, size: tuple[int, ...]) -> None:
    if len(size) != 3 or size[2] != 3:
        raise DatasetError(f'{path}: pictures must be (H, W, 3), not {size}')
    if size[0] % 2 or size[1] % 2:
        raise DatasetError(
            f'{path}: {size[0]}x{size[1]} pictures cannot be stored as {PIXEL_FORMAT}; choose an '
            'even height and width in the robot contract')


def decode_video(path: Path) -> Iterator[tuple[float, Frame]]:
    """
    Every picture of a video in order, with its time in seconds.

    Yields
    ------
    tuple
        Time from the container, and the (H, W, 3) uint8 rgb8 picture.

    Raises
    ------
    DatasetError
        If the file is missing, has no video, or does not decode to its end.

    """
    if not path.is_file():
        raise DatasetError(f'{path}: the video is missing')
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DatasetError(f'{path}: there is no video stream in this file')
            stream: Any = container.streams.video[0]
            if stream.codec_context is None:
                raise DatasetError(f'{path}: the video does not decode: its header is cut off')
            stream.codec_context.thread_count = 1
            for picture in container.decode(stream):
                if picture.pts is None or picture.time_base is None:
                    raise DatasetError(f'{path}: a picture has no time')
                yield float(picture.pts * picture.time_base), to_rgb(picture)
    except av.error.FFmpegError as error:
        raise DatasetError(f'{path}: the video does not decode: {error}') from error


def check_video(path: Path, rows: int, fps: int, visit: Callable[[Frame], None] | None = None
                ) -> tuple[int, int]:
    """
    Decode a video to its end and hold it against the rows it belongs to.

    Parameters
    ----------
    path
        The video.
    rows
        How many pictures it must have.
    fps
        Picture ``i`` must be at ``i / fps`` within ``TOLERANCE_S``.
    visit
        Called with each picture, for statistics.

    Returns
    -------
    tuple
        Height and width.

    Raises
    ------
    DatasetError
        If the count or a time is wrong, or the file does not decode.

    """
    count = 0
    size = (0, 0)
    for time_s, frame in decode_video(path):
        if abs(time_s - count / fps) > TOLERANCE_S:
            raise DatasetError(
                f'{path}: picture {count} is at {time_s:.6f} s, must be at {count / fps:.6f} s')
        size = (frame.shape[0], frame.shape[1])
        if visit is not None:
            visit(frame)
        count += 1
    if count != rows:
        raise DatasetError(
            f'{path}: the video has {count} pictures, its episode {rows} rows; '
            'every row needs its own picture')
    return size


def read_frames(path: Path, rows: int, height: int, width: int) -> Frame:
    """
    All pictures of a video as one array.

    Returns
    -------
    numpy.ndarray
        (rows, height, width, 3) uint8.

    Raises
    ------
    DatasetError
        If count or size differ from what the dataset says.

    """
    out = np.empty((rows, height, width, 3), np.uint8)
    count = 0
    for _, frame in decode_video(path):
        if frame.shape != out.shape[1:]:
            raise DatasetError(
                f'{path}: picture {count} is {frame.shape[0]}x{frame.shape[1]}, the dataset says '
                f'{height}x{width}')
        if count < rows:
            out[count] = frame
        count += 1
    if count != rows:
        raise DatasetError(f'{path}: the video has {count} pictures, its episode {rows} rows')
    return out
