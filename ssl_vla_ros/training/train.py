# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla train`: one run from configuration and dataset to weights and metrics."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
import logging
import os
from pathlib import Path
import sys
import time
from typing import Any
import warnings

import lightning
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.timm_trunk import FRESH
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.world_model import WorldModel
from ssl_vla_ros.training.batches import StepDataset
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.checkpoint import SafetensorsIO
from ssl_vla_ros.training.collapse import CollapseWatch
from ssl_vla_ros.training.compiling import compile_blocks
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.evaluate import world_model_errors
from ssl_vla_ros.training.launched import Launched
from ssl_vla_ros.training.loggers import make_loggers
from ssl_vla_ros.training.module import TrainingModule
from ssl_vla_ros.training.probes import FEWEST_EPISODES, Spread
from ssl_vla_ros.training.probing import held_out_images, probe_encoder, trained_spreads
from ssl_vla_ros.training.recorder import Recorder
from ssl_vla_ros.training.runs import (
    about_run, begin_run, CHECKPOINT_FILE, exclusive, MODEL_FILE, open_run, require_own, Run,
    RUN_FILE, save_model, write_json)
from ssl_vla_ros.training.signals import stop_on_signals, terminate_as_interrupt
from ssl_vla_ros.training.strategies import make_strategy, whole_state
from ssl_vla_ros.training.workspace import make_workspace, Workspace
import torch
from torch import Tensor
from torch.utils.data import DataLoader

#: Most processes that make batches for one GPU, and batches each is ahead.
_LOADERS, _AHEAD = 4, 4


def _final_metrics(objective: Objective, work: Workspace) -> dict[str, Any]:
    """Measure what the finished run is judged by, on held-out episodes."""
    encoder = getattr(objective, 'encoder', None)
    if isinstance(encoder, Encoder):
        result = probe_encoder(encoder, work)
        for sentence in result.reasons():
            warnings.warn(f'the encoder looks collapsed: {sentence}', stacklevel=2)
        return dict(result.metrics())
    if work.held_out_source is None:
        return {}  # no held-out episode can be judged on; a warning has said so
    if isinstance(objective, WorldModel):
        return dict(world_model_errors(objective, work.held_out_source, work.config.seed))
    pick = work.held_out_source.all_windows()
    with torch.no_grad():
        parts = objective(work.held_out_source.windows(pick), torch.Generator().manual_seed(0))
    return {'held_out.loss': float(parts['loss'])}


def train(config: TrainConfig, data: Path, out: Path, *, where: str = 'the configuration',
          quiet: bool = False) -> Run:
    """
    Train one objective or several, or go on with a run that was stopped.

    Started by torchrun or srun, all processes train together; the first one writes.

    Parameters
    ----------
    config
        What to train.
    data
        A dataset of ``ssl_vla dataset build`` or ``import``.
    out
        The run's directory.
    where
        Name of the configuration, for error messages.
    quiet
        Show no progress line.

    Returns
    -------
    Run
        ``complete``, or stopped by a signal with a checkpoint to go on from.

    """
    if config.threads:
        torch.set_num_threads(config.threads)
    place = Launched.found()
    require_own(out)
    with terminate_as_interrupt(), exclusive(out, needed=place.rank == 0):
        work = make_workspace(config, data, where, place.rank, place.ranks)
        # First, so that settings that cannot work leave no run behind.
        objective = _fresh_objective(config, work, where)
        _tell_what_to_expect(config, work, place, quiet)
        run = begin_run(out, config, work.dataset, work.shape, work.features_digest,
                        writes=place.rank == 0)
        if run.complete:
            return run
        checkpoint = out / CHECKPOINT_FILE
        if not checkpoint.exists():
            rows = work.source.statistics_rows()
            objective.prepare(rows)
            _prepare_encoder(objective, rows['state'])
        module = TrainingModule(objective, config, out)
        began = time.monotonic()
        step = _fit(module, work, run, place, quiet)
        average = None if module.average is None else module.average.state()
        objective = _whole_objective(module, work)
        if place.rank:
            return dataclasses.replace(run, info={**run.info, 'step': step})
        info = {**run.info, 'step': step,
                'train_s': run.info.get('train_s', 0.0) + time.monotonic() - began}
        if step < config.steps:
            info['status'] = 'interrupted'
        else:
            if module.average is not None and average is not None:
                module.average.load(average)
                module.average.put_into(objective)
            objective.eval()
            info['metrics'] = _final_metrics(objective, work)
            info['parameters'] = sum(value.numel() for value in objective.parameters())
            save_model(objective, out / MODEL_FILE, about_run(info))
            info['status'] = 'complete'
        write_json(out / RUN_FILE, info)
        return open_run(out)


def _tell_what_to_expect(config: TrainConfig, work: Workspace, place: Launched, quiet: bool
                         ) -> None:
    """Warn of settings that work, but not as one may think."""
    if place.rank or quiet:
        return
    if config.warmup_steps >= config.steps:
        warnings.warn(
            f'warmup_steps is {config.warmup_steps} and steps is {config.steps}: the learning '
            f'rate never gets to {config.learning_rate:g}; lower warmup_steps', stacklevel=3)
    network = config.network
    if network.frozen and network.init == FRESH:
        warnings.warn('network.frozen is true and network.init is none: the encoder keeps its '
                      'random weights; set network.init to what it is to start from', stacklevel=3)
    held_out = len(work.held_out)
    if held_out < FEWEST_EPISODES:
        warnings.warn(
            f'{held_out} of {work.dataset.num_episodes} episodes are held out: what the probes '
            'read off them says little; raise held_out_fraction, or record more', stacklevel=3)


