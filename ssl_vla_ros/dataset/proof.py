# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Proof that a video holds the pictures it was given, each in its place.

Counting is not enough: an encoder that drops one picture and repeats another leaves the count as
it was and every row in between with its neighbour's picture. So a thumbnail of each picture is
kept while it is encoded, and every decoded picture is held against its own and its neighbours'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import DatasetError

_SIDE = 32
#: Grey levels of 255 by which a block of a decoded picture may differ from what was encoded.
_FAR = 32
#: Grey levels by which two pictures must differ in a block for the block to tell them apart. An
#: encoder leaves smaller changes out, and rightly.
_TELLING = 10
#: How many places off a picture is looked for.
_PLACES = (-8, -4, -2, -1, 1, 2, 4, 8)


class PictureTrace:
    """Thumbnails of the pictures that went into one video, 1 KB each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given: list[NDArray[np.uint8]] = []
        self._checked = 0

    def watch(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Pass pictures on to the encoder, and remember them."""
        for frame in frames:
            self._given.append(_thumbnail(frame))
            yield frame

    def check(self, frame: NDArray[np.uint8]) -> None:
        """
        Hold the next decoded picture against the one that was given.

        A shift that changes no block by ``_TELLING`` grey levels is not seen.

        Raises
        ------
        DatasetError
            If it is another picture.

        """
        place, self._checked = self._checked, self._checked + 1
        if place >= len(self._given):
            return  # too many pictures: whoever counts says it
        found, given = _thumbnail(frame).astype(np.int16), self._given[place].astype(np.int16)
        own = np.abs(found - given)
        if int(own.max()) > _FAR:
            raise DatasetError(
                f'{self._path}: picture {place} came back from the encoder as another one (up to '
                f'{int(own.max())} of 255 grey levels off): the rows after it would be shifted')
        for step in _PLACES:
            if not 0 <= place + step < len(self._given):
                continue
            other = self._given[place + step].astype(np.int16)
            telling = np.abs(given - other) >= _TELLING
            if telling.any() and own[telling].mean() > np.abs(found - other)[telling].mean() + 1:
                raise DatasetError(
                    f'{self._path}: picture {place} came back from the encoder as picture '
                    f'{place + step}: the rows would be shifted')


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
