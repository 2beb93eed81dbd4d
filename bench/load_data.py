# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A made-up dataset of two cameras for benchmarks: texture, moving things, sensor noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import shutil

import cv2
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.errors import DatasetError

CAMERAS = ('front', 'wrist')
RATE_HZ = 20


def contract(size: int) -> Contract:
    """Give a robot of two joints under two cameras of ``size`` pixels."""
    return parse_contract({
        'robot': 'bench', 'rate_hz': RATE_HZ,
        'cameras': {
            name: {'topic': f'camera/{name}/image_raw', 'type': 'sensor_msgs/Image',
                   'height': size, 'width': size} for name in CAMERAS},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                   'field': 'position', 'names': ['shoulder', 'elbow']}],
        'action': [{'topic': 'twist', 'type': 'geometry_msgs/TwistStamped',
                    'names': ['linear.x', 'linear.y']}]}, 'bench')


class Scene:
    """Pictures of one camera in one episode, drawn while they are iterated."""

    def __init__(self, size: int, rows: int, seed: int) -> None:
        self._size = size
        self._rows = rows
        self._seed = seed

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """Yield pictures (size, size, 3)."""
        size = self._size
        rng = np.random.default_rng(self._seed)
        texture = cv2.resize(rng.integers(40, 200, (16, 16, 3), dtype=np.uint8), (size, size),
                             interpolation=cv2.INTER_CUBIC)
        start = rng.uniform(0.0, 6.0, 4)
        for row in range(self._rows):
            picture = texture.copy()
            for thing in range(2):
                x, y = (int((0.1 + 0.35 * (1.0 + np.sin(
                    start[2 * thing + axis] + 0.07 * (axis + 1) * row))) * size)
                    for axis in range(2))
                cv2.rectangle(picture, (x, y), (x + size // 6, y + size // 6),
                              (220, 60, 40) if thing else (40, 80, 220), -1)
            noise = rng.integers(-4, 5, picture.shape, dtype=np.int16)
            yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def bench_dataset(folder: Path, size: int, episodes: int, rows: int) -> Dataset:
    """Write the dataset, or open the one of an earlier run with these very settings."""
    path = folder / f'data_{size}px_{episodes}x{rows}'
    try:
        return Dataset.open(path)
    except DatasetError:
        shutil.rmtree(path, ignore_errors=True)
    part = path.with_name(path.name + '.making')
    shutil.rmtree(part, ignore_errors=True)
    robot = contract(size)
    writer = DatasetWriter(part, robot, RATE_HZ)
    for episode in range(episodes):
        if episode % 10 == 0:
            print(f'writing the dataset: episode {episode + 1} of {episodes}', flush=True)
        rng = np.random.default_rng(episode)
        writer.add_episode(AlignedEpisode(
            ticks_ns=np.arange(rows, dtype=np.int64) * (10**9 // RATE_HZ),
            pictures={name: Scene(size, rows, 2 * episode + camera)
                      for camera, name in enumerate(CAMERAS)},
            state=rng.normal(size=(rows, 2)).astype(np.float32),
            action=rng.normal(size=(rows, 2)).astype(np.float32),
            evaluation=np.zeros((rows, 0), np.float32),
            skew_s={label: np.zeros(rows, np.float32) for label, _, _ in stream_labels(robot)},
            flagged=np.zeros(rows, dtype=bool)), 'move things', True, f'episode {episode}')
    writer.finish()
    part.rename(path)
    return Dataset.open(path)
