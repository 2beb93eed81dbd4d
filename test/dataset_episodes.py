# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Real recorded episodes of a small made-up robot, for the dataset's tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import get_typestore, Stores

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.writer import EpisodeWriter

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
PERIOD_NS = 50 * MS
STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types


def small_contract(**sync: Any) -> Contract:
    """One camera pair, two joints, a twist, a gripper without header, a pose for evaluation."""
    return parse_contract({
        'robot': 'tiny', 'rate_hz': 20,
        'cameras': {
            name: {'topic': f'camera/{name}/image_raw', 'type': 'sensor_msgs/Image',
                   'height': 32, 'width': 48} for name in ('front', 'wrist')},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                   'field': 'position', 'names': ['shoulder', 'elbow']}],
        'action': [
            {'topic': 'twist', 'type': 'geometry_msgs/TwistStamped', 'names': ['linear.x']},
            {'topic': 'gripper', 'type': 'std_msgs/Float64MultiArray', 'names': ['gripper']}],
        'evaluation': [{'topic': 'truth', 'type': 'geometry_msgs/PoseStamped',
                        'names': ['position.x']}],
        'sync': sync}, 'small_contract')


def picture(tick: int, camera: str, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Draw a picture: its red tells the tick, its blue the camera; green rises downwards."""
    image = np.full((height, width, 3), 16 + 3 * tick, dtype=np.uint8)
    image[..., 1] = 40.0 + 96.0 * (np.arange(height)[:, None] + 0.5) / height
    image[..., 2] = 200 if camera == 'wrist' else 40
    return image


def _header(stamp: int) -> Any:
    return TYPES['std_msgs/msg/Header'](
        stamp=TYPES['builtin_interfaces/msg/Time'](
            sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id='')


def image_message(stamp: int, pixels: NDArray[np.uint8], step: int | None = None) -> bytes:
    """Serialize an rgb8 image."""
    height, width, _ = pixels.shape
    return _cdr('sensor_msgs/msg/Image', TYPES['sensor_msgs/msg/Image'](
        header=_header(stamp), height=height, width=width, encoding='rgb8', is_bigendian=0,
        step=3 * width if step is None else step, data=pixels.reshape(-1)))


def joints_message(stamp: int, values: list[float], names: list[str] | None = None) -> bytes:
    """Serialize joint states, by default elbow first: order must not matter."""
    return _cdr('sensor_msgs/msg/JointState', TYPES['sensor_msgs/msg/JointState'](
        header=_header(stamp), name=names or ['elbow', 'shoulder'],
        position=np.array(values[::-1] if names is None else values, dtype=np.float64),
        velocity=np.empty(0), effort=np.empty(0)))


def twist_message(stamp: int, linear_x: float) -> bytes:
    """Serialize a twist with one component set."""
    vector = TYPES['geometry_msgs/msg/Vector3']
    return _cdr('geometry_msgs/msg/TwistStamped', TYPES['geometry_msgs/msg/TwistStamped'](
        header=_header(stamp), twist=TYPES['geometry_msgs/msg/Twist'](
            linear=vector(x=linear_x, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=0.0))))


def pose_message(stamp: int, x: float) -> bytes:
    """Serialize a pose with one component set."""
    return _cdr('geometry_msgs/msg/PoseStamped', TYPES['geometry_msgs/msg/PoseStamped'](
        header=_header(stamp), pose=TYPES['geometry_msgs/msg/Pose'](
            position=TYPES['geometry_msgs/msg/Point'](x=x, y=0.0, z=0.0),
            orientation=TYPES['geometry_msgs/msg/Quaternion'](x=0.0, y=0.0, z=0.0, w=1.0))))


def array_message(values: list[float]) -> bytes:
    """Serialize a Float64MultiArray, which has no stamp."""
    return _cdr('std_msgs/msg/Float64MultiArray', TYPES['std_msgs/msg/Float64MultiArray'](
        layout=TYPES['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0),
        data=np.array(values, dtype=np.float64)))


def _cdr(kind: str, message: Any) -> bytes:
    return bytes(STORE.serialize_cdr(message, kind))


@dataclass
class Recording:
    """Messages of an episode as (receive time, topic, bytes); edit them, then ``write``."""

    contract: Contract = field(default_factory=small_contract)
    messages: list[tuple[int, str, bytes]] = field(default_factory=list)

    @classmethod
    def regular(cls, ticks: int = 20, start_ns: int = START_NS) -> Recording:
        """Record a faultless robot: joints at 100 Hz, commands 4 ms after each picture."""
        recording = cls()
        put = recording.messages.append
        for tick in range(ticks):
            now = start_ns + tick * PERIOD_NS
            for camera in ('front', 'wrist'):
                put((now + 2 * MS, f'camera/{camera}/image_raw',
                     image_message(now, picture(tick, camera))))
            put((now + 2 * MS, 'truth', pose_message(now, float(tick))))
            put((now + 5 * MS, 'twist', twist_message(now + 4 * MS, 0.1 * tick)))
            put((now + 5 * MS, 'gripper', array_message([float(tick % 2)])))
        for step in range(-1, ticks * 5):
            now = start_ns + step * 10 * MS + 3 * MS
            seconds = (now - start_ns) / 1e9
            put((now + MS, 'joint_states', joints_message(now, [seconds, -2.0 * seconds])))
        return recording

    def drop(self, topic: str, from_ns: int, to_ns: int = 2**62) -> None:
        """Lose a topic's messages received in a span of time."""
        self.messages = [item for item in self.messages
                         if item[1] != topic or not from_ns <= item[0] < to_ns]

    def write(self, session: Path, *, status: str = 'complete', success: bool | None = True,
              task: str = 'lift the cube') -> Path:
        """Write a finished episode."""
        topics = self.contract.topics()
        writer = EpisodeWriter(session, self.contract, task=task, topics=topics)
        counts = dict.fromkeys(topics, 0)
        for received, topic, data in sorted(self.messages, key=lambda item: item[0]):
            writer.write(topic, data, received, received)
            counts[topic] += 1
        return writer.close(
            {topic: TopicAccount(published=count, written=count)
             for topic, count in counts.items()}, status=status, success=success)
