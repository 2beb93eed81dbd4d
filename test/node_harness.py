# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Start a node as its own process, and be the robot that it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from introduction import introduce
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from ssl_vla_ros.messages.images import fill_image
from ssl_vla_ros.nodes.common import LATCHED_QOS
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

PERIOD_S = 0.05
#: Ten times what a step takes on a quiet machine.
PATIENCE_S = 20.0


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class NodeProcess:
    """One node of this package in a process of its own; its log is kept in a file."""

    def __init__(self, module: str, folder: Path, **parameters: Any) -> None:
        command = [sys.executable, '-m', f'ssl_vla_ros.nodes.{module}', '--ros-args']
        for name, value in parameters.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            command += ['-p', f'{name}:={text}']
        self._path = folder / f'{module}.log'
        with open(self._path, 'wb') as log:
            # Who runs the tests in the background hands on an ignored SIGINT, and one that comes
            # before the node takes signals itself would be lost.
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=_default_interrupt)

    @property
    def log(self) -> str:
        """
        Return what it has printed so far, less what Fast DDS prints in its name.

        Where two processes begin at once, one finds the other's port of shared memory half made,
        says so on stdout, and takes the next (eProsima/Fast-DDS issues 5737 and 6117).
        """
        lines = self._path.read_text(errors='replace').splitlines(keepends=True)
        return ''.join(line for line in lines if 'RTPS_TRANSPORT_SHM' not in line)

    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit status."""
        if self.alive():
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Robot:
    """Publishes pictures and joints as the tiny contract names them, and keeps what comes."""

    def __init__(self, node: Any, executor: Any) -> None:
        self.node = node
        self._executor = executor
        self.cameras = {name: node.create_publisher(Image, f'camera/{name}/image_raw', 1)
                        for name in ('front', 'wrist')}
        self.joints = node.create_publisher(JointState, 'joint_states', 10)
        self.twist = node.create_publisher(TwistStamped, 'servo_node/delta_twist_cmds', 10)
        self.gripper = node.create_publisher(Float64MultiArray, 'gripper/command', 10)
        self.seen: dict[str, list[Any]] = {}
        self.position = [0.1, -0.1]
        self.listen(DiagnosticArray, '/diagnostics')

    def listen(self, kind: Any, topic: str, latched: bool = False) -> list[Any]:
        """Subscribe, and return the list to which every message is appended."""
        kept = self.seen.setdefault(topic, [])
        self.node.create_subscription(kind, topic, kept.append, LATCHED_QOS if latched else 10)
        return kept

    def spin(self, seconds: float) -> None:
        """Take messages for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left)

    def until(self, condition: Callable[[], Any], what: str,
              between: Callable[[], object] | None = None) -> Any:
        """Spin until the condition holds; fail with ``what`` when patience ends."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if found := condition():
                return found
            if between is None:
                self.spin(0.02)
            else:
                between()
        raise AssertionError(f'waited {PATIENCE_S:g} s in vain for {what}')

    def client(self, kind: Any, name: str,
               between: Callable[[], object] | None = None) -> Any:
        """Give a client of the service ``node/service`` to which no answer is lost."""
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f'service {name}', between)
        introduce(self.node, name, lambda condition: self.until(
            condition, f'a first answer of the node that offers {name}', between))
        return client

    def call(self, kind: Any, name: str, request: Any = None) -> Any:
        """Call a service once, and return the response."""
        client = self.client(kind, name)
        future = client.call_async(request or kind.Request())
        response = self.until(lambda: future.done() and [future.result()], f'answer of {name}')[0]
        self.node.destroy_client(client)
        return response

    def change(self, node: str, label: str) -> bool:
        """Ask for a lifecycle transition."""
        request = ChangeState.Request()
        request.transition.label = label
        return bool(self.call(ChangeState, f'{node}/change_state', request).success)

    def state(self, node: str) -> str:
        """Lifecycle state of a node."""
        return str(self.call(GetState, f'{node}/get_state').current_state.label)

    def enable(self, wanted: bool = True) -> Any:
        """Call the policy's ~/enable."""
        return self.call(SetBool, 'policy/enable', SetBool.Request(data=wanted))

    def trigger(self, name: str) -> Any:
        """Call a Trigger service."""
        return self.call(Trigger, name)

    def now_ns(self) -> int:
        """ROS time."""
        return int(self.node.get_clock().now().nanoseconds)

    def image(self, value: int | np.ndarray, stamp_ns: int, camera: str = 'front') -> Image:
        """Make a picture (32, 32, 3) of one value or of given pixels."""
        pixels = np.broadcast_to(np.asarray(value, np.uint8), (32, 32, 3))
        return fill_image(Image(), np.ascontiguousarray(pixels), 'rgb8', time_of(stamp_ns),
                          f'camera_{camera}_optical_frame')

    def publish_joints(self, stamp_ns: int) -> None:
        """Publish the joints' positions, in another order than the contract's."""
        message = JointState(name=['wrist', 'elbow'], position=self.position[::-1])
        message.header.stamp = time_of(stamp_ns)
        self.joints.publish(message)

    def tick(self, value: int | np.ndarray = 100, *, wait: bool = True) -> int:
        """Publish the pictures of a tick and joints before and after; returns the stamp."""
        began = time.monotonic()
        stamp = self.now_ns()
        self.publish_joints(stamp - 1_000_000)
        for camera, publisher in self.cameras.items():
            publisher.publish(self.image(value, stamp, camera))
        self.publish_joints(self.now_ns())
        if wait:
            self.spin(max(0.0, PERIOD_S - (time.monotonic() - began)))
        return stamp

    def command(self, linear: float, angular: float, gripper: float) -> None:
        """Publish an action as a teleoperator would."""
        twist = TwistStamped()
        twist.header.stamp = time_of(self.now_ns())
        twist.twist.linear.x, twist.twist.angular.z = linear, angular
        self.twist.publish(twist)
        self.gripper.publish(Float64MultiArray(data=[gripper]))

    def diagnostics(
            self, node: str, between: Callable[[], object] | None = None) -> dict[str, str]:
        """Return the next diagnostics of a node as a mapping, with its level and message."""
        kept = self.seen['/diagnostics']
        kept.clear()

        def found() -> list[Any]:
            return [status for message in kept for status in message.status
                    if status.name == node]

        status = self.until(found, f'diagnostics of {node}', between)[-1]
        return {item.key: item.value for item in status.values} | {
            'level': str(ord(status.level)), 'message': status.message}


def json_of(messages: list[String]) -> dict[str, Any]:
    """Content of the newest JSON message."""
    found: dict[str, Any] = json.loads(messages[-1].data)
    return found


def time_of(stamp_ns: int) -> Any:
    """Convert nanoseconds to a ``builtin_interfaces/Time``."""
    return rclpy.time.Time(nanoseconds=stamp_ns).to_msg()


def ready(me: Robot, features: list[Any]) -> None:
    """Publish ticks until features come back; empties the list of them."""
    me.until(lambda: features, 'features', between=lambda: me.tick(50))
    me.spin(0.2)
    features.clear()


@contextmanager
def robot(**node_options: Any) -> Iterator[Robot]:
    """Give a robot with a ROS context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('robot', context=context, **node_options)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Robot(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


@contextmanager
def running(module: str, folder: Path, **parameters: Any) -> Iterator[NodeProcess]:
    """Give a node's process, and end it with the test; prints its log if the test fails."""
    process = NodeProcess(module, folder, **parameters)
    try:
        yield process
    except BaseException:
        print(f'--- log of {module}\n{process.log}')
        raise
    finally:
        # Asked first: a killed process leaves its shared memory behind.
        process.end()
