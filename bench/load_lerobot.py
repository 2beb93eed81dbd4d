# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Time the real lerobot's ``__getitem__``. Runs in .venv-lerobot, driven by bench_load.py.

    lerobot-python load_lerobot.py DATASET LENGTH

Each line on standard input holds row numbers; the answer is the seconds that reading them took.
"""

from __future__ import annotations

import json
from pathlib import Path
import sys
import time

import lerobot_ready  # noqa: F401
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: I100


def main() -> None:
    """Answer until standard input ends."""
    path, length = Path(sys.argv[1]), int(sys.argv[2])
    info = json.loads((path / 'meta' / 'info.json').read_text())
    cameras = [name for name, feature in info['features'].items() if feature['dtype'] == 'video']
    offsets = [step / info['fps'] for step in range(length)]
    dataset = LeRobotDataset('local/bench', root=path, delta_timestamps=dict.fromkeys(
        (*cameras, 'action'), offsets))
    dataset[0]
    print('ready', flush=True)
    for line in sys.stdin:
        rows = [int(word) for word in line.split()]
        began = time.perf_counter()
        for row in rows:
            dataset[row]
        print(time.perf_counter() - began, flush=True)


if __name__ == '__main__':
    main()
