# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a file or folder is taken for, and what a user is told of one that is nothing."""

from __future__ import annotations

from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess
import sys

from dataset_episodes import Recording
import numpy as np
import pytest

from ssl_vla_ros.dataset.sources import detect
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.detect import open_source
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint, SMALL
from ssl_vla_ros.errors import DatasetError
from video_samples import marked, write_video

DATA = Path(__file__).parents[2] / 'shared' / 'data'
GIVEN = ImportOptions(task='look', rate_hz=10)


def video(path: Path) -> Path:
    return write_video(path, [marked(number) for number in range(3)], [0.0, 0.1, 0.2])


def npz(path: Path) -> Path:
    np.savez(path, states=np.zeros((3, 2)))
    return path


@pytest.mark.parametrize(('place', 'kind', 'episodes'), [
    ('lerobot_v20_gr1_pickplace', 'LeRobot v2.0', 5),
    ('lerobot_v20_gr1_pickplace/robot_sim.PickNPlace', 'LeRobot v2.0', 5),
    ('odd/so101_frozen_lerobot_v3', 'LeRobot v3.0', 6),
    ('videos_hand_object', 'videos', 2),
    ('videos_hand_object/grasp.mp4', 'videos', 1),
    ('videos_robot', 'videos', 5),
    ('odd/corrupted_video', 'videos', 2),
    ('droid_franka_npz', 'npz', 1),
    ('droid_franka_npz/franka_example_traj.npz', 'npz', 1)])
def test_the_shared_recordings_are_known(place: str, kind: str, episodes: int) -> None:
    if not (DATA / place).exists():
        pytest.skip(f'{DATA / place} is not there')
    options = ImportOptions(task='look') if 'lerobot' in place else GIVEN
    source = open_source(DATA / place, options)
    assert source.kind == kind
    assert len(source.jobs) == episodes


def test_a_folder_of_several_formats_names_them() -> None:
    if not (DATA / 'odd').exists():
        pytest.skip(f'{DATA} is not there')
    with pytest.raises(DatasetError) as caught:
        open_source(DATA / 'odd', GIVEN)
    text = str(caught.value)
    assert text.startswith(f'{DATA / "odd"}: holds several things: 2 video (')
    assert f'1 LeRobot dataset ({DATA / "odd/so101_frozen_lerobot_v3"})' in text
    assert ' ROS 2 bag (' in text
    assert text.endswith('; point at one of them')


def test_videos_and_arrays_in_one_folder(tmp_path: Path) -> None:
    video(tmp_path / 'a.mp4')
    npz(tmp_path / 'b.npz')
    npz(tmp_path / 'c.npz')
    with pytest.raises(DatasetError) as caught:
        open_source(tmp_path, GIVEN)
    assert str(caught.value) == (
        f'{tmp_path}: holds several things: 1 video ({tmp_path}/a.mp4); 2 npz ({tmp_path}/b.npz '
        '…); point at one of them')
    assert open_source(tmp_path / 'a.mp4', GIVEN).kind == 'videos'


def test_two_lerobot_datasets_in_one_folder(tmp_path: Path) -> None:
    for name in ('one', 'two'):
        (tmp_path / name / 'meta').mkdir(parents=True)
        (tmp_path / name / 'meta' / 'info.json').write_text('{}')
    with pytest.raises(DatasetError, match=(
            rf'holds several things: 2 LeRobot dataset \({tmp_path}/one …\); point at one')):
        open_source(tmp_path, GIVEN)


@pytest.mark.parametrize(('files', 'found'), [
    ((), 'nothing'), (('a.PNG', 'b.png', 'README', '.hidden.mp4'), '2 .png, 1 without an ending'),
    (('notes.yaml', 'metadata.yaml'), '2 .yaml')])
def test_a_folder_of_nothing_known_says_what_is(
        tmp_path: Path, files: tuple[str, ...], found: str) -> None:
    for name in files:
        (tmp_path / name).write_text('nothing')
    with pytest.raises(DatasetError) as caught:
        open_source(tmp_path, GIVEN)
    assert str(caught.value) == (
        f'{tmp_path}: nothing here is known. Found: {found}. Known: LeRobot v2.0, v2.1, v3.0 '
        '(meta/info.json); RLDS (*.tfrecord*); robomimic or ALOHA HDF5 (*.hdf5, *.h5); ROS 2 bag '
        '(*.mcap, *.db3, both also with .zstd); npz (*.npz); videos (*.mp4, *.mov, *.webm, '
        '*.avi, *.mkv, *.gif)')


