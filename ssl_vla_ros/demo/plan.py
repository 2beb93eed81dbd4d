# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How large a demo is: the full one, and a small one that shows that everything runs."""

from __future__ import annotations

from dataclasses import dataclass

#: Heads that are trained, and the ``features`` each is trained on.
POLICIES = {
    'ssl': 'encoder',
    'true_pose': 'true_pose',
    'random': 'random',
    'imagenet': 'imagenet',
    'proprioception': 'none',
}
#: Rows that are rolled out in this machine's processes, without ROS, and the head of each. Ours is
#: among them: beside the other rows, nothing but its features differs.
IN_PROCESS = {'ssl_in_process' if name == 'ssl' else name: name for name in POLICIES}
#: Starts of the recorded demonstrations and of the rollouts come from different sequences.
RECORD_SEED = 1
ROLLOUT_SEED = 77


@dataclass(frozen=True)
class Plan:
    """Sizes of a demo."""

    name: str
    episodes: int           # successful demonstrations recorded
    speed: float            # of the simulated arm while recording, times real time
    rollouts: int           # through the nodes, in real time
    baseline_rollouts: int  # of each other head, in process
    pretrain_steps: int
    world_model_steps: int
    head_steps: int
    warmup_steps: int
    expected_minutes: float


FULL = Plan('full', episodes=100, speed=2.0, rollouts=25, baseline_rollouts=25,
            pretrain_steps=800, world_model_steps=800, head_steps=2500, warmup_steps=100,
            expected_minutes=20.0)
QUICK = Plan('quick', episodes=6, speed=2.0, rollouts=2, baseline_rollouts=2,
             pretrain_steps=16, world_model_steps=40, head_steps=100, warmup_steps=5,
             expected_minutes=2.5)
