# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of finished datasets, taken as they are: for updates, merges and splits."""

from __future__ import annotations

from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.staging import StagedEpisode
from ssl_vla_ros.dataset.stats import ImageStats
from ssl_vla_ros.errors import DatasetError


def dataset_episodes(dataset: Dataset) -> list[StagedEpisode]:
    """
    Give a dataset's episodes, each held against its digest.

    Raises
    ------
    DatasetError
        If an episode was changed after it was written, or a file is missing.

    """
    dataset.verify()
    counts = layout.read_image_counts(dataset.path / layout.IMAGE_COUNTS)
    names = [name for name in dataset.column_names if name not in layout.PLACE_COLUMNS]
    found = []
    for number, info in enumerate(dataset.episodes):
        rows = dataset.rows(number)
        images = {}
        for camera in dataset.camera_names:
            if (number, camera) not in counts:
                raise DatasetError(
                    f'{dataset.path / layout.IMAGE_COUNTS}: lacks episode {number}, camera '
                    f'{camera}; build the dataset again')
            images[camera] = ImageStats.of(counts[number, camera], dataset.lengths[number])
        found.append(StagedEpisode(
            columns={name: dataset.column(name)[rows] for name in names},
            videos={camera: dataset.video(camera, number) for camera in dataset.camera_names},
            images=images, info=dict(info)))
    return found
