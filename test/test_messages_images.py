# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Images: every encoding against arrays made by hand, and every kind of broken message."""

from __future__ import annotations

import array
import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.contract import Camera
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.images import (
    camera_pixels, camera_rgb, decode_compressed, ENCODINGS, fill_image, image_size, to_rgb)

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
    ('mono16', GREY.astype(np.uint16) * 257 + 99, np.repeat(GREY[:, :, None], 3, 2)),
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


def to_eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale as cv_bridge does, in floating point."""
    scaled: NDArray[np.uint8] = np.rint(values.astype(np.float64) * 255.0 / 65535.0).astype(
        np.uint8)
    return scaled


def demosaic(mosaic: NDArray[Any], pattern: str) -> NDArray[np.float64]:
    """Mean of the nearest pixels of each colour (bilinear), written out; the inside alone."""
    height, width = mosaic.shape
    letters = np.array(list(pattern)).reshape(2, 2)
    found = np.zeros((height - 2, width - 2, 3))
    for row in range(1, height - 1):
        for column in range(1, width - 1):
            for colour, letter in enumerate('rgb'):
                if letters[row % 2, column % 2] == letter:
                    found[row - 1, column - 1, colour] = mosaic[row, column]
                    continue
                near = [(row + down, column + right) for down in (-1, 0, 1)
                        for right in (-1, 0, 1)
                        if letters[(row + down) % 2, (column + right) % 2] == letter]
                # Of green the four beside it, not those over the corner.
                best = min(abs(r - row) + abs(c - column) for r, c in near)
                values = [float(mosaic[r, c]) for r, c in near
                          if abs(r - row) + abs(c - column) == best]
                found[row - 1, column - 1, colour] = sum(values) / len(values)
    return found


def from_yuv(luma: NDArray[Any], u: NDArray[Any], v: NDArray[Any]) -> NDArray[np.float64]:
    """ITU-R BT.601 with studio swing (luma 16 … 235, below is black), as cameras send 4:2:2."""
    luma = 255.0 / 219.0 * np.maximum(luma.astype(np.float64) - 16.0, 0.0)
    u, v = u.astype(np.float64) - 128.0, v.astype(np.float64) - 128.0
    red, blue, swing = 0.299, 0.114, 2 * 255.0 / 224.0
    green = 1.0 - red - blue
    u, v = swing * (1.0 - blue) * u, swing * (1.0 - red) * v     # blue and red, less luma
    return np.clip(np.stack([luma + v, luma - (red * v + blue * u) / green, luma + u], axis=-1),
                   0.0, 255.0)


def reference(name: str, values: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
    """Give RGB of (height, width[, channels]) by hand, and how many pixels of border lack."""
    if name.startswith('bayer'):
        return demosaic(values, name.removeprefix('bayer_')[:4]), 1
    if name in ('yuv422', 'uyvy', 'yuv422_yuy2', 'yuyv'):
        first = 0 if name in ('yuv422', 'uyvy') else 1     # of the colour's two bytes
        u, v = (np.repeat(values[:, start::2, first], 2, axis=1) for start in (0, 1))
        return from_yuv(values[:, :, 1 - first], u, v), 0
    if name.startswith('mono'):
        return np.repeat(values[:, :, None], 3, axis=2).astype(np.float64), 0
    colours = values[:, :, :3]
    return (colours[:, :, ::-1] if name.startswith('bgr') else colours).astype(np.float64), 0


@pytest.mark.parametrize('name', sorted(ENCODINGS))
@settings(deadline=None, max_examples=30)     # machines under load
@given(data=st.data())
def test_every_encoding_is_its_reference_at_any_size_step_and_byte_order(
        name: str, data: st.DataObject) -> None:
    encoding = ENCODINGS[name]
    wide = 2 if encoding.channels == 2 else 1
    least = 4 if name.startswith('bayer') else 1
    height = data.draw(st.integers(least, 12))
    width = wide * data.draw(st.integers(least, 12))
    padding, big = data.draw(st.integers(0, 9)), data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shape = (height, width) + ((encoding.channels,) if encoding.channels > 1 else ())
    values = rng.integers(0, 65536 if encoding.deep else 256, shape)
    stored = values.astype(('>u2' if big else '<u2') if encoding.deep else np.uint8)
    rows = np.ascontiguousarray(stored).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    message = image(rows, name, width=width, step=rows.shape[1], is_bigendian=int(big))
    found = to_rgb(message)
    assert found.dtype == np.uint8
    assert found.shape == (height, width, 3)
    assert image_size(message) == (height, width)
    want, border = reference(name, values)
    inside = found[border:height - border, border:width - border].astype(np.float64)
    # Where values are computed, they may be rounded to either side on the way.
    close = 1.0 if name.startswith(('bayer', 'yuv', 'uyvy', 'yuyv')) else 0.0
    assert np.abs(inside - (to_eight_bits(want) if encoding.deep else want)).max() <= close


@pytest.mark.parametrize(('name', 'wrong'), [
    ('yuyv', 'uyvy'), ('bayer_rggb8', 'bayer_bggr8'), ('bayer_gbrg16', 'bayer_grbg16'),
    ('rgb16', 'bgr16')])
def test_the_references_see_an_encoding_taken_for_another(name: str, wrong: str) -> None:
    rng = np.random.default_rng(0)
    encoding = ENCODINGS[name]
    shape = (8, 8) + ((encoding.channels,) if encoding.channels > 1 else ())
    values = rng.integers(0, 65536 if encoding.deep else 256, shape)
    stored = values.astype(np.uint16 if encoding.deep else np.uint8)
    want, border = reference(name, values)
    inside = slice(border, 8 - border)
    found = to_rgb(image(stored, wrong)).astype(np.float64)[inside, inside]
    assert np.abs(found - (to_eight_bits(want) if encoding.deep else want)).max() > 50.0


def test_other_encodings_go_through_cv_bridge(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    class CvBridge:

        def imgmsg_to_cv2(self, message: Any, desired_encoding: str) -> np.ndarray:
            asked.append((message.encoding, desired_encoding))
            if message.encoding == 'nv99':
                raise RuntimeError('Unrecognized image encoding [nv99]')
            return np.full((4, 6, 3), 7, np.uint8)

    plain = image(np.zeros((4, 6), np.uint8), 'mono8')
    plain.encoding = 'nv21'
    with pytest.raises(MessageError, match="'nv21' is not one of .*install cv_bridge"):
        to_rgb(plain)
    module = ModuleType('cv_bridge')
    module.CvBridge = CvBridge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'cv_bridge', module)
    assert np.array_equal(to_rgb(plain), np.full((4, 6, 3), 7, np.uint8))
    plain.encoding = 'nv99'
    with pytest.raises(MessageError, match="cv_bridge cannot convert encoding 'nv99' to rgb8"):
        to_rgb(plain)
    assert asked == [('nv21', 'rgb8'), ('nv99', 'rgb8')]


def test_what_cv_bridge_gives_where_it_is_installed() -> None:
    bridge = pytest.importorskip('cv_bridge', reason='cv_bridge is not installed')
    from sensor_msgs.msg import Image
    rng = np.random.default_rng(0)
    for name, encoding in ENCODINGS.items():
        shape = (8, 8) + ((encoding.channels,) if encoding.channels > 1 else ())
        values = rng.integers(0, 65536 if encoding.deep else 256, shape).astype(
            np.uint16 if encoding.deep else np.uint8)
        plain = image(values, name)
        message = Image(height=8, width=8, encoding=name, step=plain.step, data=plain.data)
        try:
            theirs = bridge.CvBridge().imgmsg_to_cv2(message, desired_encoding='rgb8')
        except bridge.CvBridgeError:
            continue  # older ones do not know the newer names
        assert np.array_equal(to_rgb(plain), theirs), name


@pytest.mark.parametrize(('cause', 'changes'), [
    ('size', {'height': 0}), ('size', {'width': 0}), ('step', {'step': 23}),
    ('length', {'data': b'\0' * 143}), ('length', {'data': b'\0' * 145}),
    ('length', {'data': b''}), ('length', {'step': 25}), ('encoding', {'encoding': '32FC1'}),
    ('encoding', {'encoding': '16UC1'}), ('size', {'encoding': 'uyvy', 'width': 7}),
    ('size', {'encoding': 'bayer_rggb8', 'width': 1}),
    ('encoding', {'encoding': ''})])
def test_a_broken_image_is_refused_with_its_cause(cause: str, changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        to_rgb(image(RGB, **({'encoding': 'rgb8'} | changes)))
    assert caught.value.cause == cause


@settings(deadline=None, max_examples=500)
@given(st.sampled_from([*ENCODINGS, '8UC3', '32FC1', 'nv21', 'h264', '']),
       st.integers(0, 40), st.integers(0, 40), st.integers(0, 200), st.integers(0, 255),
       st.binary(max_size=2000), st.booleans())
def test_whatever_the_fields_say_it_is_a_picture_of_that_size_or_refused(
        encoding: str, height: int, width: int, step: int, big: int, data: bytes,
        fitting: bool) -> None:
    if fitting:   # or next to nothing would come through
        step = max(step, width * 8)
        data = (data * (1 + step * height // max(1, len(data))))[:step * height] or b''
    message = image(RGB, encoding, height=height, width=width, step=step, data=data,
                    is_bigendian=big)
    try:
        found = to_rgb(message)
    except MessageError as error:
        assert error.cause in ('encoding', 'size', 'step', 'length')
        with pytest.raises(MessageError, match=re.escape(str(error))):
            image_size(message)
    else:
        assert found.shape == (height, width, 3) == (*image_size(message), 3)
        assert found.dtype == np.uint8


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 900), st.integers(0, 255), st.sampled_from(['.png', '.jpg']))
def test_a_changed_byte_of_a_compressed_picture_is_a_picture_or_refused(
        place: int, value: int, kind: str) -> None:
    data = bytearray(cv2.imencode(kind, RGB)[1].tobytes())
    data[place % len(data)] = value
    try:
        found = decode_compressed(SimpleNamespace(format=kind, data=bytes(data)))
    except MessageError as error:
        assert error.cause == 'encoding'
    else:
        assert found.dtype == np.uint8
        assert found.ndim == 3


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
    want = to_eight_bits(pixels) if encoding == 'mono16' else pixels
    want = want[:, :, ::-1] if encoding == 'bgr8' else want
    found = to_rgb(message)
    assert np.array_equal(found, want if want.ndim == 3 else np.repeat(want[:, :, None], 3, 2))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize('name', ['rgb8', 'bgr8', 'bgra8', 'mono16', 'yuyv'])
def test_pixels_to_be_looked_at_are_those_of_the_picture(name: str, padding: int) -> None:
    encoding = ENCODINGS[name]
    rows = np.random.default_rng(1).integers(
        0, 256, (6, 8 * encoding.pixel_bytes + padding), dtype=np.uint8)
    # As rclpy's messages have it: writable.
    message = image(rows, name, width=8, data=array.array('B', rows.tobytes()))
    camera = Camera('front', 'front', 'sensor_msgs/Image', 4, 4)
    pixels, blue_first = camera_pixels(camera, message)
    assert blue_first == (name == 'bgr8')
    assert np.array_equal(pixels[..., ::-1] if blue_first else pixels, to_rgb(message))
    with pytest.raises(ValueError, match='read-only'):
        pixels[0, 0, 0] = 1
    in_place = name in ('rgb8', 'bgr8')
    assert np.shares_memory(pixels, np.frombuffer(message.data, np.uint8)) == in_place
    with pytest.raises(MessageError) as caught:
        camera_pixels(camera, image(rows, name, width=9, data=b'short'))
    assert caught.value.cause in ('length', 'step', 'size')


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
