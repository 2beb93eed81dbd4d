# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures decoded on the fly: the ones of the cache bit for bit, with few videos open."""

from __future__ import annotations

import gc
import multiprocessing
import os
from pathlib import Path
import pickle
import shutil
import threading

from hypothesis import given, HealthCheck, settings, strategies as st
import numpy as np
import pytest

from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.cursor import VideoCursor
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.errors import DatasetError
from two_cameras import write_two_cameras

LENGTHS = (6, 8, 5, 7)
ROWS = sum(LENGTHS)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_cameras(tmp_path_factory.mktemp('data') / 'dataset', LENGTHS)


@pytest.fixture(scope='module')
def cache(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> FrameCache:
    return FrameCache.build(dataset, 24, 16, tmp_path_factory.mktemp('cache'))


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(dataset.path, tmp_path / 'dataset')
    return Dataset.open(tmp_path / 'dataset')


def open_files(folder: Path) -> int:
    """Count the descriptors of this process that point below ``folder``."""
    found = 0
    for entry in Path('/proc/self/fd').iterdir():
        try:
            found += str(folder) in os.readlink(entry)
        except OSError:
            continue
    return found


@settings(max_examples=40, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, ROWS - 1), max_size=40), videos=st.integers(1, 9),
       threads=st.integers(1, 3))
def test_any_rows_are_those_of_the_cache_bit_for_bit(
        rows: list[int], videos: int, threads: int, dataset: Dataset, cache: FrameCache) -> None:
    picked = np.array(rows, dtype=np.int64)
    stream = FrameStream(dataset, 24, 16, open_videos=videos, threads=threads)
    for _ in range(2):  # the second time from videos that are open already
        np.testing.assert_array_equal(stream.gather(picked), cache.gather(picked))
        np.testing.assert_array_equal(stream.read('wrist', picked), cache.read('wrist', picked))
    stream.close()


def test_it_reads_like_the_cache(dataset: Dataset, cache: FrameCache) -> None:
    stream = FrameStream(dataset, 24, 16)
    assert (stream.shape, stream.camera_names, stream.lengths) == (
        cache.shape, cache.camera_names, cache.lengths)
    for camera in dataset.camera_names:
        np.testing.assert_array_equal(stream.frames(camera), cache.frames(camera))
    np.testing.assert_array_equal(
        stream.frames('front')[4:20:3], cache.frames('front')[4:20:3])
    with pytest.raises(DatasetError, match="did you mean 'wrist'"):
        stream.frames('wirst')
    with pytest.raises(DatasetError, match='there is no row 26'):
        stream.read('front', np.array([26]))
    with pytest.raises(DatasetError, match='open_videos is 0, must be at least 1'):
        FrameStream(dataset, 24, 16, open_videos=0)


def test_few_videos_are_open_at_a_time(dataset: Dataset) -> None:
    gc.collect()  # streams of other tests that nobody has thrown away yet
    before = open_files(dataset.path)
    stream = FrameStream(dataset, 24, 16, open_videos=3, threads=2)
    stream.gather(np.arange(ROWS))
    assert open_files(dataset.path) == before + 3
    stream.close()
    assert open_files(dataset.path) == before
    assert stream.read('front', np.array([3])).shape == (1, 24, 16, 3)


