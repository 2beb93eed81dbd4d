# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a run works on: its dataset, the split, frozen features, batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.networks.backbone import ImageNetEncoder
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.world_model import WorldModelConfig
from ssl_vla_ros.training.batches import BatchSource, Table, WindowSource
from ssl_vla_ros.training.building import build_objective, data_needs, Member, read_members
from ssl_vla_ros.training.clip_source import ClipSource
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.features import encoder_digest, feature_table, scene_pose
from ssl_vla_ros.training.runs import open_run, warn_of_seen_episodes


@dataclass
class Workspace:
    """What a run is made of: data, split, frozen features and batches."""

    dataset: Dataset
    config: TrainConfig
    pictures: Pictures | None
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


def open_pictures(config: TrainConfig, dataset: Dataset, height: int, width: int, data: Path,
                  progress: Callable[[int, int, str], None] | None = None) -> Pictures:
    """Give a dataset's pictures as the configuration wants them, decoded before or each time."""
    if config.pictures == 'stream':
        return FrameStream(dataset, height, width)
    return FrameCache.build(dataset, height, width, cache_directory(data) / 'frames', progress)


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
        fresh = build_objective(run.config, run.shape, where, fresh=True)
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
    height, width = encoder.height, encoder.width
    table = feature_table(
        encoder, dataset, lambda: open_pictures(config, dataset, height, width, data),
        cache_directory(data) / 'features')
    return table, encoder_digest(encoder)


def demonstrations(dataset: Dataset, episodes: list[int]) -> list[int]:
    """
    Episodes worth imitating: the successful ones, where anybody marked outcomes at all.

    An encoder and a world model learn from failures, too; a head would learn to fail. Where
    outcomes are marked, an unmarked episode was cut short or forgotten, and is left out as well.
    """
    if all(outcome is None for outcome in dataset.success):
        return episodes
    return [episode for episode in episodes if dataset.success[episode] is True]


def make_workspace(config: TrainConfig, data: Path, where: str, rank: int = 0, ranks: int = 1
                   ) -> Workspace:
    """Open the data and everything frozen that a run needs."""
    members = read_members(config, where)
    dataset = Dataset.open(data)
    if not dataset.camera_names:
        raise DatasetError(f'{data}: the dataset has no camera; there is nothing to encode')
    train, held_out = split_episodes(
        len(dataset.lengths), config.held_out_fraction, config.split_seed)
    if members[0].spec.data == 'windows':
        return _on_features(config, data, dataset, members[0].settings, train, held_out, where)
    return _on_pictures(config, data, dataset, members, train, held_out, where, rank, ranks)


def _on_pictures(config: TrainConfig, data: Path, dataset: Dataset, members: list[Member],
                 train: list[int], held_out: list[int], where: str, rank: int, ranks: int
                 ) -> Workspace:
    contract = dataset.contract
    needs = data_needs(members, where)
    if config.batch_size % ranks:
        raise ConfigError(
            f'{where}: batch_size is {config.batch_size}, must be a multiple of the {ranks} '
            'processes that share it')
    if config.batch_size // ranks < needs.pairs:
        raise ConfigError(
            f'{where}: batch_size is {config.batch_size} for {ranks} processes, but '
            f'{config.title} tells samples apart and needs at least {needs.pairs} in each')
    tasks = tuple(dataset.tasks) if needs.text and any(dataset.tasks) else ()
    for wanted, found, what in ((needs.actions, contract.action_names, 'actions'),
                                (needs.state, contract.state_names, 'a state')):
        if wanted and not found:
            raise DatasetError(
                f'{data}: {config.title} needs {what}, the dataset has none; choose settings or '
                'an objective that works on pictures alone')
    shape = DataShape(
        len(dataset.camera_names), config.height, config.width, len(contract.state_names),
        len(contract.action_names), tasks=tasks)
    pictures = open_pictures(config, dataset, config.height, config.width, data)
    source = ClipSource(dataset, pictures, train, needs, batch_size=config.batch_size,
                        seed=config.seed, rank=rank, ranks=ranks)
    return Workspace(dataset, config, pictures, train, held_out, shape, source, None, '')


def _on_features(config: TrainConfig, data: Path, dataset: Dataset, settings: Any,
                 train: list[int], held_out: list[int], where: str) -> Workspace:
    contract = dataset.contract
    for found, what in ((contract.state_names, 'state'), (contract.action_names, 'actions')):
        if not found:
            raise DatasetError(
                f'{data}: {config.title} needs {what}, the dataset has none; record or import '
                'one with them')
    features, digest = _features(config, dataset, where, data)
    table = Table(features, dataset.column('observation.state').astype(np.float32),
                  dataset.column('action').astype(np.float32), tuple(dataset.lengths))
    shape = DataShape(
        len(dataset.camera_names), config.height, config.width, len(contract.state_names),
        len(contract.action_names), features.shape[1], features.shape[2])
    warn_of_seen_episodes(config, dataset, held_out)
    whole = isinstance(settings, WorldModelConfig)
    if not whole:
        seen, unseen = len(train), len(held_out)
        train, held_out = (demonstrations(dataset, part) for part in (train, held_out))
        if not train:
            raise DatasetError(
                f'{dataset.path}: none of {seen} episodes of the training split is marked as a '
                'success, so there is nothing to imitate; record or mark some')
        if not held_out:
            warnings.warn(
                f'{dataset.path}: none of {unseen} held-out episodes is marked as a success, so '
                'the head is not judged on episodes that it has not seen; a larger '
                'held_out_fraction would hold out some', stacklevel=2)
    sizes = {'history': settings.context if whole else settings.history,
             'chunk': settings.horizon if whole else settings.chunk}
    for name, value in zip(('context', 'horizon') if whole else ('history', 'chunk'),
                           sizes.values(), strict=True):
        if value < 1:
            raise ConfigError(f'{where}: model: {name} is {value}, must be at least 1')
    window = WindowSource(table, train, **sizes, batch_size=config.batch_size,
                          seed=config.seed, whole=whole)
    held = WindowSource(
        table, held_out, **sizes, batch_size=config.batch_size, seed=config.seed, whole=whole,
        split='held-out') if held_out else None
    return Workspace(dataset, config, None, train, held_out, shape, window, held, digest)
