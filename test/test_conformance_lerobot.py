# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Our datasets in the hands of the real lerobot: every picture, every value, every episode.

lerobot lies in .venv-lerobot (``make test-conformance`` makes it); without it these tests skip.

What a picture may differ by. Each carries its camera, episode and frame as black and white
squares, which are read from what lerobot decoded: that is exact, and no tolerance hides a shifted
row. The rest is H.264 at CRF 14. Brightness may be off by 1.5 of 255 grey levels on average over
a picture (measured: 0.91 through lerobot, whose FFmpeg truncates, 0.35 through our decoder, which
rounds); a colour by 3 (measured: 2.3), because colour is stored at half the resolution (4:2:0) and
bleeds at the edges of the red square. Both decoders see the same Y, Cb and Cr, so their pictures
differ by that rounding alone: 4 levels at most anywhere, measured 3.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.clips import Clips
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from two_cameras import CAMERAS, code_of, draw, HEIGHT, read_code, WIDTH, write_two_cameras

VENV = Path(__file__).parents[1] / '.venv-lerobot'
SIDE = Path(__file__).parent / 'conformance' / 'lerobot_side.py'
LENGTHS = (110, 102, 105, 101)
TASKS = ('move the square', 'put it back')
#: Grey levels of 255; see above.
BRIGHTNESS_MEAN, COLOUR_MEAN, DECODER_MOST = 1.5, 3.0, 4

pytestmark = pytest.mark.skipif(
    not (VENV / '.installed').is_file(),
    reason='lerobot is not installed: run `make test-conformance` (1.6 GB in .venv-lerobot)')


