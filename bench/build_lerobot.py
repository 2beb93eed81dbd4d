# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Write a dataset with the real lerobot's own writer. Runs in .venv-lerobot, for bench_build.py.

    lerobot-python build_lerobot.py FRAMES OUT CODEC

FRAMES holds ``NAME_EPISODE.npy`` (rows, height, width, 3) for each camera and ``numbers.npy``. The
seconds from the first frame to the finished dataset are the last line on standard output.
"""

from __future__ import annotations

from pathlib import Path
import sys
import time
from typing import Any

import lerobot_ready  # noqa: F401
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: I100
import numpy as np


def main() -> None:
    """Write the dataset, and say what it took."""
    frames, out, codec = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    fps = int(sys.argv[4])
    cameras = sorted({path.stem.rpartition('_')[0] for path in frames.glob('*_0*.npy')})
    episodes = len(list(frames.glob(f'{cameras[0]}_*.npy')))
    numbers = np.load(frames / 'numbers.npy')
    first = np.load(frames / f'{cameras[0]}_000000.npy', mmap_mode='r')
    vector = {'dtype': 'float32', 'shape': (numbers.shape[2],), 'names': None}
    features: dict[str, Any] = {'observation.state': vector, 'action': dict(vector)}
    for name in cameras:
        features[f'observation.images.{name}'] = {
            'dtype': 'video', 'shape': first.shape[1:], 'names': ['height', 'width', 'channels']}
    began = time.perf_counter()
    # Four threads a camera, as lerobot's own recording does.
    dataset = LeRobotDataset.create(
        'local/bench', fps, features, root=out, image_writer_threads=4 * len(cameras),
        vcodec=codec)
    for episode in range(episodes):
        pictures = {name: np.load(frames / f'{name}_{episode:06d}.npy', mmap_mode='r')
                    for name in cameras}
        for row in range(len(first)):
            dataset.add_frame({
                'observation.state': numbers[episode, row], 'action': numbers[episode, row],
                'task': 'bench',
                **{f'observation.images.{name}': np.asarray(pictures[name][row])
                   for name in cameras}})
        dataset.save_episode()
    dataset.finalize()
    print(time.perf_counter() - began, flush=True)


if __name__ == '__main__':
    main()