def test_a_file_of_nothing_known(tmp_path: Path) -> None:
    path = tmp_path / 'table.csv'
    path.write_text('a,b')
    with pytest.raises(DatasetError, match=r'table\.csv: nothing here is known\. Found: 1 \.csv'):
        open_source(path, GIVEN)


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='nowhere: there is no such file or folder'):
        open_source(tmp_path / 'nowhere', GIVEN)


@pytest.mark.parametrize('version', ['v1.6', 'v4.0', None, 3])
def test_other_versions_of_lerobot_are_named(tmp_path: Path, version: object) -> None:
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'info.json').write_text(json.dumps({'codebase_version': version}))
    with pytest.raises(DatasetError) as caught:
        open_source(tmp_path, GIVEN)
    assert str(caught.value) == (
        f'{tmp_path}/meta/info.json: codebase_version is {version!r}, must be one of v2.0, v2.1, '
        'v3.0')


def test_a_part_of_a_lerobot_dataset_points_at_the_whole(tmp_path: Path) -> None:
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'info.json').write_text('{}')
    path = video(tmp_path / 'videos' / 'top' / 'a.mp4')
    for place in (path, path.parent, tmp_path / 'meta', tmp_path / 'meta' / 'info.json'):
        with pytest.raises(DatasetError) as caught:
            open_source(place, GIVEN)
        assert str(caught.value) == (
            f'{place}: is a part of the LeRobot dataset {tmp_path}; give that folder')


def test_our_own_session_is_built_not_imported(tmp_path: Path) -> None:
    session = tmp_path / 'session'
    episode = Recording.regular(20).write(session)
    for place in (session, episode, next(episode.glob('*.mcap'))):
        with pytest.raises(DatasetError) as caught:
            open_source(place, GIVEN)
        assert str(caught.value) == (
            f'{episode}: was recorded by ssl_vla_ros itself; make a dataset of its session with: '
            f'ssl_vla dataset build {session} OUT')


@pytest.mark.parametrize('name', [
    'bridge-train.tfrecord-00000-of-00001', 'a.tfrecord', 'demo.hdf5', 'demo.H5', 'bag.mcap',
    'bag_0.db3', 'bag.mcap.zstd', 'bag_0.db3.zstd', 'a.npz', 'a.MP4', 'a.gif', 'metadata.yaml'])
def test_every_ending_has_its_reader(
        tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {'tfrecord': detect._RLDS, 'hdf5': detect._HDF5, 'h5': detect._HDF5,
             'mcap': detect._BAG, 'db3': detect._BAG, 'npz': detect._NPZ, 'mp4': detect._VIDEO,
             'gif': detect._VIDEO, 'yaml': detect._BAG}
    called = []

    def reader(kind: str) -> Callable[[Path, ImportOptions], None]:
        return lambda place, _: called.append((kind, place))

    monkeypatch.setattr(detect, '_READERS', {kind: reader(kind) for kind in detect._READERS})
    (tmp_path / name).write_text('rosbag2_bagfile_information:\n')
    wanted = next(kind for part, kind in kinds.items() if part in name.lower())
    open_source(tmp_path / name, GIVEN)
    open_source(tmp_path, GIVEN)
    assert called == [(wanted, tmp_path / name), (wanted, tmp_path)]


def test_looking_needs_none_of_the_readers() -> None:
    """A machine without PyAV or h5py can still be told what it has."""
    code = ('import sys; import ssl_vla_ros.dataset.sources.detect; '
            'print(sorted({"av", "h5py", "pyarrow", "mcap"} & sys.modules.keys()))')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60,
                          check=False, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == '[]', done.stderr


def test_a_fingerprint_is_of_content_or_of_size_and_time(tmp_path: Path) -> None:
    small, large = tmp_path / 'small', tmp_path / 'large'
    small.write_bytes(b'one')
    large.write_bytes(b'x' * (SMALL + 1))
    first = fingerprint(tmp_path, [small, large], 'fact')
    os.utime(small, ns=(0, 0))
    assert fingerprint(tmp_path, [small, large], 'fact') == first, 'content counts, not its time'
    small.write_bytes(b'two')
    second = fingerprint(tmp_path, [small, large], 'fact')
    os.utime(large, ns=(0, 0))
    third = fingerprint(tmp_path, [small, large], 'fact')
    assert len({first, second, third, fingerprint(tmp_path, [small, large], 'other'),
                fingerprint(tmp_path, [large], 'other')}) == 5
    with pytest.raises(DatasetError, match='gone: the file is missing'):
        fingerprint(tmp_path, [tmp_path / 'gone'])
    with pytest.raises(DatasetError, match='is a directory, must be a file'):
        fingerprint(tmp_path, [tmp_path])
