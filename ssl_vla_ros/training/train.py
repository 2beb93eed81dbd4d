# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla train`: one run from configuration and dataset to weights and metrics."""

from __future__ import annotations

import logging
from pathlib import Path
import time
from typing import Any
import warnings

import lightning
from lightning.pytorch.utilities.exceptions import SIGTERMException
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.world_model import WorldModel
from ssl_vla_ros.training.batches import episode_rows, StepDataset
from ssl_vla_ros.training.checkpoint import SafetensorsIO
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.evaluate import world_model_errors
from ssl_vla_ros.training.features import (
    encode_rows, has_scene_pose, scene_pose, SCENE_TARGETS)
from ssl_vla_ros.training.module import (
    Recorder, stop_on_signals, terminate_as_interrupt, TrainingModule)
from ssl_vla_ros.training.probes import probe
from ssl_vla_ros.training.runs import (
    begin_run, build_objective, CHECKPOINT_FILE, exclusive, MODEL_FILE, open_run, Run, RUN_FILE,
    save_model, write_json)
from ssl_vla_ros.training.workspace import make_workspace, Workspace
import torch
from torch.utils.data import DataLoader


def probe_targets(dataset: Dataset) -> tuple[NDArray[np.float64], list[str]]:
    """State, and the scene where the dataset has it, with the names of its values."""
    state = dataset.column('observation.state').astype(np.float64)
    names = [f'state.{name}' for name in dataset.contract.state_names]
    if not has_scene_pose(dataset.contract):
        return state, names
    try:
        pose = scene_pose(dataset.contract, dataset.column('observation.evaluation'))
    except DatasetError as error:
        warnings.warn(f'the scene is not probed: {error}', stacklevel=2)
        return state, names
    return np.c_[state, pose], names + [f'scene.{name}' for name in SCENE_TARGETS]


def probe_encoder(encoder: Encoder, work: Workspace, most: int = 1500) -> dict[str, float]:
    """Deviation, RankMe and R² of an encoder on at most ``most`` rows of each split."""
    assert work.pictures is not None
    targets, names = probe_targets(work.dataset)
    picks = []
    for episodes in (work.train, work.held_out):
        rows = episode_rows(work.dataset.lengths, episodes)
        picks.append(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)])
    rows = np.concatenate(picks)
    features = encode_rows(
        encoder, [work.pictures.read(camera, rows) for camera in work.dataset.camera_names])
    result = probe(
        features.reshape(len(rows), -1).astype(np.float64), targets[rows],
        np.arange(len(picks[0])), np.arange(len(picks[0]), len(rows)), names)
    if result.collapsed:
        warnings.warn(
            f'the encoder looks collapsed: feature deviation {result.feature_std:.2g}, mean R² '
            f'to state and scene {result.mean_r2:.2f} on held-out episodes', stacklevel=2)
    values = {'probe.feature_std': result.feature_std, 'probe.rank_me': result.rank_me,
              'probe.mean_r2': result.mean_r2}
    return values | {f'probe.r2.{name}': value for name, value in result.r2.items()}


def _final_metrics(objective: Objective, work: Workspace) -> dict[str, Any]:
    """Measure what the finished run is judged by, on held-out episodes."""
    encoder = getattr(objective, 'encoder', None)
    if isinstance(encoder, Encoder):
        return dict(probe_encoder(encoder, work))
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
    Train one objective, or go on with a run that was stopped.

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
    with terminate_as_interrupt(), exclusive(out):
        work = make_workspace(config, data, where)
        # First, so that settings that cannot work leave no run behind.
        objective = build_objective(config, work.shape, where)
        run = begin_run(out, config, work.dataset.contract, work.shape, work.dataset.digest(),
                        work.features_digest)
        if run.complete:
            return run
        checkpoint = out / CHECKPOINT_FILE
        if not checkpoint.exists():
            objective.prepare(work.source.statistics_rows())
        module = TrainingModule(objective, config)
        steps = StepDataset(work.source, config.steps)
        encoder = getattr(objective, 'encoder', None)
        recorder = Recorder(
            out, config,
            (lambda step: probe_encoder(encoder, work)) if isinstance(encoder, Encoder) else None,
            quiet)
        began = time.monotonic()
        step = _fit(module, steps, recorder, checkpoint, config)
        info = {**run.info, 'step': step,
                'train_s': run.info.get('train_s', 0.0) + time.monotonic() - began}
        if step < config.steps:
            info['status'] = 'interrupted'
        else:
            objective.eval()
            info['metrics'] = _final_metrics(objective, work)
            save_model(objective, out / MODEL_FILE)
            info['status'] = 'complete'
        write_json(out / RUN_FILE, info)
        return open_run(out)


def _fit(module: TrainingModule, steps: StepDataset, recorder: Recorder, checkpoint: Path,
         config: TrainConfig) -> int:
    """Run Lightning's loop from the checkpoint, if there is one; returns the steps done."""
    resume = checkpoint if checkpoint.exists() else None
    if resume is not None:
        state = SafetensorsIO().load_checkpoint(resume)
        steps.first = int(state['global_step'])
        if steps.first >= config.steps:
            module.load_state_dict(state['state_dict'])
            return steps.first
    with warnings.catch_warnings():
        # Batches are made by one vectorised gather in this process: workers would only copy.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        warnings.filterwarnings('ignore', message='.*`IterableDataset` has `__len__`.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        # It advertises, and tells of devices that nobody asked for.
        logging.getLogger('lightning.pytorch.utilities.rank_zero').setLevel(logging.WARNING)
        trainer = lightning.Trainer(
            accelerator='auto', devices=1, max_steps=config.steps, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            precision=config.precision,  # type: ignore[arg-type]
            gradient_clip_val=config.gradient_clip, callbacks=[recorder],
            plugins=[SafetensorsIO()])
        loader = DataLoader(steps, batch_size=None, num_workers=0)
        with stop_on_signals(recorder):
            try:
                trainer.fit(module, loader, ckpt_path=str(resume) if resume else None)
            except SIGTERMException:
                # A SIGTERM before the first step met Lightning's handler and ours: the first
                # step wrote the checkpoint.
                if not recorder.interrupted:
                    raise
    return int(trainer.global_step)
