# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A small vision transformer whose patch tokens are read out as soft keypoints."""

from __future__ import annotations

from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.keypoints import channel_keypoints
from ssl_vla_ros.networks.transformer import Block, sincos_positions
import torch
from torch import nn, Tensor


def patchify(pictures: Tensor, patch: int) -> Tensor:
    """
    Cut pictures (batch, height, width, 3) into patches (batch, patches, patch² · 3).

    Patches come row by row; within one, pixels row by row and colours innermost.

    Raises
    ------
    ValueError
        If the picture is not made of whole patches.

    """
    batch, height, width, colours = pictures.shape
    if height % patch or width % patch:
        raise ValueError(
            f'pictures are {height}x{width}, not made of whole patches of {patch} pixels')
    cut = pictures.reshape(batch, height // patch, patch, width // patch, patch, colours)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * colours)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (batch, kept, width) at ``index`` (batch, kept) of tokens (batch, all, width)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


class PatchTransformer(nn.Module):
    """
    ViT over the patches of one picture, with a class token.

    Every camera's picture is a sample of its own; a learned embedding tells cameras apart.
    """

    def __init__(self, cameras: int, height: int, width: int, *, patch: int, channels: int,
                 depth: int, heads: int) -> None:
        super().__init__()
        for name, value in (('patch', patch), ('depth', depth)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        if height % patch or width % patch:
            raise ValueError(
                f'patch is {patch}, but height and width ({height}, {width}) must be multiples '
                'of it')
        self.patch = patch
        self.rows = height // patch
        self.columns = width // patch
        self.embed = nn.Linear(patch * patch * 3, channels)
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, channels))
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.register_buffer(
            'position', sincos_positions(self.rows, self.columns, channels), persistent=False)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.embed.weight)
        nn.init.zeros_(self.embed.bias)

    def forward(self, patches: Tensor, keep: Tensor | None = None) -> Tensor:
        """
        Tokens (batch · cameras, 1 + patches, channels), the class token first.

        Parameters
        ----------
        patches
            (batch · cameras, patches, patch² · 3), cameras innermost, in −1 … 1.
        keep
            (batch · cameras, kept) numbers of the visible patches; only they are computed.

        """
        cameras = len(self.camera)
        tokens = self.embed(patches) + self.get_buffer('position')
        tokens = (tokens.unflatten(0, (-1, cameras)) + self.camera[:, None]).flatten(0, 1)
        if keep is not None:
            tokens = gather_tokens(tokens, keep)
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.norm(tokens)
        return found


class ViTEncoder(Encoder):
    """
    A vision transformer as an encoder: every channel of its patch tokens read as a soft keypoint.

    Features are (batch, cameras · channels, 2), the same readout as the ImageNet encoder's: where
    in the picture a channel is most active. A pooled vector would lose where things are, and all
    tokens together are too many numbers for a small head.
    """

    def __init__(self, cameras: int, height: int, width: int, *, patch: int = 8,
                 channels: int = 192, depth: int = 4, heads: int = 3,
                 sharpness: float = 2.0) -> None:
        super().__init__(cameras, height, width, tokens=cameras * channels, dim=2)
        self.sharpness = sharpness
        self.trunk = PatchTransformer(
            cameras, height, width, patch=patch, channels=channels, depth=depth, heads=heads)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, cameras · channels, 2) of images (batch, cameras, h, w, 3)."""
        self.check(images)
        trunk = self.trunk
        tokens = trunk(patchify(images.flatten(0, 1).float() / 127.5 - 1.0, trunk.patch))
        maps = tokens[:, 1:].transpose(1, 2).unflatten(2, (trunk.rows, trunk.columns))
        return channel_keypoints(maps, self.sharpness).view(-1, self.tokens, 2)
