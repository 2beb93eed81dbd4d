# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla probe`: an encoder beside the baselines it has to beat, on held-out episodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import math
from pathlib import Path
import textwrap
import warnings

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.training.batches import episode_rows
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.features import encode_rows
from ssl_vla_ros.training.probes import probe, ProbeResult
from ssl_vla_ros.training.probing import probe_targets
from ssl_vla_ros.training.runs import open_run, Run
from ssl_vla_ros.training.workspace import open_pictures

#: Rows probed at most, and principal components of the pixels.
_MOST = 4000
_COMPONENTS = 128
#: The row whose features are the robot's state.
PROPRIOCEPTION = 'proprioception'


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
    Probe an encoder beside a random one of its architecture, PCA of pixels and proprioception.

    Returns
    -------
    dict
        For each: ``std``, ``effective_rank``, ``RankMe``, R² of ridge probe and MLP to the state
        (``R2_state``, ``MLP_state``: means) and, where recorded, each value of the scene
        (``R2_x``, ``MLP_x`` …), and ``tau`` of the retrieval. What cannot be measured is left
        out: above all the state's R² to itself.

    Raises
    ------
    ConfigError, ContractError, DatasetError
        If the run has no trained encoder, or the dataset is of another robot or broken.

    """
    run = open_run(run_path)
    dataset = Dataset.open(data)
    require_compatible(run.contract, dataset.contract, str(run_path))
    if run.info.get('dataset_digest') != dataset.digest():
        warnings.warn(
            f'{run_path} was trained on another dataset than {data}: which of its episodes the '
            'encoder has not seen is unknown, so its figures may flatter it', stacklevel=2)
    targets, names = probe_targets(dataset)
    picks = []
    for episodes in split_episodes(
            dataset.num_episodes, run.config.held_out_fraction, run.config.split_seed):
        rows = episode_rows(dataset.lengths, episodes)
        picks.append(rows[np.linspace(0, len(rows) - 1, min(_MOST // 2, len(rows))).astype(int)])
    rows = np.concatenate(picks)
    first = np.arange(len(picks[0]))
    last = np.arange(len(picks[0]), len(rows))
    episodes_of = dataset.episode_index[rows]
    tasks = [dataset.episode_tasks[episode] for episode in episodes_of]
    table = {}
    for name, features in _sources(run, dataset, data, rows, first, progress).items():
        wanted = [place for place, target in enumerate(names)
                  if name != PROPRIOCEPTION or not target.startswith('state.')]
        result = probe(features, targets[rows][:, wanted], first, last,
                       [names[place] for place in wanted], episodes=episodes_of, tasks=tasks)
        table[name] = _row(result)
    return table


def _sources(run: Run, dataset: Dataset, data: Path, rows: NDArray[np.int64],
             train: NDArray[np.int64], progress: Callable[[int, int, str], None] | None
             ) -> dict[str, NDArray[np.float64]]:
    """Features (N, D) of ``rows`` by what made them."""
    encoder = run.encoder()
    pictures = open_pictures(run.config, dataset, encoder.height, encoder.width, data, progress)
    frames = [pictures.read(camera, rows) for camera in dataset.camera_names]
    fresh = getattr(
        build_objective(run.config, run.shape, str(run.path), fresh=True), 'encoder', None)
    assert isinstance(fresh, Encoder)
    found = {
        name: encode_rows(network, frames, progress).reshape(len(rows), -1).astype(np.float64)
        for name, network in ((run.config.title, encoder), ('random encoder', fresh))}
    found['PCA of pixels'] = pixel_components(np.stack(frames, axis=1), train, _COMPONENTS)
    if dataset.contract.state_names:
        state = dataset.column('observation.state')[rows].astype(np.float64)
        # Metres beside radians: distances mean something after this only.
        spread = state[train].std(axis=0)
        found[PROPRIOCEPTION] = (state - state[train].mean(axis=0)) / np.where(
            spread > 0.0, spread, 1.0)
    return found


def _row(result: ProbeResult) -> dict[str, float]:
    """Pick the figures people compare: joints are averaged, the scene is shown in full."""
    row = {'std': result.feature_std, 'effective_rank': result.effective_rank,
           'RankMe': result.rank_me}
    kinds = (('R2', result.r2), ('MLP', result.mlp_r2))
    for kind, found in kinds:
        state = [value for name, value in found.items() if name.startswith('state.')]
        if state:
            row[f'{kind}_state'] = float(np.mean(state))
    for name in result.r2:
        if name.startswith('scene.'):
            row |= {f'{kind}_{name.removeprefix("scene.")}': found[name]
                    for kind, found in kinds if name in found}
    return row | ({'tau': result.retrieval} if math.isfinite(result.retrieval) else {})


def format_table(table: Mapping[str, Mapping[str, float]]) -> str:
    """Lay a probe table out for a terminal, one column an encoder, and say what is missing."""
    figures = list(dict.fromkeys(key for row in table.values() for key in row))
    # Retrieval last, also if the first row lacks what others have.
    figures.sort(key=lambda key: key == 'tau')
    lines = [['', *table]]
    lines += [[_label(key), *(_number(key, row) for row in table.values())] for key in figures]
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    text = [line[0].ljust(widths[0]) + ''.join(
        '  ' + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines]
    notes = [line for note in _notes(table, figures) for line in textwrap.wrap(note, 80)]
    return '\n'.join([*(line.rstrip() for line in text), '', *notes])


def _number(key: str, row: Mapping[str, float]) -> str:
    if key not in row:
        return '-'
    return f'{row[key]:.3g}' if key in ('std', 'effective_rank', 'RankMe') else f'{row[key]:.3f}'


def _label(key: str) -> str:
    kind, _, what = key.partition('_')
    if kind in ('R2', 'MLP'):
        return f'R² of {what}, {"ridge" if kind == "R2" else "MLP"}'
    return {'effective_rank': 'effective rank', 'tau': 'retrieval, tau'}.get(key, key)


def _notes(table: Mapping[str, Mapping[str, float]], figures: Sequence[str]) -> Iterator[str]:
    yield ('On held-out episodes. R²: 1 is perfect, 0 is what guessing the mean gives. Tau: 1 if '
           'time runs alike in episodes of one task, 0 is chance.')
    if PROPRIOCEPTION in table:
        yield ('Proprioception is the state itself, so its R² of the state would say nothing (-): '
               'its R² of the scene counts.')
    if not any(key.startswith('R2_') and key != 'R2_state' for key in figures):
        yield ('The scene is not probed: the dataset records no whole pose of an object '
               '(evaluation in the contract), or it never changes. Whether the encoder sees more '
               'than the arm is not known.')
    if not any(key.startswith('MLP_') for key in figures):
        yield 'No MLP was fitted: it needs a target, and two training episodes.'
    if 'tau' not in figures:
        yield ('No retrieval was measured: it needs two held-out episodes of one task, of three '
               'rows or more.')
