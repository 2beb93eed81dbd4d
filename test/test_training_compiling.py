# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""``compile: true`` computes what is computed without it."""

from __future__ import annotations

import copy
import shutil

import pytest
from ssl_vla_ros.networks.transformer import Block
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.compiling import compile_blocks
from tiny_training import small_config
import torch
from torch import Tensor

SIZE = 24


def step(objective: Objective, images: Tensor) -> tuple[float, dict[str, Tensor]]:
    loss = objective({'images': images}, torch.Generator().manual_seed(0))['loss']
    loss.backward()
    return float(loss.detach()), {name: value.grad for name, value in objective.named_parameters()
                                  if value.grad is not None}


@pytest.mark.skipif(shutil.which('g++') is None, reason='torch.compile needs a C++ compiler here')
def test_compiled_blocks_give_the_same_loss_gradients_and_names() -> None:
    plain = build_objective(small_config('mae'), DataShape(1, SIZE, SIZE, 2, 2), 'here')
    fast = copy.deepcopy(plain)
    blocks = sum(isinstance(module, Block) for module in fast.modules())
    assert compile_blocks(fast) == blocks > 1
    images = torch.randint(0, 256, (4, 1, SIZE, SIZE, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(1))
    (loss, gradients), (same, others) = step(plain, images), step(fast, images)
    assert same == pytest.approx(loss, rel=1e-5)
    assert gradients.keys() == others.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, rtol=1e-3, atol=1e-6)
    # What is kept is the network itself, whatever ran it.
    assert list(fast.state_dict()) == list(plain.state_dict())
