# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The frame cache: the same pictures, made once, never half, shared by processes and datasets."""

from __future__ import annotations

from collections.abc import Iterator
import multiprocessing
import os
from pathlib import Path
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

from ssl_vla_ros.dataset import decoding
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.cache_files import CacheFile
from ssl_vla_ros.dataset.decoding import decode_all, DecodeJob
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize
from two_cameras import add_episode, two_camera_contract, write_two_cameras

LENGTHS = (6, 8, 5)


@pytest.fixture(scope='module')
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_two_cameras(tmp_path_factory.mktemp('data') / 'dataset', LENGTHS)


@pytest.fixture
def copy(dataset: Dataset, tmp_path: Path) -> Dataset:
    """Give a copy of the dataset that a test may break."""
    shutil.copytree(dataset.path, tmp_path / 'dataset')
    return Dataset.open(tmp_path / 'dataset')


def expected(dataset: Dataset, camera: str, height: int, width: int) -> np.ndarray:
    return np.stack([resize(frame, height, width) for episode in range(dataset.num_episodes)
                     for frame in dataset.frames(camera, episode)])


def files(cache: FrameCache) -> list[Path]:
    return sorted(cache.path.glob('*/*'))


def test_the_cache_holds_every_picture_resized(dataset: Dataset, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    cache = FrameCache.build(dataset, 16, 24, tmp_path / 'cache',
                             lambda done, total, what: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]
    for camera in dataset.camera_names:
        wanted = expected(dataset, camera, 16, 24)
        frames = cache.frames(camera)
        np.testing.assert_array_equal(frames, wanted)
        assert (len(frames), frames.shape) == (19, wanted.shape)
        np.testing.assert_array_equal(frames[7], wanted[7])
        np.testing.assert_array_equal(frames[3:17:4], wanted[3:17:4])
        assert len(list(frames)) == 19
    both = cache.gather(np.array([[0, 18], [5, 6]]))
    assert both.shape == (2, 2, 2, 16, 24, 3)
    np.testing.assert_array_equal(both[1, 1, 1], expected(dataset, 'wrist', 16, 24)[6])
    with pytest.raises(TypeError, match='rows are float64'):
        cache.frames('front')[np.zeros(2)]


@pytest.mark.parametrize('rows', [
    [13, 0, 7], [5, 5, 5, 6], [0, 2, 4, 6, 8], [18, 17, 16], [5, 6, 7], [], list(range(19))])
def test_any_rows_in_any_order_are_read(
        rows: list[int], dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    picked = np.array(rows, dtype=np.int64)
    np.testing.assert_array_equal(
        cache.read('front', picked), expected(dataset, 'front', 16, 24)[picked])


@pytest.mark.parametrize('row', [-1, 19])
def test_a_row_outside_the_dataset_is_an_error(
        row: int, dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    with pytest.raises(DatasetError, match=f'there is no row {row}; the dataset has rows 0 to 18'):
        cache.read('front', np.array([3, row]))


def test_an_unknown_camera_gets_a_suggestion(dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    with pytest.raises(DatasetError, match="did you mean 'wrist'"):
        cache.frames('wirst')
    with pytest.raises(DatasetError, match='pictures of 0x24 pixels'):
        FrameCache.build(dataset, 0, 24, tmp_path)


def test_a_second_build_reads_no_video_and_writes_nothing(copy: Dataset, tmp_path: Path) -> None:
    first = FrameCache.build(copy, 16, 24, tmp_path / 'cache')
    shutil.rmtree(copy.path / 'videos')
    before = {path: path.stat().st_mtime_ns for path in files(first)}
    again = FrameCache.build(copy, 16, 24, tmp_path / 'cache')
    assert again.frames('front')[:].shape == (19, 16, 24, 3)
    assert {path: path.stat().st_mtime_ns for path in files(again)} == before
    with pytest.raises(DatasetError, match='the video is missing'):
        FrameCache.build(copy, 8, 8, tmp_path / 'cache')


def test_a_dataset_that_grew_decodes_its_new_episodes_alone(tmp_path: Path) -> None:
    small = write_two_cameras(tmp_path / 'small', LENGTHS)
    FrameCache.build(small, 16, 24, tmp_path / 'cache')
    grown = write_two_cameras(tmp_path / 'grown', (*LENGTHS, 4))
    for camera in grown.camera_names:
        for episode in range(3):
            grown.video(camera, episode).unlink()
    told: list[int] = []
    cache = FrameCache.build(grown, 16, 24, tmp_path / 'cache',
                             lambda done, total, what: told.append(done))
    assert told == [7, 8]
    np.testing.assert_array_equal(
        cache.frames('front')[:19], expected(small, 'front', 16, 24))


def test_an_episode_that_is_there_twice_is_decoded_once(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path / 'twins', two_camera_contract(), 20)
    for _ in range(2):
        add_episode(writer, 6, 0)
    writer.finish()
    twins = Dataset.open(tmp_path / 'twins')
    cache = FrameCache.build(twins, 16, 24, tmp_path / 'cache')
    assert len(files(cache)) == 2
    np.testing.assert_array_equal(cache.frames('front')[:6], cache.frames('front')[6:])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_was_ended_goes_on_where_it_was(
        number: signal.Signals, dataset: Dataset, tmp_path: Path) -> None:
    code = (
        'import os, signal, sys, time\n'
        'from pathlib import Path\n'
        'from ssl_vla_ros.dataset import decoding\n'
        'from ssl_vla_ros.dataset.cache import FrameCache\n'
        'from ssl_vla_ros.dataset.lerobot_v3 import Dataset\n'
        'decode, begun = decoding.decode_video, []\n'
        'def slowly(path):\n'
        '    begun.append(path)\n'
        '    time.sleep(1.0 if len(begun) > 3 else 0.0)\n'  # the end comes before these
        '    return decode(path)\n'
        'decoding.decode_video = slowly\n'
        'def stop(done, total, what):\n'
        f'    if done == 3: os.kill(os.getpid(), {int(number)})\n'
        'FrameCache.build(Dataset.open(sys.argv[1]), 16, 24, Path(sys.argv[2]), stop, threads=1)')
    done = subprocess.run(
        [sys.executable, '-c', code, dataset.path, tmp_path / 'cache'], capture_output=True,
        timeout=60, check=False)
    assert done.returncode == (-number if number == signal.SIGKILL else -signal.SIGINT)
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / 'cache').glob('*/*/*.npy')}
    assert 3 <= len(finished) < 6
    cache = FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
    assert len(files(cache)) == 6, 'nothing half-finished stays'
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    np.testing.assert_array_equal(cache.frames('wrist'), expected(dataset, 'wrist', 16, 24))
    cache.verify()


def test_a_failing_video_ends_the_build_and_keeps_what_is_finished(
        copy: Dataset, tmp_path: Path) -> None:
    video = copy.video('wrist', 2)
    video.write_bytes(b'no video')
    with pytest.raises(DatasetError, match='the video does not decode'):
        FrameCache.build(copy, 16, 24, tmp_path / 'cache', threads=1)
    assert len(list((tmp_path / 'cache').glob('*/*/*.npy'))) == 5
    assert not list((tmp_path / 'cache').rglob('.*.part'))


def test_a_video_of_another_episode_is_refused(copy: Dataset, tmp_path: Path) -> None:
    shutil.copy(copy.video('front', 1), copy.video('front', 0))
    with pytest.raises(DatasetError, match='the video has 8 pictures, its episode 6 rows'):
        FrameCache.build(copy, 16, 24, tmp_path / 'cache')


def test_a_second_process_waits_and_takes_what_the_first_made(
        copy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    go_on = threading.Event()
    found: list[FrameCache] = []
    decode, begun = decoding.decode_video, []

    def held(path: Path) -> Any:
        begun.append(path)
        assert len(begun) < 4 or go_on.wait(20.0)
        return decode(path)

    monkeypatch.setattr(decoding, 'decode_video', held)
    first = threading.Thread(target=FrameCache.build, args=(
        copy, 16, 24, tmp_path / 'cache', lambda done, total, what: told.set()))
    first.start()
    assert told.wait(20.0)
    waiting = threading.Event()
    second = threading.Thread(target=lambda: found.append(FrameCache.build(
        copy, 16, 24, tmp_path / 'cache',
        lambda done, total, what: waiting.set() if 'waiting for another' in what else None)))
    second.start()
    assert waiting.wait(20.0)
    time.sleep(0.1)
    assert not found
    go_on.set()
    first.join(20.0)
    second.join(20.0)
    np.testing.assert_array_equal(found[0].frames('front'), expected(copy, 'front', 16, 24))


def test_processes_that_build_at_once_all_get_it(dataset: Dataset, tmp_path: Path) -> None:
    context = multiprocessing.get_context('spawn')
    with context.Pool(3) as pool:
        sums = pool.starmap(build_and_add, [(dataset.path, tmp_path)] * 3)
    assert sums == [int(expected(dataset, 'front', 16, 24).sum())] * 3


def build_and_add(path: Path, directory: Path) -> int:
    cache = FrameCache.build(Dataset.open(path), 16, 24, directory)
    return int(cache.frames('front')[:].sum())


@pytest.mark.filterwarnings('error')
def test_a_cut_off_file_is_told_and_made_again(dataset: Dataset, tmp_path: Path) -> None:
    path = files(FrameCache.build(dataset, 16, 24, tmp_path))[2]
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=rf'{path}: has {size - 100} bytes, must have {size}: it '
                                         'is made again'):
        again = FrameCache.build(dataset, 16, 24, tmp_path)
    np.testing.assert_array_equal(again.frames('front'), expected(dataset, 'front', 16, 24))


@pytest.mark.parametrize(('damage', 'reason'), [
    (lambda data: data[:-100], 'bytes, must have'),
    (lambda data: data.replace(b'16, 24', b'24, 16'), 'holds no pictures of shape'),
    (lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], 'were changed after'),
    (lambda data: b'', 'has 0 bytes')])
def test_a_damaged_file_is_named(
        damage: object, reason: str, dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    path = files(cache)[0]
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(DatasetError, match=f'{path.name}: .*{reason}.*; remove this file'):
        cache.verify()
    path.unlink()
    with pytest.raises(DatasetError, match='cannot read it'):
        cache.frames('front')[:]


def test_numpy_opens_the_files(dataset: Dataset, tmp_path: Path) -> None:
    shapes = sorted(np.load(path, allow_pickle=False).shape for path in files(
        FrameCache.build(dataset, 16, 24, tmp_path)))
    assert shapes == [(rows, 16, 24, 3) for rows in (5, 5, 6, 6, 8, 8)]


def test_who_reads_is_not_disturbed_by_who_cleans_up(dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    first = cache.frames('front')[:]
    shutil.rmtree(tmp_path / '16x24.1')
    np.testing.assert_array_equal(cache.frames('front'), first)


def test_a_cache_is_sent_to_processes_without_its_pictures(
        dataset: Dataset, tmp_path: Path) -> None:
    cache = FrameCache.build(dataset, 16, 24, tmp_path)
    before = len(pickle.dumps(cache))
    frames = cache.frames('front')[:]
    assert len(pickle.dumps(cache)) == before
    again = pickle.loads(pickle.dumps(cache))  # noqa: S301
    np.testing.assert_array_equal(again.frames('front'), frames)


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the disk seem to have 100 MB free."""
    usage = shutil.disk_usage('/')
    monkeypatch.setattr(shutil, 'disk_usage',
                        lambda path: usage._replace(free=100_000_000))
    yield


@pytest.mark.usefixtures('small_disk')
def test_too_little_space_is_said_before_anything_is_written(
        dataset: Dataset, tmp_path: Path) -> None:
    FrameCache.build(dataset, 16, 24, tmp_path)
    with pytest.raises(DatasetError, match=r'needs 114 MB, the disk has 100 MB free; .*'
                                           'pictures=stream'):
        FrameCache.build(dataset, 1000, 1000, tmp_path)
    assert not list((tmp_path / '1000x1000.1').iterdir())
    (tmp_path / '1000x1000.1' / 'front').mkdir()
    (tmp_path / '1000x1000.1' / 'front' / 'old.npy').write_bytes(b'0' * 3_000_000)
    with pytest.raises(DatasetError, match='3 MB in .* belong to episodes that this dataset'):
        FrameCache.build(dataset, 1000, 1000, tmp_path)


def test_a_disk_that_is_full_meanwhile_is_said(dataset: Dataset, tmp_path: Path) -> None:
    file = CacheFile(tmp_path / 'a.npy', (6, 16, 24, 3))
    (tmp_path / '.a.npy.part').symlink_to('/dev/full')
    job = DecodeJob(dataset.video('front', 0), file, (48, 64), 'front')
    with pytest.raises(DatasetError, match=f'{tmp_path}: the disk is full; free some space'):
        decode_all([job], 1, tmp_path, lambda done, what: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_directory_that_cannot_be_written_is_said(dataset: Dataset, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DatasetError, match='cannot write here'):
        FrameCache.build(dataset, 16, 24, tmp_path / 'cache')


def test_a_file_where_the_directory_should_be_is_said(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / 'cache').write_text('')
    with pytest.raises(DatasetError, match='cache/16x24.1: cannot write here: Not a directory'):
        FrameCache.build(dataset, 16, 24, tmp_path / 'cache')
