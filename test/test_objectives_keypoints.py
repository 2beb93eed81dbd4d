# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The keypoint autoencoder finds what moves, without a label."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.keypoints import KeypointAutoencoder, KeypointConfig
from ssl_vla_ros.training.probes import probe
from tiny_training import draw, SIZE
import torch

SHAPE = DataShape(1, SIZE, SIZE, 2, 2)


def scene(count: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2)).astype(np.float32)
    return torch.from_numpy(draw(positions))[:, None], positions


def test_a_linear_probe_reads_the_square_s_place() -> None:
    torch.manual_seed(0)
    objective = KeypointAutoencoder(SHAPE, KeypointConfig(keypoints=8, channels=16, appearance=4))
    images, positions = scene(256, 0)
    others, elsewhere = scene(128, 1)
    objective.prepare({'images': images})
    optimiser = torch.optim.AdamW(objective.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        pick = torch.randint(0, len(images), (24,), generator=generator)
        loss = objective({'images': images[pick]}, generator)['loss']
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
    objective.eval()
    with torch.no_grad():
        features = objective.encoder(torch.cat([images, others])).flatten(1).double().numpy()
    result = probe(features, np.concatenate([positions, elsewhere]).astype(np.float64),
                   np.arange(256), np.arange(256, 384), ['x', 'y'])
    assert losses[-1] < 0.5 * losses[0]
    assert result.r2['x'] > 0.9
    assert result.r2['y'] > 0.9
    assert not result.collapsed


def test_the_target_is_the_mean_of_four_pixels_and_the_mean_picture_of_the_rows() -> None:
    objective = KeypointAutoencoder(SHAPE, KeypointConfig(keypoints=2, channels=4))
    images, _ = scene(5, 0)
    objective.prepare({'images': images})
    picture = images.numpy().astype(np.float64) / 127.5 - 1.0
    expected = np.zeros((SIZE // 2, SIZE // 2, 3))
    for row in range(SIZE // 2):
        for column in range(SIZE // 2):
            expected[row, column] = picture[
                :, 0, 2 * row:2 * row + 2, 2 * column:2 * column + 2].mean((0, 1, 2))
    np.testing.assert_allclose(objective.get_buffer('mean_picture')[0], expected, atol=1e-6)


def test_what_differs_from_the_mean_picture_counts_more() -> None:
    images, _ = scene(6, 0)
    still = PhotometricConfig(0.0, 0.0, 0.0)
    losses = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        objective = KeypointAutoencoder(SHAPE, KeypointConfig(
            keypoints=2, channels=4, foreground_weight=weight, photometric=still))
        objective.prepare({'images': images})
        parts = objective({'images': images}, torch.Generator())
        losses[weight] = float(parts['loss'].detach())
        assert parts['camera_0'] == parts['loss']
    assert losses[10.0] > 1.1 * losses[0.0]


def test_the_light_of_the_batch_is_not_the_target() -> None:
    """The encoder sees augmented pictures; what it must draw is the recorded one."""
    images, _ = scene(4, 0)
    torch.manual_seed(0)
    objective = KeypointAutoencoder(SHAPE, KeypointConfig(keypoints=2, channels=4))
    objective.prepare({'images': images})
    seen: list[torch.Tensor] = []
    original = objective.encoder.keypoints_and_context

    def look(pictures: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        seen.append(pictures)
        return original(pictures)
    objective.encoder.keypoints_and_context = look  # type: ignore[method-assign]
    first = objective({'images': images}, torch.Generator().manual_seed(1))['loss']
    again = objective({'images': images}, torch.Generator().manual_seed(1))['loss']
    assert torch.equal(first, again)
    assert not torch.equal(seen[0], images.float())


def test_decode_gives_whole_pictures_of_half_the_size() -> None:
    objective = KeypointAutoencoder(
        DataShape(2, SIZE, SIZE, 2, 2), KeypointConfig(keypoints=3, channels=4)).eval()
    with torch.no_grad():
        drawn = objective.decode(torch.zeros(5, 6, 2))
    assert drawn.dtype == torch.uint8
    assert drawn.shape == (5, 2, SIZE // 2, SIZE // 2, 3)


def test_a_size_that_cannot_be_halved_twice_is_refused() -> None:
    with pytest.raises(ValueError, match='multiples of 4'):
        KeypointAutoencoder(DataShape(1, 30, 32, 2, 2), KeypointConfig())
