# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Between ``sensor_msgs/Image``, ``sensor_msgs/CompressedImage`` and RGB arrays.

A driver's mistake must not become data: size, step, data length and encoding are checked before
a pixel is read. Encodings that are not listed here go through cv_bridge where it is installed.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Camera
from ssl_vla_ros.errors import MessageError


@dataclass(frozen=True)
class Encoding:
    """
    How the pixels of an encoding lie, and OpenCV's conversion of them to RGB.

    Attributes
    ----------
    channels, deep
        Numbers of a pixel, and whether they have 16 bits instead of 8.
    colour
        Code of ``cv2.cvtColor``; None for RGB.
    tile
        Height and width of the smallest image: a Bayer pattern, or two pixels that share colour.

    """

    channels: int
    deep: bool
    colour: int | None
    tile: tuple[int, int] = (1, 1)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel."""
        return self.channels * (2 if self.deep else 1)


def _encodings() -> dict[str, Encoding]:
    known: dict[str, Encoding] = {}
    for deep, bits in ((False, '8'), (True, '16')):
        known |= {
            f'rgb{bits}': Encoding(3, deep, None),
            f'bgr{bits}': Encoding(3, deep, cv2.COLOR_BGR2RGB),
            f'rgba{bits}': Encoding(4, deep, cv2.COLOR_RGBA2RGB),
            f'bgra{bits}': Encoding(4, deep, cv2.COLOR_BGRA2RGB),
            f'mono{bits}': Encoding(1, deep, cv2.COLOR_GRAY2RGB),
            # ROS names a pattern by its first two rows from the first pixel on, OpenCV from the
            # second row's second pixel on: hence the swap. Getting this wrong is silent.
            f'bayer_rggb{bits}': Encoding(1, deep, cv2.COLOR_BayerBG2RGB, (2, 2)),
            f'bayer_bggr{bits}': Encoding(1, deep, cv2.COLOR_BayerRG2RGB, (2, 2)),
            f'bayer_gbrg{bits}': Encoding(1, deep, cv2.COLOR_BayerGR2RGB, (2, 2)),
            f'bayer_grbg{bits}': Encoding(1, deep, cv2.COLOR_BayerGB2RGB, (2, 2)),
        }
    # The second name of each is the newer one.
    for name in ('yuv422', 'uyvy'):
        known[name] = Encoding(2, False, cv2.COLOR_YUV2RGB_UYVY, (1, 2))
    for name in ('yuv422_yuy2', 'yuyv'):
        known[name] = Encoding(2, False, cv2.COLOR_YUV2RGB_YUY2, (1, 2))
    return known


#: The encodings that are converted here.
ENCODINGS = _encodings()
_WRITABLE = {'rgb8': (np.uint8, 3), 'bgr8': (np.uint8, 3), 'rgba8': (np.uint8, 4),
             'bgra8': (np.uint8, 4), 'mono8': (np.uint8, 0), 'mono16': (np.uint16, 0)}


def bytes_of(data: Any) -> NDArray[np.uint8]:
    """View of a ``uint8[]`` field as it comes: array.array, bytes, ndarray, or a list."""
    if isinstance(data, np.ndarray):
        return np.ascontiguousarray(data).view(np.uint8).reshape(-1)
    if isinstance(data, list | tuple):
        return np.asarray(data, dtype=np.uint8)
    return np.frombuffer(data, dtype=np.uint8)


def checked_rows(msg: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """
    Bytes of an Image by row, without the padding: shape (height, width * pixel_bytes).

    Raises
    ------
    MessageError
        Cause ``size``, ``step`` or ``length``.

    """
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    if height <= 0 or width <= 0:
        raise MessageError('size', f'image is {width}x{height}: it has no pixels')
    if step < width * pixel_bytes:
        raise MessageError(
            'step', f'image step is {step}, must be at least {width * pixel_bytes} for a width '
            f'of {width} in {msg.encoding!r}')
    data = bytes_of(msg.data)
    if data.size != step * height:
        raise MessageError(
            'length', f'image data has {data.size} bytes, must be step * height = '
            f'{step} * {height} = {step * height}')
    return data.reshape(height, step)[:, :width * pixel_bytes]


def _checked(msg: Any, name: str, encoding: Encoding) -> NDArray[np.uint8]:
    rows = checked_rows(msg, encoding.pixel_bytes)
    height, width = int(msg.height), int(msg.width)
    least, across = encoding.tile
    if height < least or width < across:
        raise MessageError(
            'size', f'{name} image is {width}x{height}, must be at least {across}x{least}')
    if encoding.channels == 2 and width % 2:
        raise MessageError('size', f'{name} image is {width} wide, but two pixels share their '
                                   'colour: the width must be even')
    return rows


def image_size(msg: Any) -> tuple[int, int]:
    """
    Height and width of what ``to_rgb`` would give, without the work where there is a way.

    Raises
    ------
    MessageError
        As ``to_rgb``.

    """
    name = str(msg.encoding)
    encoding = ENCODINGS.get(name)
    if encoding is None:
        height, width, _ = _through_cv_bridge(msg).shape
        return height, width
    _checked(msg, name, encoding)
    return int(msg.height), int(msg.width)


def to_rgb(msg: Any) -> NDArray[np.uint8]:
    """
    Convert a ``sensor_msgs/Image`` to RGB.

    As cv_bridge does: colours are converted first, then 16 bits are scaled to 8 by 255/65535 and
    rounded. Unlike cv_bridge 4.1, big-endian images come out right.

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3), contiguous, and the caller's own: never a view.

    Raises
    ------
    MessageError
        Cause ``encoding``, ``size``, ``step`` or ``length``.

    """
    name = str(msg.encoding)
    encoding = ENCODINGS.get(name)
    if encoding is None:
        return _through_cv_bridge(msg)
    rows = _checked(msg, name, encoding)
    height, width = int(msg.height), int(msg.width)
    if name == 'rgb8':
        return rows.reshape(height, width, 3).copy()
    pixels: NDArray[Any] = np.ascontiguousarray(rows)
    if encoding.deep:
        pixels = pixels.view('>u2' if msg.is_bigendian else '<u2').astype(np.uint16)
    if encoding.channels > 1:
        pixels = pixels.reshape(height, width, encoding.channels)
    if encoding.colour is not None:
        pixels = cv2.cvtColor(pixels, encoding.colour)
    if encoding.deep:
        # v * 255 / 65535 is v / 257, rounded: no number lies half way between two.
        pixels = (pixels + np.uint32(128)) // np.uint32(257)
    return _uint8(pixels)


def _uint8(image: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(image, dtype=np.uint8)


def _through_cv_bridge(msg: Any) -> NDArray[np.uint8]:
    try:
        from cv_bridge import CvBridge
    except ImportError:
        raise MessageError(
            'encoding', f'image encoding {msg.encoding!r} is not one of '
            f'{", ".join(ENCODINGS)}; for others install cv_bridge') from None
    try:
        image = CvBridge().imgmsg_to_cv2(msg, desired_encoding='rgb8')
    except Exception as error:  # cv_bridge raises its own and OpenCV's errors alike
        raise MessageError(
            'encoding',
            f'cv_bridge cannot convert encoding {msg.encoding!r} to rgb8: {error}') from error
    return _uint8(image)


def decode_compressed(msg: Any) -> NDArray[np.uint8]:
    """
    Decode a ``sensor_msgs/CompressedImage`` (JPEG, PNG …) to RGB uint8 (height, width, 3).

    Raises
    ------
    MessageError
        Cause ``length`` if there is no data, ``encoding`` if no picture can be decoded from it.

    """
    data = bytes_of(msg.data)
    if data.size == 0:
        raise MessageError('length', 'compressed image has no data')
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise MessageError(
            'encoding', f'compressed image ({msg.format!r}) does not decode: {error}') from error
    if image is None:
        raise MessageError(
            'encoding', f'compressed image ({msg.format!r}, {data.size} bytes) does not decode')
    return _uint8(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def camera_rgb(camera: Camera, msg: Any) -> NDArray[np.uint8]:
    """RGB picture of one of a contract's cameras, compressed or not, in the size it came in."""
    return decode_compressed(msg) if camera.type.endswith('CompressedImage') else to_rgb(msg)


