# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Masked autoencoder: "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.losses.masked import masked_patch_mse, normalised_patches
from ssl_vla_ros.networks.transformer import Block, sincos_positions
from ssl_vla_ros.networks.vit import patchify, ViTEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class MaskedAutoencoderConfig:
    """Settings of the masked autoencoder."""

    patch: int = 8
    channels: int = 192
    depth: int = 4
    heads: int = 3
    decoder_channels: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3
    mask_ratio: float = 0.75
    normalise_patches: bool = True
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


def random_patches(batch: int, patches: int, ratio: float, generator: torch.Generator,
                   device: torch.device) -> tuple[Tensor, Tensor]:
    """
    Draw which patches stay visible, as many in every sample.

    Returns
    -------
    keep, mask
        (batch, kept) patch numbers in random order, and (batch, patches) bool, true where hidden.

    Raises
    ------
    ValueError
        If the ratio leaves nothing visible or nothing hidden.

    """
    kept = int(patches * (1.0 - ratio))
    if not 1 <= kept < patches:
        raise ValueError(
            f'mask_ratio is {ratio}: of {patches} patches {kept} would stay visible; at least one '
            'must stay, and one must be hidden')
    order = torch.rand(batch, patches, generator=generator, device=device).argsort(dim=1)
    keep = order[:, :kept]
    mask = torch.ones(batch, patches, dtype=torch.bool, device=device).scatter_(1, keep, False)
    return keep, mask


class _Decoder(nn.Module):
    """Visible tokens in their places, a learned token in the others: to pixels of every patch."""

    def __init__(self, cameras: int, rows: int, columns: int, patch: int, channels: int,
                 config: MaskedAutoencoderConfig) -> None:
        super().__init__()
        width = config.decoder_channels
        self.embed = nn.Linear(channels, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, width))
        self.register_buffer('position', sincos_positions(rows, columns, width), persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, patch * patch * 3)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """Patches (batch, patches, values) of class and visible tokens (batch, 1 + kept, ·)."""
        known = self.embed(tokens)
        cls, visible = known[:, :1], known[:, 1:]
        position = self.get_buffer('position')
        grid = self.hidden.to(visible.dtype).repeat(len(tokens), len(position), 1)
        grid = grid.scatter(1, keep[..., None].expand_as(visible), visible) + position
        grid = (grid.unflatten(0, (-1, len(self.camera))) + self.camera[:, None]).flatten(0, 1)
        grid = torch.cat([cls, grid], dim=1)  # the class token's position embedding is zero
        for block in self.blocks:
            grid = block(grid)
        found: Tensor = self.pixels(self.norm(grid[:, 1:]))
        return found


class MaskedAutoencoder(Objective):
    """
    Draw the hidden patches of a picture from the visible quarter.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). Every camera's picture is masked
    on its own. Only visible patches pass through the encoder; the error is taken on hidden ones
    alone. Predicting zero costs (n − 1)/n with normalised patches of n values: a loss above that
    is broken.
    """

    def __init__(self, shape: DataShape, config: MaskedAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ViTEncoder(
            shape.cameras, shape.height, shape.width, patch=config.patch,
            channels=config.channels, depth=config.depth, heads=config.heads)
        trunk = self.encoder.trunk
        # Here, so that a ratio that cannot work is told before training, not in its first step.
        random_patches(1, trunk.rows * trunk.columns, config.mask_ratio, torch.Generator(),
                       torch.device('cpu'))
        self.decoder = _Decoder(
            shape.cameras, trunk.rows, trunk.columns, config.patch, config.channels, config)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Error over the hidden patches."""
        images = batch['images']
        seen = photometric(images, self.config.photometric, generator)
        patches = patchify(seen.flatten(0, 1) / 127.5 - 1.0, self.config.patch)
        keep, mask = random_patches(
            patches.shape[0], patches.shape[1], self.config.mask_ratio, generator, patches.device)
        drawn = self.decoder(self.encoder.trunk(patches, keep), keep)
        target = normalised_patches(patches) if self.config.normalise_patches else patches
        return {'loss': masked_patch_mse(drawn, target, mask)}
