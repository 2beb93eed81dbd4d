# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of the weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn, Tensor


class WeightAverage:
    """
    Average of the trainable parameters of a module, in full precision.

    The first steps count less than the decay says, so that the average does not begin as the
    random weights: the decay is at most (1 + n) / (10 + n) after n steps.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._values = {name: value.detach().clone().float()
                        for name, value in module.named_parameters() if value.requires_grad}

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move towards the module's parameters."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in module.named_parameters():
            if name in self._values:
                mine = self._values[name]
                if mine.device != value.device:
                    mine = self._values[name] = mine.to(value.device)
                mine.lerp_(value.detach().float(), 1.0 - decay)

    @torch.no_grad()
    def put_into(self, module: nn.Module) -> None:
        """Set the module's parameters to the average."""
        for name, value in module.named_parameters():
            if name in self._values:
                value.copy_(self._values[name].to(value.device, value.dtype))

    def state(self) -> dict[str, object]:
        """Give what a checkpoint holds."""
        return {'steps': self._steps, 'values': dict(self._values)}

    def load(self, state: Mapping[str, object]) -> None:
        """Take back what ``state`` gave."""
        steps, values = state['steps'], state['values']
        assert isinstance(steps, int) and isinstance(values, dict)
        self._steps = steps
        found: dict[str, Tensor] = values
        self._values = {name: found[name].clone() for name in self._values}
