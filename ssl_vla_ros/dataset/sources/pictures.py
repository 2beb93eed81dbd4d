# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Encoded pictures (JPEG, PNG) of one camera and episode, decoded one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.sources.rows import SIZES, UnsuitableError
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize

JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
_JPEG_END, _PNG_END = b'\xff\xd9', b'IEND\xaeB`\x82'
#: The file's own pixels: EXIF must not turn a picture.
_AS_STORED = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
#: A picture without a brighter value than this shows nothing; JPEG's black is 0 to 2.
_BLACK = 4


def is_encoded(data: bytes) -> bool:
    """Whether bytes begin like a JPEG or PNG file."""
    return data.startswith((JPEG, PNG))


def decode(data: bytes, where: str, *, swapped: bool = False) -> NDArray[np.uint8]:
    """
    Decode a JPEG or PNG of 8 bits, colour or grey.

    Parameters
    ----------
    data
        The file, zeros after its end allowed.
    where
        For error messages.
    swapped
        Whether its writer stored red as blue.

    Returns
    -------
    numpy.ndarray
        (H, W, 3) uint8, RGB.

    Raises
    ------
    DatasetError
        If it is cut off or does not decode.
    UnsuitableError
        If it is a picture of another kind: depth of 16 bits, transparent, too small or large.

    """
    end = data.rstrip(b'\0')
    if not is_encoded(data):
        raise DatasetError(f'{where}: neither JPEG nor PNG: begins with {data[:8]!r}')
    if not end.endswith((_JPEG_END, _PNG_END)):
        # Never left to what a decoder makes of half a picture.
        raise DatasetError(f'{where}: the picture is cut off after {len(end)} bytes')
    try:
        image = cv2.imdecode(np.frombuffer(end, np.uint8), _AS_STORED)
    except cv2.error as error:
        raise DatasetError(f'{where}: the picture does not decode: {error}') from error
    if image is None:
        raise DatasetError(f'{where}: the picture ({len(end)} bytes) does not decode')
    if image.dtype != np.uint8 or image.ndim == 3 and image.shape[2] != 3:
        raise UnsuitableError(where, f'is {image.dtype} {image.shape}, must be 8-bit colour or '
                                     'grey')
    if image.shape[0] not in SIZES or image.shape[1] not in SIZES:
        raise UnsuitableError(where, f'is {image.shape[0]}x{image.shape[1]}, must be 16 to 4096 '
                                     'pixels')
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if swapped:
        return np.asarray(image, dtype=np.uint8)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def is_black(image: NDArray[np.uint8]) -> bool:
    """Whether a picture shows nothing at all."""
    return int(image.max()) <= _BLACK


def check_size(image: NDArray[np.uint8], size: tuple[int, int], where: str) -> None:
    """
    Hold a picture against the size of its camera.

    Raises
    ------
    DatasetError
        If they differ.

    """
    if image.shape[:2] != size:
        raise DatasetError(f'{where} is {image.shape[0]}x{image.shape[1]}, the others are '
                           f'{size[0]}x{size[1]}')


@dataclass(frozen=True)
class EncodedPictures:
    """The pictures of one camera in one episode, decoded while they pass."""

    where: str
    data: Iterable[bytes]
    source_size: tuple[int, int]
    size: tuple[int, int]
    swapped: bool = False

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """
        Yield the pictures (H, W, 3) in ``size``.

        Raises
        ------
        DatasetError
            If one does not decode or has another size than ``source_size``.

        """
        for count, data in enumerate(self.data):
            where = f'{self.where}: picture {count}'
            image = decode(data, where, swapped=self.swapped)
            check_size(image, self.source_size, where)
            yield resize(image, *self.size)
