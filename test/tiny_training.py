# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A toy robot for tests of training: a square that moves by exactly its action."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.training.config import load_train_config, TrainConfig

SIZE = 32
PERIOD_NS = 50_000_000
CONFIGS = Path(__file__).parents[1] / 'config' / 'train'
#: Small enough for a test to train in a second or two.
SMALL: dict[str, dict[str, Any]] = {
    'keypoints': {
        'steps': 6, 'batch_size': 4, 'height': SIZE, 'width': SIZE, 'precision': '32-true',
        'model': {'keypoints': 4, 'channels': 8, 'appearance': 2}},
    'mae': {
        'steps': 6, 'batch_size': 4, 'height': SIZE, 'width': SIZE, 'precision': '32-true',
        'network': {'vit': {'channels': 8, 'depth': 1, 'heads': 2}},
        'model': {'decoder_channels': 8, 'decoder_depth': 1, 'decoder_heads': 2}},
    **{name: {
        'steps': 6, 'batch_size': 4, 'height': SIZE, 'width': SIZE, 'precision': '32-true',
        'network': {'vit': {'channels': 8, 'depth': 1, 'heads': 2}}, 'model': model,
    } for name, model in {
        'simclr': {'hidden': 8, 'projection': 8, 'memory': 6, 'chunk': 3},
        'moco': {'hidden': 8, 'projection': 8, 'queue': 12},
        'clip': {'modalities': '[image, action]', 'hidden': 8, 'projection': 8, 'actions': 3},
        'beit': {'tokens': 4},
        'videomae': {'frames': 4, 'stride': 1, 'decoder_channels': 8, 'decoder_depth': 1,
                     'decoder_heads': 2, 'mask_ratio': 0.75},
        'temporal': {'frames': 5, 'stride': 1, 'horizon': 2, 'width': 8},
        'r3m': {'frames': 4, 'stride': 1, 'hidden': 8},
        'dino': {'prototypes': 8, 'hidden': 8, 'bottleneck': 4, 'local_crops': 1,
                 'local_size': 16},
        'jepa': {'frames': 4, 'stride': 1, 'width': 8, 'depth': 1, 'heads': 2},
    }.items()},
    'world_model': {
        'steps': 6, 'batch_size': 8,
        'model': {'context': 2, 'horizon': 3, 'width': 16, 'depth': 1, 'heads': 2}},
    'behaviour_cloning': {
        'steps': 6, 'batch_size': 8,
        'model': {'history': 2, 'chunk': 4, 'execute': 2, 'width': 16, 'depth': 1}},
}


def toy_contract() -> Contract:
    """One camera, a position, and the step the square makes before the next picture."""
    return parse_contract({
        'robot': 'toy', 'rate_hz': 20,
        'cameras': {'front': {'topic': 'camera/image_raw', 'type': 'sensor_msgs/Image',
                              'height': SIZE, 'width': SIZE}},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                   'field': 'position', 'names': ['x', 'y']}],
        'action': [{'topic': 'step', 'type': 'std_msgs/Float64MultiArray',
                    'names': ['dx', 'dy']}]}, 'toy_contract')


def draw(positions: NDArray[np.float32], size: int = SIZE) -> NDArray[np.uint8]:
    """Pictures (N, size, size, 3) of a red square at positions (N, 2) in 0 … 1."""
    images = np.full((len(positions), size, size, 3), 90, dtype=np.uint8)
    edge = size // 5
    for image, (x, y) in zip(images, positions, strict=True):
        left, top = round(float(x) * (size - edge)), round(float(y) * (size - edge))
        image[top:top + edge, left:left + edge] = (230, 40, 40)
    return images


def walk(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions (rows, 2) and the actions (rows, 2) that lead from each to the next."""
    rng = np.random.default_rng(seed)
    position = rng.uniform(0.2, 0.8, 2)
    positions, actions = [], []
    for _ in range(rows):
        step = rng.uniform(-0.12, 0.12, 2)
        step = np.clip(position + step, 0.0, 1.0) - position
        positions.append(position)
        actions.append(step)
        position = position + step
    return np.asarray(positions, np.float32), np.asarray(actions, np.float32)


def write_toy(out: Path, episodes: int = 6, rows: int = 14, first_seed: int = 0,
              failures: Collection[int] = ()) -> Dataset:
    """Write a dataset of the toy robot; all but the ``failures`` are successes."""
    contract = toy_contract()
    writer = DatasetWriter(out, contract, 20)
    for number in range(episodes):
        state, action = walk(rows, first_seed + number)
        writer.add_episode(AlignedEpisode(
            ticks_ns=np.arange(rows, dtype=np.int64) * PERIOD_NS, pictures={'front': draw(state)},
            state=state, action=action, evaluation=np.zeros((rows, 0), np.float32),
            skew_s={label: np.zeros(rows, np.float32) for label, _, _ in stream_labels(contract)},
            flagged=np.zeros(rows, dtype=bool)), 'move', number not in failures,
            f'seed {first_seed + number}')
    writer.finish()
    return Dataset.open(out)


def small_words(objective: str, **changes: Any) -> list[str]:
    """Return overrides ``key=value`` that make a run of ``objective`` small."""
    settings = dict(SMALL[objective]) | {
        'warmup_steps': 2, 'held_out_fraction': 0.3, 'checkpoint_every': 1000, 'probe_every': 0,
        'log_every': 1, 'threads': 1} | changes
    nested = {'model': settings.pop('model', {}),
              'network.vit': settings.pop('network', {}).get('vit', {})}
    return [f'{key}={value}' for key, value in settings.items()] + [
        f'{where}.{key}={value}' for where, values in nested.items()
        for key, value in values.items()]


def small_config(objective: str, **changes: Any) -> TrainConfig:
    """Load the package's own configuration, made small."""
    return load_train_config(CONFIGS / f'{objective}.yaml', small_words(objective, **changes))