def lerobot(*words: object) -> None:
    """Run the other side; its output is the message of a failure."""
    done = subprocess.run(
        [VENV / 'bin' / 'lerobot-python', SIDE, *map(str, words)], capture_output=True,
        text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_cameras(tmp_path_factory.mktemp('data') / 'dataset', LENGTHS, tasks=TASKS)


@pytest.fixture(scope='module')
def seen(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that lerobot's loader gives of the dataset."""
    out = tmp_path_factory.mktemp('seen')
    lerobot('read', dataset.path, out)
    with np.load(out / 'columns.npz', allow_pickle=False) as columns:
        return {
            'pictures': {camera: np.load(out / f'observation.images.{camera}.npy',
                                         allow_pickle=False) for camera in CAMERAS},
            'columns': dict(columns), **json.loads((out / 'facts.json').read_text())}


def places() -> list[tuple[int, int]]:
    """Episode and frame of each row."""
    return [(episode, frame) for episode, rows in enumerate(LENGTHS) for frame in range(rows)]


def test_every_picture_is_the_one_of_its_row(seen: dict[str, Any]) -> None:
    for camera, name in enumerate(CAMERAS):
        found = [read_code(picture) for picture in seen['pictures'][name]]
        assert found == [code_of(camera, episode, frame) for episode, frame in places()]


def test_every_picture_looks_like_its_source(seen: dict[str, Any]) -> None:
    for camera, name in enumerate(CAMERAS):
        pictures = seen['pictures'][name]
        assert pictures.shape == (sum(LENGTHS), HEIGHT, WIDTH, 3)
        source = np.stack([draw(camera, *place) for place in places()])
        off = pictures.astype(np.float64) - source
        assert np.abs(off @ (0.299, 0.587, 0.114)).mean(axis=(1, 2)).max() < BRIGHTNESS_MEAN
        assert np.abs(off).mean(axis=(1, 2)).max() < COLOUR_MEAN


def test_both_decoders_agree(dataset: Dataset, seen: dict[str, Any]) -> None:
    for name in CAMERAS:
        ours = np.concatenate([dataset.frames(name, episode) for episode in range(len(LENGTHS))])
        off = np.abs(seen['pictures'][name].astype(np.int16) - ours)
        assert off.max() <= DECODER_MOST


def test_a_shifted_video_would_be_seen(dataset: Dataset, tmp_path: Path) -> None:
    """The comparison above can fail: with another episode's video it does."""
    shutil.copytree(dataset.path, tmp_path / 'dataset')
    broken = Dataset.open(tmp_path / 'dataset')
    shutil.copy(broken.video('front', 0), broken.video('front', 1))
    lerobot('read', broken.path, tmp_path)
    pictures = np.load(tmp_path / 'observation.images.front.npy', allow_pickle=False)
    found = [read_code(picture) for picture in pictures[110:212]]
    assert found == [code_of(0, 0, frame) for frame in range(102)]


def test_every_value_is_the_one_of_its_row(dataset: Dataset, seen: dict[str, Any]) -> None:
    assert set(seen['columns']) == set(dataset.column_names)
    for name in dataset.column_names:
        ours = dataset.column(name)
        np.testing.assert_array_equal(seen['columns'][name].reshape(ours.shape), ours, name)


def test_tasks_and_episodes_are_ours(dataset: Dataset, seen: dict[str, Any]) -> None:
    ends = np.cumsum(LENGTHS).tolist()
    assert seen['ranges'] == [[end - rows, end] for end, rows in zip(ends, LENGTHS, strict=True)]
    assert seen['episode_tasks'] == [[task] for task in dataset.episode_tasks]
    assert seen['tasks'] == [dataset.episode_tasks[episode] for episode, _ in places()]
    assert (seen['frames'], seen['episodes'], seen['fps']) == (sum(LENGTHS), len(LENGTHS), 20)
    assert {f'observation.images.{name}' for name in CAMERAS} < set(seen['features'])


def test_statistics_are_those_of_all_rows_and_pictures(
        dataset: Dataset, seen: dict[str, Any]) -> None:
    stats = seen['stats']
    for name in ('observation.state', 'action'):
        values = dataset.column(name).astype(np.float64)
        for key, wanted in {
                'min': values.min(0), 'max': values.max(0), 'mean': values.mean(0),
                'std': values.std(0), 'q01': np.quantile(values, 0.01, axis=0),
                'q50': np.quantile(values, 0.5, axis=0)}.items():
            np.testing.assert_allclose(stats[name][key], wanted, rtol=1e-5, atol=1e-6)
    for camera in CAMERAS:
        pixels = np.concatenate([dataset.frames(camera, episode)
                                 for episode in range(len(LENGTHS))]).reshape(-1, 3) / 255.0
        entry = stats[f'observation.images.{camera}']
        for key, wanted in {'mean': pixels.mean(0), 'std': pixels.std(0), 'min': pixels.min(0),
                            'max': pixels.max(0), 'q99': np.quantile(pixels, 0.99, axis=0)
                            }.items():
            assert np.shape(entry[key]) == (3, 1, 1)
            np.testing.assert_allclose(np.ravel(entry[key]), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('length', 'stride'), [(4, 1), (3, 5)])
def test_clips_and_their_padding_are_those_of_lerobot(
        length: int, stride: int, dataset: Dataset, tmp_path: Path) -> None:
    lerobot('clips', dataset.path, tmp_path, 'observation.images.wrist', length, stride)
    with np.load(tmp_path / 'clips.npz', allow_pickle=False) as theirs:
        images, padded = theirs['images'], theirs['padded']
    cache = FrameCache.build(dataset, HEIGHT, WIDTH, tmp_path / 'cache')
    clips = Clips(cache, length=length, stride=stride, padding='repeat', cameras=['wrist'])
    ours = clips.read(np.arange(len(clips)))
    np.testing.assert_array_equal(ours.valid, ~padded)
    off = np.abs(ours.images[:, :, 0].astype(np.int16) - images)
    assert off.max() <= DECODER_MOST


def test_lerobot_s_own_writer_goes_on_with_ours(dataset: Dataset, tmp_path: Path) -> None:
    grown = tmp_path / 'grown'
    shutil.copytree(dataset.path, grown)
    lerobot('append', grown, 12, 'something new')
    (tmp_path / 'seen').mkdir()
    lerobot('read', grown, tmp_path / 'seen')
    facts = json.loads((tmp_path / 'seen' / 'facts.json').read_text())
    rows = sum(LENGTHS)
    assert facts['ranges'][-1] == [rows, rows + 12]
    assert facts['tasks'] == [dataset.episode_tasks[episode] for episode, _ in places()
                              ] + ['something new'] * 12
    for camera, name in enumerate(CAMERAS):
        pictures = np.load(tmp_path / 'seen' / f'observation.images.{name}.npy',
                           allow_pickle=False)
        assert [read_code(picture) for picture in pictures[:rows]] == [
            code_of(camera, *place) for place in places()]
        assert np.abs(pictures[rows + 5].astype(int) - 25).max() <= 4
    with np.load(tmp_path / 'seen' / 'columns.npz', allow_pickle=False) as columns:
        np.testing.assert_array_equal(columns['action'][:rows], dataset.column('action'))


def test_the_doctor_finds_nothing(dataset: Dataset) -> None:
    done = subprocess.run(
        [VENV / 'bin' / 'lerobot-doctor', 'check', dataset.path, '--json'], capture_output=True,
        text=True, timeout=300, check=False, env={**os.environ, 'PYTHONPATH': ''})
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    messages = [(message['severity'], message['message'])
                for check in report['checks'] for message in check['messages']]
    assert (report['total_episodes'], report['total_frames']) == (len(LENGTHS), sum(LENGTHS))
    assert len(messages) > 10
    assert [text for severity, text in messages if severity != 'PASS'] == []


def test_the_doctor_finds_what_is_broken(dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / 'dataset')
    Dataset.open(tmp_path / 'dataset').video('wrist', 2).unlink()
    done = subprocess.run(
        [VENV / 'bin' / 'lerobot-doctor', 'check', tmp_path / 'dataset', '--json'],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, 'PYTHONPATH': ''})
    report = json.loads(done.stdout)
    assert any(message['severity'] != 'PASS' and 'wrist' in message['message']
               for check in report['checks'] for message in check['messages'])
