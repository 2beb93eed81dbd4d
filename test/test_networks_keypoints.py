# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Soft keypoints: the expectation, written out; exact at a peak; sizes that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.keypoints import HeatmapDecoder, KeypointEncoder, spatial_soft_argmax
import torch


def test_soft_argmax_is_the_written_out_expectation() -> None:
    torch.manual_seed(0)
    logits = 2.0 * torch.randn(2, 3, 4, 7)
    found = spatial_soft_argmax(logits)
    for sample in range(2):
        for channel in range(3):
            total = x = y = 0.0
            for row in range(4):
                for column in range(7):
                    weight = float(np.exp(float(logits[sample, channel, row, column])))
                    total += weight
                    x += weight * (-1.0 + 2.0 * column / 6)
                    y += weight * (-1.0 + 2.0 * row / 3)
            assert float(found[sample, channel, 0]) == pytest.approx(x / total, abs=1e-5)
            assert float(found[sample, channel, 1]) == pytest.approx(y / total, abs=1e-5)


def test_soft_argmax_is_exact_at_a_sharp_peak() -> None:
    logits = torch.zeros(1, 3, 5, 9)
    for channel, (row, column) in enumerate([(0, 8), (4, 0), (2, 4)]):
        logits[0, channel, row, column] = 200.0
    expected = torch.tensor([[[1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]]])
    assert torch.equal(spatial_soft_argmax(logits), expected)


def test_a_flat_map_is_the_middle_and_huge_logits_are_finite() -> None:
    assert spatial_soft_argmax(torch.zeros(1, 1, 6, 6)).abs().max() < 1e-6
    huge = torch.full((1, 1, 6, 6), 1e30)
    assert bool(torch.isfinite(spatial_soft_argmax(huge)).all())


def test_soft_argmax_is_float32_under_half_precision() -> None:
    logits = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)
    assert spatial_soft_argmax(logits).dtype == torch.float32


def test_each_camera_has_its_own_tokens_in_order() -> None:
    encoder = KeypointEncoder(2, 16, 24, keypoints=3, channels=4)
    images = torch.randint(0, 256, (2, 2, 16, 24, 3), dtype=torch.uint8)
    features = encoder(images)
    assert features.shape == (2, encoder.tokens, encoder.dim) == (2, 6, 2)
    changed = images.clone()
    changed[:, 1] = 255 - changed[:, 1]
    again = encoder(changed)
    assert torch.equal(again[:, :3], features[:, :3])
    assert not torch.equal(again[:, 3:], features[:, 3:])


@pytest.mark.parametrize('shape', [
    (2, 2, 16, 20, 3), (2, 1, 16, 24, 3), (2, 2, 24, 16, 3), (2, 2, 16, 24, 4), (2, 16, 24, 3)])
def test_pictures_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    encoder = KeypointEncoder(2, 16, 24, keypoints=3, channels=4)
    with pytest.raises(ValueError, match=r'this encoder takes \(2, 16, 24, 3\)'):
        encoder(torch.zeros(shape, dtype=torch.uint8))


def test_an_encoder_must_say_what_it_does() -> None:
    with pytest.raises(TypeError, match='Encoder must define forward'):
        Encoder(1, 8, 8, 1, 2)(torch.zeros(1, 1, 8, 8, 3))


def test_the_decoder_draws_half_the_size_and_asks_for_multiples_of_four() -> None:
    decoder = HeatmapDecoder(16, 24, keypoints=3, channels=4).eval()
    assert decoder(torch.zeros(5, 3, 2)).shape == (5, 8, 12, 3)
    with pytest.raises(ValueError, match='multiples of 4, not 16, 22'):
        HeatmapDecoder(16, 22, keypoints=3, channels=4)


def test_average_light_follows_training_and_rests_otherwise() -> None:
    decoder = HeatmapDecoder(8, 8, keypoints=2, channels=4, appearance=3)
    points, context = torch.zeros(4, 2, 2), torch.randn(4, 4)
    decoder(points, context)
    moved = decoder.get_buffer('mean_appearance').clone()
    expected = 0.01 * decoder.compress(context).mean(0)
    torch.testing.assert_close(moved, expected)
    decoder.eval()
    decoder(points, context)
    assert torch.equal(decoder.get_buffer('mean_appearance'), moved)


def test_no_keypoints_are_refused() -> None:
    with pytest.raises(ValueError, match='keypoints is 0'):
        KeypointEncoder(1, 16, 16, keypoints=0)
