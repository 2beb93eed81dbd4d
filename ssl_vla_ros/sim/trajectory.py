# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Joint trajectories as ros2_control's joint_trajectory_controller takes them, checked first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.sim.geometry import Vector

#: The UR5e's own limit of each joint (rad/s), with a little room for the shape of the cubics.
MAX_JOINT_VELOCITY = 3.2
#: A longer trajectory is taken for a mistake in the units.
MAX_DURATION_S = 120.0
_CHECK_PERIOD_S = 0.008


@dataclass(frozen=True)
class TrajectoryPoint:
    """One point: positions (rad) and, optionally, velocities (rad/s) in the order of the names."""

    time_s: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


@dataclass(frozen=True)
class Trajectory:
    """
    Joint positions over time: straight between points, or cubic where all have velocities.

    Attributes
    ----------
    times
        (N,) seconds from the beginning, rising from 0.
    positions
        (N, J) rad.
    velocities
        (N, J) rad/s, or None for straight lines.

    """

    times: Vector
    positions: Vector
    velocities: Vector | None

    @property
    def duration_s(self) -> float:
        """Seconds until the last point."""
        return float(self.times[-1])

    def at(self, times: Vector) -> Vector:
        """Positions (len(times), J) at the given seconds; held before and after the points."""
        clipped = np.clip(np.asarray(times, dtype=np.float64), 0.0, self.times[-1])
        index = np.clip(np.searchsorted(self.times, clipped, side='right') - 1, 0,
                        len(self.times) - 2)
        span = (self.times[index + 1] - self.times[index])[:, None]
        share = (clipped - self.times[index])[:, None] / span
        here, there = self.positions[index], self.positions[index + 1]
        if self.velocities is None:
            straight: Vector = here + share * (there - here)
            return straight
        # Cubic Hermite: meets position and velocity at both ends of the segment.
        square, cube = share**2, share**3
        curve: Vector = (
            (2 * cube - 3 * square + 1) * here + (cube - 2 * square + share) * span
            * self.velocities[index] + (3 * square - 2 * cube) * there + (cube - square) * span
            * self.velocities[index + 1])
        return curve


def plan_trajectory(
    names: Sequence[str], points: Sequence[TrajectoryPoint], *, joints: Sequence[str],
    present: Vector, low: Vector, high: Vector,
) -> Trajectory:
    """
    Check a commanded trajectory and put it in the arm's order, from where the arm is.

    Parameters
    ----------
    names
        The message's joint names, in any order; each joint of the arm exactly once.
    points
        At least one, their times rising.
    joints
        The arm's joints in its own order.
    present
        (J,) rad, the present target; the trajectory starts there, at rest.
    low, high
        (J,) rad, the range of each joint.

    Raises
    ------
    MessageError
        Cause ``missing_joint``, ``unknown_joint``, ``length``, ``nan``, ``time``, ``range`` or
        ``too_fast``; the arm then keeps on doing what it did.

    """
    for cause, odd in (('missing_joint', [name for name in joints if name not in names]),
                       ('unknown_joint', [name for name in names if name not in joints])):
        if odd:
            raise MessageError(cause, f'trajectory: {cause.replace("_", " ")} {", ".join(odd)}; '
                               f'it must name {", ".join(joints)}')
    if len(names) != len(joints) or not points:
        raise MessageError('length', 'trajectory: needs every joint once and at least one point')
    order = [list(names).index(name) for name in joints]
    counts = {len(point.velocities) for point in points}
    if {len(point.positions) for point in points} != {len(joints)} or not (
            counts == {0} or counts == {len(joints)}):
        raise MessageError(
            'length', f'trajectory: each point needs {len(joints)} positions, and either all '
            f'points {len(joints)} velocities or none')
    positions = np.array([np.asarray(point.positions)[order] for point in points])
    velocities = (np.array([np.asarray(point.velocities)[order] for point in points])
                  if counts != {0} else None)
    times = np.array([point.time_s for point in points])
    if not all(np.isfinite(values).all() for values in (positions, times, velocities)
               if values is not None):
        raise MessageError('nan', 'trajectory: a time, position or velocity is not finite')
    if times[0] > 0.0:
        times = np.concatenate([[0.0], times])
        positions = np.vstack([present, positions])
        if velocities is not None:
            velocities = np.vstack([np.zeros(len(joints)), velocities])
    if len(times) < 2 or times[0] < 0.0 or np.any(np.diff(times) <= 0.0) or (
            times[-1] > MAX_DURATION_S):
        raise MessageError(
            'time', f'trajectory: time_from_start must rise, end above 0 and at most '
            f'{MAX_DURATION_S:g} s; it is {[point.time_s for point in points]}')
    trajectory = Trajectory(times, positions, velocities)
    path = np.vstack([present, trajectory.at(
        _CHECK_PERIOD_S * np.arange(1.0, int(times[-1] / _CHECK_PERIOD_S) + 2.0))])
    for index, joint in enumerate(joints):
        if path[1:, index].min() < low[index] or path[1:, index].max() > high[index]:
            raise MessageError(
                'range', f'trajectory: {joint} would leave {low[index]:g} … {high[index]:g} rad')
    fastest = np.abs(np.diff(path, axis=0)).max(axis=0) / _CHECK_PERIOD_S
    if fastest.max() > MAX_JOINT_VELOCITY:
        raise MessageError(
            'too_fast', f'trajectory: {joints[int(fastest.argmax())]} would reach '
            f'{fastest.max():.2f} rad/s, must be at most {MAX_JOINT_VELOCITY:g}')
    return trajectory
