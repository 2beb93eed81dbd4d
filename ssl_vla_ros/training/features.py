# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Feature tables: what frozen encoders make of every row, computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.feature_table import FeatureKey, make_table
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import FrameRows, Pictures
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.networks.encoder import Encoder
import torch

#: Name of the columns an object pose is recorded under, and what a true-pose head sees of it.
_POSE = ('position.x', 'position.y', 'position.z',
         'orientation.x', 'orientation.y', 'orientation.z', 'orientation.w')
SCENE_TARGETS = ('x', 'y', 'z', 'yaw')


def encoder_digest(encoder: Encoder) -> str:
    """SHA-256 of an encoder's weights."""
    digest = hashlib.sha256(type(encoder).__name__.encode())
    for name, value in encoder.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def encode_rows(encoder: Encoder, frames: Sequence[FrameRows],
                progress: Callable[[int, int, str], None] | None = None,
                batch: int | None = None) -> NDArray[np.float32]:
    """
    Features (N, tokens, dim) of every row.

    Parameters
    ----------
    encoder
        In evaluation mode for the call; its mode is put back.
    frames
        One (N, H, W, 3) uint8 array a camera.
    progress
        Told (rows done, rows, what).
    batch
        Rows encoded at once; by default as many as the encoder works fastest with.

    """
    batch = batch or encoder.rows_at_once
    count = len(frames[0])
    table = np.empty((count, encoder.tokens, encoder.dim), dtype=np.float32)
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        table[start:stop] = _encode(encoder, frames, start, stop)
        if progress is not None:
            progress(stop, count, 'features')
    return table


@torch.no_grad()
def _encode(encoder: Encoder, frames: Sequence[FrameRows], start: int, stop: int
            ) -> NDArray[np.float32]:
    training = encoder.training
    encoder.eval()
    # While an encoder is trained, it may live on an accelerator; pictures never do.
    device = next((value.device for value in encoder.state_dict().values()), torch.device('cpu'))
    images = np.stack([camera[start:stop] for camera in frames], axis=1)
    features: NDArray[np.float32] = encoder(
        torch.from_numpy(images).to(device)).float().cpu().numpy()
    encoder.train(training)
    return features


def feature_table(encoder: Encoder, dataset: Dataset,
                  pictures: Pictures | Callable[[], Pictures], directory: Path,
                  progress: Callable[[int, int, str], None] | None = None
                  ) -> NDArray[np.float32]:
    """
    Features of a dataset, from disk where the same encoder saw the same dataset before.

    The key is made of weights, size and dataset: a retrained encoder never meets old features.

    Parameters
    ----------
    encoder, dataset
        Whose features, of what.
    pictures
        The dataset's, in the encoder's size; or what opens them, called only if a row must be
        encoded: with a finished table no picture is needed.
    directory
        Where tables are kept. One that was interrupted is gone on with.
    progress
        Told (rows done, rows, what).

    Returns
    -------
    numpy.ndarray
        (N, tokens, dim) float32, not writable.

    """
    key = FeatureKey(dataset.digest(), encoder_digest(encoder), encoder.height, encoder.width,
                     (dataset.num_rows, encoder.tokens, encoder.dim))
    frames: list[FrameRows] = []

    def encode(start: int, stop: int) -> NDArray[np.float32]:
        if not frames:
            opened = pictures if isinstance(pictures, Pictures) else pictures()
            frames.extend(opened.frames(camera) for camera in dataset.camera_names)
        return _encode(encoder, frames, start, stop)

    return make_table(directory, key, encode, encoder.rows_at_once, progress)


def fold_quarter_turns(yaw: NDArray[np.float64]) -> NDArray[np.float64]:
    """Yaw (rad) folded into ±45°: a cube turned by 90° looks and grasps the same."""
    quarter = 0.5 * np.pi
    folded: NDArray[np.float64] = (yaw + 0.5 * quarter) % quarter - 0.5 * quarter
    return folded


def has_scene_pose(contract: Contract) -> bool:
    """Whether the contract records an object's pose."""
    return all(name in contract.evaluation_names for name in _POSE)


def scene_pose(contract: Contract, evaluation: NDArray[np.float32]) -> NDArray[np.float32]:
    """
    Place and yaw (N, 4) of the object from the recorded ground truth (N, E).

    Raises
    ------
    DatasetError
        If the dataset holds no object pose, or rows without one.

    """
    names = contract.evaluation_names
    missing = [name for name in _POSE if name not in names]
    if missing:
        raise DatasetError(
            f'{contract.source}: evaluation has no {", ".join(missing)}; a true-pose head and '
            'scene probes need the recorded object pose')
    pose = evaluation[:, [names.index(name) for name in _POSE]].astype(np.float64)
    if not np.isfinite(pose).all():
        raise DatasetError(f'{contract.source}: some rows have no recorded object pose')
    x, y, z, w = pose[:, 3], pose[:, 4], pose[:, 5], pose[:, 6]
    yaw = np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    found: NDArray[np.float32] = np.c_[pose[:, :3], fold_quarter_turns(yaw)].astype(np.float32)
    return found
