# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps from messages and from serialized bytes."""

from __future__ import annotations

import struct
from types import SimpleNamespace

from hypothesis import given, settings, strategies as st
import pytest

from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns, stamp_ns

SECONDS = st.integers(-2**31, 2**31 - 1)
NANOSECONDS = st.integers(0, 10**9 - 1)


@settings(deadline=None)     # machines under load
@given(SECONDS, NANOSECONDS, st.booleans())
def test_the_stamp_in_the_bytes_is_the_stamp_of_the_message(
        sec: int, nanosec: int, little: bool) -> None:
    cdr = bytes([0, int(little), 0, 0]) + struct.pack('<iI' if little else '>iI', sec, nanosec)
    want = sec * 10**9 + nanosec
    assert header_stamp_ns(cdr + b'more') == want
    assert header_stamp_ns(memoryview(cdr)) == want
    assert stamp_ns(SimpleNamespace(sec=sec, nanosec=nanosec)) == want


@pytest.mark.parametrize(('cdr', 'cause'), [
    (b'', 'short'), (b'\0\1\0\0' + b'\0' * 7, 'short'), (b'\7' + b'\0' * 20, 'encapsulation'),
    (b'\0\1\0\0' + struct.pack('<iI', 1, 10**9), 'stamp')])
def test_bytes_that_are_no_stamped_message_are_refused(cdr: bytes, cause: str) -> None:
    with pytest.raises(MessageError) as caught:
        header_stamp_ns(cdr)
    assert caught.value.cause == cause


def test_agrees_with_rclpy() -> None:
    serialization = pytest.importorskip('rclpy.serialization')
    from sensor_msgs.msg import JointState
    message = JointState(name=['a'], position=[1.0])
    message.header.stamp.sec, message.header.stamp.nanosec = 1_700_000_000, 123_456_789
    message.header.frame_id = 'base_link'
    assert header_stamp_ns(serialization.serialize_message(message)) == 1_700_000_000_123_456_789
