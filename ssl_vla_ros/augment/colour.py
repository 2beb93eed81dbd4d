# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Colour and sharpness of pictures: on batches, each picture with parameters of its own.

Frames of one clip come from one camera and must not flicker: ``alike`` names the axes over which
pictures share what is drawn, so ``alike=(1,)`` is right for (batch, T, cameras, H, W, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_vla_ros.augment.planes import check_share, chosen, draw_shape, images_of, planes_of
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


def colour_jitter(images: Tensor, config: JitterConfig, generator: torch.Generator,
                  share: float = 1.0, alike: Sequence[int] = ()) -> Tensor:
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
    share
        Of the pictures that are varied; the others stay.
    alike
        Axes of the shape before the height along which pictures are varied alike, by one and the
        same map of colours: contrast is then about the mean grey of all of them.

    Returns
    -------
    torch.Tensor
        float32, same shape, clamped to 0 … 255.

    Raises
    ------
    ValueError
        If a strength is negative, or the hue's over a half turn; if the share is none.

    """
    planes = planes_of(images)
    matrix, lift = draw_jitter(
        planes.shape[:-3], config, generator, planes.device, share, alike)
    return images_of(jitter_planes(planes, matrix, lift, alike))


def draw_jitter(lead: Sequence[int], config: JitterConfig, generator: torch.Generator,
                device: torch.device, share: float = 1.0, alike: Sequence[int] = ()
                ) -> tuple[Tensor, Tensor]:
    """
    Draw what ``jitter_planes`` does to pictures of shape ``lead``.

    Returns
    -------
    matrix, lift
        (…, 3, 3) and (…, 1, 1): new colours are matrix @ colours + lift · mean grey. All four
        changes are linear, so one matrix does them together; contrast alone has an offset.

    """
    for name in ('brightness', 'contrast', 'saturation', 'hue'):
        most = 0.5 if name == 'hue' else float('inf')
        if not 0.0 <= getattr(config, name) <= most:
            raise ValueError(f'{name} is {getattr(config, name)}, must lie between 0 and {most}')
    check_share(share)
    shape = (*draw_shape(lead, alike), 1, 1)

    def drawn() -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    def around(strength: float) -> Tensor:
        return (1.0 + strength * (2.0 * drawn() - 1.0)).clamp(min=0.0)

    brightness, contrast, saturation = (
        around(config.brightness), around(config.contrast), around(config.saturation))
    turn = (around(config.hue) - 1.0) * 2.0 * torch.pi
    matrix = brightness * contrast * _turning(saturation, turn)
    lift = (1.0 - contrast) * brightness
    if share < 1.0:
        varied = drawn() < share
        matrix = torch.where(varied, matrix, torch.eye(3, device=device))
        lift = lift.masked_fill(~varied, 0.0)
    return matrix, lift


def jitter_planes(planes: Tensor, matrix: Tensor, lift: Tensor, alike: Sequence[int] = ()
                  ) -> Tensor:
    """``colour_jitter`` of planes (batch, …, 3, height, width) as ``draw_jitter`` has it."""
    colours = planes.flatten(-2)
    mean = colours.mean(dim=(-1, *alike), keepdim=True)
    offset = lift * (mean * planes.new_tensor(_GREY)[:, None]).sum(dim=-2, keepdim=True)
    # Not as a product of matrices: mixed precision would round that, and so would TF32.
    found = torch.addcmul(offset, matrix[..., :1], colours[..., :1, :])
    for colour in (1, 2):
        found.addcmul_(matrix[..., colour:colour + 1], colours[..., colour:colour + 1, :])
    return found.clamp_(0.0, 255.0).view(planes.shape)


def _turning(saturation: Tensor, turn: Tensor) -> Tensor:
    """Matrices (…, 3, 3) of colours for draws (…, 1, 1): stretch and turn around the grey axis."""
    to_yiq = torch.tensor([_GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)],
                          dtype=torch.float64)
    # The last two rows must give 0 for grey; the rounded numbers of the standard all but do.
    to_yiq[1:] -= to_yiq[1:].mean(dim=1, keepdim=True)
    back = torch.linalg.inv(to_yiq)
    kept, along, turned = (part.to(turn) for part in (
        torch.outer(back[:, 0], to_yiq[0]),
        torch.outer(back[:, 1], to_yiq[1]) + torch.outer(back[:, 2], to_yiq[2]),
        torch.outer(back[:, 2], to_yiq[1]) - torch.outer(back[:, 1], to_yiq[2])))
    return kept + saturation * turn.cos() * along + saturation * turn.sin() * turned


def grey(images: Tensor) -> Tensor:
    """Brightness (…, height, width) of pictures (…, height, width, 3)."""
    return (images * images.new_tensor(_GREY)).sum(dim=-1)


def random_grey(images: Tensor, share: float, generator: torch.Generator,
                alike: Sequence[int] = ()) -> Tensor:
    """
    Take the colours from some pictures.

    Source: as ``colour_jitter``. What can be told by its colour alone cannot be told any more.

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255.
    share
        Of the pictures that become grey; the others stay.
    generator
        Source of the choice.
    alike
        Axes of the shape before the height along which pictures share the choice.

    Returns
    -------
    torch.Tensor
        float32, same shape.

    Raises
    ------
    ValueError
        If the share does not lie between 0 and 1.

    """
    planes = planes_of(images)
    return images_of(grey_planes_(
        planes, draw_grey(planes.shape[:-3], share, generator, planes.device, alike)))


def draw_grey(lead: Sequence[int], share: float, generator: torch.Generator,
              device: torch.device, alike: Sequence[int] = ()) -> Tensor:
    """Draw which pictures of shape ``lead`` become grey, bool."""
    check_share(share)
    return torch.rand(draw_shape(lead, alike), generator=generator, device=device) < share


def grey_planes_(planes: Tensor, which: Tensor) -> Tensor:
    """``random_grey`` of planes (batch, …, 3, height, width), written into them."""
    flat, pick = planes.flatten(0, -4), chosen(which, planes.shape[:-3])
    weights = planes.new_tensor(_GREY)[:, None, None]
    flat[pick] = (flat[pick] * weights).sum(dim=1, keepdim=True)
    return planes


def gaussian_blur(images: Tensor, sigmas: tuple[float, float], generator: torch.Generator,
                  share: float = 1.0, alike: Sequence[int] = ()) -> Tensor:
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
    alike
        Axes of the shape before the height along which pictures are blurred alike.

    Returns
    -------
    torch.Tensor
        float32, same shape; edges are repeated.

    Raises
    ------
    ValueError
        If the widths are not above 0 and rising, or the share is no share.

    """
    planes = planes_of(images)
    kernel, which = draw_blur(
        planes.shape[:-3], sigmas, min(planes.shape[-2:]), generator, planes.device, share, alike)
    return images_of(blur_planes_(planes, kernel, which))


def draw_blur(lead: Sequence[int], sigmas: tuple[float, float], size: int,
              generator: torch.Generator, device: torch.device, share: float = 1.0,
              alike: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
    """
    Draw how pictures of shape ``lead``, whose shorter side is ``size``, are blurred.

    Returns
    -------
    kernel, which
        (…, taps), weights along a line that add up to 1, and bool, which pictures are blurred.

    """
    low, high = sigmas
    if not 0.0 < low <= high < float('inf') or not 0.0 <= share <= 1.0:
        raise ValueError(f'sigmas are {sigmas}, must be above 0 and rising; share is {share}, '
                         'must lie between 0 and 1')
    shape = draw_shape(lead, alike)
    drawn = torch.rand(2, *shape, generator=generator, device=device)
    sigma = low + (high - low) * drawn[0]
    # Three deviations to each side hold 99.7 % of the weight.
    reach = max(1, min(round(3.0 * high), size - 1))
    place = torch.arange(-reach, reach + 1, device=device, dtype=torch.float32)
    kernel = (-place.square() / (2.0 * sigma[..., None].square())).exp()
    return kernel / kernel.sum(dim=-1, keepdim=True), drawn[1] < share


def blur_planes_(planes: Tensor, kernel: Tensor, which: Tensor) -> Tensor:
    """``gaussian_blur`` of planes (batch, …, 3, height, width), written into them."""
    lead, (height, width) = planes.shape[:-3], planes.shape[-2:]
    pick = chosen(which, lead)
    if not len(pick):
        return planes
    taps = kernel.shape[-1]
    reach = taps // 2
    weights = kernel.expand(*lead, -1).reshape(-1, taps)[pick][..., None, None, None]
    flat = planes.flatten(0, -4)
    # Rows and columns apart, a tap at a time: whole planes, shifted and weighted, add up.
    wide = functional.pad(flat[pick], (reach, reach, 0, 0), mode='replicate')
    found = wide[..., :width] * weights[:, 0]
    for tap in range(1, taps):
        found.addcmul_(wide[..., tap:tap + width], weights[:, tap])
    tall = functional.pad(found, (0, 0, reach, reach), mode='replicate')
    torch.mul(tall[..., :height, :], weights[:, 0], out=found)
    for tap in range(1, taps):
        found.addcmul_(tall[..., tap:tap + height, :], weights[:, tap])
    flat[pick] = found
    return planes
