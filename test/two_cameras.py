# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A dataset of two cameras whose pictures say which they are.

Two rows of black and white squares at the top of each picture hold camera, episode and frame as
bits: H.264 may change a grey level, but no black square to a white one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter

CAMERAS = ('front', 'wrist')
RATE_HZ = 20
HEIGHT, WIDTH = 48, 64
#: Bits of camera, episode and frame, and the side of a square in pixels.
_BITS = (1, 6, 9)
_SQUARE = 8


def two_camera_contract(height: int = HEIGHT, width: int = WIDTH) -> Contract:
    """Two cameras, two joints, an action and a gripper."""
    return parse_contract({
        'robot': 'two_cameras', 'rate_hz': RATE_HZ,
        'cameras': {
            name: {'topic': f'camera/{name}/image_raw', 'type': 'sensor_msgs/Image',
                   'height': height, 'width': width} for name in CAMERAS},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                   'field': 'position', 'names': ['shoulder', 'elbow']}],
        'action': [{'topic': 'twist', 'type': 'geometry_msgs/TwistStamped',
                    'names': ['linear.x', 'linear.y']}]}, 'two_camera_contract')


def code_of(camera: int, episode: int, frame: int) -> int:
    """Return the number that a picture carries."""
    return (camera << _BITS[1] | episode) << _BITS[2] | frame


def read_code(picture: NDArray[np.uint8]) -> int:
    """Read the number from a picture (H, W, 3), decoded from whatever."""
    columns = picture.shape[1] // _SQUARE
    number = 0
    for bit in range(sum(_BITS)):
        top, left = (_SQUARE * (place + 0) for place in divmod(bit, columns))
        inner = picture[top + 2:top + _SQUARE - 2, left + 2:left + _SQUARE - 2]
        number |= int(inner.mean() > 127.5) << bit
    return number


def draw(camera: int, episode: int, frame: int, height: int = HEIGHT, width: int = WIDTH
         ) -> NDArray[np.uint8]:
    """Draw a picture (H, W, 3): the code, a smooth background and a square that moves."""
    y, x = np.mgrid[:height, :width]
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = 60 + 120 * x / width
    picture[..., 1] = 60 + 120 * y / height
    picture[..., 2] = 90 + 40 * camera + (5 * episode) % 50
    columns = width // _SQUARE
    bits = sum(_BITS)
    code = code_of(camera, episode, frame)
    for bit in range(bits):
        top, left = (_SQUARE * place for place in divmod(bit, columns))
        picture[top:top + _SQUARE, left:left + _SQUARE] = 235 if code >> bit & 1 else 16
    begin = _SQUARE * -(-bits // columns)
    room = height - begin - 10
    top = begin + (3 * frame + 7 * episode) % room
    left = (5 * frame + 11 * camera) % (width - 10)
    picture[top:top + 10, left:left + 10] = (230, 60, 40)
    return picture


def episode_columns(rows: int, episode: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """State (rows, 2) and action (rows, 2) of an episode; no two rows are alike."""
    rng = np.random.default_rng(episode)
    time = np.arange(rows) / RATE_HZ + episode
    state = np.stack([np.sin(time), np.cos(0.7 * time)], axis=1)
    action = np.stack([np.cos(time), np.sin(0.7 * time)], axis=1)
    state, action = (values + rng.normal(0.0, 0.02, values.shape) for values in (state, action))
    return state.astype(np.float32), action.astype(np.float32)


def add_episode(writer: DatasetWriter, rows: int, episode: int, task: str = 'move the square'
                ) -> None:
    """Add the episode with the given number, as its pictures carry it."""
    contract = writer.contract
    size = contract.cameras[0].height, contract.cameras[0].width
    state, action = episode_columns(rows, episode)
    rng = np.random.default_rng([episode, 1])
    writer.add_episode(AlignedEpisode(
        ticks_ns=np.arange(rows, dtype=np.int64) * (10**9 // RATE_HZ),
        pictures={name: np.stack([draw(camera, episode, frame, *size) for frame in range(rows)])
                  for camera, name in enumerate(CAMERAS)},
        state=state, action=action, evaluation=np.zeros((rows, 0), np.float32),
        skew_s={label: rng.uniform(0.0, 0.01, rows).astype(np.float32)
                for label, _, _ in stream_labels(contract)},
        flagged=np.arange(rows) % 13 == 5), task, episode % 2 == 0, f'episode {episode}')


def write_two_cameras(out: Path, lengths: Sequence[int], height: int = HEIGHT, width: int = WIDTH,
                      tasks: Sequence[str] = ('move the square',)) -> Dataset:
    """Write a dataset with episodes of the given lengths; tasks take turns."""
    writer = DatasetWriter(out, two_camera_contract(height, width), RATE_HZ)
    for episode, rows in enumerate(lengths):
        add_episode(writer, rows, episode, tasks[episode % len(tasks)])
    writer.finish()
    return Dataset.open(out)
