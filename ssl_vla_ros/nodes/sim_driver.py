# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The simulated UR5e's driver: topics and services as a real one would have, over ``SimLoop``.

Physics, rendering and publishing happen in the loop's thread; callbacks check a command, leave it
there and return. Stamps are simulated time where this node publishes ``/clock``, else this node's
clock at the instant each physics step was due.
"""

from __future__ import annotations

import json
from typing import Any

from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.parameter import Parameter
from rclpy.task import Future
from ssl_vla_ros.contract import Stream
from ssl_vla_ros.errors import ConfigError, MessageError
from ssl_vla_ros.messages.stamps import stamp_ns
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.nodes.plain import PlainNode
from ssl_vla_ros.nodes.reporting import Diagnostics
from ssl_vla_ros.nodes.sim_topics import ArmTopics, FRAME, reliable
from ssl_vla_ros.sim.lift import COMMAND_TIMEOUT_S
from ssl_vla_ros.sim.loop import SimLoop
from ssl_vla_ros.sim.trajectory import TrajectoryPoint
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

#: A faster twist is taken for a mistake in the units, m/s and rad/s.
MAX_LINEAR, MAX_ANGULAR = 1.0, 3.15

_TWIST = Stream('servo_node/delta_twist_cmds', 'geometry_msgs/TwistStamped', 'twist', (
    'linear.x', 'linear.y', 'linear.z', 'angular.x', 'angular.y', 'angular.z'))
_GRIPPER = Stream('gripper/command', 'std_msgs/Float64MultiArray', 'data', ('gripper',))
_TRAJECTORY_TOPIC = 'joint_trajectory_controller/joint_trajectory'


class SimArm(PlainNode):
    """A UR5e with a gripper, two cameras and a cube, in simulation."""

    def __init__(self) -> None:
        super().__init__('sim_arm')
        self.declare('seed', 0, 'of the sequence of starts', read_only=True, low=0)
        self.declare('speed', 1.0, 'simulated seconds for each second; 0.0 is as fast as '
                     'possible', read_only=True, low=0.0, high=100.0)
        self.declare('publish_clock', False, 'publish /clock and stamp with simulated time; '
                     'needed for any speed but 1.0', read_only=True)
        self.declare('width', 128, 'of the pictures, pixels', read_only=True, low=16, high=1920)
        self.declare('height', 128, 'of the pictures, pixels', read_only=True, low=16, high=1080)
        self.declare('next_start', 0, 'number of the start that ~/randomise takes next; the arm '
                     'begins at it', low=0)
        self._speed, self._has_clock = self.value('speed'), self.value('publish_clock')
        self._check_clock()
        self._last_late = (0, 0.0)
        height, width = self.value('height'), self.value('width')
        self._topics = ArmTopics(
            self, height=height, width=width, with_clock=self._has_clock)
        self._diagnostics = Diagnostics(self, 'sim_ur5e')
        self._loop = SimLoop(
            self._topics, seed=self.value('seed'), start=self.value('next_start'),
            speed=self._speed, simulated_stamps=self._has_clock, height=height, width=width)
        self.create_subscription(TwistStamped, _TWIST.topic, self._on_twist, reliable(10))
        self.create_subscription(
            Float64MultiArray, _GRIPPER.topic, self._on_gripper, reliable(10))
        self.create_subscription(
            JointTrajectory, _TRAJECTORY_TOPIC, self._on_trajectory, reliable(10))
        # Their callbacks wait for the loop: in the node's own group nothing else would run.
        group = ReentrantCallbackGroup()
        self.create_service(Trigger, '~/reset', self._on_reset, callback_group=group)
        self.create_service(Trigger, '~/randomise', self._on_randomise, callback_group=group)
        self.steady_timer(1.0, self._diagnose)
        self.steady_timer(0.1, self._watch)
        self._loop.begin()

    def _check_clock(self) -> None:
        if self._speed != 1.0 and not self._has_clock:
            raise ConfigError(
                f'sim_arm: speed is {self._speed:g}, which needs publish_clock to be true: '
                'stamped with the time of day, the arm would seem to move at another speed')
        if self.value('use_sim_time') and not self._has_clock:
            raise ConfigError(
                'sim_arm: use_sim_time is true but publish_clock is false; this node makes the '
                'simulated time: set publish_clock to true, or use_sim_time to false')

    def close(self) -> None:
        """End the loop's thread."""
        self._loop.stop()

    def _watch(self) -> None:
        # An error of the loop's thread ends the process through the executor's thread.
        if self._loop.error is not None:
            raise self._loop.error

    # -- callbacks -------------------------------------------------------------------------

    def _refuse(self, what: str, error: MessageError) -> None:
        self._loop.commands.reject(what, error.cause)
        self.warn(f'refused: {error}')

    def _check_stamp(self, message: TwistStamped) -> None:
        age = (self._loop.stamp_ns - stamp_ns(message.header.stamp)) * 1e-9
        if stamp_ns(message.header.stamp) == 0:
            raise MessageError('zero_stamp', f'{_TWIST.topic}: the header has no stamp')
        if abs(age) > COMMAND_TIMEOUT_S:
            clock = 'simulated time' if self._has_clock else 'the time of day'
            raise MessageError(
                'stale' if age > 0.0 else 'future', f'{_TWIST.topic}: the stamp is {age:.3f} s '
                f'old, must be within {COMMAND_TIMEOUT_S:g} s; this arm runs on {clock}')

    def _on_twist(self, message: TwistStamped) -> None:
        try:
            if message.header.frame_id not in ('', FRAME):
                raise MessageError(
                    'frame', f'{_TWIST.topic}: the frame is {message.header.frame_id!r}, must be '
                    f'{FRAME!r}')
            twist = read_stream(_TWIST, message)
            self._check_stamp(message)
            if np.linalg.norm(twist[:3]) > MAX_LINEAR or np.linalg.norm(twist[3:]) > MAX_ANGULAR:
                raise MessageError(
                    'too_fast', f'{_TWIST.topic}: {twist.tolist()} is faster than {MAX_LINEAR:g} '
                    f'm/s or {MAX_ANGULAR:g} rad/s')
        except MessageError as error:
            self._refuse('twist', error)
            return
        self._loop.commands.twist(twist)

    def _on_gripper(self, message: Float64MultiArray) -> None:
        try:
            closed = float(read_stream(_GRIPPER, message)[0])
            if not 0.0 <= closed <= 1.0:
                raise MessageError(
                    'range', f'{_GRIPPER.topic}: {closed:g} is not from 0 (open) to 1 (closed)')
        except MessageError as error:
            self._refuse('gripper', error)
            return
        self._loop.commands.gripper(closed)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._loop.commands.trajectory(list(message.joint_names), [
            TrajectoryPoint(stamp_ns(point.time_from_start) * 1e-9, list(point.positions),
                            list(point.velocities))
            for point in message.points])

    async def _started(self, index: int | None, response: Trigger.Response) -> Trigger.Response:
        """Answer once the new start is in place; meanwhile other callbacks run."""
        future = Future()
        executor = self.executor

        def answer(result: dict[str, Any] | None, reason: str) -> None:
            future.set_result((result, reason))
            # The executor sleeps until something of its own happens.
            if executor is not None:
                executor.wake()

        self._loop.request_start(index, answer)
        result, reason = await future
        response.success = result is not None
        response.message = reason if result is None else json.dumps(result)
        return response

    async def _on_reset(
            self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return await self._started(None, response)

    async def _on_randomise(
            self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        index = self.value('next_start')
        self.set_parameters([Parameter('next_start', value=index + 1)])
        return await self._started(index, response)

    def _diagnose(self) -> None:
        state = self._topics.state
        late, slipped = state.get('late_ticks', 0), state.get('slipped_s', 0.0)
        new_late, new_slipped = late - self._last_late[0], slipped - self._last_late[1]
        self._last_late = (late, slipped)
        warnings = []
        if new_late or new_slipped:
            warnings.append(f'cannot keep up: {new_late} pictures late and {new_slipped:.2f} s '
                            'lost in the last second')
        self._diagnostics.publish(
            {key: state.get(key) for key in (
                'real_time_factor', 'ticks', 'late_ticks', 'slipped_s', 'start', 'lifted',
                'commands', 'rejected', 'command_timeouts')}, warnings=warnings)
