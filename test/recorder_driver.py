# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A robot's driver for tests: publishes what a line on stdin asks for, and counts it.

Each line is a JSON object: ``seconds``, ``image_hz``, ``joint_hz``, ``height``, ``width``, and
``stamps`` (a list of joint_states stamps in nanoseconds to send instead). The answer on stdout is
the number of messages published by topic. It ends with its stdin.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from ssl_vla_ros.messages.images import fill_image
from std_msgs.msg import Float64MultiArray

CAMERAS = ('camera/front/image_raw', 'camera/wrist/image_raw')
JOINTS = ('shoulder_pan_joint', 'elbow_joint')


class Driver(Node):
    """Publishes two cameras, joint states and a command."""

    def __init__(self, reliability: str, depth: int) -> None:
        super().__init__('driver')
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()])
        self.cameras = {topic: self.create_publisher(Image, topic, qos) for topic in CAMERAS}
        self.joints = self.create_publisher(JointState, 'joint_states', qos)
        self.command = self.create_publisher(Float64MultiArray, 'gripper/command', qos)
        self.counts: dict[str, int] = {}

    def wait_for_subscribers(self) -> None:
        """Block until every topic but the command is subscribed to."""
        publishers = (*self.cameras.values(), self.joints, self.command)
        while not all(item.get_subscription_count() for item in publishers):
            time.sleep(0.01)

    def send(self, publisher: Any, topic: str, message: Any) -> None:
        """Publish and count."""
        publisher.publish(message)
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def send_joints(self, stamp_ns: int) -> None:
        """Publish one joint state with the stamp."""
        message = JointState(name=list(JOINTS), position=[0.1, 0.2])
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        self.send(self.joints, 'joint_states', message)

    def drive(self, order: dict[str, Any]) -> None:
        """Publish at the rates asked for."""
        for stamp in order.get('stamps', []):
            self.send_joints(stamp)
            time.sleep(0.005)
        rng = np.random.default_rng(0)
        shape = (order.get('height', 128), order.get('width', 128), 3)
        start = time.monotonic()
        image_hz, joint_hz = order.get('image_hz', 40), order.get('joint_hz', 250)
        images = joints = 0
        while (elapsed := time.monotonic() - start) < order.get('seconds', 0):
            if joints <= elapsed * joint_hz:
                self.send_joints(time.time_ns())
                joints += 1
            if images <= elapsed * image_hz:
                stamp = self.get_clock().now().to_msg()
                # Noise: the worst case of compression and of the disk.
                picture = np.frombuffer(rng.bytes(math.prod(shape)), np.uint8).reshape(shape)
                for topic, publisher in self.cameras.items():
                    self.send(publisher, topic, fill_image(
                        Image(), picture, 'rgb8', stamp, 'camera'))
                self.send(self.command, 'gripper/command', Float64MultiArray(data=[1.0]))
                images += 1
            time.sleep(max(0.0, min(joints / joint_hz, images / image_hz)
                           - (time.monotonic() - start)))


def main() -> None:
    """Run the driver."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--reliability', default='reliable')
    parser.add_argument('--depth', type=int, default=50)
    options = parser.parse_args()
    rclpy.init()
    node = Driver(options.reliability, options.depth)
    node.wait_for_subscribers()
    print('ready', flush=True)
    for line in sys.stdin:
        node.counts = {}
        node.drive(json.loads(line))
        print(json.dumps(node.counts), flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
