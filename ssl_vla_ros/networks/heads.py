# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Policy heads: from a short history of features and proprioception to a chunk of actions."""

from __future__ import annotations

from ssl_vla_ros.networks.normalise import Standardise
import torch
from torch import nn, Tensor


class ChunkHead(nn.Module):
    """
    MLP from ``history`` frames to ``chunk`` actions.

    History tells a pause from a start and velocity from rest; a chunk executed in part before the
    next is predicted keeps small errors from compounding (Zhao et al., 2023, section IV).

    Parameters
    ----------
    feature_size
        tokens · dim of the features; 0 for a head on proprioception alone.
    state_size, action_size
        Numbers in the contract's state and action.
    history, chunk
        Frames seen and actions predicted.
    width, depth
        Of the MLP.

    Raises
    ------
    ValueError
        If ``history``, ``chunk`` or ``width`` is below 1.

    """

    def __init__(self, feature_size: int, state_size: int, action_size: int, *, history: int = 3,
                 chunk: int = 16, width: int = 512, depth: int = 3) -> None:
        super().__init__()
        for name, value in (('history', history), ('chunk', chunk), ('width', width)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        self.history = history
        self.chunk = chunk
        self.action_size = action_size
        self.features = Standardise(feature_size) if feature_size else None
        self.state = Standardise(state_size)
        self.actions = Standardise(action_size)
        layers: list[nn.Module] = []
        size = history * (feature_size + state_size)
        for _ in range(depth):
            layers += [nn.Linear(size, width), nn.LayerNorm(width), nn.GELU()]
            size = width
        self.layers = nn.Sequential(*layers, nn.Linear(size, chunk * action_size))

    def inputs(self, features: Tensor, state: Tensor) -> Tensor:
        """Join and normalise inputs to (batch, history, F + S)."""
        parts = [self.state(state)]
        if self.features is not None:
            parts.insert(0, self.features(features.flatten(2)))
        return torch.cat(parts, dim=-1)

    def predict_normalised(self, inputs: Tensor) -> Tensor:
        """Chunk (batch, chunk, action) in normalised units, of what ``inputs`` returns."""
        flat: Tensor = self.layers(inputs.flatten(1))
        return flat.view(-1, self.chunk, self.action_size)

    def forward(self, features: Tensor, state: Tensor) -> Tensor:
        """
        Actions (batch, chunk, action) in the contract's units.

        Parameters
        ----------
        features
            (batch, history, tokens, dim), oldest first.
        state
            (batch, history, state), oldest first.

        """
        return self.actions.invert(self.predict_normalised(self.inputs(features, state)))
