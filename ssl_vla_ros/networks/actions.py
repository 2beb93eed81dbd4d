# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A small transformer over a chunk of actions."""

from __future__ import annotations

from ssl_vla_ros.networks.normalise import Standardise
from ssl_vla_ros.networks.transformer import Block
import torch
from torch import nn, Tensor


class ActionEncoder(nn.Module):
    """
    One vector of a chunk of actions.

    Steps past the end of an episode repeat its last action and are marked not ``valid``: a learned
    token takes their place, and they do not count in the mean.

    Parameters
    ----------
    action_size
        Numbers of an action.
    steps
        Actions of a chunk.
    width, depth, heads
        Of the transformer.

    Raises
    ------
    ValueError
        If there is no action, or no step.

    """

    def __init__(self, action_size: int, steps: int, *, width: int = 128, depth: int = 2,
                 heads: int = 4) -> None:
        super().__init__()
        for name, value in (('action_size', action_size), ('actions', steps)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        self.width = width
        self.actions = Standardise(action_size)
        self.embed = nn.Linear(action_size, width)
        self.past_end = nn.Parameter(0.02 * torch.randn(width))
        self.position = nn.Parameter(0.02 * torch.randn(steps, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, actions: Tensor, valid: Tensor) -> Tensor:
        """
        Vectors (n, width).

        Parameters
        ----------
        actions
            (n, steps, action_size), normalised by ``self.actions``.
        valid
            (n, steps) bool; the first step of each chunk must be.

        """
        real = valid[..., None]
        embedded = self.embed(actions)
        tokens = torch.where(real, embedded, self.past_end.to(embedded.dtype)) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        kept = real.to(tokens.dtype)
        found: Tensor = (self.norm(tokens) * kept).sum(dim=1) / kept.sum(dim=1)
        return found
