# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses are computed in full precision, whatever the network's was."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec('P')
R = TypeVar('R')


def without_autocast(loss: Callable[P, R]) -> Callable[P, R]:
    """
    Compute a function without automatic mixed precision.

    Casting its inputs is not enough: a product of float32 matrices within ``torch.autocast`` is
    taken in bfloat16 all the same.
    """
    @wraps(loss)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast('cpu', enabled=False), torch.autocast('cuda', enabled=False):
            return loss(*args, **kwargs)
    return computed


def full(values: Tensor) -> Tensor:
    """
    Values as float32; float64 stays.

    A softmax over bfloat16 logits is wrong by more than a small loss is large.
    """
    return values if values.dtype == torch.float64 else values.float()


def unit(values: Tensor) -> Tensor:
    """Rows (…, dim) of length 1 in full precision; a row of zeros stays zero."""
    return torch.nn.functional.normalize(full(values), dim=-1)
