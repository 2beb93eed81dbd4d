# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Normalisation whose statistics travel with the network, into the exported graph."""

from __future__ import annotations

import torch
from torch import nn, Tensor


class Standardise(nn.Module):
    """
    Map values to zero mean and unit variance by fixed statistics of the training split.

    ``floor`` bounds the standard deviation from below: a joint that never moves would otherwise
    turn encoder noise into large inputs.
    """

    def __init__(self, size: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.floor = floor
        self.register_buffer('mean', torch.zeros(size))
        self.register_buffer('std', torch.ones(size))

    @torch.no_grad()
    def fit(self, values: Tensor) -> None:
        """Take mean and standard deviation of ``values`` (N, size)."""
        if len(values) < 2:
            raise ValueError(f'need at least two rows to standardise, got {len(values)}')
        size = len(self.get_buffer('mean'))
        if values.shape[1:] != (size,):
            raise ValueError(f'rows are {tuple(values.shape[1:])}, this standardises ({size},)')
        self.get_buffer('mean').copy_(values.float().mean(dim=0))
        self.get_buffer('std').copy_(values.float().std(dim=0).clamp_min(self.floor))

    def forward(self, values: Tensor) -> Tensor:
        """(…, size) in raw units to normalised units."""
        normalised: Tensor = (values - self.get_buffer('mean')) / self.get_buffer('std')
        return normalised

    def invert(self, values: Tensor) -> Tensor:
        """(…, size) in normalised units back to raw units."""
        raw: Tensor = values * self.get_buffer('std') + self.get_buffer('mean')
        return raw
