# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Importing npz files: what arrays are called, and arrays that must not be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
import zipfile

import numpy as np
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.npz import open_npz
from ssl_vla_ros.dataset.sources.npz_file import read_array
from ssl_vla_ros.errors import DatasetError
from video_samples import marked, marks

DROID = Path(__file__).parents[2] / 'shared' / 'data' / 'droid_franka_npz'
GIVEN = ImportOptions(rate_hz=10, task='open the drawer')
ROWS = 6


def arrays(rows: int = ROWS) -> dict[str, Any]:
    """One faultless episode."""
    rng = np.random.default_rng(rows)
    return {'images': np.stack([marked(row) for row in range(rows)]),
            'states': rng.normal(size=(rows, 3)), 'actions': rng.normal(size=(rows, 2))}


def write(path: Path, **changed: Any) -> Path:
    """Write one episode; None takes an array away."""
    found = arrays() | changed
    np.savez_compressed(path, **{key: value for key, value in found.items() if value is not None})
    return path


def load(path: Path, options: ImportOptions = GIVEN) -> Any:
    source = open_npz(path, options)
    return source.jobs[0].load(source.contract)


def test_the_real_file_is_two_rows(tmp_path: Path) -> None:
    if not DROID.is_dir():
        pytest.skip(f'{DROID} is not there')
    with pytest.raises(DatasetError, match=(
            r'franka_example_traj\.npz: nothing says how many rows a second were recorded \(fps, '
            r'dt or timestamps\): give it with --rate')):
        open_npz(DROID, ImportOptions(task='reach'))
    report = import_dataset(DROID, tmp_path / 'out', encoder='libx264',
                            options=ImportOptions(rate_hz=4, task='reach', robot='franka'))
    assert report.kept == ['franka_example_traj.npz']
    assert report.problems[:2] == [
        'nothing names the values of states: they are called state_0 and so on',
        'there is no action']
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.contract.robot == 'franka'
    assert dataset.lengths == [2]
    with np.load(DROID / 'franka_example_traj.npz', allow_pickle=False) as file:
        np.testing.assert_array_equal(dataset.column('observation.state'), file['states'][0])
        theirs = file['observations'][0].astype(int)
    assert np.abs(dataset.frames('camera', 0).astype(int) - theirs).mean() < 3


def test_every_value_and_picture_is_where_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.npz', state_names=np.array(['x', 'y', 'z']), success=True,
                 task=np.array('pour  the tea'), fps=np.array(10))
    loaded = load(path, ImportOptions())
    assert loaded.task == 'pour the tea'
    assert loaded.success is True
    assert loaded.notes == ()
    np.testing.assert_array_equal(loaded.aligned.state, arrays()['states'].astype(np.float32))
    np.testing.assert_array_equal(loaded.aligned.action, arrays()['actions'].astype(np.float32))
    assert [marks(frame)[0] for frame in loaded.aligned.pictures['camera']] == list(range(ROWS))
    source = open_npz(path, ImportOptions())
    assert source.contract.state_names == ('x', 'y', 'z')
    assert source.contract.action_names == ('action_0', 'action_1')
    assert source.contract.rate_hz == 10
    assert source.problems.lines() == [
        'nothing names the values of actions: they are called action_0 and so on']
    assert source.left_out == []


def test_a_batch_of_one_is_no_dimension(tmp_path: Path) -> None:
    batched = {key: value[None] for key, value in arrays().items()}
    loaded = load(write(tmp_path / 'a.npz', **batched, timestamps=np.arange(ROWS)[None] / 10.0),
                  ImportOptions(task='x'))
    plain = load(write(tmp_path / 'b.npz'))
    np.testing.assert_array_equal(loaded.aligned.state, plain.aligned.state)
    np.testing.assert_array_equal(loaded.aligned.frames('camera'), plain.aligned.frames('camera'))
    assert loaded.aligned.ticks_ns.tolist() == plain.aligned.ticks_ns.tolist()


