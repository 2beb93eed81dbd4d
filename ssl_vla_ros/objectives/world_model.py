# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Latent world model on frozen features: predict what the encoder will see, given the actions.

After DINO-WM (Zhou et al., 2024): the encoder is frozen, dynamics are learned in its feature
space.
"""

from __future__ import annotations

from dataclasses import dataclass

from ssl_vla_ros.augment.robot import gaussian_noise
from ssl_vla_ros.networks.dynamics import LatentDynamics
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
import torch
from torch import Tensor


@dataclass(frozen=True)
class WorldModelConfig:
    """Settings of the latent world model."""

    context: int = 3              # frames seen; the same in training and in service
    horizon: int = 8              # frames predicted
    width: int = 192
    depth: int = 3
    heads: int = 6
    rollout_weight: float = 1.0   # of the fed-back prediction, beside the teacher-forced one
    latent_noise: float = 0.05    # on the context, in standard deviations


class WorldModel(Objective):
    """
    Teacher-forced and rolled-out prediction of normalised latents.

    Batch: ``features`` (batch, context + horizon, tokens, dim) of consecutive frames and
    ``actions`` (batch, context + horizon − 1, action), where action i leads from frame i to i + 1.
    Targets come from a frozen encoder, so there is nothing to detach and nothing to collapse.
    """

    def __init__(self, shape: DataShape, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.dynamics = LatentDynamics(
            shape.tokens, shape.dim, shape.action_size, context=config.context,
            horizon=config.horizon, width=config.width, depth=config.depth, heads=config.heads)

    def prepare(self, rows: Batch) -> None:
        """Take the statistics of features and actions of the training split."""
        self.dynamics.latents.fit(rows['features'].flatten(1))
        self.dynamics.actions.fit(rows['actions'])

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean squared errors of normalised latents, one step ahead and over the horizon."""
        dynamics, context = self.dynamics, self.config.context
        latents = dynamics.latents(batch['features'].flatten(2)).detach()
        actions = dynamics.actions(batch['actions'])
        start = gaussian_noise(latents[:, :context], self.config.latent_noise, generator)
        one_step = dynamics.step(start, actions[:, :context])
        teacher = (one_step - latents[:, 1:context + 1]).square().mean()
        predicted = dynamics.rollout(start, actions, self.config.horizon)
        rollout = (predicted - latents[:, context:]).square().mean()
        return {'loss': teacher + self.config.rollout_weight * rollout,
                'teacher_forced': teacher, 'rollout': rollout}
