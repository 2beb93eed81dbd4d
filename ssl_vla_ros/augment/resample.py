# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading pictures at other places than their pixels, when the camera's axes stay what they are.

Crops, mirrors and shifts move rows and columns apart from each other: so two short lists of places
a sample say all, whole rows are copied at once, and one pass does every such motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math

from ssl_vla_ros.augment.planes import parts
import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """
    A part of each sample, in shares of the picture, (batch,) each.

    Attributes
    ----------
    tall, wide
        The part's height and width, of the picture's.
    down, across
        Its centre, from -1 (top, left) to 1.

    """

    tall: Tensor
    wide: Tensor
    down: Tensor
    across: Tensor

    def rows(self, places: Tensor, count: int, height: int) -> Tensor:
        """Where rows ``places`` (batch, h) of ``count`` lie in pictures of ``height``."""
        return _seen_from(places, self.tall, self.down, count, height)

    def columns(self, places: Tensor, count: int, width: int) -> Tensor:
        """Where columns ``places`` (batch, w) of ``count`` lie in pictures of ``width``."""
        return _seen_from(places, self.wide, self.across, count, width)


def _seen_from(places: Tensor, share: Tensor, centre: Tensor, count: int, size: int) -> Tensor:
    # Pixels are areas: the first one's centre lies half a pixel from the edge, in both pictures.
    inside = (2.0 * places + 1.0) / count - 1.0
    found = ((share[:, None] * inside + centre[:, None] + 1.0) * size - 1.0) / 2.0
    return found.clamp(0.0, size - 1.0)


def draw_window(batch: int, area: tuple[float, float], longest_side: float,
                generator: torch.Generator, device: torch.device) -> Window:
    """
    Draw a part of each sample: its area, its shape and its place, uniform each.

    Parameters
    ----------
    batch
        Samples.
    area
        Smallest and largest share of the picture's area; a part that would be wider or taller than
        the picture ends at its edge.
    longest_side
        Sides are to each other as 1 / longest_side … longest_side times the picture's.
    generator, device
        Source of the draws, and where they are made.

    """
    def uniform(low: float, high: float) -> Tensor:
        drawn = torch.rand(batch, generator=generator, device=device)
        return low + (high - low) * drawn

    side = uniform(*area).sqrt()
    skew = uniform(-math.log(longest_side), math.log(longest_side)).exp().sqrt()
    tall, wide = (side / skew).clamp(max=1.0), (side * skew).clamp(max=1.0)
    across, down = uniform(-1.0, 1.0) * (1.0 - wide), uniform(-1.0, 1.0) * (1.0 - tall)
    return Window(tall, wide, down, across)


def taken(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """
    Read pictures at ``rows`` and ``columns``, all pictures of a sample at the same ones.

    Parameters
    ----------
    images
        (batch, …, height, width, 3) of any type.
    rows, columns
        (count · batch, h) and (count · batch, w); places in pixels, inside the picture. Line i is
        read from sample i modulo batch. Whole numbers (int64) copy pixels; fractions (float) mix
        the two neighbours linearly, without a filter against aliasing.

    Returns
    -------
    torch.Tensor
        (count · batch, …, h, w, 3), contiguous; of the same type, or float32 with fractions.

    """
    images = images.contiguous()
    many, lead = len(rows), images.shape[1:-3]
    samples = torch.arange(many, device=images.device) % images.shape[0]
    size = rows.shape[1], columns.shape[1]
    found = torch.empty(
        (many, *lead, *size, 3), device=images.device,
        dtype=torch.float32 if rows.is_floating_point() else images.dtype)
    for part in parts(many, math.prod((*lead, size[0], images.shape[-2], 3)), images.device):
        planes = planes_at(images, samples[part], rows[part], columns[part])
        found[part] = planes.movedim(-3, -1)
    return found


def planes_at(images: Tensor, samples: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """
    Read some ``samples`` (n,) of contiguous pictures at ``rows`` (n, h) and ``columns`` (n, w).

    Returns
    -------
    torch.Tensor
        (n, …, 3, h, w), contiguous; see ``taken``.

    """
    many, lead, (height, width) = len(samples), images.shape[1:-3], images.shape[-3:-1]
    each = math.prod(lead)
    picture = samples[:, None] * each + torch.arange(each, device=images.device)
    lines = images.view(-1, width * 3)

    def rows_at(index: Tensor) -> Tensor:
        line = picture[:, :, None] * height + index[:, None]
        return lines.index_select(0, line.flatten()).view(many, each, -1, width, 3)

    planes = _mixed(rows_at, rows, (1, -1, 1, 1), height).movedim(-1, -3).contiguous()

    def columns_at(index: Tensor) -> Tensor:
        place = index.view(many, 1, 1, 1, -1)
        return planes.gather(-1, place.expand(*planes.shape[:-1], -1))

    found = _mixed(columns_at, columns, (1, 1, 1, -1), width)
    return found.view(many, *lead, 3, rows.shape[1], columns.shape[1])


def _mixed(pick: Callable[[Tensor], Tensor], places: Tensor, shape: tuple[int, ...], size: int
           ) -> Tensor:
    if not places.is_floating_point():
        return pick(places)
    low = places.floor()
    weight = (places - low).view(len(places), *shape)
    first = low.long()
    # What was picked is ours: memory that is written again is memory that need not be found.
    return pick(first).float().lerp_(pick((first + 1).clamp(max=size - 1)).float(), weight)
