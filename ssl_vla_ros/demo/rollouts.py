# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla rollout`: a head's lifts on the simulated arm in this process, without ROS."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.demo.guard import read_rollouts
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning
from ssl_vla_ros.preprocess import resize
from ssl_vla_ros.sim.geometry import square_yaw, yaw_of
from ssl_vla_ros.sim.lift import (
    CONTROL_RATE_HZ, CONTROL_SUBSTEPS, draw_start, LiftSim, Start)
from ssl_vla_ros.sim.scene import ARM_JOINTS, GRIPPER_JOINT
from ssl_vla_ros.training.features import encoder_digest
from ssl_vla_ros.training.runs import MODEL_FILE, open_run
from ssl_vla_ros.training.workspace import frozen_encoder
import torch

#: A rollout that has not lifted the cube by then has failed; the same as over the nodes.
LIMIT_S = 6.5
#: The cube must stay up for as many ticks, as for the arm's own ``lifted``.
HOLD_TICKS = 10


class HeadPolicy:
    """A trained head with what its features come from, acting on a ``LiftSim``."""

    def __init__(self, run_path: Path, dataset: Dataset) -> None:
        run = open_run(run_path)
        objective = run.objective()
        if not isinstance(objective, BehaviourCloning):
            raise ConfigError(
                f'{run_path}: objective {run.config.title!r} is no policy head; give a run '
                'of objective behaviour_cloning')
        require_compatible(run.contract, dataset.contract, str(run_path))
        self.contract: Contract = run.contract
        wanted = {'linear.x', 'linear.y', 'linear.z', 'angular.z', 'gripper'}
        if (run.contract.limits is None or set(run.contract.action_names) != wanted
                or not set(run.contract.state_names) <= {*ARM_JOINTS, GRIPPER_JOINT}):
            raise ConfigError(
                f'{run_path}: robot {run.contract.robot!r} is not the simulated arm, which has '
                f'limits, the joints {", ".join((*ARM_JOINTS, GRIPPER_JOINT))} and the actions '
                f'{", ".join(sorted(wanted))}; rollouts are for heads trained on its data')
        self._config = objective.config
        self._head = objective.head
        self._source = run.config.features
        self._encoder: Encoder | None = frozen_encoder(run.config, dataset, str(run_path))
        if self._encoder is not None:
            found = encoder_digest(self._encoder)
            if found != run.info['encoder_digest']:
                raise ConfigError(
                    f'{run_path}: the head was trained on encoder '
                    f'{run.info["encoder_digest"][:12]}, found {found[:12]}; train it again')
        joints = (*ARM_JOINTS, GRIPPER_JOINT)
        self._state_order = [joints.index(name) for name in self.contract.state_names]

    @property
    def needs_pictures(self) -> bool:
        """Whether the simulator must render."""
        return self._encoder is not None

    def observe(self, sim: LiftSim) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32],
                                             NDArray[np.float32]]:
        """Pictures, joint positions and true pose of this tick."""
        pictures = []
        if self.needs_pictures:
            pictures = [sim.image(camera) for camera in self.contract.camera_names]
        state = sim.joint_positions()[self._state_order].astype(np.float32)
        pose = np.append(sim.cube_position(), square_yaw(yaw_of(sim.cube_quaternion())))
        return pictures, state, pose.astype(np.float32)

    @torch.no_grad()
    def chunk(self, history: list[Any]) -> NDArray[np.float64]:
        """Actions (chunk, A) after the observations of ``history``, oldest first."""
        state = torch.from_numpy(np.stack([item[1] for item in history]))[None]
        if self._encoder is not None:
            encoder = self._encoder
            images = np.stack([
                np.stack([resize(picture, encoder.height, encoder.width) for picture in item[0]])
                for item in history])
            features = encoder(torch.from_numpy(images))[None]
        elif self._source == 'true_pose':
            features = torch.from_numpy(np.stack([item[2] for item in history]))[None, :, None]
        else:
            features = torch.zeros(1, len(history), 0, 0)
        actions = self._head(features, state)[0].numpy().astype(np.float64)
        result: NDArray[np.float64] = actions
        return result

    def roll_out(self, sim: LiftSim, start: Start) -> bool:
        """Whether the cube is lifted from ``start`` within the limit."""
        assert self.contract.limits is not None
        sim.reset(start)
        names = self.contract.action_names
        low = np.array([self.contract.limits.action[name].min for name in names])
        high = np.array([self.contract.limits.action[name].max for name in names])
        history: list[Any] = []
        actions = np.zeros((0, len(names)))
        step = held = 0
        for _ in range(int(LIMIT_S * CONTROL_RATE_HZ)):
            history.append(self.observe(sim))
            history = history[-self._config.history:]
            if step >= min(self._config.execute, len(actions)):
                filled = [history[0]] * (self._config.history - len(history)) + history
                actions, step = self.chunk(filled), 0
            action = dict(zip(names, np.clip(actions[step], low, high), strict=True))
            step += 1
            sim.twist[:3] = [action['linear.x'], action['linear.y'], action['linear.z']]
            sim.twist[5] = action['angular.z']
            sim.gripper = float(action['gripper'])
            sim.advance(CONTROL_SUBSTEPS)
            held = held + 1 if sim.lifted() else 0
            if held >= HOLD_TICKS:
                return True
        return False


def roll_out(run_path: Path, data: Path, out: Path, *, seed: int, first_start: int,
             rollouts: int, on_rollout: Callable[[int, int, int], None] | None = None
             ) -> dict[str, Any]:
    """
    Roll a head out from ``rollouts`` starts and write the results to ``out``.

    Results are written after every rollout; a run that was stopped goes on where it ended.

    Parameters
    ----------
    run_path, data
        The head's run, and the dataset it was trained on.
    out
        JSON file.
    seed, first_start, rollouts
        Which starts.
    on_rollout
        Told (done, wanted, lifted) after each.

    Raises
    ------
    ConfigError
        If the run is no head for this arm, or ``out`` holds rollouts of another head or of other
        starts.

    """
    torch.set_num_threads(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    policy = HeadPolicy(run_path, Dataset.open(data))
    about = {'head': hashlib.sha256((run_path / MODEL_FILE).read_bytes()).hexdigest(),
             'seed': seed, 'first_start': first_start}
    results: dict[str, Any] = {**about, 'rollouts': []}
    if out.exists():
        results = read_rollouts(out)
        for key, value in about.items():
            if results.get(key) != value:
                raise ConfigError(
                    f'{out}: {key} is {str(results.get(key))[:12]}, now {str(value)[:12]}: these '
                    'are other rollouts; choose another --out, or delete it')
    done = results['rollouts']
    if len(done) < rollouts:
        sim = LiftSim(render=policy.needs_pictures)
        try:
            while len(done) < rollouts:
                number = first_start + len(done)
                done.append({'start': number,
                             'success': policy.roll_out(sim, draw_start(seed, number))})
                part = out.with_name(out.name + '.part')
                part.write_text(json.dumps(results, indent=1), encoding='utf-8')
                part.replace(out)
                if on_rollout is not None:
                    on_rollout(len(done), rollouts, sum(item['success'] for item in done))
        finally:
            sim.close()
    return results
