# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Soft keypoints: where in the picture each learned channel is most active.

Spatial soft-argmax encoder of "Deep Spatial Autoencoders for Visuomotor Learning" (Finn et al.,
2016, section IV) and the heatmap-conditioned decoder of "Unsupervised Learning of Object Landmarks
through Conditional Image Generation" (Jakab et al., 2018, section 3.1).
"""

from __future__ import annotations

from ssl_vla_ros.networks.encoder import Encoder
import torch
from torch import nn, Tensor
from torch.nn import functional


def spatial_soft_argmax(logits: Tensor) -> Tensor:
    """
    Take the expected position of each channel's softmax over the picture.

    Parameters
    ----------
    logits
        (batch, channels, height, width).

    Returns
    -------
    torch.Tensor
        (batch, channels, 2): x to the right and y downwards, −1 … 1 at the outer pixels' centres.

    """
    height, width = logits.shape[-2:]
    probability = functional.softmax(logits.float().flatten(2), dim=-1).view_as(logits)
    across = torch.linspace(-1.0, 1.0, width, device=logits.device)
    down = torch.linspace(-1.0, 1.0, height, device=logits.device)
    x = (probability.sum(dim=2) * across).sum(dim=-1)
    y = (probability.sum(dim=3) * down).sum(dim=-1)
    return torch.stack([x, y], dim=-1)


def channel_keypoints(maps: Tensor, sharpness: float) -> Tensor:
    """
    Where each channel of a network that was not trained for it is most active.

    Each channel is standardised over the picture first: activations differ in scale by magnitudes.

    Parameters
    ----------
    maps
        (batch, channels, height, width).
    sharpness
        Inverse temperature of the softmax.

    Returns
    -------
    torch.Tensor
        (batch, channels, 2), as ``spatial_soft_argmax``.

    """
    maps = maps.float()
    maps = maps - maps.mean(dim=(2, 3), keepdim=True)
    maps = maps / maps.std(dim=(2, 3), keepdim=True).clamp_min(1e-6)
    return spatial_soft_argmax(sharpness * maps)


class _Trunk(nn.Module):
    """Pictures of one camera to maps at a quarter of their size."""

    def __init__(self, width: int, keypoints: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(32, width, 3, stride=2, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.maps = nn.Conv2d(width, keypoints, 1)
        # One inverse temperature a keypoint: small objects want a sharper softmax than the arm.
        self.log_scale = nn.Parameter(torch.full((keypoints, 1, 1), 1.0))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layers(pictures)
        return self.maps(hidden) * self.log_scale.exp(), hidden


class KeypointEncoder(Encoder):
    """
    Soft keypoints of each camera, by a small convolutional trunk a camera.

    Features are (batch, cameras · keypoints, 2): the x and y of each keypoint, cameras in order.
    """

    def __init__(self, cameras: int, height: int, width: int, keypoints: int = 32,
                 channels: int = 48) -> None:
        super().__init__(cameras, height, width, tokens=cameras * keypoints, dim=2)
        for name, value in (('keypoints', keypoints), ('channels', channels)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        self.keypoints = keypoints
        self.channels = channels
        self.trunks = nn.ModuleList(_Trunk(channels, keypoints) for _ in range(cameras))

    def keypoints_and_context(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Keypoints (batch, K, 2) and mean trunk activation (batch, channels) of each camera."""
        self.check(images)
        points, context = [], []
        for camera, trunk in enumerate(self.trunks):
            pictures = images[:, camera].permute(0, 3, 1, 2).float() / 127.5 - 1.0
            logits, hidden = trunk(pictures)
            points.append(spatial_soft_argmax(logits))
            context.append(hidden.float().mean(dim=(2, 3)))
        return points, context

    def maps(self, images: Tensor) -> Tensor:
        """Give the logits of the keypoints, (batch · cameras, rows, columns, keypoints)."""
        self.check(images)
        found = [trunk(images[:, camera].permute(0, 3, 1, 2).float() / 127.5 - 1.0)[0]
                 for camera, trunk in enumerate(self.trunks)]
        return torch.stack(found, dim=1).flatten(0, 1).permute(0, 2, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, tokens, 2) of images (batch, cameras, height, width, 3)."""
        return torch.cat(self.keypoints_and_context(images)[0], dim=1)


class HeatmapDecoder(nn.Module):
    """
    Draw a camera's picture from its keypoints alone.

    Each keypoint becomes a Gaussian on a grid of a quarter of the picture, painted with a learned
    feature over a learned background. ``appearance``, a few numbers of the whole picture (its
    light), is added everywhere: so the keypoints need not encode it, and do not.
    """

    def __init__(self, height: int, width: int, keypoints: int, channels: int,
                 appearance: int = 8) -> None:
        super().__init__()
        if height % 4 or width % 4:
            raise ValueError(f'height and width must be multiples of 4, not {height}, {width}')
        rows, columns = height // 4, width // 4
        self.register_buffer('down', torch.linspace(-1.0, 1.0, rows), persistent=False)
        self.register_buffer('across', torch.linspace(-1.0, 1.0, columns), persistent=False)
        self.background = nn.Parameter(torch.zeros(1, channels, rows, columns))
        self.paint = nn.Parameter(0.3 * torch.randn(keypoints, channels))
        self.log_sharpness = nn.Parameter(torch.full((keypoints, 1), 2.0))
        self.compress = nn.Linear(channels, appearance)
        self.expand = nn.Linear(appearance, channels)
        # The average light of the pictures seen in training, for drawing from keypoints alone.
        self.register_buffer('mean_appearance', torch.zeros(appearance))
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
            nn.Conv2d(channels, 12, 3, padding=1), nn.PixelShuffle(2))

    def forward(self, points: Tensor, context: Tensor | None = None) -> Tensor:
        """
        Pictures (batch, height/2, width/2, 3) in −1 … 1.

        Parameters
        ----------
        points
            (batch, keypoints, 2).
        context
            (batch, channels) mean trunk activation; none draws the picture in average light.

        """
        precision = (2.0 * self.log_sharpness).exp()
        across: Tensor = self.get_buffer('across')
        down: Tensor = self.get_buffer('down')
        x = torch.exp(-0.5 * precision * (points[..., 0:1] - across) ** 2)
        y = torch.exp(-0.5 * precision * (points[..., 1:2] - down) ** 2)
        heat = y.unsqueeze(-1) * x.unsqueeze(-2)
        canvas = self.background + torch.einsum('bkhw,kc->bchw', heat, self.paint)
        mean: Tensor = self.get_buffer('mean_appearance')
        if context is None:
            appearance = mean.unsqueeze(0)  # broadcast: len() would fix an exported batch
        else:
            appearance = self.compress(context)
            if self.training:
                mean.lerp_(appearance.detach().float().mean(dim=0), 0.01)
        canvas = canvas + self.expand(appearance)[:, :, None, None]
        picture: Tensor = self.layers(canvas)
        return picture.permute(0, 2, 3, 1)
