# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The frame cache: the same pictures, made once, never half."""

from __future__ import annotations

from pathlib import Path
import shutil
import threading
import time

from dataset_episodes import Recording
import numpy as np
import pytest

from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.files import building, part_of
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    for ticks in (6, 8):
        Recording.regular(ticks).write(tmp_path / 'session')
    build_dataset(tmp_path / 'session', tmp_path / 'dataset')
    return Dataset.open(tmp_path / 'dataset')


def test_the_cache_holds_every_picture_resized(dataset: Dataset, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cache = FrameCache.build(dataset, 16, 24, tmp_path / 'cache',
                             lambda done, total, what: told.append((done, total)))
    assert told[-1] == (4, 4)
    for camera in dataset.camera_names:
        expected = np.stack([
            resize(frame, 16, 24)
            for episode in range(2) for frame in dataset.frames(camera, episode)])
        np.testing.assert_array_equal(cache.frames(camera), expected)
        rows = np.array([13, 0, 7])
        np.testing.assert_array_equal(cache.read(camera, rows), expected[rows])
    assert not cache.frames('front').flags.writeable


def test_a_second_build_reads_no_video(dataset: Dataset, tmp_path: Path) -> None:
    first = FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    shutil.rmtree(dataset.path / 'videos')
    again = FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    assert again.path == first.path
    assert again.frames('front').shape == (14, 16, 24, 3)
    with pytest.raises(DatasetError, match='the video is missing'):
        FrameCache.build(dataset, 8, 8, tmp_path / 'cache')


def test_an_interrupted_build_leaves_no_cache_and_the_next_one_works(
        dataset: Dataset, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        FrameCache.build(dataset, 16, 24, tmp_path / 'cache', stop)
    assert [path.suffix for path in (tmp_path / 'cache').iterdir()] == ['.part']
    FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    assert len(list((tmp_path / 'cache').iterdir())) == 1


def test_a_second_process_waits_and_takes_what_the_first_made(
        dataset: Dataset, tmp_path: Path) -> None:
    target = FrameCache.build(dataset, 16, 24, tmp_path / 'cache').path
    moved = tmp_path / 'moved'
    target.rename(moved)
    waiting = threading.Event()
    found: list[FrameCache] = []

    def other() -> None:
        found.append(FrameCache.build(
            dataset, 16, 24, tmp_path / 'cache',
            lambda done, total, what: waiting.set() if 'waiting' in what else None))

    with building(target, ()) as part:
        thread = threading.Thread(target=other)
        thread.start()
        assert waiting.wait(10.0)
        time.sleep(0.1)
        assert not found
        shutil.rmtree(dataset.path / 'videos')
        moved.rename(target)
        part.rmdir()
    thread.join(10.0)
    assert found[0].path == target
    assert not part_of(target).exists()


def test_a_cut_off_cache_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    path = cache.path / 'front.npy'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match='built again'):
        FrameCache.build(dataset, 16, 24, tmp_path / 'cache').frames('front')


def test_too_little_space_is_said_before_anything_is_written(
        dataset: Dataset, tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    side = int((free / dataset.num_rows / 2 / 3) ** 0.5) + 64
    with pytest.raises(DatasetError, match=r'needs \d+ MB, the disk has'):
        FrameCache.build(dataset, side, side, tmp_path / 'cache')


def test_an_unknown_camera_gets_a_suggestion(dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    with pytest.raises(DatasetError, match="did you mean 'wrist'"):
        cache.frames('wirst')
