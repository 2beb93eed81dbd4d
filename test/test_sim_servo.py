# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The servo: twists become motion of that speed, inside limits, and stop when they grow old."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
import pytest
from ssl_vla_ros.sim.geometry import square_yaw, tool_yaw_of, yaw_of, yaw_pose
from ssl_vla_ros.sim.lift import (
    COMMAND_TIMEOUT_S, CONTROL_SUBSTEPS, draw_start, LiftSim, SERVO_RATE_HZ)
from ssl_vla_ros.sim.servo import WORKSPACE_HIGH, WORKSPACE_LOW

GUESS = np.array([-1.5708, -1.5708, 1.8, -1.8, -1.5708, 0.0])
SETTLE_S = 0.4


@pytest.fixture
def arm(blind_arm: LiftSim) -> LiftSim:
    blind_arm.reset(draw_start(0, 0))
    return blind_arm


def twist(*linear: float, yaw: float = 0.0) -> NDArray[np.float64]:
    return np.array([*linear, 0.0, 0.0, yaw])


def run(arm: LiftSim, seconds: float) -> None:
    for _ in range(round(seconds * SERVO_RATE_HZ)):
        arm.step()


@pytest.mark.parametrize('axis', range(3))
@pytest.mark.parametrize('speed', [-0.05, 0.05])
def test_a_twist_moves_the_tool_that_far(arm: LiftSim, axis: int, speed: float) -> None:
    before = arm.tool_position()
    arm.twist = np.eye(6)[axis] * speed
    run(arm, 1.0)
    arm.twist = np.zeros(6)
    run(arm, SETTLE_S)
    expected = np.eye(3)[axis] * speed
    assert np.abs(arm.tool_position() - before - expected).max() < 3e-3
    assert abs(arm.tool_yaw()) < 0.01


def test_a_turn_turns_the_tool_in_place(arm: LiftSim) -> None:
    before = arm.tool_position()
    arm.twist = twist(0.0, 0.0, 0.0, yaw=0.5)
    run(arm, 1.0)
    arm.twist = np.zeros(6)
    run(arm, SETTLE_S)
    assert arm.tool_yaw() == pytest.approx(0.5, abs=0.02)
    assert tool_yaw_of(arm.tool_quaternion()) == pytest.approx(arm.tool_yaw(), abs=1e-6)
    assert np.abs(arm.tool_position() - before).max() < 3e-3


@pytest.mark.parametrize('direction', [
    (1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0),
    (0.0, 0.0, -1.0)])
def test_the_tool_stays_in_the_workspace(
    arm: LiftSim, direction: tuple[float, float, float],
) -> None:
    arm.twist = twist(*direction)
    for _ in range(100):
        arm.step()
        assert np.all(arm.servo.position >= WORKSPACE_LOW)
        assert np.all(arm.servo.position <= WORKSPACE_HIGH)
        assert np.all(arm.servo.joints >= arm.servo.low)
        assert np.all(arm.servo.joints <= arm.servo.high)


def test_a_huge_twist_moves_no_joint_by_more_than_a_step(arm: LiftSim) -> None:
    before = arm.servo.joints.copy()
    arm.twist = twist(100.0, -100.0, 100.0, yaw=100.0)
    arm.step()
    assert np.abs(arm.servo.joints - before).max() <= 0.1 + 1e-12
    assert np.isfinite(arm.servo.joints).all()


def test_solve_reaches_the_pose(arm: LiftSim) -> None:
    wanted = np.array([0.1, 0.45, 0.2])
    joints = arm.servo.solve(wanted, yaw_pose(0.3), GUESS)
    arm.servo.reset(joints)
    assert np.abs(arm.servo.position - wanted).max() < 1e-4
    assert np.abs(arm.servo.rotation - yaw_pose(0.3)).max() < 2e-3


def test_solve_refuses_what_is_out_of_reach(arm: LiftSim) -> None:
    with pytest.raises(ValueError, match=r'no joint positions reach the tool pose \[0.0, 2.0'):
        arm.servo.solve(np.array([0.0, 2.0, 0.2]), yaw_pose(0.0), GUESS)


def test_a_command_that_is_not_renewed_stops_the_tool(arm: LiftSim) -> None:
    timeouts = arm.timeouts
    before = arm.tool_position()
    arm.command_twist(twist(0.1, 0.0, 0.0))
    run(arm, 1.0)
    moved = (arm.tool_position() - before)[0]
    # The target goes on for the timeout, by a servo period more at most.
    assert moved == pytest.approx(0.1 * COMMAND_TIMEOUT_S, abs=0.1 / SERVO_RATE_HZ + 2e-3)
    assert not arm.twist.any()
    assert arm.timeouts == timeouts + 1
    still = arm.tool_position()
    run(arm, 0.2)
    assert np.abs(arm.tool_position() - still).max() < 1e-3


def test_a_command_that_is_renewed_goes_on(arm: LiftSim) -> None:
    timeouts = arm.timeouts
    before = arm.tool_position()
    for _ in range(20):
        arm.command_twist(twist(0.1, 0.0, 0.0))
        arm.advance(CONTROL_SUBSTEPS)
    arm.command_twist(np.zeros(6))
    run(arm, SETTLE_S)
    assert (arm.tool_position() - before)[0] == pytest.approx(0.1, abs=3e-3)
    assert arm.timeouts == timeouts


def test_standing_still_is_no_timeout(arm: LiftSim) -> None:
    timeouts = arm.timeouts
    arm.command_twist(np.zeros(6))
    run(arm, 1.0)
    assert arm.timeouts == timeouts


def test_a_reset_forgets_the_command(arm: LiftSim) -> None:
    arm.command_twist(twist(0.1, 0.0, 0.0))
    arm.gripper = 1.0
    arm.reset(draw_start(0, 1))
    before = arm.tool_position()
    run(arm, 0.5)
    assert np.abs(arm.tool_position() - before).max() < 1e-3
    assert arm.gripper == 0.0


def test_pictures_and_servo_keep_their_own_rates(arm: LiftSim) -> None:
    """Twenty control periods are one second of physics, however the steps are counted."""
    start = arm.data.time
    for _ in range(20):
        arm.advance(CONTROL_SUBSTEPS)
    assert arm.data.time - start == pytest.approx(1.0)
    positions = arm.joint_positions()
    arm.reset(draw_start(0, 0))
    for _ in range(125):
        arm.step()
    assert np.allclose(arm.joint_positions(), positions, atol=1e-12)


def test_the_gripper_closes_and_opens(arm: LiftSim) -> None:
    assert arm.joint_positions()[-1] == pytest.approx(0.0, abs=0.01)
    arm.gripper = 1.0
    run(arm, 1.0)
    assert arm.joint_positions()[-1] > 0.7
    arm.gripper = 0.0
    run(arm, 1.0)
    assert arm.joint_positions()[-1] < 0.05


@pytest.mark.parametrize('quarter_turns', range(-3, 4))
def test_a_cube_turned_by_quarters_looks_the_same(quarter_turns: int) -> None:
    assert square_yaw(0.3 + quarter_turns * 0.5 * np.pi) == pytest.approx(0.3)


@pytest.mark.parametrize('yaw', [-2.0, -0.3, 0.0, 0.3, 2.0])
def test_yaw_of_a_quaternion(yaw: float) -> None:
    assert yaw_of(np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])) == pytest.approx(yaw)
