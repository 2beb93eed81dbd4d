# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The one resize that training and serving share.

The frame cache and the runtime both call this function, so pictures seen in training and at
control rate cannot drift apart. Normalisation is part of the exported graph.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

#: Raised when ``resize`` gives other pictures: what was cached before is then not used any more.
RESIZE_VERSION = 1


def resize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """
    Resize an rgb8 picture by pixel area (``cv2.INTER_AREA``).

    Parameters
    ----------
    image
        (H, W, 3) uint8.
    height, width
        Wanted size in pixels.

    Returns
    -------
    numpy.ndarray
        (height, width, 3) uint8, contiguous; the input itself where it has that size already.

    Raises
    ------
    ValueError
        If ``image`` is no (H, W, 3) uint8 array with at least one pixel.

    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f'need an (H, W, 3) uint8 picture, got {image.dtype} {image.shape}')
    if image.shape[:2] == (height, width):
        return np.ascontiguousarray(image)
    resized = cv2.resize(
        np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)