def camera_pixels(camera: Camera, msg: Any) -> tuple[NDArray[np.uint8], bool]:
    """
    Picture of one of a contract's cameras to be looked at, without a copy where that is possible.

    What a copy of a large picture costs is mostly the new memory for it. What treats all channels
    alike, as a resize does, may be done before they are put in order.

    Returns
    -------
    pixels
        uint8 (height, width, 3), read-only: it may lie in the message.
    blue_first
        Whether the channels are blue, green, red.

    Raises
    ------
    MessageError
        As ``camera_rgb``.

    """
    name = '' if camera.type.endswith('CompressedImage') else str(msg.encoding)
    if name not in ('rgb8', 'bgr8'):
        pixels = camera_rgb(camera, msg)
    else:
        rows = _checked(msg, name, ENCODINGS[name])
        pixels = rows.reshape(len(rows), -1, 3)
    pixels.flags.writeable = False
    return pixels, name == 'bgr8'


def fill_image(msg: Any, pixels: NDArray[Any], encoding: str, stamp: Any, frame_id: str) -> Any:
    """
    Fill an empty ``sensor_msgs/Image`` with an array, rows unpadded.

    Parameters
    ----------
    msg
        The message to fill; it is returned.
    pixels
        uint8 (height, width, 3 or 4), uint8 (height, width) or uint16 (height, width), as
        ``encoding`` wants it.
    encoding
        One of rgb8, bgr8, rgba8, bgra8, mono8, mono16.
    stamp
        The ``builtin_interfaces/Time`` of the header.
    frame_id
        The header's frame.

    Raises
    ------
    MessageError
        Cause ``encoding`` or ``size``.

    """
    if encoding not in _WRITABLE:
        raise MessageError(
            'encoding', f'cannot write encoding {encoding!r}; known: {", ".join(_WRITABLE)}')
    dtype, channels = _WRITABLE[encoding]
    wanted = pixels.shape[:2] + ((channels,) if channels else ())
    if pixels.dtype != dtype or pixels.shape != wanted or pixels.size == 0:
        raise MessageError(
            'size', f'an array of {pixels.dtype} {pixels.shape} is no {encoding} image')
    msg.header.stamp = stamp
    msg.header.frame_id = frame_id
    msg.encoding = encoding
    set_rows(msg, pixels)
    return msg


def set_rows(msg: Any, values: NDArray[Any]) -> None:
    """Size, step, endianness and data of an Image from an array with rows along axis 0."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder('<'))
    msg.height, msg.width = int(values.shape[0]), int(values.shape[1])
    msg.step = int(values.nbytes // values.shape[0])
    msg.is_bigendian = 0
    # array.array passes rclpy's field check at once; bytes and ndarray are looked at byte by byte.
    data = array.array('B')
    data.frombytes(values.reshape(-1).view(np.uint8).data)
    msg.data = data
