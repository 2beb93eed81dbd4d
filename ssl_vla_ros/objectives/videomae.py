# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""VideoMAE: "Masked Autoencoders are Data-Efficient Learners" (Tong et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.losses.masked import masked_patch_mse, normalised_tubes
from ssl_vla_ros.networks.transformer import Block, sincos_positions
from ssl_vla_ros.networks.trunk import gather_tokens
from ssl_vla_ros.networks.tubes import time_positions, TubeEncoder
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Needs, Objective
from ssl_vla_ros.objectives.masking import places_of, random_patches
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class VideoMAEConfig:
    """Settings of VideoMAE."""

    frames: int = 8            # of a clip; even
    stride: int = 2            # rows from one to the next
    mask_ratio: float = 0.9
    decoder_channels: int = 96
    decoder_depth: int = 2
    decoder_heads: int = 3
    normalise_tubes: bool = True
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


def videomae_needs(config: VideoMAEConfig) -> Needs:
    """Say what a sample must hold."""
    return Needs(frames=config.frames, stride=config.stride)


class VideoMAE(Objective):
    """
    Draw what is hidden of a clip; what is hidden in one frame is hidden in all of them.

    Batch: ``images`` uint8 (batch, frames, cameras, height, width, 3). Tokens are tubes of two
    frames and one patch; a mask that changed over time would let the network copy from the frame
    before. Every sample hides as many tubes. The encoder is that of single pictures: on a clip
    that stands still, its tokens are the picture's (``networks.tubes``).
    """

    def __init__(self, shape: DataShape, config: VideoMAEConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        trunk = encoder.patch_trunk('videomae')
        self.tubes = TubeEncoder(encoder, config.frames, 'videomae')
        random_patches(1, trunk.rows * trunk.columns, config.mask_ratio, torch.Generator(),
                       torch.device('cpu'))
        width, count = config.decoder_channels, trunk.rows * trunk.columns
        self.embed = nn.Linear(trunk.width, width)
        self.hidden = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer('position', (
            time_positions(self.tubes.length, width)[:, None]
            + sincos_positions(trunk.rows, trunk.columns, width)[None]).flatten(0, 1),
            persistent=False)
        self.camera = nn.Parameter(0.02 * torch.randn(shape.cameras, width))
        self.blocks = nn.ModuleList(
            Block(width, config.decoder_heads) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, 2 * trunk.patch**2 * 3)
        self._patches = count

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Error over the hidden tubes."""
        config = self.config
        images = batch['images']
        # One light for all frames of a clip: cameras do not flicker.
        clips = images.transpose(1, 2).flatten(0, 1)
        seen = photometric(clips.flatten(1, 2)[:, None], config.photometric, generator)
        patches = self.tubes.patches(seen[:, 0].view(clips.shape))
        keep, mask = random_patches(
            len(patches), self._patches, config.mask_ratio, generator, patches.device)
        every = self.tubes.keep_of(keep)
        hidden = self.tubes.keep_of(places_of(mask, mask.shape[1] - keep.shape[1]))
        drawn = self._draw(self.embed(self.tubes(patches, every)), every, hidden)
        target = self._targets(patches, hidden)
        return {'loss': masked_patch_mse(drawn, target)}

    def _draw(self, tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """Pixels (n, hidden, values) of the hidden tubes alone."""
        position = self.get_buffer('position')
        first = len(tokens[0]) - keep.shape[1]
        shown = tokens[:, first:] + position[keep]
        asked = (self.hidden + position)[hidden]
        camera = self.camera.repeat(len(tokens) // len(self.camera), 1)[:, None]
        grid = torch.cat([shown, asked.to(shown.dtype)], dim=1) + camera
        for block in self.blocks:
            grid = block(grid)
        drawn: Tensor = self.pixels(self.norm(grid[:, keep.shape[1]:]))
        return drawn

    def _targets(self, patches: Tensor, hidden: Tensor) -> Tensor:
        """Values (n, hidden, 2 · patch² · 3) of the hidden tubes."""
        chosen = gather_tokens(patches.flatten(1, 2), hidden)
        if not self.config.normalise_tubes:
            return chosen
        return normalised_tubes(chosen.unflatten(-1, (-1, 3))).flatten(-2)
