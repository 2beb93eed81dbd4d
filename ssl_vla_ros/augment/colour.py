# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Colour and sharpness of pictures: on batches, each picture with parameters of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Of red, green and blue, as ITU-R BT.601 weighs them.
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class JitterConfig:
    """How far each property may be from what it was; 0 leaves it."""

    brightness: float = 0.4     # times 1 ± this
    contrast: float = 0.4       # difference from the mean grey, times 1 ± this
    saturation: float = 0.4     # difference from the pixel's grey, times 1 ± this
    hue: float = 0.1            # turns of the colour circle, ± this


def colour_jitter(images: Tensor, config: JitterConfig, generator: torch.Generator) -> Tensor:
    """
    Vary brightness, contrast, saturation and hue, in this order.

    Source: "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al.,
    2020), appendix A. Saturation and hue are turned in the YIQ plane around the grey axis, where
    both are linear; torchvision goes through HSV.

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255; every picture is varied on its own.
    config
        Strengths.
    generator
        Source of every random number.

    Returns
    -------
    torch.Tensor
        float32, same shape, clamped to 0 … 255.

    Raises
    ------
    ValueError
        If a strength is negative, or the hue's over a half turn.

    """
    for name in ('brightness', 'contrast', 'saturation', 'hue'):
        most = 0.5 if name == 'hue' else float('inf')
        if not 0.0 <= getattr(config, name) <= most:
            raise ValueError(f'{name} is {getattr(config, name)}, must lie between 0 and {most}')
    shape = (*images.shape[:-3], 1, 1, 1)

    def around(strength: float) -> Tensor:
        drawn = torch.rand(shape, generator=generator, device=images.device)
        return (1.0 + strength * (2.0 * drawn - 1.0)).clamp(min=0.0)

    found = images.float() * around(config.brightness)
    mean = grey(found).mean(dim=(-2, -1), keepdim=True)[..., None]
    found = mean + (found - mean) * around(config.contrast)
    # Saturation scales the distance from grey, hue turns it: one matrix a picture for both.
    saturation, turn = around(config.saturation), (around(config.hue) - 1.0) * 2.0 * torch.pi
    return _turned(found, saturation, turn).clamp(0.0, 255.0)


def grey(images: Tensor) -> Tensor:
    """Brightness (…, height, width) of pictures (…, height, width, 3)."""
    return (images * images.new_tensor(_GREY)).sum(dim=-1)


def _turned(images: Tensor, saturation: Tensor, turn: Tensor) -> Tensor:
    weights = images.new_tensor(_GREY)
    to_yiq = torch.stack([
        weights, images.new_tensor((0.596, -0.274, -0.322)),
        images.new_tensor((0.211, -0.523, 0.312))])
    # The last two rows must give 0 for grey; the rounded numbers of the standard all but do.
    to_yiq[1:] -= to_yiq[1:].mean(dim=1, keepdim=True)
    cosine, sine = saturation * turn.cos(), saturation * turn.sin()
    yiq = images @ to_yiq.T
    y, i, q = yiq.unbind(dim=-1)
    cosine, sine = cosine[..., 0], sine[..., 0]
    mixed = torch.stack([y, cosine * i - sine * q, sine * i + cosine * q], dim=-1)
    found: Tensor = mixed @ torch.linalg.inv(to_yiq).T
    return found


def gaussian_blur(images: Tensor, sigmas: tuple[float, float], generator: torch.Generator,
                  share: float = 1.0) -> Tensor:
    """
    Blur each picture by a width of its own.

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255.
    sigmas
        Smallest and largest standard deviation, pixels.
    generator
        Source of the widths.
    share
        Of the pictures that are blurred; the others stay.

    Returns
    -------
    torch.Tensor
        float32, same shape; edges are repeated.

    Raises
    ------
    ValueError
        If the widths are not above 0 and rising, or the share is no share.

    """
    low, high = sigmas
    if not 0.0 < low <= high or not 0.0 <= share <= 1.0:
        raise ValueError(f'sigmas are {sigmas}, must be above 0 and rising; share is {share}, '
                         'must lie between 0 and 1')
    pictures = images.float().reshape(-1, *images.shape[-3:]).permute(0, 3, 1, 2)
    count = pictures.shape[0]
    drawn = torch.rand(2, count, generator=generator, device=images.device)
    sigma = low + (high - low) * drawn[0]
    # Three deviations to each side hold 99.7 % of the weight.
    reach = max(1, min(round(3.0 * high), min(pictures.shape[-2:]) - 1))
    place = torch.arange(-reach, reach + 1, device=images.device, dtype=torch.float32)
    kernel = (-place.square() / (2.0 * sigma[:, None].square())).exp()
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    still = functional.one_hot(torch.tensor(reach), 2 * reach + 1).to(kernel)
    kernel = torch.where((drawn[1] < share)[:, None], kernel, still)
    # One group a picture, its colours one after the other; rows and columns apart.
    kernels = kernel.repeat_interleave(3, dim=0)
    flat = functional.pad(pictures, (reach, reach, reach, reach), mode='replicate')
    flat = flat.reshape(1, -1, *flat.shape[-2:])
    flat = functional.conv2d(flat, kernels[:, None, :, None], groups=3 * count)
    flat = functional.conv2d(flat, kernels[:, None, None, :], groups=3 * count)
    return flat.view(pictures.shape).permute(0, 2, 3, 1).reshape(images.shape)
