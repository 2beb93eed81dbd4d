# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla train`: one run from configuration and dataset to weights and metrics."""

from __future__ import annotations

from dataclasses import dataclass
import os
from pathlib import Path
import time
from typing import Any
import warnings

import lightning
from lightning.pytorch.utilities.exceptions import SIGTERMException
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.networks.backbone import ImageNetEncoder
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.world_model import WorldModel, WorldModelConfig
from ssl_vla_ros.training.batches import (
    BatchSource, episode_rows, FrameSource, StepDataset, Table, WindowSource)
from ssl_vla_ros.training.checkpoint import SafetensorsIO
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.evaluate import world_model_errors
from ssl_vla_ros.training.features import (
    encode_rows, encoder_digest, feature_table, has_scene_pose, scene_pose, SCENE_TARGETS)
from ssl_vla_ros.training.module import (
    Recorder, stop_on_signals, terminate_as_interrupt, TrainingModule)
from ssl_vla_ros.training.probes import probe
from ssl_vla_ros.training.runs import (
    begin_run, build_objective, CHECKPOINT_FILE, exclusive, MODEL_FILE, model_settings, open_run,
    Run, RUN_FILE, save_model, warn_of_seen_episodes, write_json)
import torch
from torch.utils.data import DataLoader


@dataclass
class Workspace:
    """What a run is made of: data, split, frozen features and batches."""

    dataset: Dataset
    config: TrainConfig
    cache: FrameCache | None
    train: list[int]
    held_out: list[int]
    shape: DataShape
    source: BatchSource
    held_out_source: WindowSource | None
    features_digest: str


def cache_directory(data: Path) -> Path:
    """Where decoded frames and features of a dataset are kept: beside it, never in it."""
    whole = Path(os.path.abspath(data))  # '.' has no name to add to
    return whole.with_name(whole.name + '.cache')


def frozen_encoder(config: TrainConfig, dataset: Dataset, where: str) -> Encoder | None:
    """
    Load the encoder whose features are trained on; None where no pictures are.

    Raises
    ------
    ConfigError
        If the run named by ``encoder`` does not fit.

    """
    if config.features in ('none', 'true_pose'):
        return None
    cameras = len(dataset.camera_names)
    if config.features == 'imagenet':
        return ImageNetEncoder(cameras, config.height, config.width).eval()
    if not config.encoder:
        raise ConfigError(
            f'{where}: encoder is empty; give the run whose frozen encoder is used, '
            'encoder=RUN')
    run = open_run(config.encoder)
    require_compatible(run.contract, dataset.contract, f'{run.path}')
    if config.features == 'random':
        # The same architecture with fresh weights: what the architecture alone is worth.
        fresh = build_objective(run.config, run.shape, where)
        found = getattr(fresh, 'encoder', None)
        assert isinstance(found, Encoder)
        return found.eval().requires_grad_(False)
    return run.encoder()


def _features(config: TrainConfig, dataset: Dataset, where: str, data: Path
              ) -> tuple[NDArray[np.float32], str]:
    encoder = frozen_encoder(config, dataset, where)
    if encoder is None:
        if config.features == 'none':
            return np.zeros((dataset.num_rows, 0, 0), dtype=np.float32), 'none'
        pose = scene_pose(dataset.contract, dataset.column('observation.evaluation'))
        return pose[:, None, :], 'true_pose'
    cache = FrameCache.build(
        dataset, encoder.height, encoder.width, cache_directory(data) / 'frames')
    table = feature_table(encoder, dataset, cache, cache_directory(data) / 'features')
    return table, encoder_digest(encoder)


def demonstrations(dataset: Dataset, episodes: list[int]) -> list[int]:
    """
    Episodes worth imitating: the successful ones, where anybody marked outcomes at all.

    An encoder and a world model learn from failures, too; a head would learn to fail. Where
    outcomes are marked, an unmarked episode was cut short or forgotten, and is left out as well.

    Raises
    ------
    DatasetError
        If outcomes are marked and none of the episodes is a success.

    """
    if all(outcome is None for outcome in dataset.success):
        return episodes
    kept = [episode for episode in episodes if dataset.success[episode] is True]
    if not kept:
        raise DatasetError(
            f'{dataset.path}: none of {len(episodes)} episodes of this split is marked as a '
            'success, so there is nothing to imitate; record or mark some')
    return kept


def make_workspace(config: TrainConfig, data: Path, where: str) -> Workspace:
    """Open the data and everything frozen that a run needs."""
    spec, settings = model_settings(config, where)
    dataset = Dataset.open(data)
    if not dataset.camera_names:
        raise DatasetError(f'{data}: the dataset has no camera; there is nothing to encode')
    train, held_out = split_episodes(
        len(dataset.lengths), config.held_out_fraction, config.split_seed)
    contract = dataset.contract
    cameras = len(dataset.camera_names)
    states, actions = len(contract.state_names), len(contract.action_names)
    if spec.data == 'frames':
        cache = FrameCache.build(
            dataset, config.height, config.width, cache_directory(data) / 'frames')
        source: BatchSource = FrameSource(
            [cache.frames(camera) for camera in dataset.camera_names],
            episode_rows(dataset.lengths, train), config.batch_size, config.seed)
        shape = DataShape(cameras, config.height, config.width, states, actions)
        return Workspace(dataset, config, cache, train, held_out, shape, source, None, '')
    features, digest = _features(config, dataset, where, data)
    table = Table(features, dataset.column('observation.state').astype(np.float32),
                  dataset.column('action').astype(np.float32), tuple(dataset.lengths))
    shape = DataShape(cameras, config.height, config.width, states, actions,
                      features.shape[1], features.shape[2])
    warn_of_seen_episodes(config, dataset, held_out)
    whole = isinstance(settings, WorldModelConfig)
    if not whole:
        train, held_out = (demonstrations(dataset, part) for part in (train, held_out))
    sizes = {'history': settings.context if whole else settings.history,
             'chunk': settings.horizon if whole else settings.chunk}
    for name, value in zip(('context', 'horizon') if whole else ('history', 'chunk'),
                           sizes.values(), strict=True):
        if value < 1:
            raise ConfigError(f'{where}: model: {name} is {value}, must be at least 1')
    window = WindowSource(table, train, **sizes, batch_size=config.batch_size,
                          seed=config.seed, whole=whole)
    held = WindowSource(table, held_out, **sizes, batch_size=config.batch_size,
                        seed=config.seed, whole=whole, split='held-out')
    return Workspace(dataset, config, None, train, held_out, shape, window, held, digest)


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
    assert work.cache is not None
    targets, names = probe_targets(work.dataset)
    picks = []
    for episodes in (work.train, work.held_out):
        rows = episode_rows(work.dataset.lengths, episodes)
        picks.append(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)])
    rows = np.concatenate(picks)
    features = encode_rows(
        encoder, [work.cache.read(camera, rows) for camera in work.dataset.camera_names])
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
    assert work.held_out_source is not None
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
        run = begin_run(out, config, work.dataset.contract, work.shape, work.dataset.digest(),
                        work.features_digest)
        if run.complete:
            return run
        objective = build_objective(config, work.shape, where)
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
