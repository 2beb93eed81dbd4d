# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A robot's driver for tests: publishes what a line on stdin asks for, and counts it.

Each line is a JSON object, done in this order: ``stamps`` (joint states with these stamps in
nanoseconds), ``images`` (pictures of the front camera with these fields changed, and ``length``
for that of the data), then ``seconds`` of everything at ``image_hz`` and ``joint_hz``, with
pictures of ``height`` and ``width`` and joints named ``joints``; with ``until_told`` instead of
``seconds``, until the next line comes. The answer on stdout is the number of messages published by
topic. It ends with its stdin. ``recorder_payload`` says what the messages hold.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import select
import sys
import time
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from recorder_payload import CAMERAS, GRIPPER, JOINT_STATES, JOINTS, pixels, POSITIONS
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray

TYPES = dict.fromkeys(CAMERAS, Image) | {
    JOINT_STATES: JointState, GRIPPER: Float64MultiArray}


class Driver(Node):
    """Publishes two cameras, joint states and a command, or some of them."""

    def __init__(self, name: str, topics: list[str], reliability: str, depth: int) -> None:
        super().__init__(name)
        qos = QoSProfile(depth=depth, reliability=ReliabilityPolicy[reliability.upper()])
        self.outputs = {topic: self.create_publisher(kind, topic, qos)
                        for topic, kind in TYPES.items() if topic in topics}
        self.counts: dict[str, int] = {}
        self._sent = dict.fromkeys(TYPES, 0)

    def wait_for_subscribers(self) -> None:
        """Block until every topic is subscribed to."""
        while not all(item.get_subscription_count() for item in self.outputs.values()):
            time.sleep(0.01)

    def send(self, topic: str, message: Any) -> None:
        """Publish and count."""
        self.outputs[topic].publish(message)
        self._sent[topic] += 1
        self.counts[topic] = self.counts.get(topic, 0) + 1

    def send_joints(self, stamp_ns: int, names: list[str]) -> None:
        """Publish one joint state with the stamp."""
        message = JointState(name=names, position=list(POSITIONS),
                             effort=[float(self._sent[JOINT_STATES])] * len(names))
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        self.send(JOINT_STATES, message)

    def send_image(self, topic: str, height: int, width: int, **changes: Any) -> None:
        """Publish one picture, right but for the fields in ``changes``."""
        number = self._sent[topic]
        data = pixels(topic, number, height, width)
        message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        message.header.frame_id = str(number)
        message.header.stamp = self.get_clock().now().to_msg()
        message.data = array.array('B', data[:changes.pop('length', len(data))])
        for name, value in changes.items():
            setattr(message, name, value)
        self.send(topic, message)

    def drive(self, order: dict[str, Any]) -> None:
        """Publish what is asked for."""
        names = order.get('joints', list(JOINTS))
        for stamp in order.get('stamps', []):
            self.send_joints(stamp, names)
            time.sleep(0.005)
        size = {'height': order.get('height', 128), 'width': order.get('width', 128)}
        for changes in order.get('images', []):
            self.send_image(CAMERAS[0], **size | changes)
            time.sleep(0.005)
        start = time.monotonic()
        image_hz, joint_hz = order.get('image_hz', 40), order.get('joint_hz', 250)
        images = joints = 0
        told = order.get('until_told', False)
        while (elapsed := time.monotonic() - start) < order.get('seconds', 0) or told:
            if JOINT_STATES in self.outputs and joints <= elapsed * joint_hz:
                self.send_joints(time.time_ns(), names)
            joints += joints <= elapsed * joint_hz
            if images <= elapsed * image_hz:
                for topic in self.outputs.keys() & set(CAMERAS):
                    self.send_image(topic, **size)
                if GRIPPER in self.outputs:
                    self.send(GRIPPER, Float64MultiArray(data=[float(self._sent[GRIPPER])]))
                images += 1
            due = max(0.0, min(joints / joint_hz, images / image_hz)
                      - (time.monotonic() - start))
            if told:
                told = not select.select([sys.stdin], [], [], due)[0]
            else:
                time.sleep(due)


def main() -> None:
    """Run the driver."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--name', default='driver')
    parser.add_argument('--topics', nargs='+', choices=TYPES, default=list(TYPES))
    parser.add_argument('--reliability', default='reliable')
    parser.add_argument('--depth', type=int, default=50)
    parser.add_argument('--no-wait', action='store_true', help='publish to nobody, too')
    options = parser.parse_args()
    # Fast DDS complains on stdout; there, answers stand alone.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w', encoding='utf-8')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    rclpy.init()
    node = Driver(options.name, options.topics, options.reliability, options.depth)
    if not options.no_wait:
        node.wait_for_subscribers()
    print('ready', file=answers, flush=True)
    # Not ``for line in sys.stdin``: that reads ahead, and ``until_told`` looks at what is left.
    while line := sys.stdin.readline():
        node.counts = dict.fromkeys(node.outputs, 0)
        node.drive(json.loads(line))
        print(json.dumps(node.counts), file=answers, flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
