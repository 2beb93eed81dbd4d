# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The Lightning side: one module for every objective, checkpoints, progress and signals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import json
import math
from pathlib import Path
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import lightning
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.objectives.base import Objective
from ssl_vla_ros.training.config import TrainConfig
import torch
from torch import Tensor


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
            raise ConfigError(
                f'the loss became {float(loss.detach())} at step {self.global_step}; '
                f'{self._remedy()}')
        if self.global_step % self.config.log_every == 0:
            self.latest = {name: float(value.detach()) for name, value in parts.items()}
        return loss

    def _remedy(self) -> str:
        config = self.config
        other = ('' if config.precision == '32-true'
                 else f' or set precision=32-true (now {config.precision})')
        return (f'lower learning_rate (now {config.learning_rate:g}){other}, and train into a new '
                'directory')

    def require_finite(self) -> None:
        """
        Refuse weights that are no numbers, before they reach a checkpoint.

        A finite loss can have a gradient that is not: the weights are lost one step before the
        loss tells.

        Raises
        ------
        ConfigError
            Naming the first such tensor.

        """
        for name, value in self.objective.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ConfigError(
                    f'{name} is no longer finite after step {self.global_step}; {self._remedy()}')

    def configure_optimizers(self) -> Any:
        """AdamW; no decay on biases, norms and other vectors."""
        decay: list[torch.nn.Parameter] = []
        plain: list[torch.nn.Parameter] = []
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
        """Note where this run begins, and forget metrics of steps that it takes again."""
        self._begin, self._first = time.monotonic(), trainer.global_step
        self._trim_metrics(trainer.global_step)
        if signal.getsignal(signal.SIGINT) == self.stop:
            # Lightning has wrapped our handler of SIGTERM by now, and would leave through
            # SystemExit, status 0, with or without a checkpoint.
            signal.signal(signal.SIGTERM, self.stop)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: end after the present step, with a checkpoint."""
        self.interrupted = True

    def _trim_metrics(self, step: int) -> None:
        """Drop what a killed run wrote after its last checkpoint; those steps come again."""
        path = self.run / 'metrics.jsonl'
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding='utf-8').splitlines():
            try:
                known = int(json.loads(line)['step'])
            except (ValueError, KeyError, TypeError):
                continue  # cut off by the kill
            if known <= step:
                kept.append(line + '\n')
        part = path.with_name(f'.{path.name}.part')
        part.write_text(''.join(kept), encoding='utf-8')
        part.replace(path)

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
        # After the last step the finished run is probed anyway.
        probing = (self._probe is not None and not last
                   and config.probe_every > 0 and step % config.probe_every == 0)
        saving = self.interrupted or last or step % config.checkpoint_every == 0
        if probing or saving:
            module.require_finite()
        if self._probe is not None and probing:
            self._write(step, self._probe(step))
        if saving or self.interrupted:  # a signal may have come while probing
            trainer.save_checkpoint(self.run / 'checkpoint.safetensors', weights_only=False)
            if self.interrupted:
                trainer.should_stop = True


@contextmanager
def stop_on_signals(recorder: Recorder) -> Iterator[None]:
    """Let SIGINT and SIGTERM end training after the present step, with a checkpoint."""
    with _handling((signal.SIGINT, signal.SIGTERM), recorder.stop):
        yield


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt``, as SIGINT does: one way to end, one message."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM,), handle):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals],
              handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone, which keeps its handlers
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
