# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One Lightning module for every objective: steps, optimiser, schedule, averaged weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning
from safetensors.torch import save_file
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Objective
from ssl_vla_ros.training.average import WeightAverage
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.strategies import shard
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

#: Keeps the random numbers of processes apart; no run has as many steps.
_RANK_STRIDE = 2**40


def _number(norm: Tensor) -> float:
    """Give a norm as a number, put together first if its parts lie on several processes."""
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


class TrainingModule(lightning.LightningModule):
    """
    An objective with AdamW, warm-up, cosine decay and, if wanted, averaged weights.

    Parameters
    ----------
    objective
        What is trained.
    config
        How.
    run
        Directory of the run: a batch that broke the loss is left there.

    """

    def __init__(self, objective: Objective, config: TrainConfig, run: Path) -> None:
        super().__init__()
        self.objective = objective
        self.config = config
        self.latest: dict[str, float] = {}
        self.average = WeightAverage(config.ema) if config.ema else None
        self.sharded = False
        self._run = run
        self._batch: tuple[int, dict[str, Tensor]] | None = None

    def configure_model(self) -> None:
        """Split the weights over processes, where that is wanted."""
        mesh = self.device_mesh
        if self.config.strategy == 'fsdp' and mesh is not None and not self.sharded:
            shard(self.objective, mesh['data_parallel'])
            self.sharded = True

    def training_step(self, numbered: tuple[int, dict[str, Tensor]], batch_idx: int) -> Tensor:
        """One batch; its random numbers depend on seed, batch and process alone."""
        number, batch = self._batch = numbered
        self.objective.begin_step(self.global_step / self.config.steps)
        generator = torch.Generator(device=self.device)
        generator.manual_seed(
            self.config.seed * 1_000_003 + number + self.global_rank * _RANK_STRIDE)
        parts: dict[str, Tensor] = self.objective(batch, generator)
        loss = parts['loss']
        if not bool(torch.isfinite(loss)):
            raise ConfigError(
                f'the loss became {float(loss.detach())} at step {self.global_step}; the batch is '
                f'in {self._keep(number, batch)}; {self._remedy()}')
        if self.global_step % self.config.log_every == 0:
            self.latest = self._told(parts)
        return loss

    def _told(self, parts: dict[str, Tensor]) -> dict[str, float]:
        """Parts of the loss as numbers, the mean over all processes."""
        values = torch.stack([value.detach().float() for value in parts.values()])
        if self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op='mean')
        return dict(zip(parts, values.tolist(), strict=True))

    def _keep(self, number: int, batch: dict[str, Tensor]) -> Path:
        """Leave a batch in the run's directory, for study."""
        rank = f'_of_{self.global_rank}' if self.trainer.world_size > 1 else ''
        path = self._run / f'broken_batch_{number}{rank}.safetensors'
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.detach().cpu().contiguous() for name, value in batch.items()},
                  path, metadata={'batch': str(number), 'step': str(self.global_step),
                                  'seed': str(self.config.seed), 'rank': str(self.global_rank)})
        return path

    def _remedy(self) -> str:
        config = self.config
        other = ('' if config.precision == '32-true'
                 else f' or set precision=32-true (now {config.precision})')
        return (f'lower learning_rate (now {config.learning_rate:g}){other}, and train into a new '
                'directory')

    def require_finite(self) -> None:
        """
        Refuse weights that are no numbers, before they reach a checkpoint.

        The step to them can overflow though loss and gradient do not, and averages of a batch
        normalisation have no gradient.

        Raises
        ------
        ConfigError
            Naming the first such tensor.

        """
        for name, value in self.objective.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ConfigError(
                    f'{name} is no longer finite after step {self.global_step}; {self._remedy()}')

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """
        Let the objective change gradients, then clip them; float16 is unscaled by now.

        Raises
        ------
        ConfigError
            If a gradient is no number, as that of a finite loss can be: nothing has moved yet.

        """
        self.objective.mend_gradients()
        moved = [parameter for parameter in self.objective.parameters()
                 if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(
            [parameter.grad for parameter in moved if parameter.grad is not None])
        # With float16 that is how the loss finds its scale: the scaler skips the step.
        if self.config.precision != '16-mixed' and not math.isfinite(_number(norm)):
            assert self._batch is not None
            raise ConfigError(
                f'the gradient of {self._first_broken()} became no number at step '
                f'{self.global_step}, though the loss was finite; the batch is in '
                f'{self._keep(*self._batch)}; {self._remedy()}')
        if self.config.gradient_clip:
            # Not by Lightning, which refuses fused optimisers under any mixed precision.
            torch.nn.utils.clip_grads_with_norm_(moved, self.config.gradient_clip, norm)

    def _first_broken(self) -> str:
        """Name a parameter whose gradient is not finite."""
        for name, parameter in self.objective.named_parameters():
            if parameter.grad is not None and not math.isfinite(_number(
                    torch.linalg.vector_norm(parameter.grad))):
                return name
        return 'all parameters together'  # each is finite, their norm is not

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Move the weights, then let teachers and the average follow."""
        super().optimizer_step(*args, **kwargs)
        self.objective.end_step()
        if self.average is not None:
            self.average.follow(self.objective)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the averaged weights beside the others."""
        if self.average is not None:
            checkpoint['average'] = self.average.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the averaged weights back."""
        if self.average is not None:
            self.average.load(checkpoint['average'])

    def configure_optimizers(self) -> Any:
        """AdamW; no decay on biases, norms and other vectors; trunks at their own rate."""
        config = self.config
        # One kernel over all tensors; with float16 the gradients must be unscaled apart from it.
        optimiser = torch.optim.AdamW(
            self._groups(), lr=config.learning_rate, fused=config.precision != '16-mixed')
        warmup, steps = config.warmup_steps, config.steps

        def scale(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
        return {'optimizer': optimiser,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}

    def _groups(self) -> list[dict[str, Any]]:
        encoder = getattr(self.objective, 'encoder', None)
        trunk: set[int] = set()
        if isinstance(encoder, VisionEncoder):
            trunk = {id(parameter) for parameter in encoder.trunks.parameters()}
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for parameter in self.objective.parameters():
            if parameter.requires_grad:
                key = (parameter.ndim > 1, id(parameter) in trunk)
                groups.setdefault(key, []).append(parameter)
        rate = self.config.learning_rate
        return [{'params': found, 'weight_decay': self.config.weight_decay if decays else 0.0,
                 'lr': rate * (self.config.network.learning_rate_scale if trunks else 1.0)}
                for (decays, trunks), found in groups.items()]
