# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Photometric augmentation: a draw for each picture, from a seed, and nothing moves."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.image import photometric, PhotometricConfig
import torch

OFF = PhotometricConfig(exposure=0.0, white_balance=0.0, sensor_noise=0.0)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> torch.Tensor:
    return torch.full((3, 2, 4, 5, 3), 100, dtype=torch.uint8)


def test_a_seed_reproduces_it_and_another_does_not() -> None:
    config = PhotometricConfig()
    first = photometric(images(), config, generator(7))
    torch.manual_seed(123)  # the global generator plays no part
    assert torch.equal(first, photometric(images(), config, generator(7)))
    assert not torch.equal(first, photometric(images(), config, generator(8)))


def test_every_picture_has_gains_of_its_own_and_all_its_pixels_share_them() -> None:
    config = PhotometricConfig(exposure=0.3, white_balance=0.1, sensor_noise=0.0)
    gains = photometric(images(), config, generator(0)) / 100.0
    assert torch.equal(gains.amax((2, 3)), gains.amin((2, 3)))
    gains = gains[:, :, 0, 0]
    assert len(gains.flatten().unique()) == 3 * 2 * 3
    assert float(gains.min()) >= 0.7 * 0.9
    assert float(gains.max()) <= 1.3 * 1.1
    spread = gains / gains.mean(-1, keepdim=True)
    assert float((spread - 1.0).abs().max()) < 0.2, 'colours differ by the white balance alone'


def test_noise_has_the_asked_deviation_and_differs_between_pixels() -> None:
    config = PhotometricConfig(exposure=0.0, white_balance=0.0, sensor_noise=4.0)
    noisy = photometric(torch.full((1, 1, 64, 64, 3), 128, dtype=torch.uint8), config,
                        generator(0))
    assert float(noisy.std()) == pytest.approx(4.0, rel=0.05)
    assert float(noisy.mean()) == pytest.approx(128.0, abs=0.2)


def test_zeros_leave_pictures_as_they_are() -> None:
    pictures = torch.randint(0, 256, (2, 1, 6, 6, 3), generator=generator(1)).to(torch.uint8)
    assert torch.equal(photometric(pictures, OFF, generator(0)), pictures.float())


def test_values_stay_in_range() -> None:
    pictures = torch.tensor([0, 255], dtype=torch.uint8).repeat(300).view(2, 1, 10, 10, 3)
    seen = photometric(pictures, PhotometricConfig(0.9, 0.5, 40.0), generator(0))
    assert seen.dtype == torch.float32
    assert float(seen.min()) == 0.0
    assert float(seen.max()) == 255.0


def test_frames_of_a_clip_can_share_gains_while_their_noise_differs() -> None:
    clip = torch.full((4, 5, 2, 6, 6, 3), 100, dtype=torch.uint8)
    still = PhotometricConfig(sensor_noise=0.0)
    shared = photometric(clip, still, generator(0), alike=(1,))
    assert torch.equal(shared, shared[:, :1].expand_as(shared))
    assert not torch.equal(shared[:, :, 0], shared[:, :, 1]), 'cameras expose on their own'
    alone = photometric(clip, still, generator(0))
    assert not torch.equal(alone, alone[:, :1].expand_as(alone)), 'frames flicker without it'
    noisy = photometric(clip, PhotometricConfig(0.0, 0.0, 4.0), generator(0), alike=(1,))
    assert not torch.equal(noisy, noisy[:, :1].expand_as(noisy))


def test_a_share_of_the_pictures_is_varied_and_the_others_keep_every_value() -> None:
    pictures = images().repeat(10, 1, 1, 1, 1)
    found = photometric(pictures, PhotometricConfig(), generator(0), share=0.5)
    same = (found == pictures).flatten(2).all(dim=2)
    assert 15 < int(same.sum()) < 45
    everything = photometric(pictures, PhotometricConfig(), generator(0))
    assert torch.equal(found[~same], everything[~same])
    with pytest.raises(ValueError, match='share is 2.0, must lie between 0 and 1'):
        photometric(pictures, PhotometricConfig(), generator(0), share=2.0)
