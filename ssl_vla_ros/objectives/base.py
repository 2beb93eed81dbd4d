# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What every objective is, and what the trainer tells it about the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, Tensor

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class DataShape:
    """Sizes an objective needs to build its networks."""

    cameras: int
    height: int
    width: int
    state_size: int
    action_size: int
    tokens: int = 0   # of the frozen features, for objectives that train on features
    dim: int = 0


class Objective(nn.Module):
    """
    A network with its loss.

    ``forward`` takes a batch and a random generator and returns ``{'loss': …}`` plus named parts,
    each a scalar. ``prepare`` is called once, before the first step, with rows of the training
    split alone.
    """

    def prepare(self, rows: Batch) -> None:
        """Take statistics of the training split; the base class needs none."""

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss and its parts."""
        raise TypeError(f'{type(self).__name__} must define forward')


@dataclass(frozen=True)
class ObjectiveSpec:
    """An objective as the registry knows it: its class, its settings and its kind of batch."""

    build: Any      # (DataShape, settings) -> Objective
    settings: type
    data: str       # 'frames' (pictures) or 'windows' (features, state and actions over time)
