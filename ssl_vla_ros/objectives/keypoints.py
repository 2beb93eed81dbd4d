# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Soft-keypoint autoencoder: draw each camera's picture from a few learned points.

Encoder after "Deep Spatial Autoencoders for Visuomotor Learning" (Finn et al., 2016), decoder
after "Unsupervised Learning of Object Landmarks" (Jakab et al., 2018), here without a second
frame: the scene is painted on a learned background, so that what moves is what the points must
follow.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.losses.regression import weighted_mse
from ssl_vla_ros.networks.keypoints import HeatmapDecoder, KeypointEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class KeypointConfig:
    """Settings of the keypoint autoencoder."""

    keypoints: int = 32               # per camera
    channels: int = 48                # of the convolutions
    appearance: int = 8               # numbers for the light of the picture, never exported
    foreground_weight: float = 10.0   # how much more a pixel counts, per unit off the mean picture
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


class KeypointAutoencoder(Objective):
    """
    Reconstruct half-size pictures from keypoints.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). Pixels that differ from the mean
    picture of the training split count more: a small object is a hundredth of the picture, and a
    plain mean would leave it out. The encoder sees augmented light, the target is the real one.
    """

    def __init__(self, shape: DataShape, config: KeypointConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = KeypointEncoder(
            shape.cameras, shape.height, shape.width, config.keypoints, config.channels)
        self.decoders = nn.ModuleList(
            HeatmapDecoder(shape.height, shape.width, config.keypoints, config.channels,
                           config.appearance)
            for _ in range(shape.cameras))
        self.register_buffer(
            'mean_picture', torch.zeros(shape.cameras, shape.height // 2, shape.width // 2, 3))

    def prepare(self, rows: Batch) -> None:
        """Take the mean picture of each camera over (a sample of) the training split."""
        self.get_buffer('mean_picture').copy_(self._target(rows['images']).mean(dim=0))

    @staticmethod
    def _target(images: Tensor) -> Tensor:
        """Half-size pictures in −1 … 1, each pixel the mean of four."""
        rows = images.float() / 127.5 - 1.0
        batch, cameras, height, width, _ = rows.shape
        return rows.view(batch, cameras, height // 2, 2, width // 2, 2, 3).mean(dim=(3, 5))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted reconstruction error, and its part for each camera."""
        images = batch['images']
        target = self._target(images)
        weight = 1.0 + self.config.foreground_weight * (
            target - self.get_buffer('mean_picture')).abs().mean(-1, keepdim=True).clamp(max=0.5)
        seen = photometric(images, self.config.photometric, generator)
        points, context = self.encoder.keypoints_and_context(seen)
        parts: dict[str, Tensor] = {}
        for camera, decoder in enumerate(self.decoders):
            drawn = decoder(points[camera], context[camera])
            parts[f'camera_{camera}'] = weighted_mse(
                drawn, target[:, camera], weight[:, camera])
        return {'loss': torch.stack(list(parts.values())).mean(), **parts}

    def decode(self, features: Tensor) -> Tensor:
        """Pictures uint8 (batch, cameras, height/2, width/2, 3) of features, in average light."""
        points = features.chunk(len(self.decoders), dim=1)
        drawn = torch.stack(
            [decoder(part) for decoder, part in zip(self.decoders, points, strict=True)], dim=1)
        return ((drawn.clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
