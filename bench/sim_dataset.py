# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations of the simulated arm, without ROS: what objectives are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import shutil

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, load_contract, parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.sim.expert import ScriptedExpert
from ssl_vla_ros.sim.lift import (
    CONTROL_RATE_HZ, CONTROL_SUBSTEPS, draw_start, LiftSim, square_yaw, yaw_of)
from ssl_vla_ros.sim.loop import HOLD_TICKS
from ssl_vla_ros.sim.scene import ARM_JOINTS, GRIPPER_JOINT

ROBOT = Path(__file__).parents[1] / 'config' / 'robots' / 'sim_ur5e.yaml'
#: What is asked for, and the expert's phase after which an episode ends a moment later.
TASKS = {'lift the cube': None, 'hover over the cube': 'descend', 'grasp the cube': 'lift'}
_MOST_TICKS, _MOMENT_TICKS = 160, 6


def _episode(arm: LiftSim, robot: Contract, seed: int, number: int, end: str | None
             ) -> AlignedEpisode:
    """One demonstration, from the start to the end of a task."""
    arm.reset(draw_start(seed, number))
    expert = ScriptedExpert(seed * 100_003 + number)
    order = [(*ARM_JOINTS, GRIPPER_JOINT).index(name) for name in robot.state_names]
    pictures: dict[str, list[NDArray[np.uint8]]] = {name: [] for name in robot.camera_names}
    state, action, evaluation = [], [], []
    held = left = 0
    for _ in range(_MOST_TICKS):
        command = expert.command(arm.tool_position(), arm.tool_yaw(), arm.cube_position(),
                                 square_yaw(yaw_of(arm.cube_quaternion())))
        for name, kept in pictures.items():
            kept.append(arm.image(name))
        state.append(arm.joint_positions()[order])
        action.append([*command.linear, command.yaw_rate, command.gripper])
        w, x, y, z = arm.cube_quaternion()
        evaluation.append([*arm.cube_position(), x, y, z, w])
        arm.command_twist(np.array([*command.linear, 0.0, 0.0, command.yaw_rate]))
        arm.gripper = command.gripper
        arm.advance(CONTROL_SUBSTEPS)
        held = held + 1 if arm.lifted() else 0
        left = left + 1 if end is not None and expert.phase == end else 0
        if held >= HOLD_TICKS or left >= _MOMENT_TICKS:
            break
    rows = len(state)
    return AlignedEpisode(
        ticks_ns=np.arange(rows, dtype=np.int64) * (10**9 // CONTROL_RATE_HZ),
        pictures={name: np.stack(kept) for name, kept in pictures.items()},
        state=np.asarray(state, np.float32), action=np.asarray(action, np.float32),
        evaluation=np.asarray(evaluation, np.float32),
        skew_s={label: np.zeros(rows, np.float32) for label, _, _ in stream_labels(robot)},
        flagged=np.zeros(rows, dtype=bool))


def sim_dataset(folder: Path, episodes: int, seed: int = 11,
                cameras: Sequence[str] = ('front', 'wrist')) -> Dataset:
    """Write demonstrations of the three tasks in turn, or open those of an earlier call."""
    path = folder / f'sim_{episodes}x{seed}'
    try:
        return Dataset.open(path)
    except DatasetError:
        shutil.rmtree(path, ignore_errors=True)
    part = path.with_name(path.name + '.making')
    shutil.rmtree(part, ignore_errors=True)
    data = load_contract(ROBOT).to_dict()
    data['cameras'] = {name: data['cameras'][name] for name in cameras}
    robot = parse_contract(data, str(ROBOT))
    writer = DatasetWriter(part, robot, CONTROL_RATE_HZ)
    arm = LiftSim()
    try:
        for number in range(episodes):
            task = list(TASKS)[number % len(TASKS)]
            writer.add_episode(
                _episode(arm, robot, seed, number, TASKS[task]), task, True,
                f'start {number} of seed {seed}')
            print(f'\rdemonstrations {number + 1}/{episodes}', end='', flush=True)
    finally:
        arm.close()
    print()
    writer.finish()
    part.rename(path)
    return Dataset.open(path)
