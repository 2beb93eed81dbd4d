# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A camera's pictures: judged while the recording is read, drawn from it again when they are used.

The first pictures of an episode, up to a fixed amount of memory, are kept from the first reading:
short episodes are read once. Of the others only stamp, size and place stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Camera
from ssl_vla_ros.dataset.align_recording import Place
from ssl_vla_ros.errors import DatasetError, MessageError
from ssl_vla_ros.messages.images import bytes_of, camera_rgb, image_size
from ssl_vla_ros.preprocess import resize

Picture = NDArray[np.uint8]
#: Pictures of one episode that are kept in memory, in bytes.
KEEP_BYTES = 64 * 2**20


@dataclass
class Budget:
    """Memory that all cameras of an episode share."""

    left: int = KEEP_BYTES

    def spend(self, amount: int) -> bool:
        """Take some of it, if there is as much."""
        if amount > self.left:
            return False
        self.left -= amount
        return True


@dataclass
class Shot:
    """One message of a camera, in the order of receive times."""

    stamp_ns: int
    log_time_ns: int
    place: Place
    size: tuple[int, int]
    cause: str = ''
    kept: Picture | None = None


def judge(camera: Camera, message: Any, shot: Shot, budget: Budget) -> None:
    """Note a picture's size, or why it is unusable; keep it while there is room."""
    try:
        if budget.spend(camera.height * camera.width * 3):
            picture = camera_rgb(camera, message)
            shot.size = (picture.shape[0], picture.shape[1])
            shot.kept = resize(picture, camera.height, camera.width)
        else:
            shot.size = picture_size(camera, message)
    except MessageError as error:
        shot.cause = error.cause


def picture_size(camera: Camera, message: Any) -> tuple[int, int]:
    """
    Height and width of a picture that ``camera_rgb`` can convert, without converting it.

    Raises
    ------
    MessageError
        As ``camera_rgb``.

    """
    if camera.type.endswith('CompressedImage'):
        # Whether it decodes is only known by decoding; grey takes the shortest way there.
        try:
            image = cv2.imdecode(bytes_of(message.data), cv2.IMREAD_GRAYSCALE)
        except cv2.error:
            image = None
        if image is not None:
            return int(image.shape[0]), int(image.shape[1])
    else:
        return image_size(message)
    # What is left is wrong: the conversion itself says how.
    picture = camera_rgb(camera, message)
    return picture.shape[0], picture.shape[1]


@dataclass(frozen=True)
class TickPictures:
    """
    One picture a tick, (H, W, 3) uint8 in the contract's size, each time it is iterated.

    A picture that several ticks take is read once and handed out several times.

    Attributes
    ----------
    name
        Which recording and camera, for the error message.
    camera
        The contract's.
    stamps
        (N,) int64, the stamp of every usable picture.
    index
        (T,) which of them each tick takes.
    read
        Gives a picture by its number, with the stamp found beside it.

    """

    name: str
    camera: Camera
    stamps: NDArray[np.int64]
    index: NDArray[np.int64]
    read: Callable[[int], tuple[int, Picture]]

    def __len__(self) -> int:
        """Ticks."""
        return len(self.index)

    def __iter__(self) -> Iterator[Picture]:
        """
        Yield the pictures in the order of the ticks.

        Raises
        ------
        DatasetError
            If the recording gives another picture than the one that was picked: rows are never
            shifted.

        """
        wanted = (self.camera.height, self.camera.width, 3)
        picture: Picture | None = None
        last = -1
        for row, number in enumerate(self.index.tolist()):
            if picture is None or number != last:
                stamp, picture = self.read(number)
                last = number
                if stamp != self.stamps[number] or picture.shape != wanted:
                    raise DatasetError(
                        f'{self.name}: row {row} takes the picture stamped {self.stamps[number]} '
                        f'ns of size {wanted}, read was one stamped {stamp} ns of size '
                        f'{picture.shape}; the recording was changed while it was read')
            yield picture
