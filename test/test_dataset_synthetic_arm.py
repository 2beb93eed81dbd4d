# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Proof of alignment: an arm whose every message says when it was made and where the joint was.

Pictures carry stamp and joint angle as black and white blocks that survive resizing, JPEG and
H.264, with a checksum; commands and poses carry their own stamp. The arm is recorded with
jitter, lost messages, cameras out of phase and streams of other rates, built into a dataset, and
every row of it is read back from video and table: what a row holds must be exactly as far from
its stamp as its skew says.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
import math
from pathlib import Path
import random

import cv2
from dataset_episodes import (
    array_message, image_message, joints_message, MS, pose_message, Recording, START_NS, STORE,
    twist_message, TYPES)
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.video import encode_video, read_frames

SECOND = 10**9
ROWS, COLUMNS, BLOCK = 8, 12, 8
HEIGHT, WIDTH = ROWS * BLOCK, COLUMNS * BLOCK
#: Radians and radians a second: the joint's range and the most it ever moves.
REACH, FASTEST = 4.0, 2.0 * math.pi * 0.6 * 1.4 + 0.2
STEP = 2 * REACH / 65535
MAX_SKEW_S = 0.04


def angle(stamp: int) -> float:
    """Where the joint is at a moment."""
    seconds = (stamp - START_NS) / SECOND
    return 1.4 * math.sin(2.0 * math.pi * 0.6 * seconds) + 0.2 * (seconds % 5.0)


def draw(stamp: int) -> NDArray[np.uint8]:
    """Draw what a camera sees at a moment, at twice the contract's size."""
    code = round((angle(stamp) + REACH) / STEP)
    body = stamp.to_bytes(8, 'big') + code.to_bytes(2, 'big')
    body += binascii.crc_hqx(body, 0).to_bytes(2, 'big')
    bits = np.unpackbits(np.frombuffer(body, np.uint8)).reshape(ROWS, COLUMNS)
    blocks = np.where(bits[..., None], 215, 40).astype(np.uint8).repeat(3, axis=2)
    return blocks.repeat(2 * BLOCK, axis=0).repeat(2 * BLOCK, axis=1)


def read(frame: NDArray[np.uint8]) -> tuple[int, float]:
    """Read stamp and angle from a picture of the dataset; its checksum must be right."""
    grey = frame.astype(float).mean(axis=2).reshape(ROWS, BLOCK, COLUMNS, BLOCK)
    bits = grey[:, 2:-2, :, 2:-2].mean(axis=(1, 3)) > 128
    body = np.packbits(bits).tobytes()
    assert binascii.crc_hqx(body[:10], 0).to_bytes(2, 'big') == body[10:], 'unreadable picture'
    return int.from_bytes(body[:8], 'big'), int.from_bytes(body[8:10], 'big') * STEP - REACH