def _fresh_objective(config: TrainConfig, work: Workspace, where: str) -> Objective:
    """Build the objective; an encoder that starts from another run's takes its weights."""
    source = Path(config.network.init)
    if config.network.init == 'none' or not source.is_dir():
        return build_objective(config, work.shape, where)
    try:
        state = open_run(source).encoder().state_dict()
    except ConfigError as error:
        raise ConfigError(f'{where}: network.init: {error}') from error
    return build_objective(config, work.shape, where, encoder_state=state)


def _whole_objective(module: TrainingModule, work: Workspace) -> Objective:
    """Give the objective in one piece, on the first process, if its weights were split."""
    if not module.sharded:
        return module.objective
    state = whole_state(module.objective)
    whole = build_objective(work.config, work.shape, 'the configuration', fresh=True)
    if state:  # the first process alone gets it
        whole.load_state_dict(state)
    return whole


def _prepare_encoder(objective: Objective, state: Tensor) -> None:
    """Give the encoder the statistics of the state, and teachers the same."""
    encoder = getattr(objective, 'encoder', None)
    if isinstance(encoder, VisionEncoder):
        encoder.prepare(state)
    for student, teacher in objective.teachers().values():
        teacher.load_state_dict(student.state_dict())


def _probing(module: TrainingModule, work: Workspace, watch: CollapseWatch) -> Any:
    """Give what probes the encoder of a run in training, if it has one."""
    if not isinstance(getattr(module.objective, 'encoder', None), Encoder):
        return None

    def probe(step: int) -> dict[str, float]:
        objective = _whole_objective(module, work)
        if module.global_rank:
            return {}
        encoder = objective.get_submodule('encoder')
        assert isinstance(encoder, Encoder)
        result = probe_encoder(encoder, work, whole=False)
        for sentence in watch.observe_probe(step, result):
            warnings.warn(sentence, stacklevel=2)
        return result.metrics()

    return probe


def _looking(module: TrainingModule, work: Workspace) -> Callable[[], dict[str, Spread]] | None:
    """Give what tells, between probes, whether what is trained varies, if it has such parts."""
    encoder = getattr(module.objective, 'encoder', None)
    if not isinstance(encoder, VisionEncoder):
        return None
    images = held_out_images(work)
    return lambda: trained_spreads(encoder, images)


def _fit(module: TrainingModule, work: Workspace, run: Run, place: Launched, quiet: bool) -> int:
    """Run Lightning's loop from the checkpoint, if there is one; returns the steps done."""
    config, out = work.config, run.path
    checkpoint, files = out / CHECKPOINT_FILE, SafetensorsIO(about_run(run.info))
    steps = StepDataset(work.source, config.steps * config.accumulate)
    resume = checkpoint if checkpoint.exists() else None
    if resume is not None:
        state = files.load_checkpoint(resume)
        done = int(state['global_step'])
        steps.first = done * config.accumulate
        if not quiet and place.rank == 0:
            print(f'going on from step {done} of {config.steps}', file=sys.stderr, flush=True)
        if done >= config.steps:
            module.load_state_dict(state['state_dict'])
            module.on_load_checkpoint(state)
            return done
    if config.compile:
        compile_blocks(module.objective)
    watch = CollapseWatch.of_run(config.steps, config.warmup_steps)
    recorder = Recorder(out, config, _probing(module, work, watch), _looking(module, work), watch,
                        quiet)
    loggers: list[Logger] = make_loggers(config, out) if place.rank == 0 else []
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        warnings.filterwarnings('ignore', message='.*`IterableDataset` has `__len__`.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        # Teachers and frozen networks are meant to be.
        warnings.filterwarnings('ignore', message='.*in eval mode at the start.*')
        # It advertises, and tells of devices that nobody asked for.
        logging.getLogger('lightning.pytorch.utilities.rank_zero').setLevel(logging.WARNING)
        trainer = lightning.Trainer(
            accelerator='auto', devices=place.per_node, num_nodes=place.nodes,
            strategy=make_strategy(config, place), max_steps=config.steps,
            accumulate_grad_batches=config.accumulate, logger=loggers or False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            use_distributed_sampler=False, precision=config.precision,  # type: ignore[arg-type]
            callbacks=[recorder], plugins=[files])
        loader = _loader(steps, config, place)
        with stop_on_signals(recorder.stop, lambda: (
                recorder.interrupted and trainer.global_step < config.steps)):
            try:
                trainer.fit(module, loader, ckpt_path=str(resume) if resume else None)
            except SIGTERMException:
                # A SIGTERM before the first step met Lightning's handler and ours: the first
                # step wrote the checkpoint.
                if not recorder.interrupted:
                    raise
    return int(trainer.global_step)


def _loader(steps: StepDataset, config: TrainConfig, place: Launched) -> DataLoader[Any]:
    """
    Give the loader of numbered batches.

    A batch is one vectorised gather: on a CPU processes of their own would only copy it. On a GPU
    they make the next ones while it computes. Decoding videos as they come stays in this process.
    """
    workers = 0
    if torch.cuda.is_available() and config.pictures == 'cache':
        workers = min(_LOADERS, max(1, (os.cpu_count() or 1) // place.per_node - 1))
    return DataLoader(steps, batch_size=None, num_workers=workers,
                      pin_memory=torch.cuda.is_available(),
                      prefetch_factor=_AHEAD if workers else None)
