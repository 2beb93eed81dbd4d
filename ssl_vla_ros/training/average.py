# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An exponential moving average of the weights that are trained."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn, Tensor
from torch.distributed.tensor import distribute_tensor, DTensor

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class WeightAverage:
    """
    Average of the trainable parameters of a module, in full precision.

    The running statistics of batch normalisation belong to the weights before them, so they are
    averaged, too. Other buffers are not: a queue of keys or a teacher's centre has its own rule,
    and its average would be neither old nor new.

    The first steps count less than the decay says, so that the average does not begin as the
    random weights: the decay is at most (1 + n) / (10 + n) after n steps.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._values: dict[str, Tensor] = {}

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move towards the module's parameters and statistics."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, value in _trained(module):
            mine = self._values.get(name)
            if mine is None:
                self._values[name] = value.detach().clone().float()
                continue
            if isinstance(value, DTensor) and not isinstance(mine, DTensor):
                mine = distribute_tensor(mine, value.device_mesh, value.placements)
            mine = self._values[name] = mine.to(value.device)
            mine.lerp_(value.detach().float(), 1.0 - decay)

    @torch.no_grad()
    def put_into(self, module: nn.Module) -> None:
        """Set the module's tensors to the average; before the first step, leave them."""
        values = self.state()['values']
        assert isinstance(values, dict)
        for name, value in _trained(module):
            if name in values:
                value.copy_(values[name].to(value.device, value.dtype))

    def state(self) -> dict[str, object]:
        """Give what a checkpoint holds; with split weights, every process must ask."""
        return {'steps': self._steps, 'values': {
            name: value.full_tensor() if isinstance(value, DTensor) else value
            for name, value in self._values.items()}}

    def load(self, state: Mapping[str, object]) -> None:
        """Take back what ``state`` gave."""
        steps, values = state['steps'], state['values']
        assert isinstance(steps, int) and isinstance(values, dict)
        self._steps = steps
        self._values = {name: value.clone() for name, value in values.items()}


def _trained(module: nn.Module) -> list[tuple[str, Tensor]]:
    """Parameters that are trained, and running statistics of the layers among them."""
    found: list[tuple[str, Tensor]] = [
        (name, value) for name, value in module.named_parameters() if value.requires_grad]
    layers = dict(module.named_modules())
    for path, layer in layers.items():
        if not isinstance(layer, _BATCH_NORMS):
            continue
        # Without a scale of its own, a layer is trained or frozen as what stands around it.
        around = path
        while around and next(layers[around].parameters(), None) is None:
            around = around.rpartition('.')[0]
        if any(value.requires_grad for value in layers[around].parameters()):
            found += [(f'{path}.{name}' if path else name, value)
                      for name, value in layer.named_buffers() if value.is_floating_point()]
    return found
