# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla probe`: an encoder beside the baselines it has to beat, on held-out episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import warnings

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.training.batches import episode_rows
from ssl_vla_ros.training.features import encode_rows
from ssl_vla_ros.training.probes import probe, ProbeResult
from ssl_vla_ros.training.runs import build_objective, open_run
from ssl_vla_ros.training.train import probe_targets
from ssl_vla_ros.training.workspace import open_pictures

#: Rows probed at most, and principal components of the pixels.
_MOST = 4000
_COMPONENTS = 128


def pixel_components(images: NDArray[np.uint8], train: NDArray[np.int64], count: int
                     ) -> NDArray[np.float64]:
    """Principal components (N, count) of pictures (N, cameras, H, W, 3), from training rows."""
    flat = images[:, :, ::2, ::2].reshape(len(images), -1).astype(np.float32) / 255.0
    flat -= flat[train].mean(axis=0)
    # The small side of the matrix: rows are far fewer than pixels.
    values, vectors = np.linalg.eigh((flat[train] @ flat[train].T).astype(np.float64))
    keep = np.argsort(values)[::-1][:min(count, len(train) - 1)]
    axes = flat[train].T @ (vectors[:, keep] / np.sqrt(np.maximum(values[keep], 1e-9)))
    return np.asarray(flat @ axes, dtype=np.float64)


def probe_table(run_path: Path, data: Path, progress: Callable[[int, int, str], None] | None
                ) -> dict[str, dict[str, float]]:
    """
    Probe an encoder, a random one of its architecture and PCA of pixels.

    Returns
    -------
    dict
        For each, feature deviation, RankMe and R² of state and (where recorded) scene.

    """
    run = open_run(run_path)
    dataset = Dataset.open(data)
    require_compatible(run.contract, dataset.contract, str(run_path))
    train, held_out = split_episodes(
        dataset.num_episodes, run.config.held_out_fraction, run.config.split_seed)
    if run.info.get('dataset_digest') != dataset.digest():
        warnings.warn(
            f'{run_path} was trained on another dataset than {data}: which of its episodes the '
            'encoder has not seen is unknown, so its figures may flatter it', stacklevel=2)
    targets, names = probe_targets(dataset)
    picks = []
    for episodes in (train, held_out):
        rows = episode_rows(dataset.lengths, episodes)
        picks.append(rows[np.linspace(0, len(rows) - 1, min(_MOST // 2, len(rows))).astype(int)])
    rows = np.concatenate(picks)
    first = np.arange(len(picks[0]))
    last = np.arange(len(picks[0]), len(rows))
    encoder = run.encoder()
    pictures = open_pictures(
        run.config, dataset, encoder.height, encoder.width, data, progress)
    frames = [pictures.read(camera, rows) for camera in dataset.camera_names]
    fresh = build_objective(run.config, run.shape, str(run_path)).get_submodule('encoder')
    assert isinstance(fresh, Encoder)
    sources: dict[str, NDArray[np.float64]] = {
        run.config.objective: encode_rows(encoder, frames, progress).reshape(
            len(rows), -1).astype(np.float64),
        'random encoder': encode_rows(fresh, frames, progress).reshape(
            len(rows), -1).astype(np.float64),
        'PCA of pixels': pixel_components(np.stack(frames, axis=1), first, _COMPONENTS)}
    table = {}
    for name, features in sources.items():
        result = probe(features, targets[rows], first, last, names)
        table[name] = _row(result)
    return table


def _row(result: ProbeResult) -> dict[str, float]:
    """Pick the figures people compare: joints are averaged, the scene is shown in full."""
    state = [value for name, value in result.r2.items() if name.startswith('state.')]
    row = {'std': result.feature_std, 'RankMe': result.rank_me,
           'R2_state': float(np.mean(state)) if state else float('nan')}
    return row | {f'R2_{name.removeprefix("scene.")}': value
                  for name, value in result.r2.items() if name.startswith('scene.')}
