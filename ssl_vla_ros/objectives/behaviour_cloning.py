# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Behaviour cloning of action chunks from frozen features (supervised, on top of an encoder)."""

from __future__ import annotations

from dataclasses import dataclass

from ssl_vla_ros.augment.robot import gaussian_noise
from ssl_vla_ros.losses.regression import masked_l1
from ssl_vla_ros.networks.heads import ChunkHead
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
import torch
from torch import Tensor


@dataclass(frozen=True)
class BehaviourCloningConfig:
    """Settings of the policy head."""

    history: int = 3             # frames seen
    chunk: int = 16              # actions predicted
    execute: int = 8             # of which this many are executed before the next prediction
    width: int = 512
    depth: int = 3
    input_noise: float = 0.02    # in standard deviations; a head must bear small encoder errors


class BehaviourCloning(Objective):
    """
    L1 between predicted and demonstrated chunks, in units of each action's deviation.

    Batch: ``features`` (batch, history, tokens, dim), ``state`` (batch, history, state),
    ``actions`` (batch, chunk, action) from the last frame of the history on, ``valid``
    (batch, chunk).
    """

    def __init__(self, shape: DataShape, config: BehaviourCloningConfig) -> None:
        super().__init__()
        if not 1 <= config.execute <= config.chunk:
            raise ValueError(
                f'execute is {config.execute}, must lie between 1 and chunk ({config.chunk})')
        self.config = config
        self.head = ChunkHead(
            shape.tokens * shape.dim, shape.state_size, shape.action_size,
            history=config.history, chunk=config.chunk, width=config.width, depth=config.depth)

    def prepare(self, rows: Batch) -> None:
        """Take the statistics of features, state and actions of the training split."""
        if self.head.features is not None:
            self.head.features.fit(rows['features'].flatten(1))
        self.head.state.fit(rows['state'])
        self.head.actions.fit(rows['actions'])

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Error over the valid steps of the chunk."""
        inputs = self.head.inputs(batch['features'], batch['state'])
        inputs = gaussian_noise(inputs, self.config.input_noise, generator)
        predicted = self.head.predict_normalised(inputs)
        return {'loss': masked_l1(predicted, self.head.actions(batch['actions']), batch['valid'])}
