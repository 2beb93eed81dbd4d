# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted teleoperator: it lifts, and its noise is a hand's, repeatable by seed."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.sim.expert import ExpertStyle, ScriptedExpert
from ssl_vla_ros.sim.lift import (
    CONTROL_SUBSTEPS, draw_start, LiftSim, square_yaw, Start, StartRange, yaw_of)

STARTS = 20
HOLD_TICKS = 10
MAX_TICKS = 160


def demonstrate(
    arm: LiftSim, start: Start, expert: ScriptedExpert, keep_open: bool = False,
) -> tuple[bool, list[np.ndarray]]:
    """Let the expert lift; return whether the cube was held up, and the joints at each tick."""
    arm.reset(start)
    held, joints = 0, []
    for _ in range(MAX_TICKS):
        command = expert.command(
            arm.tool_position(), arm.tool_yaw(), arm.cube_position(),
            square_yaw(yaw_of(arm.cube_quaternion())))
        arm.command_twist(np.array([*command.linear, 0.0, 0.0, command.yaw_rate]))
        arm.gripper = 0.0 if keep_open else command.gripper
        arm.advance(CONTROL_SUBSTEPS)
        joints.append(arm.joint_positions())
        held = held + 1 if arm.lifted() else 0
        if held >= HOLD_TICKS:
            return True, joints
    return False, joints


def test_the_expert_lifts_from_every_start(blind_arm: LiftSim) -> None:
    lengths = []
    for index in range(STARTS):
        lifted, joints = demonstrate(blind_arm, draw_start(7, index), ScriptedExpert(index))
        assert lifted, f'start {index} of seed 7'
        lengths.append(len(joints))
    # About three seconds at 20 Hz, and no two hands alike.
    assert 40 < np.mean(lengths) < 90
    assert len(set(lengths)) > 3


def test_a_gripper_that_stays_open_lifts_nothing(blind_arm: LiftSim) -> None:
    lifted, _ = demonstrate(blind_arm, draw_start(7, 0), ScriptedExpert(0), keep_open=True)
    assert not lifted


def test_the_same_seed_is_the_same_demonstration(blind_arm: LiftSim) -> None:
    _, first = demonstrate(blind_arm, draw_start(5, 3), ScriptedExpert(42))
    _, again = demonstrate(blind_arm, draw_start(5, 3), ScriptedExpert(42))
    assert np.array_equal(np.array(first), np.array(again))


def test_another_seed_is_another_hand(blind_arm: LiftSim) -> None:
    _, first = demonstrate(blind_arm, draw_start(5, 3), ScriptedExpert(42))
    _, other = demonstrate(blind_arm, draw_start(5, 3), ScriptedExpert(43))
    count = min(len(first), len(other))
    assert not np.array_equal(np.array(first[:count]), np.array(other[:count]))


def still_life(expert: ScriptedExpert, ticks: int) -> np.ndarray:
    """Return (ticks, 5) commands of a hand that hovers, with nothing ever moving."""
    hover = np.array([0.0, 0.5, 0.18])
    cube = np.array([0.0, 0.53, 0.02])
    commands = [expert.command(hover, 0.0, cube, 0.3) for _ in range(ticks)]
    return np.array([[*c.linear, c.yaw_rate, c.gripper] for c in commands])


def test_commands_stay_within_the_hand_s_speed() -> None:
    style = ExpertStyle()
    commands = np.vstack([still_life(ScriptedExpert(seed), 200) for seed in range(10)])
    assert np.linalg.norm(commands[:, :3], axis=1).max() < style.max_speed + 6 * style.tremor
    assert np.abs(commands[:, 3]).max() < style.max_turn + 6 * style.tremor_turn


def test_the_hand_trembles_slowly() -> None:
    commands = still_life(ScriptedExpert(0, style=ExpertStyle(pause_probability=0.0)), 2000)
    wander = commands[:, 0] - commands[:, 0].mean()
    assert wander.std() == pytest.approx(ExpertStyle().tremor, rel=0.25)
    memory = np.corrcoef(wander[:-1], wander[1:])[0, 1]
    assert memory == pytest.approx(np.exp(-0.05 / ExpertStyle().tremor_time_s), abs=0.1)


def test_the_hand_rests_now_and_then() -> None:
    style = ExpertStyle(tremor=0.0, tremor_turn=0.0, pause_probability=0.05)
    commands = still_life(ScriptedExpert(1, style=style), 400)
    resting = ~commands[:, :4].any(axis=1)
    assert 0.02 < resting.mean() < 0.5


def test_the_fingers_close_only_at_the_cube() -> None:
    expert = ScriptedExpert(0, style=ExpertStyle(tremor=0.0, pause_probability=0.0))
    cube = np.array([0.0, 0.5, 0.02])
    phases = []
    for tool in (np.array([0.0, 0.4, 0.3]), np.array([0.0, 0.5, 0.10]),
                 np.array([0.0, 0.5, 0.06]), np.array([0.0, 0.5, 0.02])):
        command = expert.command(tool, 0.0, cube, 0.0)
        phases.append((expert.phase, command.gripper))
    assert phases == [('approach', 0.0), ('descend', 0.0), ('descend', 0.0), ('close', 1.0)]
    for _ in range(ExpertStyle().close_ticks):
        command = expert.command(np.array([0.0, 0.5, 0.02]), 0.0, cube, 0.0)
    assert (expert.phase, command.gripper) == ('lift', 1.0)
    command = expert.command(np.array([0.0, 0.5, 0.02]), 0.0, cube, 0.0)
    assert command.linear[2] > 0.05
    assert not expert.done
    expert.command(np.array([0.0, 0.5, 0.21]), 0.0, cube, 0.0)
    assert expert.done


def test_starts_are_numbered_and_within_their_range() -> None:
    area = StartRange()
    starts = [draw_start(0, index) for index in range(200)]
    assert starts == [draw_start(0, index) for index in range(200)]
    assert len({start.cube_xy for start in starts}) == 200
    assert draw_start(1, 0) != draw_start(0, 0)
    xy = np.array([start.cube_xy for start in starts])
    yaw = np.array([start.cube_yaw for start in starts])
    for values, (low, high) in ((xy[:, 0], area.x_m), (xy[:, 1], area.y_m), (yaw, area.yaw_rad)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