def test_pictures_stored_column_by_column_come_out_the_same(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / 'a.npz', images=np.asfortranarray(arrays()['images'])))
    np.testing.assert_array_equal(loaded.aligned.frames('camera'), arrays()['images'])


def test_pictures_can_be_read_twice(tmp_path: Path) -> None:
    aligned = load(write(tmp_path / 'a.npz')).aligned
    np.testing.assert_array_equal(aligned.frames('camera'), aligned.frames('camera'))


@pytest.mark.parametrize(('key', 'camera'), [
    ('frames', 'camera'), ('observations', 'camera'), ('rgb', 'camera'), ('image_wrist', 'wrist'),
    ('observation.images.top', 'top'), ('images/left', 'left'), ('my view', 'my_view')])
def test_cameras_are_called_after_their_arrays(tmp_path: Path, key: str, camera: str) -> None:
    source = open_npz(write(tmp_path / 'a.npz', images=None, **{key: arrays()['images']}), GIVEN)
    assert source.contract.camera_names == (camera,)


def test_two_cameras_and_what_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.npz', wrist=arrays()['images'], depth=np.zeros((ROWS, 32, 48)),
                 notes=np.array([{'a': 1}], dtype=object))
    source = open_npz(path, GIVEN)
    assert source.contract.camera_names == ('camera', 'wrist')
    assert source.left_out == ['depth', 'notes (Python objects: never read)']
    assert set(source.jobs[0].load(source.contract).aligned.pictures) == {'camera', 'wrist'}


def test_observations_of_numbers_are_the_state(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.npz', states=None, observations=arrays()['states'], images=None)
    source = open_npz(path, GIVEN)
    assert source.contract.cameras == ()
    assert source.contract.state_names == ('state_0', 'state_1', 'state_2')


def test_one_action_less_than_states_leaves_out_the_last_row(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / 'a.npz', actions=arrays()['actions'][:-1]))
    assert loaded.aligned.state.shape == (ROWS - 1, 3)
    assert len(list(loaded.aligned.pictures['camera'])) == ROWS - 1
    assert loaded.notes == (
        'actions has one row less than the others: the last row is left out',)


@pytest.mark.parametrize(('said', 'rate_hz'), [
    ({'fps': 15}, 15), ({'hz': 15.0}, 15), ({'dt': 0.05}, 20), ({'dt': np.full(5, 0.0501)}, 20),
    ({'timestamps': np.arange(ROWS) * 0.02 + 3.0}, 50), ({'rate_hz': np.array([5])}, 5)])
def test_the_rate_is_read_where_it_is_said(
        tmp_path: Path, said: dict[str, Any], rate_hz: int) -> None:
    assert open_npz(write(tmp_path / 'a.npz', **said), ImportOptions()).contract.rate_hz == rate_hz


def test_times_become_stamps_and_odd_ones_are_told(tmp_path: Path) -> None:
    times = np.arange(ROWS) / 10 + 5.0
    assert load(write(tmp_path / 'a.npz', times=times)).aligned.ticks_ns.tolist() == [
        round(time * 1e9) for time in times.tolist()]
    times[4:] += 0.07
    assert load(write(tmp_path / 'b.npz', times=times)).notes == (
        'the times leave 10 rows a second by more than half a row: the recording was not '
        'regular',)


def test_a_rate_of_the_user_s_is_taken_and_told(tmp_path: Path) -> None:
    source = open_npz(write(tmp_path / 'a.npz', fps=15), GIVEN)
    assert source.contract.rate_hz == 10
    assert source.jobs[0].load(source.contract).task == 'open the drawer'
    assert 'a.npz: the rate is 15.0: taken as 10 Hz, as --rate says' in source.problems.lines()[0]


