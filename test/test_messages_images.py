# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Images: every encoding against arrays made by hand, and every kind of broken message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.contract import Camera
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.images import camera_rgb, decode_compressed, fill_image, to_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def image(pixels: NDArray[Any], encoding: str, **changes: Any) -> SimpleNamespace:
    pixels = np.ascontiguousarray(pixels)
    fields = {
        'header': SimpleNamespace(stamp=None, frame_id=''), 'height': pixels.shape[0],
        'width': pixels.shape[1], 'encoding': encoding, 'is_bigendian': 0,
        'step': pixels.nbytes // pixels.shape[0], 'data': pixels.tobytes()}
    return SimpleNamespace(**(fields | changes))


ALPHA = np.full((6, 8, 1), 7, np.uint8)


@pytest.mark.parametrize(('encoding', 'pixels', 'want'), [
    ('rgb8', RGB, RGB),
    ('bgr8', RGB[:, :, ::-1], RGB),
    ('rgba8', np.concatenate([RGB, ALPHA], 2), RGB),
    ('bgra8', np.concatenate([RGB[:, :, ::-1], ALPHA], 2), RGB),
    ('mono8', GREY, np.repeat(GREY[:, :, None], 3, 2)),
    ('mono16', GREY.astype(np.uint16) * 256 + 99, np.repeat(GREY[:, :, None], 3, 2)),
])
@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('kind', [bytes, bytearray, list, np.frombuffer])
def test_encodings(
        encoding: str, pixels: NDArray[Any], want: NDArray[np.uint8], padding: int,
        kind: Any) -> None:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(6, -1)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    data = padded.reshape(-1) if kind is np.frombuffer else kind(padded.tobytes())
    found = to_rgb(image(pixels, encoding, step=padded.shape[1], data=data))
    assert found.dtype == np.uint8
    assert np.array_equal(found, want)


def test_big_endian_16_bit() -> None:
    found = to_rgb(image((GREY.astype(np.uint16) * 256 + 99).astype('>u2'), 'mono16',
                         is_bigendian=1))
    assert np.array_equal(found[:, :, 1], GREY)


@pytest.mark.parametrize(('encoding', 'first_two_rows'), [
    ('bayer_rggb8', 'rggb'), ('bayer_bggr8', 'bggr'), ('bayer_gbrg8', 'gbrg'),
    ('bayer_grbg8', 'grbg')])
def test_a_bayer_image_of_one_colour_comes_out_in_that_colour(
        encoding: str, first_two_rows: str) -> None:
    colour = {'r': 200, 'g': 120, 'b': 40}
    tile = np.array([colour[letter] for letter in first_two_rows], np.uint8).reshape(2, 2)
    found = to_rgb(image(np.tile(tile, (4, 4)), encoding))
    assert (found[2:-2, 2:-2] == (200, 120, 40)).all()


@pytest.mark.parametrize(('cause', 'changes'), [
    ('size', {'height': 0}), ('size', {'width': 0}), ('step', {'step': 23}),
    ('length', {'data': b'\0' * 143}), ('length', {'data': b'\0' * 145}),
    ('length', {'data': b''}), ('length', {'step': 25}), ('encoding', {'encoding': '32FC1'}),
    ('encoding', {'encoding': ''})])
def test_a_broken_image_is_refused_with_its_cause(cause: str, changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        to_rgb(image(RGB, **({'encoding': 'rgb8'} | changes)))
    assert caught.value.cause == cause


def test_the_array_is_the_callers_own() -> None:
    data = bytearray(RGB.tobytes())
    found = to_rgb(image(RGB, 'rgb8', data=data))
    data[:] = bytes(len(data))
    assert np.array_equal(found, RGB)
    found[:] = 0                                 # writable


@settings(deadline=None)     # machines under load
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(['rgb8', 'bgr8', 'mono8', 'mono16']))
def test_what_fill_image_writes_to_rgb_reads(height: int, width: int, encoding: str) -> None:
    rng = np.random.default_rng(height * 10 + width)
    shape = (height, width) if encoding.startswith('mono') else (height, width, 3)
    dtype = np.uint16 if encoding == 'mono16' else np.uint8
    pixels = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    message = image(RGB, 'x')
    assert fill_image(message, pixels, encoding, 'stamp', 'frame') is message
    assert (message.header.stamp, message.header.frame_id) == ('stamp', 'frame')
    want = pixels >> 8 if encoding == 'mono16' else pixels
    want = want[:, :, ::-1] if encoding == 'bgr8' else want
    found = to_rgb(message)
    assert np.array_equal(found, want if want.ndim == 3 else np.repeat(want[:, :, None], 3, 2))


def test_fill_image_takes_a_view_and_refuses_another_shape() -> None:
    message = image(RGB, 'x')
    fill_image(message, RGB[::2, ::-1], 'rgb8', None, '')
    assert np.array_equal(to_rgb(message), RGB[::2, ::-1])
    for pixels, encoding in ((GREY, 'rgb8'), (RGB.astype(np.float32), 'rgb8'), (RGB, 'mono8'),
                             (RGB[:0], 'rgb8'), (RGB, 'yuv422')):
        with pytest.raises(MessageError):
            fill_image(message, pixels, encoding, None, '')


def test_compressed_images() -> None:
    flat = np.full((20, 30, 3), (250, 130, 10), np.uint8)
    good = SimpleNamespace(
        format='png', data=cv2.imencode('.png', flat[:, :, ::-1])[1].tobytes())
    assert np.array_equal(decode_compressed(good), flat)
    camera = Camera('c', 't', 'sensor_msgs/CompressedImage', 20, 30)
    assert np.array_equal(camera_rgb(camera, good), flat)
    assert np.array_equal(
        camera_rgb(Camera('c', 't', 'sensor_msgs/Image', 6, 8), image(RGB, 'rgb8')), RGB)
    for data, cause in ((b'', 'length'), (b'no picture', 'encoding'),
                        (good.data[:20], 'encoding')):
        with pytest.raises(MessageError) as caught:
            decode_compressed(SimpleNamespace(format='png', data=data))
        assert caught.value.cause == cause
