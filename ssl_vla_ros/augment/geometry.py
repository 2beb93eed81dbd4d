# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Moving what a camera sees: on batches, on the device, each sample with parameters of its own.

Pictures are (batch, …, height, width, 3); what stands between batch and height (cameras, frames of
a clip) is moved alike, so that neither motion nor the cameras' geometry is invented.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def camera_shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """
    Shift each sample by whole pixels, as a camera that was bumped: edges are repeated.

    Source: "Image Augmentation Is All You Need: Regularizing Deep Reinforcement Learning from
    Pixels" (Kostrikov et al., 2021), section 3.1. Proprioception stays what it was.

    Parameters
    ----------
    images
        (batch, …, height, width, 3) of any type.
    most
        Largest shift along each axis, pixels; ±10 at 224 is usual.
    generator
        Source of the shifts.

    Raises
    ------
    ValueError
        If the shift is negative, or as large as the picture.

    """
    batch, height, width = images.shape[0], images.shape[-3], images.shape[-2]
    if not 0 <= most < min(height, width):
        raise ValueError(f'most is {most}, must lie between 0 and the picture ({height}x{width})')
    shifts = torch.randint(-most, most + 1, (2, batch), generator=generator, device=images.device)
    rows = (torch.arange(height, device=images.device) + shifts[0, :, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + shifts[1, :, None]).clamp(0, width - 1)
    flat = images.flatten(1, -4) if images.ndim > 4 else images[:, None]
    sample = torch.arange(batch, device=images.device)[:, None, None]
    # Indices apart from each other come first in the result: (batch, height, width, …, 3).
    moved = flat[sample, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2, 4).reshape(images.shape)


def random_resized_crop(images: Tensor, smallest: float, generator: torch.Generator,
                        longest_side: float = 4 / 3) -> Tensor:
    """
    Cut a random part of each sample and enlarge it to the old size (bilinear).

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255.
    smallest
        Smallest share of the area that is kept; 0.8 for robots, 0.2 in SimCLR.
    generator
        Source of areas, shapes and places.
    longest_side
        Sides of the part are to each other as 1 / longest_side … longest_side times the picture's.

    Returns
    -------
    torch.Tensor
        float32, same shape.

    Raises
    ------
    ValueError
        If the share does not lie above 0 and up to 1, or the sides below 1.

    """
    if not 0.0 < smallest <= 1.0 or longest_side < 1.0:
        raise ValueError(f'smallest is {smallest}, must be above 0 and up to 1; longest_side is '
                         f'{longest_side}, must be at least 1')
    batch = images.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(batch, generator=generator, device=images.device)
        return low + (high - low) * drawn

    area = uniform(smallest, 1.0)
    skew = uniform(-math.log(longest_side), math.log(longest_side)).exp().sqrt()
    tall = (area.sqrt() / skew).clamp(max=1.0)
    wide = (area.sqrt() * skew).clamp(max=1.0)
    across, down = uniform(-1.0, 1.0) * (1.0 - wide), uniform(-1.0, 1.0) * (1.0 - tall)
    zero = torch.zeros_like(tall)
    moves = torch.stack([torch.stack([wide, zero, across], 1),
                         torch.stack([zero, tall, down], 1)], 1)
    pictures = images.float().reshape(-1, *images.shape[-3:]).permute(0, 3, 1, 2)
    each = pictures.shape[0] // batch
    grid = functional.affine_grid(
        moves.repeat_interleave(each, 0), list(pictures.shape), align_corners=False)
    cut = functional.grid_sample(
        pictures, grid, mode='bilinear', padding_mode='border', align_corners=False)
    return cut.permute(0, 2, 3, 1).reshape(images.shape)
