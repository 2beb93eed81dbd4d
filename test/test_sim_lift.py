# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The lifting task as a whole: what it reports is what the physics holds."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.sim.lift import draw_start, GRIPPER_CLOSED_RAD, LIFTED_HEIGHT_M, LiftSim


def test_a_reset_is_complete(seeing_arm: LiftSim) -> None:
    """Whatever was done before, the same start is the same world, to the last pixel."""
    seeing_arm.reset(draw_start(2, 5))
    state = seeing_arm.joint_positions(), seeing_arm.cube_position()
    pictures = [seeing_arm.image('front'), seeing_arm.image('wrist')]
    seeing_arm.gripper = 1.0
    seeing_arm.twist = np.array([0.1, 0.1, -0.2, 0.0, 0.0, 1.0])
    for _ in range(150):
        seeing_arm.step()
    assert not np.array_equal(seeing_arm.joint_positions(), state[0])
    seeing_arm.reset(draw_start(2, 5))
    assert np.array_equal(seeing_arm.joint_positions(), state[0])
    assert np.array_equal(seeing_arm.cube_position(), state[1])
    assert np.array_equal(seeing_arm.image('front'), pictures[0])
    assert np.array_equal(seeing_arm.image('wrist'), pictures[1])


def test_a_reset_puts_cube_and_tool_where_the_start_says(blind_arm: LiftSim) -> None:
    start = draw_start(9, 4)
    blind_arm.reset(start)
    assert blind_arm.cube_position()[:2] == pytest.approx(start.cube_xy)
    assert blind_arm.tool_position() == pytest.approx(start.tool, abs=1e-3)
    assert blind_arm.tool_yaw() == pytest.approx(0.0, abs=2e-3)
    assert not blind_arm.joint_velocities().any()


def test_what_is_reported_is_in_step_with_the_physics(blind_arm: LiftSim) -> None:
    """Positions after a step are those of that step, not of the one before."""
    blind_arm.reset(draw_start(0, 0))
    blind_arm.twist = np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0])
    for _ in range(30):
        blind_arm.step()
    before = blind_arm.joint_positions()
    blind_arm.step()
    rate = (blind_arm.joint_positions() - before)[:6] * 125.0
    assert rate == pytest.approx(blind_arm.joint_velocities()[:6], abs=0.05)
    blind_arm.servo.reset(blind_arm.joint_positions()[:6])
    assert blind_arm.servo.position == pytest.approx(blind_arm.tool_position(), abs=1e-9)


@pytest.mark.parametrize(('height', 'lifted'), [
    (LIFTED_HEIGHT_M - 0.001, False), (LIFTED_HEIGHT_M + 0.001, True)])
def test_lifted_is_a_matter_of_height(blind_arm: LiftSim, height: float, lifted: bool) -> None:
    blind_arm.reset(draw_start(0, 0))
    blind_arm.data.body('cube').xpos[2] = height
    assert blind_arm.lifted() is lifted


def test_vectors_have_seven_joints(blind_arm: LiftSim) -> None:
    blind_arm.reset(draw_start(0, 0))
    for values in (blind_arm.joint_positions(), blind_arm.joint_velocities(),
                   blind_arm.joint_efforts()):
        assert values.shape == (7,)
    assert 0.0 < GRIPPER_CLOSED_RAD < 1.0


def test_returned_values_are_the_caller_s_own(blind_arm: LiftSim) -> None:
    blind_arm.reset(draw_start(0, 0))
    for read in (blind_arm.joint_positions, blind_arm.cube_position, blind_arm.tool_position,
                 blind_arm.cube_quaternion, blind_arm.joint_efforts):
        value = read()
        value[:] = 99.0
        assert not np.array_equal(read(), value)


def test_an_arm_without_cameras_says_so(blind_arm: LiftSim) -> None:
    with pytest.raises(RuntimeError, match='render=False'):
        blind_arm.image('front')


def test_other_sizes_are_rendered(seeing_arm: LiftSim) -> None:
    arm = LiftSim(height=48, width=64)
    try:
        assert arm.image('front').shape == (48, 64, 3)
    finally:
        arm.close()
        arm.close()
    # Closing one leaves the others alone.
    assert seeing_arm.image('front').std() > 10
