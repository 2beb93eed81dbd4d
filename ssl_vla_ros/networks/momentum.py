# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Teachers that follow a student as an exponential moving average of its weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class Momentum(nn.Module):
    """
    Slow copies of modules: a teacher without gradients.

    Statistics of batch normalisation are averaged like weights, and the copies stay in evaluation
    mode: so nothing of a batch leaks from one sample to another through the teacher ("EMAN:
    Exponential Moving Average Normalization", Cai et al., 2021).

    Parameters
    ----------
    modules
        What to copy, in an order that ``follow`` is given again.

    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.copies = nn.ModuleList(copy.deepcopy(module) for module in modules)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Momentum:
        """Stay in evaluation mode."""
        nn.Module.train(self, False)
        return self

    @torch.no_grad()
    def follow(self, modules: list[nn.Module], momentum: float) -> None:
        """
        Move towards the modules: w ← momentum · w + (1 − momentum) · student's.

        Raises
        ------
        ValueError
            If the momentum does not lie from 0 up to, but without, 1: at 1 nothing ever moves.

        """
        if not 0.0 <= momentum < 1.0:
            raise ValueError(f'momentum is {momentum}, must be at least 0 and below 1')
        # Tensors that are split over processes cannot be in one call with others.
        mine: dict[type, list[torch.Tensor]] = {}
        theirs: dict[type, list[torch.Tensor]] = {}
        for copied, module in zip(self.copies, modules, strict=True):
            for slow, fast in zip(copied.state_dict().values(), module.state_dict().values(),
                                  strict=True):
                if slow.is_floating_point():
                    mine.setdefault(type(slow), []).append(slow)
                    theirs.setdefault(type(slow), []).append(fast)
                else:
                    slow.copy_(fast)
        for kind, slow_ones in mine.items():
            torch._foreach_lerp_(slow_ones, theirs[kind], 1.0 - momentum)


def cosine_between(start: float, end: float, progress: float) -> float:
    """Go from ``start`` to ``end`` along half a cosine, as ``progress`` goes from 0 to 1."""
    done = min(1.0, max(0.0, progress))
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))
