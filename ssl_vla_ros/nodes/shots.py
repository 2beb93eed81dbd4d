# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A picture on its way to the encoder, which whoever has time for it first makes small."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import Camera
from ssl_vla_ros.messages.images import camera_pixels
from ssl_vla_ros.preprocess import resize


class Shot:
    """
    One message of a camera, and the small picture that is made of it once.

    While the worker is at the picture before, the thread that takes them has nothing to do: what
    it makes ready then is no part of the time that the worker needs for a tick.
    """

    def __init__(self, camera: Camera, message: Any) -> None:
        self.message = message
        self._camera = camera
        self._lock = threading.Lock()
        self._small: NDArray[np.uint8] | None = None

    def small(self, height: int, width: int) -> NDArray[np.uint8]:
        """
        Give the rgb8 picture (height, width, 3), read-only: it may lie in the message.

        Raises
        ------
        MessageError
            If the message holds no picture; each time that it is asked for.

        """
        with self._lock:
            if self._small is None or self._small.shape[:2] != (height, width):
                pixels, blue_first = camera_pixels(self._camera, self.message)
                small = resize(pixels, height, width)
                self._small = (cv2.cvtColor(small, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                               if blue_first else small)
                self._small.flags.writeable = False
            return self._small
