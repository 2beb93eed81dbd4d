# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Reading videos that others made: from any moment on, with every picture's own time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset import video
from ssl_vla_ros.errors import DatasetError

#: Seconds by which a second try to seek aims earlier: pictures may be stored in another order than
#: they are shown in, and a file is sought by the order of storage.
_EARLIER_S = 5.0
#: More pictures than any codec stores ahead of one that is shown before them.
_REORDERED = 16


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """
    Open a video; give its container and its (first) stream of moving pictures.

    Raises
    ------
    DatasetError
        If the file is missing, has no video, or does not decode; from within the block, too.

    """
    if not path.is_file():
        raise DatasetError(f'{path}: the video is missing')
    try:
        with av.open(str(path)) as container:
            streams = [stream for stream in container.streams.video
                       if not int(stream.disposition) & _ATTACHED]
            if not streams:
                raise DatasetError(f'{path}: there is no video stream in this file')
            stream: Any = streams[0]
            if stream.codec_context is None:
                raise DatasetError(f'{path}: the video does not decode: its header is cut off')
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.error.FFmpegError as error:
        raise DatasetError(f'{path}: the video does not decode: {error}') from error


#: FFmpeg's AV_DISPOSITION_ATTACHED_PIC: the cover of a sound file, no moving picture.
_ATTACHED = 0x400


def pictures_from(path: Path, start: int) -> Iterator[tuple[int, Any]]:
    """
    Decode from a moment on.

    Parameters
    ----------
    path
        The video.
    start
        The moment, in units of the video: no picture before it comes.

    Yields
    ------
    tuple
        When it is shown, in units of the video, and FFmpeg's picture, in the order of the times.

    Raises
    ------
    DatasetError
        If the video is missing or does not decode.

    """
    for earlier_s in (0.0, _EARLIER_S, math.inf):
        with opened(path) as (container, stream):
            if math.isfinite(earlier_s) and not _seek(
                    container, stream, start - int(earlier_s / stream.time_base)):
                continue
            sure = not math.isfinite(earlier_s)
            for picture in container.decode(stream):
                stamp = stamp_of(path, picture)
                if not sure and stamp > start:
                    break
                sure = True
                if stamp >= start:
                    yield stamp, picture
            if sure:
                return


def _seek(container: Any, stream: Any, target: int) -> bool:
    """Go to the last key frame up to a moment; whether there can be one."""
    if target <= 0:
        return False
    try:
        container.seek(target, stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


@dataclass(frozen=True)
class PictureTimes:
    """
    When each picture of a video is shown.

    Attributes
    ----------
    stamps
        (N,) int64, rising, in units of the video.
    unit
        Seconds.

    """

    stamps: NDArray[np.int64]
    unit: Fraction

    def nanoseconds(self) -> NDArray[np.int64]:
        """Return the times rounded to nanoseconds, each on its own."""
        scale = self.unit * 1_000_000_000
        return np.array([round(stamp * scale) for stamp in self.stamps.tolist()], dtype=np.int64)

    def seconds(self) -> NDArray[np.float64]:
        """Return the times in seconds."""
        return np.asarray(self.stamps * float(self.unit), dtype=np.float64)


def picture_times(path: Path, head: int | None = None) -> PictureTimes:
    """
    Find out when each picture is shown, without decoding where the file tells it.

    Parameters
    ----------
    path
        The video.
    head
        Look at the first pictures alone: at no more than so many.

    Raises
    ------
    DatasetError
        If the file is missing, cannot be read to its end, or begins in the middle.

    """
    with opened(path) as (container, stream):
        unit, stamps = Fraction(stream.time_base), []
        stored = (packet for packet in container.demux(stream) if packet.size)
        for place, packet in enumerate(islice(stored, head)):
            if not place and not packet.is_keyframe:
                raise DatasetError(
                    f'{path}: the first picture is stored as the difference to one that is not '
                    'there: the video was cut without encoding it again')
            if not packet.is_discard:
                stamps.append(packet.pts)
    if None in stamps:
        with opened(path) as (container, stream):
            stamps = [stamp_of(path, picture)
                      for picture in islice(container.decode(stream), head)]
    found = np.sort(np.array(stamps, dtype=np.int64))
    if head is not None and len(stamps) > head - _REORDERED:
        found = found[:-_REORDERED]  # among the last, some may be missing that are stored later
    return PictureTimes(found, unit)


def stamp_of(path: Path, picture: Any) -> int:
    """
    When a picture is shown, in units of the video.

    Raises
    ------
    DatasetError
        If nothing says it.

    """
    if picture.pts is None or picture.time_base is None:
        raise DatasetError(f'{path}: a picture has no time')
    return int(picture.pts)


def declared_seconds(container: Any, stream: Any) -> float:
    """How long a video is by its header; 0 where it does not say."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / av.time_base


def rgb(picture: Any) -> NDArray[np.uint8]:
    """Colours of a decoded picture, (H, W, 3) uint8 rgb8, as it is stored."""
    return video.to_rgb(picture)
