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
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.training.batches import episode_rows
from ssl_vla_ros.training.features import (
    encode_rows, has_scene_pose, scene_pose, SCENE_TARGETS)
from ssl_vla_ros.training.probes import probe, ProbeResult, Spread, spread_of
from ssl_vla_ros.training.workspace import Workspace
import torch
from torch import Tensor

#: Held-out moments that are looked at between probes.
_MOMENTS = 64


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


def _spread_over(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]


def held_out_images(work: Workspace, most: int = _MOMENTS) -> Tensor:
    """Pictures uint8 (n, cameras, height, width, 3) of held-out moments, spread over them."""
    assert work.pictures is not None
    rows = _spread_over(episode_rows(work.dataset.lengths, work.held_out), most)
    return torch.from_numpy(np.stack(
        [work.pictures.read(camera, rows) for camera in work.dataset.camera_names], axis=1))


@torch.no_grad()
def trained_spreads(encoder: VisionEncoder, images: Tensor) -> dict[str, Spread]:
    """
    Measure whether what objectives train varies: fused rows, and class tokens of all cameras.

    Heads get the readout of an encoder, and so does the probe. Where that is keypoints, it says
    nothing of the vectors that most losses are taken of.

    Parameters
    ----------
    encoder
        In evaluation mode for the call; its mode is put back.
    images
        (n, cameras, height, width, 3), values 0 … 255.

    Returns
    -------
    dict
        Of ``rows`` and, if the trunk has one, ``class_token``.

    """
    training, device = encoder.training, next(encoder.parameters()).device
    found: dict[str, list[Tensor]] = {}
    encoder.eval()
    try:
        for part in images.split(encoder.rows_at_once):
            tokens = encoder.all_tokens(part.to(device))
            vectors = encoder.vectors(tokens).unflatten(0, (-1, encoder.cameras))
            found.setdefault('rows', []).append(encoder.fuse(vectors))
            if encoder.trunk.prefix:
                first = tokens[:, 0].unflatten(0, (-1, encoder.cameras))
                found.setdefault('class_token', []).append(first.flatten(1))
    finally:
        encoder.train(training)
    return {name: spread_of(torch.cat(parts).double().cpu().numpy())
            for name, parts in found.items()}


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
    picks = [_spread_over(episode_rows(work.dataset.lengths, episodes), most)
             for episodes in (work.train, work.held_out)]
    rows = np.concatenate(picks)
    features = encode_rows(
        encoder, [work.pictures.read(camera, rows) for camera in work.dataset.camera_names])
    trained = (trained_spreads(encoder, held_out_images(work))
               if isinstance(encoder, VisionEncoder) else None)
    owners = work.dataset.episode_index[rows]
    return probe(
        features.reshape(len(rows), -1).astype(np.float64), targets[rows],
        np.arange(len(picks[0])), np.arange(len(picks[0]), len(rows)), names,
        episodes=owners, tasks=[work.dataset.episode_tasks[owner] for owner in owners],
        seed=work.config.seed, whole=whole, trained=trained)
