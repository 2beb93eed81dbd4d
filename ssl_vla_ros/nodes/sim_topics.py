# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the simulated arm publishes, as ``SimLoop`` hands it out.

Everything here is called in the loop's thread. The ground truth is for evaluation alone.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

from geometry_msgs.msg import PoseStamped
import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image, JointState

from ssl_vla_ros.messages.images import fill_image
from ssl_vla_ros.nodes.plain import time_message
from ssl_vla_ros.nodes.reporting import JsonPublisher
from ssl_vla_ros.sim.loop import Joints, Poses
from ssl_vla_ros.sim.scene import ARM_JOINTS, CAMERAS, GRIPPER_JOINT

FRAME = 'base_link'
#: Messages kept for a reader that is late: one second of pictures, two of the small ones.
PICTURE_DEPTH, POSE_DEPTH, JOINT_DEPTH = 20, 40, 250

_NAMES = [*ARM_JOINTS, GRIPPER_JOINT]


def reliable(depth: int) -> QoSProfile:
    """Return the QoS of everything the driver publishes and takes."""
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth,
                      reliability=ReliabilityPolicy.RELIABLE)


class ArmTopics:
    """
    The arm's publishers; the ``Outputs`` of a ``SimLoop``.

    Parameters
    ----------
    node
        Whose publishers they are.
    height, width
        Of the pictures, pixels.
    with_clock
        Whether ``/clock`` is published.

    """

    def __init__(self, node: Node, *, height: int, width: int, with_clock: bool) -> None:
        self._node = node
        self._size = (width, height)
        self._published: Counter[str] = Counter()
        self._info_messages: dict[str, CameraInfo] = {}
        #: The newest ``~/state``; empty before the first.
        self.state: Mapping[str, Any] = {}
        self._state_topic = JsonPublisher(node, '~/state')
        self._clock_topic = (
            node.create_publisher(ClockMessage, '/clock', reliable(10)) if with_clock else None)
        self._joints = node.create_publisher(JointState, 'joint_states', reliable(JOINT_DEPTH))
        self._tool = node.create_publisher(
            PoseStamped, 'tcp_pose_broadcaster/pose', reliable(POSE_DEPTH))
        self._cube = node.create_publisher(
            PoseStamped, 'ground_truth/object_pose', reliable(POSE_DEPTH))
        self._images = {
            name: node.create_publisher(Image, f'camera/{name}/image_raw', reliable(PICTURE_DEPTH))
            for name in CAMERAS}
        self._infos = {
            name: node.create_publisher(
                CameraInfo, f'camera/{name}/camera_info', reliable(POSE_DEPTH))
            for name in CAMERAS}

    def clock_ns(self) -> int:
        """Read this node's clock."""
        return int(self._node.get_clock().now().nanoseconds)

    def on_ready(self, focal_lengths: Mapping[str, float]) -> None:
        """Prepare the cameras' calibrations."""
        width, height = self._size
        for name, focal in focal_lengths.items():
            info = CameraInfo(width=width, height=height, distortion_model='plumb_bob')
            info.header.frame_id = f'camera_{name}_optical_frame'
            centre_x, centre_y = 0.5 * (width - 1), 0.5 * (height - 1)
            info.d = [0.0] * 5
            info.k = [focal, 0.0, centre_x, 0.0, focal, centre_y, 0.0, 0.0, 1.0]
            info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
            info.p = [focal, 0.0, centre_x, 0.0, 0.0, focal, centre_y, 0.0, 0.0, 0.0, 1.0, 0.0]
            self._info_messages[name] = info

    def on_clock(self, stamp: int) -> None:
        """Publish ``/clock``, before any data of that time."""
        if self._clock_topic is not None:
            self._clock_topic.publish(ClockMessage(clock=time_message(stamp)))
            self._published['/clock'] += 1

    def on_joints(self, stamp: int, joints: Joints) -> None:
        """Publish ``joint_states``."""
        message = JointState(name=_NAMES)
        message.header.stamp = time_message(stamp)
        message.header.frame_id = FRAME
        message.position = array('d', joints.positions)
        message.velocity = array('d', joints.velocities)
        message.effort = array('d', joints.efforts)
        self._joints.publish(message)
        self._published['joint_states'] += 1

    def on_poses(self, stamp: int, poses: Poses) -> None:
        """Publish the tool's pose, then the cube's."""
        for publisher, topic, position, quaternion in (
                (self._tool, 'tcp_pose_broadcaster/pose', poses.tool, poses.tool_quaternion),
                (self._cube, 'ground_truth/object_pose', poses.cube, poses.cube_quaternion)):
            message = PoseStamped()
            message.header.stamp = time_message(stamp)
            message.header.frame_id = FRAME
            place, turn = message.pose.position, message.pose.orientation
            place.x, place.y, place.z = (float(value) for value in position)
            turn.w, turn.x, turn.y, turn.z = (float(value) for value in quaternion)
            publisher.publish(message)
            self._published[topic] += 1

    def on_pictures(self, stamp: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Publish each camera's picture and calibration."""
        time = time_message(stamp)
        for name, picture in pictures.items():
            info = self._info_messages[name]
            self._images[name].publish(
                fill_image(Image(), picture, 'rgb8', time, info.header.frame_id))
            self._published[f'camera/{name}/image_raw'] += 1
            info.header.stamp = time
            self._infos[name].publish(info)
            self._published[f'camera/{name}/camera_info'] += 1

    def on_refused(self, reason: str) -> None:
        """Log a command that was refused where it should have begun."""
        self._node.get_logger().warning(f'refused: {reason}')

    def on_state(self, state: Mapping[str, Any]) -> None:
        """Publish ``~/state``, with how many messages have left on each topic."""
        self.state = {**state, 'publish_clock': self._clock_topic is not None,
                      'published': dict(self._published)}
        self._state_topic.publish(self.state)
