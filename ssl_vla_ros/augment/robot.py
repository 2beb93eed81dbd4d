# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of what only robots have: actions and proprioception."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_noise(values: Tensor, sigma: float, generator: torch.Generator,
                   padding: Tensor | None = None) -> Tensor:
    """
    Add noise in normalised units, never on padding.

    Parameters
    ----------
    values
        (…, D), already normalised to unit variance.
    sigma
        Standard deviation of the noise.
    generator
        Source of the random numbers.
    padding
        (…) bool, true where ``values`` is padding and stays as it is.

    """
    noise = sigma * torch.randn(values.shape, generator=generator, device=values.device)
    if padding is not None:
        noise = noise.masked_fill(padding.unsqueeze(-1), 0.0)
    return values + noise
