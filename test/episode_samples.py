# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Serialized messages and a small contract for tests of episodes, without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
import struct
from typing import Any

import pytest

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.schemas import share_directories
from ssl_vla_ros.episodes.writer import EpisodeWriter

IMAGE = 'camera/front/image_raw'
JOINTS = 'joint_states'
GRIPPER = 'gripper/command'
SIZE = 32


def need_message_packages() -> None:
    """Skip where no message definitions are installed."""
    if not any((share / 'sensor_msgs' / 'msg' / 'Image.msg').is_file()
               for share in share_directories()):
        pytest.skip('no ROS message definitions are installed (share/sensor_msgs)')


def sample_contract(**changes: Any) -> Contract:
    """Make a robot with one camera, two joints and a gripper."""
    data: dict[str, Any] = {
        'robot': 'sample', 'rate_hz': 20,
        'cameras': {'front': {'topic': IMAGE, 'type': 'sensor_msgs/Image',
                              'height': SIZE, 'width': SIZE}},
        'state': [{'topic': JOINTS, 'type': 'sensor_msgs/JointState', 'names': ['a', 'b']}],
        'action': [{'topic': GRIPPER, 'type': 'std_msgs/Float64MultiArray',
                    'names': ['gripper']}]}
    return parse_contract(data | changes, 'sample.yaml')


class Cdr:
    """A little-endian CDR stream, written by the specification and not by our own reader."""

    def __init__(self) -> None:
        self.data = bytearray(b'\x00\x01\x00\x00')

    def put(self, code: str, *values: Any) -> Cdr:
        """Append aligned values of one struct code."""
        for value in values:
            size = struct.calcsize(code)
            self.data += b'\x00' * (-(len(self.data) - 4) % size)
            self.data += struct.pack(f'<{code}', value)
        return self

    def text(self, value: str) -> Cdr:
        """Append a string."""
        self.put('I', len(value) + 1)
        self.data += value.encode() + b'\x00'
        return self

    def header(self, stamp_ns: int, frame: str = 'f') -> Cdr:
        """Append a std_msgs/Header."""
        sec, nanosec = divmod(stamp_ns, 10**9)
        return self.put('i', sec).put('I', nanosec).text(frame)


def image_cdr(stamp_ns: int, pixels: bytes) -> bytes:
    """Serialize a sensor_msgs/Image of SIZE x SIZE in rgb8."""
    cdr = Cdr().header(stamp_ns).put('I', SIZE, SIZE).text('rgb8').put('B', 0)
    cdr.put('I', SIZE * 3).put('I', len(pixels))
    return bytes(cdr.data + pixels)


def joints_cdr(stamp_ns: int, values: Mapping[str, float]) -> bytes:
    """Serialize a sensor_msgs/JointState with positions alone."""
    cdr = Cdr().header(stamp_ns).put('I', len(values))
    for name in values:
        cdr.text(name)
    return bytes(cdr.put('I', len(values)).put('d', *values.values()).put('I', 0, 0).data)


def gripper_cdr(value: float) -> bytes:
    """Serialize a std_msgs/Float64MultiArray with one value."""
    return bytes(Cdr().put('I', 0, 0, 1).put('d', value).data)


def fill(writer: EpisodeWriter, ticks: int, rng: Any, start_ns: int = 10**9) -> None:
    """Write ``ticks`` pictures, joint states and commands, 50 ms apart."""
    for tick in range(ticks):
        stamp = start_ns + tick * 50_000_000
        writer.write(IMAGE, image_cdr(stamp, rng.bytes(SIZE * SIZE * 3)), stamp + 1000, stamp)
        writer.write(JOINTS, joints_cdr(stamp, {'b': tick + 0.5, 'a': float(tick)}),
                     stamp + 2000, stamp)
        writer.write(GRIPPER, gripper_cdr(tick / 100), stamp + 3000, stamp)


def open_writer(session: Path, **options: Any) -> EpisodeWriter:
    """Open an episode of the sample contract."""
    need_message_packages()
    contract = sample_contract()
    return EpisodeWriter(session, contract, task='lift', topics=contract.topics(), **options)


def all_written(writer: EpisodeWriter) -> dict[str, TopicAccount]:
    """Give accounts in which every message was written."""
    return {topic: TopicAccount(published=count, written=count)
            for topic, count in writer.written.items()}
