# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of one tick, made small for the models that look at them: once for each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.preprocess import resize

Pictures = NDArray[np.uint8]


class SharedPictures:
    """
    Pictures of one tick, for any number of bundles.

    Each bundle's ``prepare`` takes it in place of a mapping; what one has made small, the next
    does not make small again. Made anew for each tick; for one thread.

    Parameters
    ----------
    pictures
        rgb8 (H, W, 3) by camera, of any size.

    """

    def __init__(self, pictures: Mapping[str, Pictures]) -> None:
        self._pictures = pictures
        self._made: dict[tuple[tuple[str, ...], int, int], Pictures] = {}
        self._single: dict[tuple[str, int, int], Pictures] = {}

    def sized(self, cameras: Sequence[str], height: int, width: int) -> Pictures:
        """
        Give the pictures (cameras, height, width, 3) as all of their size share them: read-only.

        Raises
        ------
        ValueError
            If a camera is missing, or a picture is no (H, W, 3) uint8 array.

        """
        key = tuple(cameras), height, width
        if key not in self._made:
            made = np.empty((len(cameras), height, width, 3), np.uint8)
            for index, camera in enumerate(cameras):
                made[index] = self._one(camera, height, width)
            # Several models read it: none may write into what the next one sees.
            made.flags.writeable = False
            self._made[key] = made
        return self._made[key]

    def _one(self, camera: str, height: int, width: int) -> Pictures:
        if camera not in self._pictures:
            raise ValueError(f'no picture of camera {camera!r} (got {list(self._pictures)})')
        key = camera, height, width
        if key not in self._single:
            self._single[key] = resize(self._pictures[camera], height, width)
        return self._single[key]
