# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure what the inference and policy nodes cost beside the networks they run.

    python bench/bench_nodes.py --bundle models/NAME --seconds 20

The nodes run as processes of their own over real DDS; this process publishes pictures of 128 px
at the control rate and joint states at 125 Hz, on a ROS domain given by ROS_DOMAIN_ID.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.messages.images import fill_image
from std_srvs.srv import SetBool

_SIZE = 128
_JOINT_RATE_HZ = 125


def cpu_s(process: subprocess.Popen[bytes]) -> float:
    """CPU time of a process so far, in seconds."""
    fields = Path(f'/proc/{process.pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf('SC_CLK_TCK'))


def main() -> None:
    """Run both nodes and print one JSON object of figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--bundle', required=True)
    parser.add_argument('--seconds', type=float, default=20.0)
    parser.add_argument('--foresight', action='store_true', help='subscribe to ~/prediction, too')
    options = parser.parse_args()
    manifest = json.loads((Path(options.bundle) / 'manifest.json').read_text())
    contract = parse_contract(manifest['contract'], options.bundle)
    nodes = {name: subprocess.Popen(
        [sys.executable, '-m', f'ssl_vla_ros.nodes.{name}', '--ros-args',
         '-p', f'bundle:={options.bundle}', '-p', 'autostart:=true'])
        for name in ('inference', 'policy')}
    rclpy.init()
    node = rclpy.create_node('bench')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    diagnostics: dict[str, dict[str, str]] = {}

    def keep(message: Any) -> None:
        for status in message.status:
            diagnostics[status.name] = {item.key: item.value for item in status.values}

    node.create_subscription(DiagnosticArray, '/diagnostics', keep, 10)
    if options.foresight:
        for topic in ('prediction', 'surprise'):
            node.create_subscription(Image, f'inference/{topic}', lambda message: None, 1)
    cameras = {camera.name: node.create_publisher(Image, camera.topic, 1)
               for camera in contract.cameras}
    joints = {stream.topic: node.create_publisher(JointState, stream.topic, 10)
              for stream in contract.state}
    enable = node.create_client(SetBool, 'policy/enable')
    pixels = np.full((_SIZE, _SIZE, 3), 120, np.uint8)
    began = time.monotonic()
    next_tick = next_joint = began
    started: tuple[float, dict[str, float]] | None = None
    enabling: Any = None
    try:
        while True:
            now = time.monotonic()
            if now >= next_joint:
                next_joint += 1.0 / _JOINT_RATE_HZ
                for stream in contract.state:
                    message = JointState(name=list(stream.names),
                                         position=[0.5] * len(stream.names))
                    message.header.stamp = node.get_clock().now().to_msg()
                    joints[stream.topic].publish(message)
            if now >= next_tick:
                next_tick += 1.0 / contract.rate_hz
                stamp = node.get_clock().now().to_msg()
                for name, publisher in cameras.items():
                    publisher.publish(fill_image(Image(), pixels, 'rgb8', stamp, name))
            if started is None and now - began > 6.0:
                started = (now, {name: cpu_s(process) for name, process in nodes.items()})
            if enabling is None and now - began > 5.0 and enable.service_is_ready():
                enabling = enable.call_async(SetBool.Request(data=True))
            if started is not None and now - started[0] > options.seconds:
                break
            executor.spin_once(timeout_sec=max(0.0, min(next_tick, next_joint)
                                               - time.monotonic()))
        assert started is not None
        elapsed = time.monotonic() - started[0]
        report = {name: diagnostics.get(name, {}) | {
            'cpu_percent_of_a_core': 100.0 * (cpu_s(process) - started[1][name]) / elapsed}
            for name, process in nodes.items()}
        print(json.dumps(report, indent=2))
    finally:
        for process in nodes.values():
            process.send_signal(signal.SIGINT)
            process.wait(20.0)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


if __name__ == '__main__':
    main()