@pytest.mark.parametrize(('changed', 'reason'), [
    ({'states': np.array([{'a': 1}] * ROWS, dtype=object)},
     r'a\.npz: states holds Python objects, a pickle that may run anything when it is read: save '
     'it as an array of plain numbers'),
    ({'images': np.array([None] * ROWS, dtype=object)}, 'images holds Python objects, a pickle'),
    ({'task': np.array(['pour'], dtype=object)}, 'task holds Python objects, a pickle'),
    ({'images': arrays()['images'] / 255.0},
     r'images is float64 \(6, 32, 48, 3\): pictures must be uint8 \(T, H, W, 3\), one sequence'),
    ({'images': arrays()['images'][..., 0]}, r'images is uint8 \(6, 32, 48\): pictures must be'),
    ({'images': np.stack([arrays()['images']] * 2)},
     r'images is uint8 \(2, 6, 32, 48, 3\): pictures must be uint8 .*, one sequence a file'),
    ({'images': np.zeros((ROWS, 8, 8, 3), np.uint8)},
     'images has pictures of 8x8, sides must be 16 to 4096 pixels'),
    ({'images': None, 'states': None, 'actions': None, 'poses': np.zeros(3)},
     r'there is neither a picture \(uint8, T x H x W x 3\) nor a state .*; it has poses float64'),
    ({'states': np.zeros((4, 3))},
     'the arrays have different numbers of rows: images 6, states 4, actions 6'),
    ({'actions': np.zeros((4, 3))},
     'the arrays have different numbers of rows: images 6, states 6, actions 4'),
    ({'states': np.zeros((2, ROWS, 3))}, r'states is float64 \(2, 6, 3\), must be numbers'),
    ({'states': np.array(['a'] * ROWS)}, r'states is <U1 \(6,\), must be numbers \(T, N\)'),
    ({'state': np.zeros((ROWS, 3))}, 'has states and state, which mean the same: leave one'),
    ({'state_names': np.array(['x', 'x', 'y'])},
     r"state_names is \['x', 'x', 'y'\], must be 3 different names"),
    ({'task': np.array(3)}, r'task is int64 \(\), must be one text'),
    ({'task': np.array(['a', 'b'])}, r'task is <U1 \(2,\), must be one text'),
    ({'success': np.array('yes')}, r'success is <U3 \(\), must be true or false'),
    ({'timestamps': np.zeros(3)}, 'timestamps has 3 numbers, must be 6 finite ones, in seconds'),
    ({'timestamps': np.arange(ROWS) * 1e10}, r'timestamps ends at 5e\+10, which cannot be'),
    ({'dt': 0.0}, 'the time from row to row is 0 s, must be above 0'),
    ({'fps': np.array('ten')}, r'fps is <U3 \(\), must be numbers'),
    ({'images': np.zeros((0, 32, 48, 3), np.uint8), 'states': np.zeros((0, 3)),
      'actions': np.zeros((0, 2))}, 'different numbers of rows: images 0'),
])
def test_an_array_that_is_not_what_its_name_says_is_named(
        tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        open_npz(write(tmp_path / 'a.npz', **changed), GIVEN)


@pytest.mark.parametrize(('changed', 'reason'), [
    ({'states': np.array([[0.0, 1.0, np.nan]] * ROWS)}, r'states has no number in row 0'),
    ({'actions': np.full((ROWS, 2), 1e300)}, 'actions has no number in row 0'),
    ({'timestamps': np.zeros(ROWS) + [0, 1, 2, 2, 3, 4]}, 'the times do not rise at row 3'),
])
def test_values_that_are_none_refuse_their_file(
        tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    source = open_npz(write(tmp_path / 'a.npz', **changed), GIVEN)
    with pytest.raises(DatasetError, match=reason):
        source.jobs[0].load(source.contract)


@pytest.mark.parametrize(('said', 'reason'), [
    ({'fps': 29.97}, r'a\.npz: the rate is 29\.97, must be a whole number from 1 to 1000; give'),
    ({'dt': 1e-6}, 'the rate is 1000000.0, must be a whole number')])
def test_a_rate_that_no_contract_may_have(
        tmp_path: Path, said: dict[str, Any], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        open_npz(write(tmp_path / 'a.npz', **said), ImportOptions())


def test_bad_files_are_refused_and_the_others_kept(tmp_path: Path) -> None:
    folder = tmp_path / 'src'
    (folder / 'deep').mkdir(parents=True)
    good = write(folder / 'b.npz', fps=10)
    write(folder / 'deep' / 'c.npz')
    write(folder / 'd.npz', images=np.zeros((ROWS, 16, 16, 3), np.uint8))
    write(folder / 'e.npz', fps=20)
    write(folder / 'f.npz', actions=None)
    (folder / 'a.npz').write_bytes(good.read_bytes()[:-300])
    (folder / 'g.npz').write_bytes(b'')
    report = import_dataset(folder, tmp_path / 'out', encoder='libx264',
                            options=ImportOptions(task='x'))
    assert report.kept == ['b.npz', 'deep/c.npz']
    reasons = {name: why.removeprefix(f'{folder}/') for name, why in report.refused}
    assert reasons['a.npz'] == 'a.npz: cannot read this npz file: File is not a zip file'
    assert reasons['d.npz'] == (
        'd.npz: images has pictures of 16x16, the other files have 32x48')
    assert reasons['e.npz'] == (
        'e.npz: has 20 rows a second, the dataset 10; import it on its own')
    assert reasons['f.npz'] == 'f.npz: there is no action action_0, action action_1'
    assert reasons['g.npz'] == 'g.npz: cannot read this npz file: File is not a zip file'


def test_damage_within_pictures_refuses_the_file_when_they_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / 'a.npz', **arrays())
    data = bytearray((tmp_path / 'a.npz').read_bytes())
    data[3000] ^= 255
    (tmp_path / 'a.npz').write_bytes(data)
    aligned = load(tmp_path / 'a.npz').aligned
    with pytest.raises(DatasetError, match=r'a\.npz: cannot read this npz file: Bad CRC-32'):
        list(aligned.pictures['camera'])


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / 'a.npz'
    np.savez(path, states=np.zeros((4, 3)))
    with zipfile.ZipFile(path) as archive:
        data = archive.read('states.npy').replace(b'(4, 3)', b'(9, 3)')
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('states.npy', data)
    with pytest.raises(DatasetError, match='states has 96 bytes, its header says 216'):
        open_npz(path, GIVEN)


def test_without_words_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=(
            r"a\.npz: nothing says what was done: add an array 'task', or give --task TEXT")):
        load(write(tmp_path / 'a.npz', fps=10), ImportOptions())


def test_a_folder_without_npz_files(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='there is no npz file'):
        open_npz(tmp_path, GIVEN)


def test_a_contract_chooses_by_name_and_size(tmp_path: Path) -> None:
    path = write(tmp_path / 'a.npz')
    stream = {'topic': 'joints', 'type': 'std_msgs/Float64MultiArray', 'names': ['state_2']}
    contract = parse_contract({
        'robot': 'mine', 'rate_hz': 10, 'state': [stream], 'action': [],
        'cameras': {'camera': {'topic': 'eye', 'type': 'sensor_msgs/Image', 'height': 16,
                               'width': 24}}}, 'mine.yaml')
    aligned = load(path, ImportOptions(rate_hz=10, task='x', contract=contract)).aligned
    np.testing.assert_array_equal(
        aligned.state, arrays()['states'].astype(np.float32)[:, 2:])
    assert aligned.frames('camera').shape == (ROWS, 16, 24, 3)


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:

        def __reduce__(self) -> tuple[Any, ...]:
            return (tmp_path.joinpath('sprung').mkdir, ())

    np.savez(tmp_path / 'a.npz', notes=np.array([Trap()], dtype=object))
    with pytest.raises(DatasetError, match=(
            r'a\.npz: cannot read this npz file: Object arrays cannot be loaded')):
        read_array(tmp_path / 'a.npz', 'notes')
    assert not (tmp_path / 'sprung').exists()
