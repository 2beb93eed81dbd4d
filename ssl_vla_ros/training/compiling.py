# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""``compile: true``: the parts of a network that repeat, compiled once."""

from __future__ import annotations

from ssl_vla_ros.networks.timm_trunk import TimmTrunk, TimmViT
from ssl_vla_ros.networks.transformer import Block
from torch import nn


def compile_blocks(objective: nn.Module) -> int:
    """
    Have ``torch.compile`` make kernels of transformer blocks and of timm's networks.

    Block by block, not the objective as a whole: masks and views draw random numbers and change
    shapes, and blocks, which are where the time goes, are all alike and compiled once.

    Returns
    -------
    int
        Modules that are compiled.

    """
    count = 0
    for module in list(objective.modules()):
        if isinstance(module, Block):
            module.compile()
            count += 1
        elif isinstance(module, TimmViT):
            for block in module.model.blocks:
                block.compile()
                count += 1
        elif isinstance(module, TimmTrunk):
            module.model.compile()
            count += 1
    return count
