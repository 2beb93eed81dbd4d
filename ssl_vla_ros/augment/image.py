# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Photometric image augmentation on batches, with per-sample parameters."""

from __future__ import annotations

from dataclasses import dataclass

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


def photometric(images: Tensor, config: PhotometricConfig, generator: torch.Generator) -> Tensor:
    """
    Vary exposure, white balance and sensor noise.

    Parameters
    ----------
    images
        (batch, …, height, width, 3), values 0 … 255; every picture, so each camera of each
        sample, gets gains of its own: cameras expose on their own.
    config
        Strengths; zeros leave the pictures as they are.
    generator
        Source of every random number, so that a seed reproduces a run.

    Returns
    -------
    torch.Tensor
        float32, same shape, clamped to 0 … 255.

    """
    lead = images.shape[:-3]

    def uniform(*shape: int) -> Tensor:
        return 2.0 * torch.rand(*shape, generator=generator, device=images.device) - 1.0

    gain = (1.0 + config.exposure * uniform(*lead, 1, 1, 1)) * (
        1.0 + config.white_balance * uniform(*lead, 1, 1, 3))
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    return (images.float() * gain + config.sensor_noise * noise).clamp(0.0, 255.0)
