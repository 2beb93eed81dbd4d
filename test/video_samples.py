# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos as others make them: any codec, any times, pictures that say which ones they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
#: Fine enough for every rate, and what MP4 writers like.
TIME_BASE = Fraction(1, 90_000)
#: For libx264: pictures are stored behind a key frame that is shown after them.
OPEN_GROUPS = {'bf': 7, 'g': 12, 'x264-params': 'open-gop=1:keyint=12:min-keyint=12:scenecut=0'}


def marked(first: int, second: int = 0, height: int = 32, width: int = 48) -> Frame:
    """Draw a picture whose left half says one number (0 to 59), its right half another."""
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:, :width // 2] = 8 + 4 * first
    image[:, width // 2:] = 8 + 4 * second
    return image


def marks(frame: Frame) -> tuple[int, int]:
    """Read the two numbers of a picture, which may have lost a little on its way."""
    half = frame.shape[1] // 2
    left, right = frame[:, 2:half - 2], frame[:, half + 2:-2]
    return (round((float(left.mean()) - 8) / 4), round((float(right.mean()) - 8) / 4))


def write_video(path: Path, frames: Iterable[Frame], times: Sequence[float | Fraction], *,
                codec: str = 'libx264', pixels: str = 'yuv420p', turn: int = 0,
                pixel_shape: Fraction | None = None, sound: bool = False,
                unit: Fraction = TIME_BASE, **options: Any) -> Path:
    """
    Write a video with every picture at its own time.

    Parameters
    ----------
    path
        Its ending chooses the container.
    frames, times
        Pictures and when each is shown, in seconds.
    codec, pixels
        FFmpeg's names of the encoder and of the pixels' format.
    turn
        Degrees by which a player shall turn it, counterclockwise.
    pixel_shape
        Width of a pixel over its height.
    sound
        Whether there is a stream of silence beside it.
    unit
        Of the times in the file, in seconds.
    **options
        Of the codec.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == 'libx264':
        options = {'crf': 8} | options
    with av.open(str(path), 'w') as container:
        stream: Any = None
        for frame, time in zip(frames, times, strict=True):
            if stream is None:
                stream = container.add_stream(codec, rate=30, options={
                    name: str(value) for name, value in options.items()})
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt = pixels
                stream.codec_context.time_base = unit
                stream.time_base = unit
                if turn:
                    stream.set_display_rotation(turn)
                if pixel_shape is not None:
                    stream.codec_context.sample_aspect_ratio = pixel_shape
                if sound:
                    container.add_stream('aac', rate=8000)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format='rgb24')
            picture.pts = round(time / unit)
            picture.time_base = unit
            container.mux(stream.encode(picture.reformat(format=pixels)))
        container.mux(stream.encode(None))
    return path
