# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Probing an encoder on the rows of a workspace, while it is trained and when it is done."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.training.batches import episode_rows
from ssl_vla_ros.training.features import (
    encode_rows, has_scene_pose, scene_pose, SCENE_TARGETS)
from ssl_vla_ros.training.probes import probe, ProbeResult
from ssl_vla_ros.training.workspace import Workspace


def probe_targets(dataset: Dataset) -> tuple[NDArray[np.float64], list[str]]:
    """State, and the scene where the dataset has it, with the names of its values."""
    names = [f'state.{name}' for name in dataset.contract.state_names]
    state = np.zeros((dataset.num_rows, 0))
    if names:
        state = dataset.column('observation.state').astype(np.float64)
    if not has_scene_pose(dataset.contract):
        return state, names
    try:
        pose = scene_pose(dataset.contract, dataset.column('observation.evaluation'))
    except DatasetError as error:
        warnings.warn(f'the scene is not probed: {error}', stacklevel=2)
        return state, names
    return np.c_[state, pose], names + [f'scene.{name}' for name in SCENE_TARGETS]


def probe_encoder(encoder: Encoder, work: Workspace, most: int = 1500, *, whole: bool = True
                  ) -> ProbeResult:
    """
    Probe an encoder on at most ``most`` rows of each split.

    Parameters
    ----------
    encoder, work
        What, and on which data.
    most
        Rows of each split, spread over it.
    whole
        Also fit the MLP and measure retrieval, which take longer.

    """
    assert work.pictures is not None
    targets, names = probe_targets(work.dataset)
    picks = []
    for episodes in (work.train, work.held_out):
        rows = episode_rows(work.dataset.lengths, episodes)
        picks.append(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)])
    rows = np.concatenate(picks)
    features = encode_rows(
        encoder, [work.pictures.read(camera, rows) for camera in work.dataset.camera_names])
    owners = work.dataset.episode_index[rows]
    return probe(
        features.reshape(len(rows), -1).astype(np.float64), targets[rows],
        np.arange(len(picks[0])), np.arange(len(picks[0]), len(rows)), names,
        episodes=owners, tasks=[work.dataset.episode_tasks[owner] for owner in owners],
        seed=work.config.seed, whole=whole)
