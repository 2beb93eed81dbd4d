# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it is trained: metrics, progress, checkpoints, probes."""

from __future__ import annotations

from collections.abc import Callable
import json
import math
from pathlib import Path
import signal
import sys
import time
from types import FrameType
from typing import Any
import warnings

import lightning
from ssl_vla_ros.training.collapse import CollapseWatch, judged
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.module import TrainingModule
from ssl_vla_ros.training.probes import Spread
from ssl_vla_ros.training.runs import CHECKPOINT_FILE
import torch
from torch import nn, Tensor
from torch.utils.hooks import RemovableHandle

#: Looks at teachers and features during a run.
_LOOKS = 20


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
    look
        Gives the spread of what is trained, between probes.
    watch
        Told the parts of the loss, teachers and spreads.
    quiet
        Show no progress line.

    """

    def __init__(self, run: Path, config: TrainConfig,
                 probe: Callable[[int], dict[str, float]] | None,
                 look: Callable[[], dict[str, Spread]] | None, watch: CollapseWatch,
                 quiet: bool) -> None:
        self.run = run
        self.config = config
        self.interrupted = False
        self._probe = probe
        self._look = look
        self._watch = watch
        self._quiet = quiet
        self._begin = time.monotonic()
        self._first = 0
        self._shown = 0.0
        self._done = -1
        self._parts: dict[str, Tensor] = {}
        self._hook: RemovableHandle | None = None

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule
                       ) -> None:
        """Note where this run begins, and forget metrics of steps that it takes again."""
        self._begin, self._first = time.monotonic(), trainer.global_step
        self._done = trainer.global_step
        assert isinstance(module, TrainingModule)
        if trainer.is_global_zero:
            self._trim_metrics(trainer.global_step)
            self._hook = module.objective.register_forward_hook(self._note)
            # What later looks are compared with.
            self._watch.observe_teachers(trainer.global_step, module.objective.teachers())
        if signal.getsignal(signal.SIGINT) == self.stop:
            # Lightning has wrapped our handler of SIGTERM by now, and would leave through
            # SystemExit, status 0, with or without a checkpoint.
            signal.signal(signal.SIGTERM, self.stop)

    def on_train_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Leave the objective as it was."""
        if self._hook is not None:
            self._hook.remove()

    def _note(self, objective: nn.Module, given: Any, parts: dict[str, Tensor]) -> None:
        """Keep the parts of the last batch that the watch judges, where they are."""
        self._parts = {name: parts[name].detach() for name in judged(parts)}

    def _watch_over(self, trainer: lightning.Trainer, module: TrainingModule, step: int) -> None:
        """Look for collapse: at losses nearly always, at teachers and features at times."""
        told: list[str] = []
        if self._parts and step % self._watch.every == 0:
            # Those of this process: so no other one has to wait for a look.
            values = torch.stack([value.float() for value in self._parts.values()]).tolist()
            told += self._watch.observe_parts(step, dict(zip(self._parts, values, strict=True)))
        last = step >= self.config.steps
        if last or step % max(1, self.config.steps // _LOOKS) == 0:
            told += self._watch.observe_teachers(step, module.objective.teachers())
            # The finished run is probed anyway; split weights have to be put together first,
            # which only a probe does.
            if self._look is not None and not last and not module.sharded:
                spreads = self._look()
                told += self._watch.observe_features(step, spreads)
                self._write(trainer, step, {
                    key: value for name, spread in spreads.items()
                    for key, value in spread.metrics(name).items()})
        for sentence in told:
            warnings.warn(sentence, stacklevel=2)

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

    def _write(self, trainer: lightning.Trainer, step: int, values: dict[str, float]) -> None:
        with (self.run / 'metrics.jsonl').open('a', encoding='utf-8') as file:
            file.write(json.dumps({'step': step, **values}) + '\n')
        for logger in trainer.loggers:
            logger.log_metrics(values, step)

    def _show(self, step: int, loss: float) -> None:
        now = time.monotonic()
        if self._quiet or (now - self._shown < 0.5 and step < self.config.steps):
            return
        self._shown = now
        rate = self._rate(step)
        samples = self.config.batch_size * self.config.accumulate
        left = (self.config.steps - step) * samples / max(1e-6, rate)
        done = round(24 * step / self.config.steps)
        # Parts of the loss are told every log_every steps: after a beginning, none yet.
        said = f'loss {loss:.4f}  ' if math.isfinite(loss) else ''
        line = (f'{self.config.title:<18} [{"#" * done}{"." * (24 - done)}] '
                f'{step}/{self.config.steps}  {said}{rate:.0f} samples/s  {left:.0f} s left')
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
        if step == self._done:
            return  # gradients are being accumulated: no step is done yet
        self._done = step
        if trainer.world_size > 1:
            # A signal may have reached one process first; all must stop after the same step.
            self.interrupted = trainer.strategy.reduce_boolean_decision(
                self.interrupted, all=False)
        first = trainer.is_global_zero
        if first and (step - 1) % config.log_every == 0:
            self._write(trainer, step, {**module.latest, 'samples_per_s': self._rate(step)})
        if first:
            self._watch_over(trainer, module, step)
            self._show(step, module.latest.get('loss', float('nan')))
        last = step >= config.steps
        # After the last step the finished run is probed anyway.
        probing = (self._probe is not None and not last
                   and config.probe_every > 0 and step % config.probe_every == 0)
        saving = self.interrupted or last or step % config.checkpoint_every == 0
        if probing or saving:
            module.require_finite()
        if self._probe is not None and probing and (first or module.sharded):
            values = self._probe(step)
            if first:
                self._write(trainer, step, values)
        if saving or self.interrupted:  # a signal may have come while probing
            trainer.save_checkpoint(self.run / CHECKPOINT_FILE, weights_only=False)
            if self.interrupted:
                trainer.should_stop = True

    def _rate(self, step: int) -> float:
        """Measure samples a second since this process began."""
        done = (step - self._first) * self.config.batch_size * self.config.accumulate
        return done / max(1e-6, time.monotonic() - self._begin)
