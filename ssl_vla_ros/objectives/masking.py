# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Which patches are hidden: at random, in blocks, or in tubes through time."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def random_patches(batch: int, patches: int, ratio: float, generator: torch.Generator,
                   device: torch.device) -> tuple[Tensor, Tensor]:
    """
    Draw which patches stay visible, as many in every sample.

    Returns
    -------
    keep, mask
        (batch, kept) patch numbers in random order, and (batch, patches) bool, true where hidden.

    Raises
    ------
    ValueError
        If the ratio leaves nothing visible or nothing hidden.

    """
    # Rounded first: 20 · (1 − 0.9) is a little less than 2.
    kept = int(round(patches * (1.0 - ratio), 6))
    if not 1 <= kept < patches:
        raise ValueError(
            f'mask_ratio is {ratio}: of {patches} patches {kept} would stay visible; at least one '
            'must stay, and one must be hidden')
    order = torch.rand(batch, patches, generator=generator, device=device).argsort(dim=1)
    keep = order[:, :kept]
    mask = torch.ones(batch, patches, dtype=torch.bool, device=device).scatter_(1, keep, False)
    return keep, mask


def block_patches(batch: int, rows: int, columns: int, ratio: float, generator: torch.Generator,
                  device: torch.device, smallest: int = 4) -> Tensor:
    """
    Hide patches in rectangles until the ratio is reached, as many in every sample.

    Source: "BEiT: BERT Pre-Training of Image Transformers" (Bao et al., 2022), algorithm 1: sides
    of a block are to each other as 0.3 … 1/0.3. The paper stops after about the ratio; here the
    last block is cut so that every sample hides the same number and a batch can be one tensor.

    Parameters
    ----------
    batch, rows, columns
        Samples, and the grid of each.
    ratio
        Share that is hidden.
    generator, device
        Source of the blocks; where the mask is wanted.
    smallest
        Fewest patches of a block.

    Returns
    -------
    Tensor
        (batch, rows · columns) bool, true where hidden.

    Raises
    ------
    ValueError
        If the ratio leaves nothing visible or nothing hidden, or a block has no patch.

    """
    if smallest < 1:
        raise ValueError(f'smallest_block is {smallest}, must be at least 1 patch')
    patches = rows * columns
    hidden = round(ratio * patches)
    if not 1 <= hidden < patches:
        raise ValueError(
            f'mask_ratio is {ratio}: of {patches} patches {hidden} would be hidden; at least one '
            'must be, and one must stay')
    # Every block of every sample at once: as many as are ever needed, in the order they come.
    count = max(8, 4 * math.ceil(hidden / smallest))
    drawn = torch.rand(4, batch, count, generator=generator, device=device)
    smallest = min(smallest, hidden)
    area = smallest + drawn[0] * max(0, hidden - smallest)
    skew = ((2.0 * drawn[1] - 1.0) * math.log(1.0 / 0.3)).exp().sqrt()
    tall = (area.sqrt() * skew).round().clamp(1, rows)
    wide = (area.sqrt() / skew).round().clamp(1, columns)
    top, left = (drawn[2] * (rows - tall + 1)).floor(), (drawn[3] * (columns - wide + 1)).floor()
    row = torch.arange(rows, device=device)
    column = torch.arange(columns, device=device)
    down = (row >= top[..., None]) & (row < (top + tall)[..., None])
    across = (column >= left[..., None]) & (column < (left + wide)[..., None])
    inside = (down[..., :, None] & across[..., None, :]).flatten(2)
    # When a patch is first covered; those that never are come last, in random order.
    turn = torch.where(inside.any(dim=1), inside.int().argmax(dim=1), count)
    order = turn + torch.rand(batch, patches, generator=generator, device=device)
    first = order.argsort(dim=1)[:, :hidden]
    return torch.zeros(batch, patches, dtype=torch.bool, device=device).scatter_(1, first, True)


def kept_of(mask: Tensor) -> Tensor:
    """Numbers (batch, kept) of the patches that a mask (batch, patches) shows, ascending."""
    return places_of(~mask, int((~mask[0]).sum()))


def places_of(chosen: Tensor, count: int) -> Tensor:
    """
    Numbers (batch, count) of the patches chosen by a mask (batch, patches), ascending.

    Every sample must have ``count`` of them: that number is given so that the device is not asked.
    """
    return chosen.int().argsort(dim=1, descending=True, stable=True)[:, :count]
