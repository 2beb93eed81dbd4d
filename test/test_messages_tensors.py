# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Tensors travel in images of 32FC1 and come out as they went in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest

from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.tensors import fill_tensor, read_tensor

VALUES = arrays(
    np.float32, st.tuples(st.integers(1, 6), st.integers(1, 6)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False))


def filled(values: Any) -> SimpleNamespace:
    message = SimpleNamespace()
    assert fill_tensor(message, values) is message
    return message


@settings(deadline=None)     # machines under load
@given(VALUES)
def test_round_trip(values: Any) -> None:
    message = filled(values)
    assert (message.height, message.width) == values.shape
    assert np.array_equal(read_tensor(message), values)
    assert np.array_equal(read_tensor(filled(values.T)), values.T)


def test_big_endian_and_padding() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    rows = np.pad(values.astype('>f4').view(np.uint8).reshape(2, 12), ((0, 0), (0, 4)))
    message = SimpleNamespace(height=2, width=3, encoding='32FC1', is_bigendian=1, step=16,
                              data=rows.tobytes())
    assert np.array_equal(read_tensor(message), values)


@pytest.mark.parametrize(('cause', 'changes'), [
    ('encoding', {'encoding': 'rgb8'}), ('size', {'height': 0}), ('step', {'step': 7}),
    ('length', {'data': b'1234'}),
    ('nan', {'data': np.array([[1, np.nan]], np.float32).tobytes()})])
def test_a_broken_tensor_is_refused(cause: str, changes: dict[str, Any]) -> None:
    message = filled(np.ones((1, 2), np.float32))
    message.__dict__.update(changes)
    with pytest.raises(MessageError) as caught:
        read_tensor(message)
    assert caught.value.cause == cause


@pytest.mark.parametrize('values', [
    np.ones(3, np.float32), np.ones((2, 2)), np.ones((0, 2), np.float32)])
def test_only_two_dimensional_float32_is_written(values: Any) -> None:
    with pytest.raises(MessageError):
        fill_tensor(SimpleNamespace(), values)


def test_fits_rclpys_checked_image() -> None:
    Image = pytest.importorskip('sensor_msgs.msg').Image
    values = np.random.default_rng(0).normal(size=(72, 192)).astype(np.float32)
    assert np.array_equal(read_tensor(fill_tensor(Image(), values)), values)
