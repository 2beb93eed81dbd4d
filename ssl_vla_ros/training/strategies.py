# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How several processes train one network."""

from __future__ import annotations

from lightning.pytorch.strategies import DDPStrategy, Strategy
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.launched import Launched
import torch


def make_strategy(config: TrainConfig, place: Launched) -> Strategy | str:
    """
    Give Lightning's strategy for the processes that were started.

    Raises
    ------
    ConfigError
        If ``strategy`` asks for several processes and there is one.

    """
    if place.ranks == 1:
        if config.strategy != 'auto':
            raise ConfigError(
                f'strategy is {config.strategy}, which is for several processes, and this is the '
                'only one; start them with torchrun --nproc-per-node N, or set strategy=auto')
        return 'auto'
    backend = 'nccl' if torch.cuda.is_available() else 'gloo'
    # Not every objective uses every part of a shared encoder: MAE leaves the fusion alone.
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
