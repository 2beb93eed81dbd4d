# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Shifts and crops: each sample its own, all pictures of a sample alike, nothing invented."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.geometry import camera_shift, random_resized_crop
import torch


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*lead: int, height: int = 12, width: int = 16) -> torch.Tensor:
    """Draw pictures whose red tells the row and whose green the column."""
    images = torch.zeros(*lead, height, width, 3, dtype=torch.uint8)
    images[..., 0] = 10 * torch.arange(height, dtype=torch.uint8)[:, None]
    images[..., 1] = 10 * torch.arange(width, dtype=torch.uint8)
    return images


def test_a_shift_moves_all_pictures_of_a_sample_alike_and_repeats_the_edge() -> None:
    images = pictures(40, 3, 2)
    found = camera_shift(images, 3, seeded())
    assert found.dtype == torch.uint8 and found.shape == images.shape
    seen = set()
    for sample in found:
        assert bool((sample == sample[0, 0]).all()), 'frames and cameras move together'
        row, column = int(sample[0, 0, 5, 5, 0]) // 10 - 5, int(sample[0, 0, 5, 5, 1]) // 10 - 5
        seen.add((row, column))
        rows = (torch.arange(12) + row).clamp(0, 11)
        columns = (torch.arange(16) + column).clamp(0, 15)
        assert torch.equal(sample[0, 0], images[0, 0, 0][rows][:, columns])
    assert {row for row, _ in seen} == {column for _, column in seen} == set(range(-3, 4))


def test_a_shift_of_nothing_is_nothing_and_a_seed_repeats_it() -> None:
    images = pictures(4)
    assert torch.equal(camera_shift(images, 0, seeded()), images)
    assert torch.equal(camera_shift(images, 2, seeded(3)), camera_shift(images, 2, seeded(3)))
    assert not torch.equal(camera_shift(images, 2, seeded(3)), camera_shift(images, 2, seeded(4)))
    for most in (-1, 12):
        with pytest.raises(ValueError, match=f'most is {most}, must lie between 0 and'):
            camera_shift(images, most, seeded())


def test_a_crop_keeps_the_share_of_the_area_that_it_says() -> None:
    images = pictures(64, 2, height=24, width=24).float()
    found = random_resized_crop(images, 0.3, seeded())
    assert found.shape == images.shape and found.dtype == torch.float32
    assert bool((found == found[:, :1]).all()), 'both cameras are cut alike'
    # Red rises by 10 a row: how steeply it rises tells how much was enlarged.
    tall = (found[:, 0, 20, 12, 0] - found[:, 0, 4, 12, 0]) / 160
    wide = (found[:, 0, 12, 20, 1] - found[:, 0, 12, 4, 1]) / 160
    area = tall * wide
    assert 0.28 < float(area.min()) < 0.45
    assert 0.8 < float(area.max()) <= 1.001
    assert float((tall / wide).max()) > 1.15 > 0.87 > float((tall / wide).min())
    assert float(found.min()) >= 0.0 and float(found.max()) <= 230.0


def test_a_crop_of_everything_is_the_picture() -> None:
    images = pictures(3)
    torch.testing.assert_close(
        random_resized_crop(images, 1.0, seeded(), longest_side=1.0), images.float(),
        rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match='smallest is 0.0, must be above 0'):
        random_resized_crop(images, 0.0, seeded())
