# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Predictors of features: of hidden tubes of a clip, and of the next frames."""

from __future__ import annotations

from ssl_vla_ros.networks.transformer import Block, sincos_positions
from ssl_vla_ros.networks.tubes import time_positions
import torch
from torch import nn, Tensor
from torch.nn import functional


class TubePredictor(nn.Module):
    """
    From the tokens of visible tubes to the features of hidden ones.

    A narrow transformer over the visible tokens and a learned one at each hidden place ("V-JEPA
    2", Assran et al., 2025, section 2.1).
    """

    def __init__(self, features: int, tubes: int, rows: int, columns: int, cameras: int, *,
                 width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed = nn.Linear(features, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, width))
        time = time_positions(tubes, width)[:, None]
        self.register_buffer(
            'position', (time + sincos_positions(rows, columns, width)[None]).flatten(0, 1),
            persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, features)

    def forward(self, tokens: Tensor, shown: Tensor, asked: Tensor) -> Tensor:
        """
        Features (n, hidden, features).

        Parameters
        ----------
        tokens
            (n, visible, features).
        shown, asked
            (n, visible) and (n, hidden) numbers of tubes, time first.

        """
        position = self.get_buffer('position')
        known = self.embed(tokens) + position[shown]
        wanted = (self.hidden + position[asked]).to(known.dtype)
        camera = self.camera.repeat(len(tokens) // len(self.camera), 1)[:, None]
        grid = torch.cat([known, wanted], dim=1) + camera
        for block in self.blocks:
            grid = block(grid)
        found: Tensor = self.out(self.norm(grid[:, shown.shape[1]:]))
        return found


class LatentPredictor(nn.Module):
    """
    Causal transformer from latents, and the actions after them, to the next latents.

    Parameters
    ----------
    size
        Of a latent.
    action_size
        Numbers of what was done from one frame to the next; 0: the predictor sees none.
    steps
        Latents that fit at once.
    depth, heads
        Of the transformer, which is as wide as a latent.
    normalised
        Whether latents are normalised over their features. Predictions then are, too: where the
        error does not see their scale, a prediction that is fed back must not have one of its own.

    """

    def __init__(self, size: int, action_size: int, steps: int, *, depth: int, heads: int,
                 normalised: bool = False) -> None:
        super().__init__()
        self.steps = steps
        self.normalised = normalised
        self.action_size = action_size
        self.embed = nn.Linear(size + action_size, size)
        self.position = nn.Parameter(0.02 * torch.randn(steps, size))
        self.blocks = nn.ModuleList(Block(size, heads, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(size)
        self.out = nn.Linear(size, size)

    def forward(self, latents: Tensor, actions: Tensor | None) -> Tensor:
        """
        Latents (n, steps, size) one frame later.

        Parameters
        ----------
        latents
            (n, steps, size).
        actions
            (n, steps, action_size): action i leads from frame i to frame i + 1.

        Raises
        ------
        ValueError
            If there are more latents than fit, or actions are missing: without those between
            frames, the next one cannot be told.

        """
        if latents.shape[1] > self.steps:
            raise ValueError(f'got {latents.shape[1]} latents, {self.steps} fit')
        if self.action_size:
            if actions is None or actions.shape[:2] != latents.shape[:2]:
                given = None if actions is None else tuple(actions.shape)
                raise ValueError(f'{tuple(latents.shape)} latents need as many actions, got '
                                 f'{given}')
            latents = torch.cat([latents, actions.to(latents.dtype)], dim=-1)
        tokens = self.embed(latents) + self.position[:latents.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.out(self.norm(tokens))
        return functional.layer_norm(found, found.shape[-1:]) if self.normalised else found

    def rollout(self, latents: Tensor, actions: Tensor | None, horizon: int) -> Tensor:
        """
        Latents (n, horizon, size) after the given ones, each from those predicted before.

        Parameters
        ----------
        latents
            (n, seen, size).
        actions
            (n, at least seen + horizon − 1, action_size).
        horizon
            Frames to predict; all of them must fit.

        """
        known = latents
        for _ in range(horizon):
            done = None if actions is None else actions[:, :known.shape[1]]
            known = torch.cat([known, self(known, done)[:, -1:]], dim=1)
        return known[:, latents.shape[1]:]
