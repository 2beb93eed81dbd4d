# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Publish actions on the contract's topics, and bring the robot to rest along its limits."""

from __future__ import annotations

from collections.abc import Iterable
import time
from typing import Any

from builtin_interfaces.msg import Duration
import numpy as np
from rclpy.lifecycle import LifecyclePublisher
from ssl_vla_ros.contract import Contract, Stream
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.messages.streams import fill_stream
from ssl_vla_ros.nodes.common import input_qos, ManagedNode
from ssl_vla_ros.nodes.streams import message_class
from ssl_vla_ros.runtime.history import Vector
from ssl_vla_ros.safety import CommandLimiter
from trajectory_msgs.msg import JointTrajectoryPoint

#: Fields that are velocities: standing still means zero. All others are held where they are.
_VELOCITY_FIELDS = ('twist', 'velocity', 'velocities')
#: Commands of rest repeated after a halt, in case a best-effort subscriber lost one.
_REPEATS = 5


class CommandOutput:
    """
    The action topics of a contract behind one limiter.

    Parameters
    ----------
    node
        Whose publishers they are.
    contract
        With limits.
    frame_id
        Frame of stamped commands.
    zero_on_halt
        Names of further values that go to zero in a halt: velocities in a message without names.

    Raises
    ------
    ContractError
        If the contract has no limits.
    ConfigError
        If ``zero_on_halt`` names an unknown value.

    """

    def __init__(self, node: ManagedNode, contract: Contract, frame_id: str,
                 zero_on_halt: Iterable[str]) -> None:
        self._node = node
        self._frame_id = frame_id
        self._period_s = 1.0 / contract.rate_hz
        extra = tuple(zero_on_halt)
        unknown = [name for name in extra if name not in contract.action_names]
        if unknown:
            raise ConfigError(f'parameter zero_on_halt names {", ".join(unknown)}, which the '
                              f'contract {contract.source} does not command; known: '
                              f'{", ".join(contract.action_names)}')
        self.limiter = CommandLimiter(contract.limits, contract.action_names, contract.rate_hz)
        self._to_zero = tuple(
            name for stream in contract.action for name in stream.columns
            if stream.field in _VELOCITY_FIELDS or name in extra)
        self._streams: list[tuple[Stream, LifecyclePublisher]] = [
            (stream, node.create_lifecycle_publisher(
                message_class(stream.type), stream.topic, input_qos('reliable', 1)))
            for stream in contract.action]
        self._stopping = 0
        #: Commands sent since the node was configured, those of halts among them.
        self.sent = 0

    def destroy(self) -> None:
        """End the publishers."""
        for _, publisher in self._streams:
            self._node.destroy_lifecycle_publisher(publisher)

    @property
    def stopping(self) -> bool:
        """Whether a halt still has commands to send."""
        return self._stopping > 0

    def begin(self, joints: dict[str, float]) -> None:
        """
        Take commands from now on, each value from where it is known to be.

        A velocity starts from zero, a value named like one of the state's from there, any other
        from the last command sent.

        Raises
        ------
        CommandRefusedError
            If a value has no such start, and the contract gives it no ``free_start``.

        """
        before = dict(zip(self.limiter.names, self.limiter.last.tolist(), strict=True))
        start = before | {name: joints[name] for name in self.limiter.names if name in joints}
        # Enabled again in the middle of a halt, velocities go on from where the halt has come.
        start |= {name: before[name] if self.stopping and not np.isnan(before[name]) else 0.0
                  for name in self._to_zero}
        self.limiter.reset(start)
        self._stopping = 0

    def send(self, action: Vector) -> None:
        """
        Send an action (A,) as far as the limits allow.

        Raises
        ------
        CommandRefusedError
            If it is not finite, or has another length.

        """
        self._publish(self.limiter.limit(action))

    def stop(self) -> None:
        """Begin a halt; ``stop_step`` at the control rate carries it out."""
        self._stopping = _REPEATS

    def stop_step(self) -> None:
        """Send the next command of a halt, if one is under way."""
        if not self._stopping:
            return
        command, resting = self.limiter.halt_step(self._to_zero)
        self._publish(command)
        # Counted down only at rest: the ramp itself takes as long as the limits want.
        if resting:
            self._stopping -= 1

    def finish(self, most: int) -> None:
        """Carry a halt to its end, in at most so many control periods; blocks meanwhile."""
        for _ in range(most):
            if not self.stopping:
                return
            self.stop_step()
            time.sleep(self._period_s)

    def _publish(self, action: Vector) -> None:
        stamp = self._node.get_clock().now().to_msg()
        offset = 0
        for stream, publisher in self._streams:
            values = action[offset:offset + len(stream.names)]
            offset += len(stream.names)
            if np.isnan(values).any():
                continue  # a held value that was never commanded: leave it to whoever holds it
            message: Any = message_class(stream.type)()
            if stream.type == 'trajectory_msgs/JointTrajectory':
                message.points = [JointTrajectoryPoint(
                    time_from_start=Duration(nanosec=int(min(self._period_s, 0.999) * 1e9)))]
            if stream.stamped:
                message.header.stamp = stamp
                message.header.frame_id = self._frame_id
            publisher.publish(fill_stream(stream, message, values))
        self.sent += 1
