# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos that every browser plays: H.264, yuv420p, the index in front."""

from __future__ import annotations

from collections.abc import Iterable
import itertools
import os
from pathlib import Path
import tempfile

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import MissingDependencyError


def encode_mp4(
    frames: Iterable[NDArray[np.uint8]], fps: int, *, scale: int = 1, crf: int = 20,
) -> bytes:
    """
    Encode pictures to the bytes of an mp4 file.

    Parameters
    ----------
    frames
        (H, W, 3) uint8 rgb8, all of one size. An odd height or width is padded by its last row
        or column, because yuv420p halves both.
    fps
        Pictures in a second.
    scale
        Whole factor by which pixels are repeated: small pictures stay sharp in a browser.
    crf
        Quality from 0 (lossless) to 51.

    Raises
    ------
    ValueError
        If there are no frames, or one has another type or size than the first.
    MissingDependencyError
        Without PyAV.

    """
    try:
        import av
    except ImportError as error:  # pragma: no cover - depends on the installation
        raise MissingDependencyError(
            'videos need PyAV: pip install "ssl_vla_ros[train]"') from error
    if fps < 1 or scale < 1:
        raise ValueError(f'fps is {fps} and scale is {scale}, both must be at least 1')
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError('a video needs at least one frame')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'video.mp4'
        # With the index in front a browser starts to play before it has everything. To put it
        # there, FFmpeg opens its own file again: it needs a real one.
        with av.open(str(path), 'w', format='mp4', options={'movflags': 'faststart'}) as container:
            stream = container.add_stream('libx264', rate=fps)
            stream.pix_fmt = 'yuv420p'
            stream.height = scale * first.shape[0] + scale * first.shape[0] % 2
            stream.width = scale * first.shape[1] + scale * first.shape[1] % 2
            stream.options = {'crf': str(crf), 'preset': 'medium'}
            for index, frame in enumerate(itertools.chain([first], iterator)):
                if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                    raise ValueError(
                        f'frame {index} is {frame.dtype} {frame.shape}, must be (H, W, 3) uint8')
                if frame.shape != first.shape:
                    raise ValueError(
                        f'frame {index} is {frame.shape}, the first one is {first.shape}')
                picture = _even(frame.repeat(scale, axis=0).repeat(scale, axis=1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.pad(picture, ((0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)),
                  mode='edge')


def write_mp4(
    path: Path, frames: Iterable[NDArray[np.uint8]], fps: int, *, scale: int = 1, crf: int = 20,
) -> Path:
    """Write a video as ``encode_mp4`` makes it; an interrupted run leaves no half of one."""
    replace_bytes(path, encode_mp4(frames, fps, scale=scale, crf=crf))
    return path


def replace_bytes(path: Path, content: bytes) -> None:
    """Put a file in place by one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