def jpeg_message(stamp: int) -> bytes:
    content = cv2.imencode('.jpg', draw(stamp)[..., ::-1])[1].reshape(-1)
    header = TYPES['std_msgs/msg/Header'](stamp=TYPES['builtin_interfaces/msg/Time'](
        sec=stamp // SECOND, nanosec=stamp % SECOND), frame_id='')
    return bytes(STORE.serialize_cdr(TYPES['sensor_msgs/msg/CompressedImage'](
        header=header, format='jpeg', data=content), 'sensor_msgs/msg/CompressedImage'))


def seconds_of(stamp: int, start: int) -> float:
    return (stamp - start) / SECOND


def arm_contract() -> Contract:
    size = {'height': HEIGHT, 'width': WIDTH}
    return parse_contract({
        'robot': 'synthetic', 'rate_hz': 20,
        'cameras': {
            'front': {'topic': 'front', 'type': 'sensor_msgs/Image', **size},
            'wrist': {'topic': 'wrist', 'type': 'sensor_msgs/CompressedImage', **size}},
        'state': [{'topic': 'joints', 'type': 'sensor_msgs/JointState', 'names': ['joint']}],
        'action': [{'topic': 'twist', 'type': 'geometry_msgs/TwistStamped',
                    'names': ['linear.x']},
                   {'topic': 'grip', 'type': 'std_msgs/Float64MultiArray', 'names': ['grip']}],
        'evaluation': [{'topic': 'truth', 'type': 'geometry_msgs/PoseStamped',
                        'names': ['position.x']}],
        'sync': {'max_skew_s': MAX_SKEW_S, 'max_flagged_fraction': 0.8}}, 'synthetic')


@dataclass
class Arm:
    """How one episode is recorded: rates in Hz, times in milliseconds."""

    front_hz: float
    wrist_hz: float
    joints_hz: float
    command_hz: float
    wrist_phase_ms: float
    jitter_ms: float
    lost: float
    seed: int
    start: int = START_NS
    seconds: float = 3.0
    truth_from_s: float = field(default=0.0)

    def record(self) -> Recording:
        """Record an episode."""
        chance = random.Random(self.seed)
        recording = Recording(contract=arm_contract())

        def stream(topic: str, rate_hz: float, phase_ms: float,
                   serialize: Callable[[int], bytes], from_s: float = 0.0) -> None:
            last = 0
            for number in range(int((self.seconds - from_s) * rate_hz)):
                stamp = self.start + round((from_s + number / rate_hz) * SECOND + phase_ms * MS)
                stamp += round(chance.uniform(-self.jitter_ms, self.jitter_ms) * MS)
                received = max(stamp + round(chance.uniform(1, 6) * MS), last + 1)
                last = received
                if chance.random() >= self.lost:
                    # Without a header the receive time is the stamp.
                    recording.messages.append((
                        received, topic, serialize(received if topic == 'grip' else stamp)))

        stream('front', self.front_hz, 0.0, lambda stamp: image_message(stamp, draw(stamp)))
        stream('wrist', self.wrist_hz, self.wrist_phase_ms, jpeg_message)
        stream('joints', self.joints_hz, 1.3,
               lambda stamp: joints_message(stamp, [angle(stamp)], ['joint']))
        stream('twist', self.command_hz, 7.0,
               lambda stamp: twist_message(stamp, seconds_of(stamp, self.start)))
        stream('grip', self.command_hz, 11.0,
               lambda stamp: array_message([seconds_of(stamp, self.start)]))
        stream('truth', 50.0, 2.0,
               lambda stamp: pose_message(stamp, seconds_of(stamp, self.start)),
               self.truth_from_s)
        return recording


ARMS = [
    Arm(30, 25, 125, 20, 13.0, jitter_ms=4.0, lost=0.05, seed=1),
    Arm(60, 15, 500, 50, 30.0, jitter_ms=1.0, lost=0.02, seed=2, start=START_NS + 60 * SECOND),
    Arm(20, 30, 60, 19, 24.9, jitter_ms=8.0, lost=0.12, seed=3, start=START_NS + 90 * SECOND,
        truth_from_s=1.0),
    Arm(20, 20, 40, 20, 0.0, jitter_ms=0.0, lost=0.0, seed=4, start=START_NS + 200 * SECOND)]


@pytest.fixture(scope='module')
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a dataset of every arm."""
    folder = tmp_path_factory.mktemp('synthetic')
    for arm in ARMS:
        arm.record().write(folder / 'session')
    report = build_dataset(folder / 'session', folder / 'dataset')
    assert not report.refused, report.refused
    return folder / 'dataset'


def differences(dataset: Dataset) -> tuple[list[str], int]:
    """Hold every row against its skews: a sentence for each that is off, and how many rows."""
    found: list[str] = []
    column = {name: dataset.column(name) for name in dataset.column_names}
    for episode, arm in enumerate(ARMS):
        rows = dataset.rows(episode)
        part = {name: values[rows] for name, values in column.items()}
        length = len(part['stamp_ns'])
        shown = {camera: read_frames(dataset.video(camera, episode), length, HEIGHT, WIDTH)
                 for camera in ('front', 'wrist')}
        for row in range(length):
            tick = int(part['stamp_ns'][row, 0])
            where = f'episode {episode} row {row}'
            state = float(part['observation.state'][row, 0])
            skew = {name.removeprefix('skew.'): float(values[row, 0])
                    for name, values in part.items() if name.startswith('skew.')}
            found += _pictures_off(where, tick, state, skew, {
                camera: frames[row] for camera, frames in shown.items()})
            if abs(state - angle(tick)) > FASTEST * skew['state.joints'] + 1e-6:
                found.append(f'{where}: state is {state}, the joint is at {angle(tick)}')
            numbers = [*part['action'][row].tolist(),
                       *part['observation.evaluation'][row].tolist()]
            for label, number in zip(
                    ('action.twist', 'action.grip', 'evaluation.truth'), numbers, strict=True):
                if label == 'evaluation.truth' and math.isnan(number):
                    if skew[label] <= MAX_SKEW_S:
                        found.append(f'{where}: {label} is missing')
                    continue
                off = abs(number - seconds_of(tick, arm.start))
                if abs(off - skew[label]) > 1e-6:
                    found.append(f'{where}: {label} is {off} s off, its skew says {skew[label]}')
            late = any(value > np.float32(MAX_SKEW_S) for name, value in skew.items()
                       if name != 'evaluation.truth')
            if bool(part['flagged'][row, 0]) != late:
                found.append(f'{where}: flagged is {part["flagged"][row, 0]}')
    return found, dataset.num_rows


def _pictures_off(where: str, tick: int, state: float, skew: dict[str, float],
                  frames: dict[str, NDArray[np.uint8]]) -> list[str]:
    found = []
    for camera, frame in frames.items():
        stamp, shown = read(frame)
        far = abs(stamp - tick) / SECOND
        if abs(far - skew[f'camera.{camera}']) > 1e-7:
            found.append(f'{where}: the picture of {camera} is {far} s off, its skew says '
                         f'{skew[f"camera.{camera}"]}')
        if abs(shown - angle(stamp)) > STEP:
            found.append(f'{where}: {camera} shows {shown}, the joint was at {angle(stamp)}')
        allowed = FASTEST * (far + skew['state.joints']) + STEP
        if abs(shown - state) > allowed:
            found.append(f'{where}: {camera} shows {shown}, the state is {state}')
    return found


def test_every_row_of_the_dataset_is_as_far_off_as_its_skews_say(built: Path) -> None:
    dataset = Dataset.open(built)
    assert dataset.num_episodes == len(ARMS)
    found, rows = differences(dataset)
    assert found == []
    assert rows == sum(dataset.lengths) > 50 * len(ARMS)
    flagged = dataset.column('flagged')[:, 0]
    assert 0 < flagged.sum() < 0.4 * rows, 'lost messages show, and most rows are good'
    assert (np.diff(dataset.column('stamp_ns')[dataset.rows(0), 0]) == SECOND // 20).all()
    skews = dataset.column('skew.camera.wrist')[~flagged]
    assert np.ptp(skews) > 0.02, 'the cameras are out of step'


@pytest.mark.parametrize('camera', ['front', 'wrist'])
def test_a_video_shifted_by_one_picture_is_found(
        built: Path, tmp_path: Path, camera: str) -> None:
    """Negative control: the same comparison fails for every row of the shifted episode."""
    dataset = Dataset.open(built)
    episode, length = 3, dataset.lengths[3]
    path = dataset.video(camera, episode)
    whole = path.read_bytes()
    frames = read_frames(path, length, HEIGHT, WIDTH)
    try:
        path.unlink()  # the build may share the file with others by hard links
        encode_video(path, frames, 20)
        assert differences(dataset)[0] == [], 'encoding a second time changes nothing'
        path.unlink()
        encode_video(path, [frames[0], *frames[:-1]], 20)
        found, _ = differences(dataset)
    finally:
        path.unlink()
        path.write_bytes(whole)
    off = [line for line in found if f'the picture of {camera} is' in line]
    assert len(off) == length - 1, 'all rows but the first, which keeps its picture'
    assert all(line.startswith(f'episode {episode} ') for line in found)


def test_the_synthetic_arm_is_recorded_with_every_fault() -> None:
    """What the proof above rests on: stamps out of step, lost messages, several rates."""
    messages = ARMS[2].record().messages
    stamps = [read(draw(stamp)[::2, ::2])[0] for stamp in (START_NS, START_NS + 123456789)]
    assert stamps == [START_NS, START_NS + 123456789]
    assert 45 <= sum(topic == 'front' for _, topic, _ in messages) < 60
    assert 70 <= sum(topic == 'wrist' for _, topic, _ in messages) < 90
