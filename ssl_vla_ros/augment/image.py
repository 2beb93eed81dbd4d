# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Photometric image augmentation on batches, with per-sample parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ssl_vla_ros.augment.planes import check_share, draw_shape
import torch
from torch import Tensor


@dataclass(frozen=True)
class PhotometricConfig:
    """
    How much light and sensor noise vary; nothing moves, so positions stay what they were.

    Geometry is left alone on purpose: a picture shifted against the joints would teach an
    encoder that what moved did not.
    """

    exposure: float = 0.3        # gain of the whole picture, 1 ± exposure
    white_balance: float = 0.1   # gain of each colour channel, 1 ± white_balance
    sensor_noise: float = 4.0    # standard deviation of a pixel, of 255


def photometric(images: Tensor, config: PhotometricConfig, generator: torch.Generator,
                share: float = 1.0, alike: Sequence[int] = ()) -> Tensor:
    """
    Vary exposure, white balance and sensor noise.

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255; every picture, so each camera of each
        sample, gets gains of its own: cameras expose on their own.
    config
        Strengths; zeros leave the pictures as they are, and no noise is then drawn.
    generator
        Source of every random number, so that a seed reproduces a run.
    share
        Of the pictures that are varied; the others stay.
    alike
        Axes of the shape before the height along which pictures share their gains, as the frames
        of a clip do with ``alike=(1,)``. Noise is never shared.

    Returns
    -------
    torch.Tensor
        float32, same shape, clamped to 0 … 255.

    Raises
    ------
    ValueError
        If the share does not lie between 0 and 1, or there is no such axis.

    """
    check_share(share)
    lead = draw_shape(images.shape[:-3], alike)

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator, device=images.device) - 1.0

    gain = (1.0 + config.exposure * uniform(*lead, 1, 1, 1)) * (
        1.0 + config.white_balance * uniform(*lead, 1, 1, 3))
    if config.sensor_noise:
        # Four fifths of the time of a varied picture: not for nothing.
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        varied = noise.mul_(config.sensor_noise).addcmul_(images.float(), gain)
    else:
        varied = images.float() * gain
    varied = varied.clamp_(0.0, 255.0)
    if share == 1.0:
        return varied
    which = torch.rand(*lead, 1, 1, 1, generator=generator, device=images.device) < share
    return torch.where(which, varied, images.float())
