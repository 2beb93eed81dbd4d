# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A scripted teleoperator that drives the arm as a person does: through topics alone.

It looks at the poses of tool and cube and answers each pair of one stamp with one command, until
the cube is up or it gives up. It publishes nothing while it has no demonstration to give.
"""

from __future__ import annotations

from collections.abc import Sequence
import json
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from ssl_vla_ros.contract import Stream
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import stamp_ns
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.nodes.plain import PlainNode, run_plain, time_message
from ssl_vla_ros.nodes.reporting import Diagnostics, JsonPublisher
from ssl_vla_ros.sim.expert import ScriptedExpert
from ssl_vla_ros.sim.geometry import square_yaw, tool_yaw_of, Vector, yaw_of
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

FRAME = 'base_link'
_CUBE_TOPIC = 'ground_truth/object_pose'
_TOOL_TOPIC = 'tcp_pose_broadcaster/pose'
_POSE = ('position.x', 'position.y', 'position.z',
         'orientation.w', 'orientation.x', 'orientation.y', 'orientation.z')


class Teleop(PlainNode):
    """A teleoperator with a hand's noise, who gives one demonstration when asked."""

    def __init__(self) -> None:
        super().__init__('teleop')
        self.declare('seed', 0, 'of the hand; demonstration n uses seed + n', read_only=True,
                     low=0)
        self.declare('next_demonstration', 0, 'number of the demonstration that ~/start begins',
                     low=0)
        self.declare('rate_hz', 20, 'at which the poses come', read_only=True, low=1, high=1000)
        self.declare('hold_ticks', 14, 'commands given once the cube should be up', low=0)
        self.declare('max_ticks', 200, 'commands after which it gives up', low=1)
        self.declare('input_timeout_s', 5.0, 'without poses, seconds of the steady clock, after '
                     'which it gives up', low=0.1)
        self._expert: ScriptedExpert | None = None
        self._demonstration = -1
        self._state, self._reason = 'idle', ''
        self._ticks = self._held = self._rejected = 0
        self._tool: tuple[int, Vector] | None = None
        self._cube: tuple[int, Vector] | None = None
        self._answered_ns = 0
        self._heard = 0.0

        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10,
                         reliability=ReliabilityPolicy.RELIABLE)
        self._twists = self.create_publisher(TwistStamped, 'servo_node/delta_twist_cmds', qos)
        self._grippers = self.create_publisher(Float64MultiArray, 'gripper/command', qos)
        self._state_topic = JsonPublisher(self, '~/state')
        self._diagnostics = Diagnostics(self)
        self.create_subscription(PoseStamped, _TOOL_TOPIC, self._on_tool, qos)
        self.create_subscription(PoseStamped, _CUBE_TOPIC, self._on_cube, qos)
        self.create_service(Trigger, '~/start', self._on_start)
        self.create_service(Trigger, '~/stop', self._on_stop)
        self.steady_timer(0.1, self._watch)
        self.steady_timer(1.0, self._diagnose)
        self._publish_state()

    # -- services --------------------------------------------------------------------------

    def _on_start(
            self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = False
        if self._expert is not None:
            response.message = (f'demonstration {self._demonstration} is being given; wait until '
                                'it is done, or call ~/stop')
            return response
        for topic in (_CUBE_TOPIC, _TOOL_TOPIC):
            if self.count_publishers(topic) == 0:
                response.message = f'nobody publishes {topic}: start the arm (sim_arm) first'
                return response
        self._demonstration = self.value('next_demonstration')
        self.set_parameters([Parameter('next_demonstration', value=self._demonstration + 1)])
        self._expert = ScriptedExpert(
            self.value('seed') + self._demonstration, 1.0 / self.value('rate_hz'))
        self._ticks = self._held = 0
        # A pose from before the request may show a world that is gone.
        self._tool = self._cube = None
        self._answered_ns = 0
        self._heard = time.monotonic()
        self._set_state('driving', '')
        response.success = True
        response.message = json.dumps({'demonstration': self._demonstration})
        return response

    def _on_stop(
            self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._expert is not None
        response.message = '' if response.success else 'no demonstration is being given'
        if response.success:
            self._finish('stopped')
        return response

    # -- the hand --------------------------------------------------------------------------

    def _on_tool(self, message: PoseStamped) -> None:
        self._tool = self._seen(_TOOL_TOPIC, message) or self._tool
        self._drive()

    def _on_cube(self, message: PoseStamped) -> None:
        self._cube = self._seen(_CUBE_TOPIC, message) or self._cube
        self._drive()

    def _seen(self, topic: str, message: PoseStamped) -> tuple[int, Vector] | None:
        if self._expert is None:
            return None
        try:
            pose = read_stream(Stream(topic, 'geometry_msgs/PoseStamped', 'pose', _POSE), message)
        except MessageError as error:
            self._rejected += 1
            self.warn(f'refused: {error}')
            return None
        return stamp_ns(message.header.stamp), pose

    def _drive(self) -> None:
        """Answer a pair of poses of one stamp, once."""
        if self._expert is None or self._tool is None or self._cube is None:
            return
        (tool_ns, tool), (cube_ns, cube) = self._tool, self._cube
        if tool_ns != cube_ns or tool_ns == self._answered_ns:
            return
        if tool_ns < self._answered_ns:
            self._finish('clock_jump')
            return
        self._answered_ns = tool_ns
        self._heard = time.monotonic()
        command = self._expert.command(
            tool[:3], tool_yaw_of(tool[3:]), cube[:3], square_yaw(yaw_of(cube[3:])))
        # Simulated time comes on a topic of its own, perhaps after the poses: an answer must not
        # be stamped before what it answers to.
        now_ns = max(int(self.get_clock().now().nanoseconds), tool_ns)
        twist = TwistStamped()
        twist.header.stamp = time_message(now_ns)
        twist.header.frame_id = FRAME
        linear = twist.twist.linear
        linear.x, linear.y, linear.z = (float(value) for value in command.linear)
        twist.twist.angular.z = float(command.yaw_rate)
        self._twists.publish(twist)
        self._grippers.publish(Float64MultiArray(data=[command.gripper]))
        self._ticks += 1
        self._held += int(self._expert.done)
        if self._held >= self.value('hold_ticks') and self._expert.done:
            self._finish('held')
        elif self._ticks >= self.value('max_ticks'):
            self._finish('max_ticks')

    def _finish(self, reason: str) -> None:
        self._expert = None
        self._set_state('done', reason)

    # -- what it tells ---------------------------------------------------------------------

    def _set_state(self, state: str, reason: str) -> None:
        self._state, self._reason = state, reason
        self._publish_state()

    def _publish_state(self) -> None:
        self._state_topic.publish({
            'state': self._state, 'reason': self._reason,
            'demonstration': self._demonstration, 'ticks': self._ticks,
            'rejected': self._rejected})

    def _watch(self) -> None:
        waited = time.monotonic() - self._heard
        if self._expert is not None and waited > self.value('input_timeout_s'):
            Node.get_logger(self).error(
                f'no poses of one stamp on {_TOOL_TOPIC} and {_CUBE_TOPIC} for {waited:.1f} s: '
                'the demonstration ends')
            self._finish('no_input')

    def _diagnose(self) -> None:
        self._diagnostics.publish(
            {'demonstration': self._demonstration, 'ticks': self._ticks,
             'rejected': self._rejected}, summary=self._state,
            warnings=[self._reason] if self._reason not in ('', 'held', 'stopped') else [])


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return run_plain(Teleop, args)


if __name__ == '__main__':
    raise SystemExit(main())
