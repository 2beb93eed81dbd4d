# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the augmentations share: pictures as planes, one draw for each picture, a part at a time.

A plane holds one colour of a picture. Adding up whole planes is several times faster than mixing
the three numbers of each pixel, so what changes colours or blurs works on planes, and pictures are
turned to planes and back once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

#: Numbers that a processor works on at a time: 2 MB as float32, so that every step but the first
#: finds them in a cache. Less leaves the cores waiting for each other.
_AT_A_TIME = 2 ** 19


def parts(samples: int, values: int, device: torch.device) -> Iterator[slice]:
    """
    Cut ``samples`` of ``values`` numbers each into parts to work on one after the other.

    On a processor a batch does not fit its cache, and memory for all of it, again and again, takes
    longer to get than to fill. An accelerator takes all at once.
    """
    step = samples if device.type != 'cpu' else max(1, _AT_A_TIME // max(1, values))
    for begin in range(0, samples, max(1, step)):
        yield slice(begin, min(begin + step, samples))


def planes_of(images: Tensor) -> Tensor:
    """Copy pictures (batch, …, height, width, 3) to planes (batch, …, 3, height, width)."""
    planes = images.movedim(-1, -3).contiguous()
    if planes.dtype == torch.float32 and planes.data_ptr() != images.data_ptr():
        return planes
    # float32, and a copy even so: what is made of the planes may be written into them.
    return planes.to(torch.float32, copy=True)


def images_of(planes: Tensor) -> Tensor:
    """Copy planes (batch, …, 3, height, width) to pictures (batch, …, height, width, 3)."""
    return planes.movedim(-3, -1).contiguous()


def check_images(images: Tensor) -> None:
    """Raise ``ValueError`` unless these are (batch, …, height, width, 3)."""
    if images.ndim < 4 or images.shape[-1] != 3:
        raise ValueError(
            f'pictures are {tuple(images.shape)}, must be (batch, …, height, width, 3)')


def draw_shape(lead: Sequence[int], alike: Sequence[int]) -> tuple[int, ...]:
    """
    Shape of one draw a picture, where pictures along the axes ``alike`` share theirs.

    Parameters
    ----------
    lead
        The pictures' shape before height, width and colours.
    alike
        Axes of ``lead``, such as 1, time, in (batch, T, cameras).

    Raises
    ------
    ValueError
        If there is no such axis.

    """
    for axis in alike:
        if not 0 <= axis < len(lead):
            raise ValueError(f'alike is {tuple(alike)}, must name axes 0 to {len(lead) - 1} of '
                             f'pictures {tuple(lead)}')
    return tuple(1 if axis in alike else size for axis, size in enumerate(lead))


def chosen(which: Tensor, lead: Sequence[int]) -> Tensor:
    """Numbers (n,) of the pictures of ``lead`` for which ``which``, a draw, is true."""
    return which.expand(*lead).reshape(-1).nonzero()[:, 0]


def check_share(share: float) -> None:
    """Raise ``ValueError`` unless ``share`` lies between 0 and 1."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f'share is {share}, must lie between 0 and 1')
