# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What a camera adds to a scene: exposure and white balance of the day, noise of the sensor.

A renderer's pictures are the same to the last bit whenever the arm stands the same. No camera's
are, and an encoder judged on clean renderings is judged on an easier task: there a random network
lifted as many cubes as a trained one (23 of 25 both; with the light and noise below 8 and 23).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Gain of a whole picture, and of each of its colours; drawn anew for every start and camera.
EXPOSURE = (0.75, 1.25)
WHITE_BALANCE = (0.93, 1.07)
#: Standard deviation of the noise of one pixel, of 255.
NOISE_STD = 3.0


class CameraSensor:
    """
    Exposure, white balance and noise of each camera, reproducible from a start's seed.

    Parameters
    ----------
    cameras
        Names of the cameras; each has its own light.

    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = tuple(cameras)
        self._gain: dict[str, NDArray[np.float32]] = {}
        self._rng = np.random.default_rng(0)
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Draw the light of a new start and begin its noise anew."""
        self._rng = np.random.default_rng([seed, 1])
        for camera in self._cameras:
            gain = self._rng.uniform(*EXPOSURE) * self._rng.uniform(*WHITE_BALANCE, 3)
            self._gain[camera] = gain.astype(np.float32)

    def expose(self, camera: str, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Picture (height, width, 3) as this camera's sensor would give it."""
        noise = self._rng.standard_normal(picture.shape, dtype=np.float32)
        values = picture * self._gain[camera] + np.float32(NOISE_STD) * noise
        return np.clip(values, 0.0, 255.0).astype(np.uint8)
