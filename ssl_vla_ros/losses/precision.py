# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses are computed in full precision, whatever the network's was."""

from __future__ import annotations

import torch
from torch import Tensor


def full(values: Tensor) -> Tensor:
    """
    Values as float32; float64 stays.

    A softmax over bfloat16 logits is wrong by more than a small loss is large.
    """
    return values if values.dtype == torch.float64 else values.float()


def unit(values: Tensor) -> Tensor:
    """Rows (…, dim) of length 1 in full precision; a row of zeros stays zero."""
    return torch.nn.functional.normalize(full(values), dim=-1)
