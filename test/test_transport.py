# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the ROS tests stand on: a domain of their own, and a transport that loses no image."""

from __future__ import annotations

import subprocess
import sys
import time
from xml.etree import ElementTree

import conftest
import pytest

IMAGES = 45
PUBLISHER = f"""
import array, sys, time
import rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('camera')
publisher = node.create_publisher(Image, 'image', qos_profile_sensor_data)
message = Image(height=480, width=640, encoding='rgb8', step=1920)
message.data = array.array('B', bytes(480 * 1920))
deadline = time.monotonic() + 20
while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
    time.sleep(0.01)
for index in range({IMAGES}):
    message.header.stamp.sec = index + 1
    publisher.publish(message)
    time.sleep(1 / 30)
sys.stdin.read()
"""


def test_two_tests_never_share_a_domain() -> None:
    held = [conftest.lock_domain() for _ in range(5)]
    try:
        assert len({domain for domain, _ in held}) == 5
        # Another process cannot take any of them.
        code = ('import fcntl, sys\n'
                'for path in sys.argv[1:]:\n'
                '    try:\n'
                '        fcntl.flock(open(path), fcntl.LOCK_EX | fcntl.LOCK_NB)\n'
                '    except BlockingIOError:\n'
                '        print("held")\n')
        files = [str(conftest.DOMAIN_LOCKS / str(domain)) for domain, _ in held]
        done = subprocess.run([sys.executable, '-c', code, *files], capture_output=True,
                              text=True, timeout=30, check=True)
        assert done.stdout.split() == ['held'] * 5
    finally:
        for _, descriptor in held:
            conftest.os.close(descriptor)


def test_a_domain_in_use_by_somebody_else_is_passed_over() -> None:
    domain, descriptor = conftest.lock_domain()
    try:
        assert conftest.is_quiet(domain)
        with conftest.socket.socket(
                conftest.socket.AF_INET, conftest.socket.SOCK_DGRAM) as somebody:
            somebody.bind(('127.0.0.1', 7400 + 250 * domain + 10))
            assert not conftest.is_quiet(domain)
    finally:
        conftest.os.close(descriptor)


def test_the_profile_says_what_the_documentation_says() -> None:
    root = ElementTree.parse(conftest.FASTDDS_PROFILE).getroot()
    space = {'': root.tag[1:].split('}')[0]}
    assert root.findtext('.//segment_size', namespaces=space) == str(64 * 2**20)
    assert root.findtext('.//initialAnnouncements/count', namespaces=space) == '10'
    assert root.findtext('.//initialAnnouncements//nanosec', namespaces=space) == '50000000'
    assert root.findtext('.//leaseAnnouncement/nanosec', namespaces=space) == '250000000'


@pytest.mark.ros
def test_large_images_all_arrive(ros_domain: int) -> None:
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    publisher = subprocess.Popen([sys.executable, '-c', PUBLISHER], stdin=subprocess.PIPE)
    rclpy.init()
    try:
        node = rclpy.create_node('sink')
        stamps: list[int] = []
        node.create_subscription(
            Image, 'image', lambda message: stamps.append(message.header.stamp.sec),
            QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        deadline = time.monotonic() + 30
        while len(stamps) < IMAGES and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.1)
            if stamps and stamps[-1] == IMAGES:
                break
        assert stamps == list(range(1, IMAGES + 1))
    finally:
        publisher.communicate(timeout=30)
        rclpy.shutdown()


@pytest.mark.ros
def test_seven_participants_find_each_other(ros_domain: int) -> None:
    """As many as a demo has; each context is one, as a process would be."""
    import rclpy
    from rclpy.context import Context

    contexts, nodes = [], []
    try:
        for index in range(7):
            context = Context()
            context.init()
            contexts.append(context)
            nodes.append(rclpy.create_node(f'peer_{index}', context=context))
        wanted = {f'peer_{index}' for index in range(7)}
        deadline = time.monotonic() + 10
        while any(wanted - set(node.get_node_names()) for node in nodes):
            assert time.monotonic() < deadline, [
                sorted(wanted - set(node.get_node_names())) for node in nodes]
            time.sleep(0.05)
    finally:
        for node in nodes:
            node.destroy_node()
        for context in contexts:
            context.try_shutdown()
