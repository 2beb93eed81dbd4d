# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
How a video wants to be shown: turned, mirrored, its pixels not square.

Phones store pictures as the sensor lies and say in a matrix how to turn them. Who ignores it
learns from a world that lies on its side.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize

Frame = NDArray[np.uint8]
#: Aspect ratios that differ by less than this are taken for one: 853x480 and 1280x720.
_SAME_ASPECT = 0.01


@dataclass(frozen=True)
class Upright:
    """
    What turns a stored picture into the one to be shown.

    Attributes
    ----------
    transpose, mirror_rows, mirror_columns
        Rows become columns first, then rows and columns are put in reverse order.
    pixel
        Width of a stored pixel over its height.

    """

    transpose: bool = False
    mirror_rows: bool = False
    mirror_columns: bool = False
    pixel: Fraction = Fraction(1)

    @classmethod
    def of(cls, path: Path, picture: Any, pixel: Fraction | None) -> Upright:
        """
        Read it from a decoded picture and the shape of a stream's pixels.

        Raises
        ------
        DatasetError
            If the picture is to be turned by something else than quarters.

        """
        data, pixel = picture.side_data.get('DISPLAYMATRIX'), pixel or Fraction(1)
        if data is None:
            return cls(pixel=pixel)
        # A stored point (x, y) is shown at (a x + c y, b x + d y), and moved into the picture.
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), dtype=np.int32).astype(float)
        near = 0.01 * max(abs(a), abs(b), abs(c), abs(d), 1.0)
        if abs(b) <= near and abs(c) <= near and a and d:
            return cls(False, bool(d < 0), bool(a < 0), pixel)
        if abs(a) <= near and abs(d) <= near and b and c:
            return cls(True, bool(b < 0), bool(c < 0), pixel)
        raise DatasetError(f'{path}: is to be shown turned by {picture.rotation} degrees; only '
                           'quarter turns are known')

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in square pixels of a stored picture once it is upright."""
        if self.pixel >= 1:
            width = round(width * self.pixel)
        else:
            height = round(height / self.pixel)
        return (width, height) if self.transpose else (height, width)

    def turn(self, frame: Frame) -> Frame:
        """Turn and mirror a stored picture; its pixels keep their shape."""
        if self.transpose:
            frame = frame.transpose(1, 0, 2)
        return frame[::-1 if self.mirror_rows else 1, ::-1 if self.mirror_columns else 1]


def inner_size(shown: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """
    Size in which a picture of one size stands in another without being distorted.

    Parameters
    ----------
    shown, size
        Height and width of the picture and of what it is brought into.

    Returns
    -------
    tuple
        ``size`` itself where both have the same aspect ratio, or are within a pixel of each
        other; else the largest size of the picture's own ratio that fits.

    """
    cut = (shown[0] - size[0], shown[1] - size[1])
    aspect = (shown[1] / shown[0]) / (size[1] / size[0])
    if all(pixels in (0, 1) for pixels in cut) or abs(aspect - 1) <= _SAME_ASPECT:
        return size
    scale = min(size[0] / shown[0], size[1] / shown[1])
    return max(1, round(shown[0] * scale)), max(1, round(shown[1] * scale))


def fit(frame: Frame, shown: tuple[int, int], size: tuple[int, int]) -> Frame:
    """
    Bring an upright picture to a size without distorting it.

    Parameters
    ----------
    frame
        (H, W, 3) uint8.
    shown
        Height and width it has in square pixels.
    size
        Wanted height and width. An odd picture loses its last row or column, one of the same
        aspect ratio is resized, any other gets black bars.

    Returns
    -------
    numpy.ndarray
        (*size, 3) uint8.

    """
    inner = inner_size(shown, size)
    if frame.shape[:2] == shown and inner == size and all(
            0 <= have - want <= 1 for have, want in zip(shown, size, strict=True)):
        return np.ascontiguousarray(frame[:size[0], :size[1]])
    small = resize(np.ascontiguousarray(frame), *inner)
    if inner == size:
        return small
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    return np.asarray(cv2.copyMakeBorder(
        small, top, size[0] - inner[0] - top, left, size[1] - inner[1] - left,
        cv2.BORDER_CONSTANT, value=(0, 0, 0)), dtype=np.uint8)
