# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the real lerobot finds in a dataset. Runs in .venv-lerobot; judges nothing.

    lerobot-python lerobot_side.py read DATASET OUT
    lerobot-python lerobot_side.py clips DATASET OUT CAMERA LENGTH STRIDE
    lerobot-python lerobot_side.py append DATASET ROWS TASK
"""

from __future__ import annotations

import json
from pathlib import Path
import sys
from typing import Any

import lerobot_ready  # noqa: F401
from lerobot.datasets.lerobot_dataset import LeRobotDataset  # noqa: I100
import numpy as np

#: What lerobot's writer fills in by itself.
_OWN = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')


def as_uint8(picture: Any) -> np.ndarray:
    """Turn lerobot's (…, 3, H, W) float in 0 to 1 back to (…, H, W, 3) uint8."""
    values = (picture * 255.0).round().to('cpu').numpy().astype(np.uint8)
    return np.moveaxis(values, -3, -1)


def read(path: Path, out: Path) -> None:
    """Write every picture and value that ``__getitem__`` gives, and what the metadata says."""
    dataset = LeRobotDataset('local/dataset', root=path)
    items = [dataset[index] for index in range(len(dataset))]
    for camera in dataset.meta.video_keys:
        np.save(out / f'{camera}.npy', np.stack([as_uint8(item[camera]) for item in items]))
    columns = [name for name in items[0] if name not in (*dataset.meta.video_keys, 'task')]
    np.savez(out / 'columns.npz', **{
        name: np.stack([item[name].numpy() for item in items]) for name in columns})
    episodes = dataset.meta.episodes
    facts = {
        'frames': len(dataset), 'episodes': dataset.num_episodes, 'fps': dataset.fps,
        'features': sorted(dataset.features), 'tasks': [item['task'] for item in items],
        'ranges': [[int(episode['dataset_from_index']), int(episode['dataset_to_index'])]
                   for episode in episodes],
        'episode_tasks': [list(episode['tasks']) for episode in episodes],
        'stats': {name: {key: np.asarray(value).tolist() for key, value in entry.items()}
                  for name, entry in dataset.meta.stats.items()}}
    (out / 'facts.json').write_text(json.dumps(facts))


def clips(path: Path, out: Path, camera: str, length: int, stride: int) -> None:
    """Write the clip that begins at each row, and which of its rows are padding."""
    fps = json.loads((path / 'meta' / 'info.json').read_text())['fps']
    dataset = LeRobotDataset('local/dataset', root=path, delta_timestamps={
        camera: [stride * step / fps for step in range(length)]})
    items = [dataset[index] for index in range(len(dataset))]
    np.savez(out / 'clips.npz', images=np.stack([as_uint8(item[camera]) for item in items]),
             padded=np.stack([item[f'{camera}_is_pad'].numpy() for item in items]))


def append(path: Path, rows: int, task: str) -> None:
    """Record one more episode into the dataset, as lerobot goes on with one of its own."""
    dataset = LeRobotDataset('local/dataset', root=path, vcodec='h264')
    for row in range(rows):
        frame: dict[str, Any] = {'task': task}
        for name, feature in dataset.features.items():
            if name in _OWN:
                continue
            video = feature['dtype'] == 'video'
            kind = np.uint8 if video else np.dtype(feature['dtype'])
            frame[name] = np.full(tuple(feature['shape']), 20 + row if video else row % 2, kind)
        dataset.add_frame(frame)
    dataset.save_episode()
    dataset.finalize()


def main() -> None:
    """Do what the command line says."""
    verb, path, *rest = sys.argv[1:]
    if verb == 'read':
        read(Path(path), Path(rest[0]))
    elif verb == 'clips':
        clips(Path(path), Path(rest[0]), rest[1], int(rest[2]), int(rest[3]))
    elif verb == 'append':
        append(Path(path), int(rest[0]), rest[1])
    else:
        raise SystemExit(f'unknown verb {verb}')


if __name__ == '__main__':
    main()
