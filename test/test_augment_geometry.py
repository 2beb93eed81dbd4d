# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Shifts and crops: each sample its own, all pictures of a sample alike, nothing invented."""

from __future__ import annotations

import math

import pytest
from ssl_vla_ros.augment.geometry import camera_shift, flip, random_resized_crop
import torch
from torch.nn import functional


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
    for smallest, side in ((0.0, 1.0), (1.1, 1.0), (math.nan, 1.0), (0.5, 0.9), (0.5, math.inf)):
        with pytest.raises(ValueError, match=f'smallest is {smallest}, .* is {side}, must be'):
            random_resized_crop(images, smallest, seeded(), side)


def plain_crop(images: torch.Tensor, smallest: float, generator: torch.Generator) -> torch.Tensor:
    """Crop as one would write it down: torch's own sampling, with the same four draws."""
    batch = images.shape[0]
    area, skew, across, down = (torch.rand(batch, generator=generator) for _ in range(4))
    side = (smallest + (1.0 - smallest) * area).sqrt()
    skew = ((2.0 * skew - 1.0) * math.log(4 / 3)).exp().sqrt()
    tall, wide = (side / skew).clamp(max=1.0), (side * skew).clamp(max=1.0)
    moves = torch.zeros(batch, 2, 3)
    moves[:, 0, 0], moves[:, 1, 1] = wide, tall
    moves[:, 0, 2], moves[:, 1, 2] = ((2.0 * place - 1.0) * (1.0 - share)
                                      for place, share in ((across, wide), (down, tall)))
    planes = images.flatten(0, -4).permute(0, 3, 1, 2)
    grid = functional.affine_grid(moves.repeat_interleave(len(planes) // batch, 0),
                                  list(planes.shape), align_corners=False)
    cut = functional.grid_sample(planes, grid, padding_mode='border', align_corners=False)
    return cut.permute(0, 2, 3, 1).view(images.shape)


def test_a_crop_is_what_torch_samples() -> None:
    images = 255.0 * torch.rand(5, 2, 3, 17, 23, 3, generator=seeded(8))
    wanted = plain_crop(images, 0.3, seeded(2))
    torch.testing.assert_close(
        random_resized_crop(images, 0.3, seeded(2)), wanted, rtol=0, atol=1e-3)
    assert float((random_resized_crop(images, 0.3, seeded(3)) - wanted).abs().max()) > 50.0


def test_all_pictures_of_a_flipped_sample_are_mirrored_and_the_others_stay() -> None:
    images = torch.randint(0, 256, (30, 2, 5, 6, 3), dtype=torch.uint8, generator=seeded(1))
    found, flipped = flip(images, 0.5, seeded())
    assert found.dtype == torch.uint8
    assert 5 < int(flipped.sum()) < 25
    assert torch.equal(found[flipped], images[flipped].flip(-2))
    assert torch.equal(found[~flipped], images[~flipped])
    assert not torch.equal(found[flipped], images[flipped]), 'a mirror image is another picture'
    for share, count in ((0.0, 0), (1.0, 30)):
        assert int(flip(images, share, seeded())[1].sum()) == count
    with pytest.raises(ValueError, match='share is 1.5, must lie between 0 and 1'):
        flip(images, 1.5, seeded())


def test_pictures_that_lie_elsewhere_in_memory_are_moved_the_same() -> None:
    images = pictures(6, 2)
    strange = images.transpose(-3, -2).contiguous().transpose(-3, -2)
    assert not strange.is_contiguous()
    assert torch.equal(camera_shift(strange, 3, seeded()), camera_shift(images, 3, seeded()))
    assert torch.equal(random_resized_crop(strange, 0.5, seeded()),
                       random_resized_crop(images, 0.5, seeded()))
