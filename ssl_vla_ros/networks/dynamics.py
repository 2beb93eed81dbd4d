# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Action-conditioned latent dynamics: a causal transformer over latents and actions."""

from __future__ import annotations

from ssl_vla_ros.networks.normalise import Standardise
from ssl_vla_ros.networks.transformer import Block
import torch
from torch import nn, Tensor


class LatentDynamics(nn.Module):
    """
    Predict the next frames' features from a context of frames and the actions between them.

    Token i joins the latent of frame i with the action that leads from frame i to frame i + 1; the
    transformer's output there is the change of the latent up to frame i + 1 (DINO-WM, Zhou et al.,
    2024, section 3.2, with one token a frame). Predicted latents are fed back for the horizon, in
    a window of ``context`` frames: the length seen in training is the length used everywhere.

    Parameters
    ----------
    tokens, dim
        Shape of the encoder's features.
    action_size
        Numbers in the contract's action.
    context, horizon
        Frames seen, and frames predicted by ``forward``.
    width, depth, heads
        Of the transformer.

    Raises
    ------
    ValueError
        If a size is impossible.

    """

    def __init__(self, tokens: int, dim: int, action_size: int, *, context: int = 3,
                 horizon: int = 8, width: int = 192, depth: int = 3, heads: int = 6) -> None:
        super().__init__()
        for name, value in (('tokens x dim', tokens * dim), ('context', context),
                            ('horizon', horizon), ('width', width), ('heads', heads)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        self.tokens = tokens
        self.dim = dim
        self.context = context
        self.horizon = horizon
        self.latents = Standardise(tokens * dim)
        self.actions = Standardise(action_size)
        self.embed = nn.Linear(tokens * dim + action_size, width)
        self.position = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.change = nn.Linear(width, tokens * dim)
        # Starts as "nothing changes", the baseline it has to beat.
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def step(self, latents: Tensor, actions: Tensor) -> Tensor:
        """
        Latents one frame later, for every frame of the window.

        Parameters
        ----------
        latents
            (batch, steps ≤ context, tokens · dim), normalised.
        actions
            (batch, steps, action), normalised; action i leads from frame i to frame i + 1.

        Raises
        ------
        ValueError
            If there are more frames than the context: they have no place in the window.

        """
        steps = latents.shape[1]
        if steps > self.context:
            raise ValueError(f'got {steps} frames, the context holds {self.context}')
        x = self.embed(torch.cat([latents, actions], dim=-1)) + self.position[:steps]
        for block in self.blocks:
            x = block(x)
        moved: Tensor = latents + self.change(self.norm(x))
        return moved

    def rollout(self, latents: Tensor, actions: Tensor, horizon: int) -> Tensor:
        """
        Normalised latents (batch, horizon, tokens · dim) after the context.

        Parameters
        ----------
        latents
            (batch, context, tokens · dim), normalised.
        actions
            (batch, context − 1 + horizon, action), normalised.
        horizon
            Frames to predict.

        Raises
        ------
        ValueError
            If an action between context frames or for the horizon is missing.

        """
        if latents.shape[1] != self.context:
            raise ValueError(f'need {self.context} context frames, got {latents.shape[1]}')
        if actions.shape[1] != self.context - 1 + horizon:
            raise ValueError(
                f'{self.context} context frames and horizon {horizon} need '
                f'{self.context - 1 + horizon} actions, got {actions.shape[1]}')
        window, predicted = latents, []
        for ahead in range(horizon):
            following = self.step(window, actions[:, ahead:ahead + self.context])[:, -1:]
            predicted.append(following)
            window = torch.cat([window[:, 1:], following], dim=1)
        return torch.cat(predicted, dim=1)

    def forward(self, features: Tensor, actions: Tensor) -> Tensor:
        """
        Predicted features (batch, horizon, tokens, dim).

        Parameters
        ----------
        features
            (batch, context, tokens, dim), oldest first.
        actions
            (batch, context − 1 + horizon, action) in the contract's units.

        """
        latents = self.latents(features.flatten(2))
        predicted = self.rollout(latents, self.actions(actions), self.horizon)
        raw: Tensor = self.latents.invert(predicted).unflatten(-1, (self.tokens, self.dim))
        return raw
