# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos of a foreign dataset, checked against its rows while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize


@dataclass(frozen=True)
class VideoFrames:
    """The pictures of a video, checked while they pass: count, size and regular times."""

    path: Path
    rows: int
    fps: int
    source_size: tuple[int, int]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
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
            if frame.shape[:2] != self.source_size:
                raise DatasetError(
                    f'{self.path}: picture {count} is {frame.shape[0]}x{frame.shape[1]}, the '
                    f'other episodes have {self.source_size[0]}x{self.source_size[1]}')
            if abs(time_s - start_s - count / self.fps) > 0.5 / self.fps:
                raise DatasetError(
                    f'{self.path}: picture {count} is at {time_s - start_s:.3f} s, at '
                    f'{self.fps} Hz it must be at {count / self.fps:.3f} s')
            count += 1
            if count <= self.rows:
                yield resize(frame, *self.size)
        if count != self.rows:
            raise DatasetError(
                f'{self.path}: the video has {count} pictures, its episode {self.rows} rows')
