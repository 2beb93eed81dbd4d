# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A picture is made small once, whoever comes first, and a broken one stays broken."""

from __future__ import annotations

import array
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.images import camera_rgb
from ssl_vla_ros.nodes import shots
from ssl_vla_ros.preprocess import resize
from tiny_bundle import tiny_contract

CAMERA = tiny_contract().cameras[0]


def message(**changes: Any) -> SimpleNamespace:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    fields: dict[str, Any] = {
        'height': 48, 'width': 64, 'encoding': 'rgb8', 'is_bigendian': 0, 'step': 192,
        'data': pixels.tobytes()}
    return SimpleNamespace(**(fields | changes))


def test_two_threads_make_one_picture_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(image: np.ndarray, height: int, width: int) -> np.ndarray:
        calls.append((height, width))
        return resize(image, height, width)

    monkeypatch.setattr(shots, 'resize', counted)
    shot = shots.Shot(CAMERA, message())
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: shot.small(12, 16), range(8)))
    assert calls == [(12, 16)] and all(picture is found[0] for picture in found)
    np.testing.assert_array_equal(found[0], resize(camera_rgb(CAMERA, message()), 12, 16))
    assert shot.small(6, 8).shape == (6, 8, 3)      # of another bundle, after a swap


@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', 'yuyv'])
@pytest.mark.parametrize('size', [(12, 16), (48, 64), (7, 5)])
def test_it_is_the_resized_picture_in_every_encoding(
        encoding: str, size: tuple[int, int]) -> None:
    bytes_of = {'mono8': 64, 'yuyv': 128}.get(encoding, 192)
    data = array.array('B', message().data[:48 * bytes_of])
    sent = message(encoding=encoding, step=bytes_of, data=data)
    small = shots.Shot(CAMERA, sent).small(*size)
    np.testing.assert_array_equal(small, resize(camera_rgb(CAMERA, sent), *size))
    assert not small.flags.writeable


def test_a_broken_message_says_so_to_each_who_asks() -> None:
    shot = shots.Shot(CAMERA, message(data=b'short'))
    for _ in range(2):
        with pytest.raises(MessageError):
            shot.small(12, 16)
