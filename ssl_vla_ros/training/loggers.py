# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Curves for TensorBoard and Weights & Biases, beside the run's own metrics."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from ssl_vla_ros.errors import MissingDependencyError
from ssl_vla_ros.training.config import TrainConfig


def make_loggers(config: TrainConfig, run: Path) -> list[Logger]:
    """
    Make what else is told of a run, beside ``metrics.jsonl``.

    Raises
    ------
    MissingDependencyError
        If one is wanted that is not installed.

    """
    found: list[Logger] = []
    if config.tensorboard:
        if importlib.util.find_spec('tensorboard') is None:
            raise MissingDependencyError(
                'tensorboard is true, but the package is not installed: pip install tensorboard, '
                'or set tensorboard=false (metrics.jsonl holds the same figures)')
        found.append(TensorBoardLogger(save_dir=run, name='', version='tensorboard'))
    if config.wandb:
        if importlib.util.find_spec('wandb') is None:
            raise MissingDependencyError(
                f'wandb is {config.wandb!r}, but the package is not installed: pip install wandb, '
                'or leave wandb empty')
        found.append(WandbLogger(project=config.wandb, name=run.name, save_dir=run))
    return found
