# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Masks: how many patches they hide, of which shape, and where."""

from __future__ import annotations

import math

import pytest
from ssl_vla_ros.objectives.masking import (
    block_patches, kept_of, places_of, random_patches)
import torch
from torch import Tensor

CPU = torch.device('cpu')


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def hidden_neighbours(mask: Tensor, rows: int, columns: int) -> float:
    """Neighbours of a hidden patch, up to four, that are hidden as well, on average."""
    grid = mask.view(-1, rows, columns).float()
    pairs = (grid[:, 1:] * grid[:, :-1]).sum() + (grid[:, :, 1:] * grid[:, :, :-1]).sum()
    return float(2.0 * pairs / grid.sum())


def boxes(mask: Tensor, rows: int, columns: int) -> Tensor:
    """Height and width (n, 2) of the smallest rectangle around what is hidden."""
    grid = mask.view(-1, rows, columns)
    found = []
    for sample in grid:
        places = sample.nonzero()
        found.append(places.amax(0) - places.amin(0) + 1)
    return torch.stack(found)


# -- at random ----------------------------------------------------------------------------


@pytest.mark.parametrize(('patches', 'ratio', 'kept'), [
    (144, 0.75, 36), (196, 0.75, 49), (144, 0.9, 14), (10, 0.9, 1), (20, 0.9, 2), (40, 0.9, 4),
    (160, 0.9, 16), (100, 0.7, 30), (16, 0.5, 8)])
def test_as_many_patches_stay_as_the_ratio_says(patches: int, ratio: float, kept: int) -> None:
    keep, mask = random_patches(7, patches, ratio, dice(), CPU)
    assert keep.shape == (7, kept)
    assert mask.sum(1).tolist() == [patches - kept] * 7
    assert not bool(mask.gather(1, keep).any())


def test_rounding_down_would_hide_a_patch_too_many() -> None:
    """Negative control: 0.1 of 20 is less than 2 in binary numbers."""
    assert int(20 * (1.0 - 0.9)) == 1
    assert int(10 * (1.0 - 0.9)) == 0


def test_random_masks_differ_between_samples_and_hide_every_patch_alike() -> None:
    _, mask = random_patches(2000, 16, 0.75, dice(), CPU)
    assert len(mask.unique(dim=0)) > 1000
    # Four deviations of a share of 2000 draws.
    assert float((mask.float().mean(0) - 0.75).abs().max()) < 4 * math.sqrt(0.75 * 0.25 / 2000)


def test_places_are_those_of_the_mask_in_ascending_order() -> None:
    _, mask = random_patches(9, 16, 0.75, dice(), CPU)
    assert places_of(mask, 12).tolist() == [row.nonzero()[:, 0].tolist() for row in mask]
    assert kept_of(mask).tolist() == [(~row).nonzero()[:, 0].tolist() for row in mask]


# -- in blocks ----------------------------------------------------------------------------


@pytest.mark.parametrize(('rows', 'columns'), [(12, 12), (14, 14), (4, 4), (6, 8), (3, 16)])
@pytest.mark.parametrize('ratio', [0.3, 0.4, 0.75])
def test_every_sample_hides_as_many_patches_in_blocks(rows: int, columns: int, ratio: float
                                                      ) -> None:
    mask = block_patches(60, rows, columns, ratio, dice(), CPU)
    assert mask.shape == (60, rows * columns)
    assert mask.sum(1).unique().tolist() == [round(ratio * rows * columns)]
    assert len(mask.unique(dim=0)) > 30


@pytest.mark.parametrize(('rows', 'columns', 'ratio', 'more'), [
    (12, 12, 0.4, 1.9), (14, 14, 0.3, 2.4), (6, 6, 0.4, 1.6), (12, 12, 0.75, 1.2)])
def test_blocks_hide_neighbours_together(rows: int, columns: int, ratio: float, more: float
                                         ) -> None:
    blocks = block_patches(300, rows, columns, ratio, dice(), CPU)
    _, scattered = random_patches(
        300, rows * columns, 1.0 - int((~blocks[0]).sum()) / (rows * columns), dice(), CPU)
    found = hidden_neighbours(blocks, rows, columns)
    assert found > more * hidden_neighbours(scattered, rows, columns)
    # Negative control: the same patches in another order are no blocks.
    order = torch.randperm(rows * columns, generator=dice())
    assert hidden_neighbours(blocks[:, order], rows, columns) < 0.9 * found


def test_one_large_block_is_a_rectangle_of_the_paper_s_proportions() -> None:
    hidden = 36
    mask = block_patches(400, 14, 14, hidden / 196, dice(), CPU, smallest=hidden)
    box = boxes(mask, 14, 14)
    area = box.prod(1)
    # Rounded sides may give a little less than is asked: then a second block fills up.
    whole = area <= 1.2 * hidden
    assert float(whole.float().mean()) > 0.5
    proportion = box[whole, 0] / box[whole, 1]
    assert 0.25 < float(proportion.min()) < 0.5 and 2.0 < float(proportion.max()) < 4.0
    # Negative control: as many at random lie all over the picture.
    _, scattered = random_patches(400, 196, 1.0 - 36 / 196, dice(), CPU)
    assert float((boxes(scattered, 14, 14).prod(1) <= 1.2 * hidden).float().mean()) < 0.01


def test_blocks_reach_every_patch_and_leave_every_patch() -> None:
    mask = block_patches(1000, 12, 12, 0.4, dice(), CPU)
    share = mask.float().mean(0)
    assert 0.02 < float(share.min()) and float(share.max()) < 0.85
    # Corners are in fewer rectangles than the middle, but none of the four in fewer than others.
    corners = share.view(12, 12)[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert float(corners.max() - corners.min()) < 0.05


def test_masks_are_reproduced_by_their_seed() -> None:
    assert torch.equal(block_patches(5, 6, 6, 0.4, dice(3), CPU),
                       block_patches(5, 6, 6, 0.4, dice(3), CPU))
    assert not torch.equal(block_patches(5, 6, 6, 0.4, dice(3), CPU),
                           block_patches(5, 6, 6, 0.4, dice(4), CPU))


@pytest.mark.parametrize(('ratio', 'smallest', 'message'), [
    (0.0, 4, 'mask_ratio is 0.0: of 16 patches 0 would be hidden'),
    (1.0, 4, 'mask_ratio is 1.0: of 16 patches 16 would be hidden'),
    (0.4, 0, 'smallest_block is 0, must be at least 1 patch')])
def test_blocks_that_cannot_be_are_refused(ratio: float, smallest: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        block_patches(2, 4, 4, ratio, dice(), CPU, smallest)


def test_a_smallest_block_of_more_than_is_hidden_hides_no_more() -> None:
    assert block_patches(9, 4, 4, 0.25, dice(), CPU, smallest=50).sum(1).tolist() == [4] * 9


def test_what_is_kept_and_what_is_hidden_are_all_patches_once() -> None:
    mask = block_patches(8, 5, 6, 0.4, dice(), CPU)
    keep, hidden = kept_of(mask), kept_of(~mask)
    assert keep.shape == (8, 18) and hidden.shape == (8, 12)
    for sample in range(8):
        assert keep[sample].tolist() == [n for n in range(30) if not mask[sample, n]]
        assert hidden[sample].tolist() == [n for n in range(30) if mask[sample, n]]
