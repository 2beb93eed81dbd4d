# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Proof that a video holds the pictures it was given, each in its place.

Counting is not enough: an encoder that drops one picture and repeats another leaves the count as
it was and every row in between with its neighbour's picture. So a thumbnail of each picture is
kept while it is encoded, and every decoded picture is held against its own and its neighbours'.
"""

from __future__ import annotations

from collections import deque
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
#: How far towards another picture, in the blocks that tell the two apart, one has to be to be
#: taken for it: 0 is its own, 1 the other. Compression moves single blocks by up to 0.7, three by
#: 0.26 (4,000 pictures of a still and of a moving camera at 128 pixels).
_TOWARDS = 0.5
#: Blocks that are needed for that in one picture, and over as many of the last ones.
_BLOCKS, _BLOCKS_IN_ALL, _LAST = 3, 12, 32
#: How many places off a picture is looked for.
_PLACES = (-8, -4, -2, -1, 1, 2, 4, 8)


class PictureTrace:
    """Thumbnails of the pictures that went into one video, 1 KB each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._given: list[NDArray[np.uint8]] = []
        self._checked = 0
        #: For each place: how far towards it the last pictures were, as numerator, denominator
        #: and blocks.
        self._towards: dict[int, deque[tuple[int, int, int]]] = {
            step: deque(maxlen=_LAST) for step in _PLACES}

    def watch(self, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """Pass pictures on to the encoder, and remember them."""
        for frame in frames:
            self._given.append(_thumbnail(frame))
            yield frame

    def check(self, frame: NDArray[np.uint8]) -> None:
        """
        Hold the next decoded picture against the one that was given.

        A shift that changes no block by ``_TELLING`` grey levels is not seen, one that changes few
        only after some pictures.

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
            if self._is_towards(step, found - given, other - given):
                raise DatasetError(
                    f'{self._path}: picture {place} came back from the encoder as picture '
                    f'{place + step}: the rows would be shifted')

    def _is_towards(self, step: int, moved: NDArray[np.int16], apart: NDArray[np.int16]) -> bool:
        """Whether this picture, or the last ones together, are rather those ``step`` away."""
        telling = np.abs(apart) >= _TELLING
        blocks = int(telling.sum())
        if not blocks:
            return False
        wide = apart[telling].astype(np.int64)
        now = (int((moved[telling] * wide).sum()), int(wide @ wide), blocks)
        last = self._towards[step]
        last.append(now)
        if blocks >= _BLOCKS:
            return now[0] > _TOWARDS * now[1]
        towards, whole, count = (sum(column) for column in zip(*last, strict=True))
        return bool(count >= _BLOCKS_IN_ALL and towards > _TOWARDS * whole)


def _thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
