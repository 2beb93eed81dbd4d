# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The Lightning side: one module for every objective, checkpoints, progress and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import math
from pathlib import Path
import signal
import sys
import time
from types import FrameType
from typing import Any

import lightning
import torch
from torch import Tensor

from ssl_vla_ros.errors import UserError
from ssl_vla_ros.objectives.base import Objective
from ssl_vla_ros.training.config import TrainConfig


class TrainingModule(lightning.LightningModule):
    """An objective with AdamW, warm-up and cosine decay."""

    def __init__(self, objective: Objective, config: TrainConfig) -> None:
        super().__init__()
        self.objective = objective
        self.config = config
        self.latest: dict[str, float] = {}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One step; its random numbers depend on seed and step alone."""
        generator = torch.Generator(device=self.device)
        generator.manual_seed(self.config.seed * 1_000_003 + self.global_step)
        parts: dict[str, Tensor] = self.objective(batch, generator)
        loss = parts['loss']
        if not bool(torch.isfinite(loss)):
            raise UserError(
                f'the loss became {float(loss)} at step {self.global_step}; lower learning_rate '
                f'(now {self.config.learning_rate:g}) or set precision=32-true, and start again')
        if self.global_step % self.config.log_every == 0:
            self.latest = {name: float(value.detach()) for name, value in parts.items()}
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW; no decay on biases, norms and other vectors."""
        decay, plain = [], []
        for parameter in self.objective.parameters():
            if parameter.requires_grad:
                (decay if parameter.ndim > 1 else plain).append(parameter)
        optimiser = torch.optim.AdamW(
            [{'params': decay, 'weight_decay': self.config.weight_decay},
             {'params': plain, 'weight_decay': 0.0}], lr=self.config.learning_rate)
        warmup, steps = self.config.warmup_steps, self.config.steps

        def scale(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
        return {'optimizer': optimiser,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}


class Recorder(lightning.Callback):
    """
    Write metrics, show progress, save checkpoints and stop on a signal.

    Parameters
    ----------
    run
        Directory of the run: ``metrics.jsonl`` and ``checkpoint.safetensors`` go there.
    config
        For the intervals.
    probe
        Called every ``probe_every`` steps with the step; returns metrics to write.
    quiet
        Show no progress line.

    """

    def __init__(self, run: Path, config: TrainConfig,
                 probe: Callable[[int], dict[str, float]] | None, quiet: bool) -> None:
        self.run = run
        self.config = config
        self.interrupted = False
        self._probe = probe
        self._quiet = quiet
        self._begin = time.monotonic()
        self._first = 0
        self._shown = 0.0

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule
                       ) -> None:
        """Note where this run begins."""
        self._begin, self._first = time.monotonic(), trainer.global_step

    def _write(self, step: int, values: dict[str, float]) -> None:
        with (self.run / 'metrics.jsonl').open('a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, **values}) + '\n')

    def _show(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if self._quiet or (now - self._shown < 0.5 and step < self.config.steps):
            return
        self._shown = now
        rate = (step - self._first) / max(1e-6, now - self._begin)
        left = (self.config.steps - step) / max(1e-6, rate)
        done = round(24 * step / self.config.steps)
        line = (f'{self.config.objective:<18} [{"#" * done}{"." * (24 - done)}] '
                f'{step}/{self.config.steps}  loss {loss:.4f}  '
                f'{rate * self.config.batch_size:.0f} samples/s  {left:.0f} s left')
        end = '\n' if step >= self.config.steps else ''
        if sys.stderr.isatty():
            print(f'\r\033[K{line}', end=end, file=sys.stderr, flush=True)
        elif step >= self.config.steps or step % (2 * self.config.log_every) == 0:
            print(line, file=sys.stderr, flush=True)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule,
                           outputs: Any, batch: Any, batch_idx: int) -> None:
        """After each step: metrics, probes, checkpoint, and a stop if one was asked for."""
        assert isinstance(module, TrainingModule)
        step, config = trainer.global_step, self.config
        if (step - 1) % config.log_every == 0:
            rate = (step - self._first) / max(1e-6, time.monotonic() - self._begin)
            self._write(step, {**module.latest, 'samples_per_s': rate * config.batch_size})
        self._show(step, module.latest.get('loss', float('nan')))
        last = step >= config.steps
        if self._probe is not None and (
                last or (config.probe_every and step % config.probe_every == 0)):
            self._write(step, self._probe(step))
        if self.interrupted or last or step % config.checkpoint_every == 0:
            trainer.save_checkpoint(self.run / 'checkpoint.safetensors', weights_only=False)
        if self.interrupted:
            trainer.should_stop = True


@contextmanager
def stop_on_signals(recorder: Recorder) -> Iterator[None]:
    """Let SIGINT and SIGTERM end training after the present step, with a checkpoint."""

    def handle(number: int, frame: FrameType | None) -> None:
        recorder.interrupted = True

    before = {number: signal.signal(number, handle)
              for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