@pytest.mark.parametrize('order', [
    [0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [0, 7, 1, 6, 6, 2], [5], [4, 5, 0]])
def test_a_cursor_finds_every_picture_in_any_order(order: list[int], dataset: Dataset) -> None:
    path = dataset.video('front', 1)
    every = [frame for _, frame in decode_video(path)]
    cursor = VideoCursor(path, 8, 20, (48, 64))
    for number, frame in zip(order, cursor.read(order), strict=True):
        np.testing.assert_array_equal(frame, every[number])
    cursor.close()


def test_a_cursor_decodes_no_more_than_a_group_of_pictures(
        dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset.video('front', 1)
    cursor = VideoCursor(path, 8, 20, (48, 64))
    seeks: list[int] = []
    monkeypatch.setattr(cursor, '_seek', lambda number, seek=cursor._seek: (
        seeks.append(number), seek(number)))
    list(cursor.read([0, 1, 2, 3, 4]))
    assert not seeks, 'what comes next is decoded, not sought'
    list(cursor.read([7]))
    assert seeks == [7]
    list(cursor.read([2]))
    assert seeks == [7, 2]
    assert cursor._next == 3
    cursor.close()


def test_threads_may_read_at_once(dataset: Dataset, cache: FrameCache) -> None:
    stream = FrameStream(dataset, 24, 16, open_videos=2, threads=2)
    wrong: list[int] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            rows = rng.integers(0, ROWS, 6)
            if not np.array_equal(stream.gather(rows), cache.gather(rows)):
                wrong.append(seed)
    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60.0)
    assert not wrong
    stream.close()


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_other_processes_read_with_videos_of_their_own(
        method: str, dataset: Dataset, cache: FrameCache) -> None:
    stream = FrameStream(dataset, 24, 16, threads=1)
    stream.gather(np.arange(ROWS))  # so that videos are open before the fork
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        sums = pool.starmap(add_up, [(stream, seed) for seed in range(4)])
    wanted = [int(cache.gather(np.random.default_rng(seed).integers(0, ROWS, 50)).sum())
              for seed in range(4)]
    assert sums == wanted
    rows = np.arange(ROWS)[::-1]
    np.testing.assert_array_equal(stream.gather(rows), cache.gather(rows))
    stream.close()


def add_up(stream: FrameStream, seed: int) -> int:
    rows = np.random.default_rng(seed).integers(0, ROWS, 50)
    return sum(int(stream.gather(rows[at:at + 5]).sum()) for at in range(0, 50, 5))


def test_a_stream_is_sent_without_its_videos(dataset: Dataset) -> None:
    stream = FrameStream(dataset, 24, 16)
    stream.gather(np.arange(ROWS))
    again = pickle.loads(pickle.dumps(stream))  # noqa: S301
    np.testing.assert_array_equal(again.gather(np.arange(9)), stream.gather(np.arange(9)))


def test_a_missing_video_is_named(copy: Dataset) -> None:
    copy.video('wrist', 1).unlink()
    stream = FrameStream(copy, 24, 16, threads=2)
    stream.gather(np.arange(6))
    with pytest.raises(DatasetError, match=r'wrist.*file-001\.mp4: the video is missing'):
        stream.gather(np.arange(ROWS))


@pytest.mark.parametrize(('damage', 'reason'), [
    ('cut', 'the video does not decode|there is no picture|header is cut off'),
    ('other', 'the video has 6 pictures, its episode 8 rows'),
    ('text', 'the video does not decode')])
def test_a_broken_video_is_named(damage: str, reason: str, copy: Dataset) -> None:
    path = copy.video('front', 1)
    if damage == 'cut':
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == 'other':
        shutil.copy(copy.video('front', 0), path)
    else:
        path.write_bytes(b'no video')
    with pytest.raises(DatasetError, match=f'{path}: .*({reason})'):
        FrameStream(copy, 24, 16).read('front', np.array([7]))


def test_a_video_of_another_size_is_named(dataset: Dataset) -> None:
    cursor = VideoCursor(dataset.video('front', 1), 8, 20, (64, 48))
    with pytest.raises(DatasetError, match='picture 3 is 48x64, the dataset says 64x48'):
        list(cursor.read([3]))
    cursor.close()


def test_a_video_of_another_rate_is_named(dataset: Dataset) -> None:
    cursor = VideoCursor(dataset.video('front', 1), 8, 30, (48, 64))
    with pytest.raises(DatasetError, match=r'picture \d is at 0\.\d+ s, must be at'):
        list(cursor.read([5]))
    cursor.close()
