# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Masked autoencoder: "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.losses.masked import masked_patch_mse, normalised_patches
from ssl_vla_ros.networks.transformer import Block, sincos_positions
from ssl_vla_ros.networks.trunk import gather_tokens, PatchTrunk
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
from ssl_vla_ros.objectives.masking import places_of, random_patches
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class MaskedAutoencoderConfig:
    """Settings of the masked autoencoder."""

    decoder_channels: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3
    mask_ratio: float = 0.75
    normalise_patches: bool = True
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


class _Decoder(nn.Module):
    """Visible tokens in their places, a learned token in the others: to pixels of these."""

    def __init__(self, cameras: int, rows: int, columns: int, patch: int, channels: int,
                 prefix: int, config: MaskedAutoencoderConfig) -> None:
        super().__init__()
        width = config.decoder_channels
        self.prefix = prefix
        self.embed = nn.Linear(channels, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, width))
        self.register_buffer('position', sincos_positions(rows, columns, width), persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, patch * patch * 3)

    def forward(self, tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """
        Draw the hidden patches.

        Parameters
        ----------
        tokens
            (batch, prefix + kept, channels): class token and visible ones.
        keep, hidden
            (batch, kept) and (batch, hidden) patch numbers.

        Returns
        -------
        Tensor
            (batch, hidden, values): what no loss asks for is not drawn.

        """
        known = self.embed(tokens)
        first, visible = known[:, :self.prefix], known[:, self.prefix:]
        position = self.get_buffer('position')
        grid = self.hidden.to(visible.dtype).repeat(len(tokens), len(position), 1)
        grid = grid.scatter(1, keep[..., None].expand_as(visible), visible) + position
        grid = (grid.unflatten(0, (-1, len(self.camera))) + self.camera[:, None]).flatten(0, 1)
        grid = torch.cat([first, grid], dim=1)  # the class token's position embedding is zero
        for block in self.blocks:
            grid = block(grid)
        found: Tensor = self.pixels(self.norm(gather_tokens(grid, hidden + self.prefix)))
        return found


class MaskedAutoencoder(Objective):
    """
    Draw the hidden patches of a picture from the visible quarter.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). Every camera's picture is masked
    on its own. Only visible patches pass through the encoder; the error is taken on hidden ones
    alone. Predicting zero costs (n − 1)/n with normalised patches of n values: a loss above that
    is broken.
    """

    def __init__(self, shape: DataShape, config: MaskedAutoencoderConfig, encoder: VisionEncoder
                 ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        trunk = encoder.patch_trunk('mae')
        # Here, so that a ratio that cannot work is told before training, not in its first step.
        random_patches(1, trunk.rows * trunk.columns, config.mask_ratio, torch.Generator(),
                       torch.device('cpu'))
        self.decoder = _Decoder(shape.cameras, trunk.rows, trunk.columns, trunk.patch,
                                trunk.width, trunk.prefix, config)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Error over the hidden patches."""
        seen = photometric(batch['images'], self.config.photometric, generator)
        patches = self.encoder.patch_trunk('mae').patches(seen.flatten(0, 1))
        keep, mask = random_patches(
            patches.shape[0], patches.shape[1], self.config.mask_ratio, generator, patches.device)
        tokens = self.encoder.each(PatchTrunk.visible, patches, keep)
        hidden = places_of(mask, mask.shape[1] - keep.shape[1])
        drawn = self.decoder(tokens, keep, hidden)
        target = gather_tokens(patches, hidden)
        if self.config.normalise_patches:
            target = normalised_patches(target)
        return {'loss': masked_patch_mse(drawn, target)}
