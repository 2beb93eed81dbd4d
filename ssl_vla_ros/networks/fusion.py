# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One vector of a moment, from the vectors of its cameras and from proprioception."""

from __future__ import annotations

from ssl_vla_ros.networks.normalise import Standardise
import torch
from torch import nn, Tensor

#: How vectors of several cameras become one.
FUSIONS = ('concat', 'attention')


class Proprioception(nn.Module):
    """
    A token of the robot's state; a learned one stands in where the state is not given.

    In training the state is left out of half of the samples: a network that always has the joint
    angles need not look, and pictures alone must do where it is served.
    """

    def __init__(self, size: int, width: int, left_out: float = 0.5) -> None:
        super().__init__()
        self.left_out = left_out
        self.state = Standardise(size)
        self.layers = nn.Sequential(nn.Linear(size, width), nn.GELU(), nn.Linear(width, width))
        self.absent = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, state: Tensor | None, count: int, generator: torch.Generator | None = None
                ) -> Tensor:
        """
        Tokens (count, width) of states (count, size).

        Parameters
        ----------
        state
            In the contract's units; None gives the learned token ``count`` times.
        count
            Samples.
        generator
            Says which samples go without, in training; None leaves none out.

        """
        if state is None:
            return self.absent.expand(count, -1)
        found: Tensor = self.layers(self.state(state))
        if self.training and generator is not None:
            drawn = torch.rand(count, 1, generator=generator, device=state.device)
            found = torch.where(drawn < self.left_out, self.absent.to(found.dtype), found)
        return found


class AttentionFusion(nn.Module):
    """A learned query that attends over the vectors of cameras and proprioception."""

    def __init__(self, cameras: int, width: int, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            heads = 1
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.out = nn.LayerNorm(width)

    def forward(self, vectors: Tensor, state: Tensor | None) -> Tensor:
        """
        One vector (n, width).

        Parameters
        ----------
        vectors
            (n, cameras, width).
        state
            (n, width), a further token; None if there is no such branch.

        """
        tokens = vectors + self.camera
        if state is not None:
            tokens = torch.cat([tokens, state[:, None]], dim=1)
        keys = self.norm(tokens)
        # Not len(tokens): an exported graph would know that one batch alone.
        query = self.query.expand(tokens.shape[0], -1, -1).to(keys.dtype)
        mixed, _ = self.attention(query, keys, keys, need_weights=False)
        found: Tensor = self.out(tokens.mean(dim=1) + mixed[:, 0])
        return found


class Concatenation(nn.Module):
    """All vectors, one after the other."""

    def forward(self, vectors: Tensor, state: Tensor | None) -> Tensor:
        """One vector (n, (cameras + 1 with a state) · width)."""
        flat = vectors.flatten(1)
        return flat if state is None else torch.cat([flat, state], dim=1)
