# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Commands on their way to the simulated arm: the newest counts, each one is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
import threading
from typing import Any

from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.sim.geometry import Vector
from ssl_vla_ros.sim.lift import LiftSim
from ssl_vla_ros.sim.scene import ARM_JOINTS
from ssl_vla_ros.sim.trajectory import plan_trajectory, TrajectoryPoint


class CommandInbox:
    """Any thread puts commands in; the simulator's thread applies them to the arm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._twist: Vector | None = None
        self._gripper: float | None = None
        self._trajectory: tuple[Sequence[str], Sequence[TrajectoryPoint]] | None = None
        self._accepted: Counter[str] = Counter()
        self._rejected: dict[str, Counter[str]] = {}

    def twist(self, twist: Vector) -> None:
        """Take the speed (6,) of the tool in m/s and rad/s; it ends a trajectory."""
        with self._lock:
            self._twist, self._trajectory = twist, None
            self._accepted['twist'] += 1

    def gripper(self, closed: float) -> None:
        """Take how far the gripper is to close, 0 to 1."""
        with self._lock:
            self._gripper = closed
            self._accepted['gripper'] += 1

    def trajectory(self, names: Sequence[str], points: Sequence[TrajectoryPoint]) -> None:
        """Take a joint trajectory; it is checked where it begins, and ends a twist."""
        with self._lock:
            self._trajectory, self._twist = (names, points), None

    def reject(self, what: str, cause: str) -> None:
        """Count a command that cannot be used."""
        with self._lock:
            self._rejected.setdefault(what, Counter())[cause] += 1

    def clear(self) -> None:
        """Forget what was not applied: a command for one world is none for the next."""
        with self._lock:
            self._twist = self._gripper = self._trajectory = None

    def apply(self, sim: LiftSim) -> str:
        """Give the newest commands to the arm; returns why a trajectory was refused, or ''."""
        with self._lock:
            twist, self._twist = self._twist, None
            gripper, self._gripper = self._gripper, None
            trajectory, self._trajectory = self._trajectory, None
        if twist is not None:
            sim.command_twist(twist)
        if gripper is not None:
            sim.gripper = gripper
        if trajectory is not None:
            names, points = trajectory
            try:
                plan = plan_trajectory(
                    names, points, joints=ARM_JOINTS, present=sim.servo.joints,
                    low=sim.servo.low, high=sim.servo.high)
            except MessageError as error:
                self.reject('trajectory', error.cause)
                return str(error)
            sim.command_trajectory(plan)
            with self._lock:
                self._accepted['trajectory'] += 1
        return ''

    def counts(self) -> dict[str, Any]:
        """Return accepted commands by kind, rejected ones by kind and cause."""
        with self._lock:
            return {
                'commands': dict(self._accepted),
                'rejected': {what: dict(causes) for what, causes in self._rejected.items()}}
