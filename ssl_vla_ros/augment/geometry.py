# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Moving what a camera sees: on batches, on the device, each sample with parameters of its own.

Pictures are (batch, …, height, width, 3); what stands between batch and height (cameras, frames of
a clip) is moved alike, so that neither motion nor the cameras' geometry is invented.
"""

from __future__ import annotations

import math

from ssl_vla_ros.augment.planes import check_share
from ssl_vla_ros.augment.resample import draw_window, taken
import torch
from torch import Tensor


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
    shifts = draw_shifts(batch, most, generator, images.device)
    return taken(images, shifted_places(height, shifts[0]), shifted_places(width, shifts[1]))


def draw_shifts(batch: int, most: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw shifts (2, batch) of rows and columns, -most … most pixels."""
    return torch.randint(-most, most + 1, (2, batch), generator=generator, device=device)


def shifted_places(size: int, shift: Tensor) -> Tensor:
    """Which row or column (batch, size) is read after a shift (batch,)."""
    places = torch.arange(size, device=shift.device) + shift[:, None]
    return places.clamp(0, size - 1)


def random_resized_crop(images: Tensor, smallest: float, generator: torch.Generator,
                        longest_side: float = 4 / 3) -> Tensor:
    """
    Cut a random part of each sample and enlarge it to the old size (bilinear).

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255.
    smallest
        Smallest share of the area that is kept; 0.8 for robots, 0.08 in SimCLR, 0.2 in MoCo.
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
    if not 0.0 < smallest <= 1.0 or not 1.0 <= longest_side < math.inf:
        raise ValueError(f'smallest is {smallest}, must be above 0 and up to 1; longest_side is '
                         f'{longest_side}, must be at least 1')
    height, width = images.shape[-3:-1]
    window = draw_window(
        images.shape[0], (smallest, 1.0), longest_side, generator, images.device)
    rows, columns = (torch.arange(size, device=images.device)[None] for size in (height, width))
    return taken(
        images, window.rows(rows, height, height), window.columns(columns, width, width))


def flip(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """
    Mirror some samples from left to right, all pictures of a sample or none.

    The workspace is mirrored, but neither state nor actions are: ``augment.robot.mirrored`` does
    that for the samples that are told here, where it is known which values change their sign.
    Instructions that say "left" or "right" become wrong, too.

    Parameters
    ----------
    images
        (batch, …, height, width, 3) of any type.
    share
        Probability of each sample to be mirrored.
    generator
        Source of the choice.

    Returns
    -------
    tuple
        The pictures, same type and shape, and ``flipped`` (batch,) bool.

    Raises
    ------
    ValueError
        If the share does not lie between 0 and 1.

    """
    check_share(share)
    flipped = draw_flips(images.shape[0], share, generator, images.device)
    width = images.shape[-2]
    columns = mirrored_places(torch.arange(width, device=images.device)[None], flipped, width)
    rows = torch.arange(images.shape[-3], device=images.device)
    return taken(images, rows.expand(len(flipped), -1), columns), flipped


def draw_flips(batch: int, share: float, generator: torch.Generator, device: torch.device
               ) -> Tensor:
    """Draw which samples (batch,) are mirrored."""
    return torch.rand(batch, generator=generator, device=device) < share


def mirrored_places(columns: Tensor, flipped: Tensor, width: int) -> Tensor:
    """Columns (batch, w), counted from the other side in the samples that are ``flipped``."""
    return torch.where(flipped[:, None], width - 1 - columns, columns)
