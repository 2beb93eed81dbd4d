# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""robomimic's and ALOHA's HDF5, written here as their own recorders write them."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import pickle
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources import hdf5_file
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.hdf5 import open_hdf5
from ssl_vla_ros.errors import DatasetError

LIFT = ImportOptions(task='lift the cube')
FOLD = ImportOptions(rate_hz=50, task='fold the shirt')
ENV = {'env_name': 'Lift', 'type': 1, 'env_version': '1.4.1', 'env_kwargs': {
    'robots': ['Panda'], 'control_freq': 20, 'reward_shaping': False,
    'camera_names': ['agentview']}}
#: So that flat parts come back within one grey level.
BEST = [cv2.IMWRITE_JPEG_QUALITY, 100]
Edit = Callable[[h5py.File], Any]


def picture(episode: int, step: int, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Draw a picture that tells episode and step; red above, blue below."""
    image = np.full((height, width, 3), 10 + 4 * step, dtype=np.uint8)
    image[:height // 2, :, 0] = 160 + 8 * episode
    image[height // 2:, :, 2] = 250
    return image


def off(image: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    """How far the reddest and the bluest corner are apart: 4 from step to step, 8 by episode."""
    return int(np.abs(image[[0, -1], [0, -1]].astype(int) - other[[0, -1], [0, -1]]).max())


def write_robomimic(path: Path, edit: Edit | None = None, *, lengths: tuple[int, ...] = (6, 9),
                    env: dict[str, Any] | None = ENV, **options: Any) -> Path:
    """Write what robomimic's dataset_states_to_obs.py leaves; ``options`` are of each picture."""
    with h5py.File(path, 'w') as file:
        data = file.create_group('data')
        data.attrs['total'] = sum(lengths)
        if env is not None:
            data.attrs['env_args'] = json.dumps(env, indent=4)
        for number, rows in enumerate(lengths):
            rng = np.random.default_rng(number)
            demo = data.create_group(f'demo_{number}')
            demo.attrs['num_samples'] = rows
            demo.attrs['model_file'] = '<mujoco/>'
            demo['actions'] = rng.normal(size=(rows, 7))
            demo['states'] = rng.normal(size=(rows, 32))
            demo['rewards'] = np.r_[np.zeros(rows - 1), float(number == 0)]
            demo['dones'] = np.r_[np.zeros(rows - 1, int), 1]
            for group in ('obs', 'next_obs'):
                demo[f'{group}/robot0_eef_pos'] = rng.normal(size=(rows, 3))
                demo[f'{group}/robot0_gripper_qpos'] = rng.normal(size=(rows, 2))
                demo[f'{group}/object'] = rng.normal(size=(rows, 10))
                demo.create_dataset(f'{group}/agentview_image', data=np.stack(
                    [picture(number, step) for step in range(rows)]), **options)
        file['mask/train'] = np.array([b'demo_0'])
        if edit is not None:
            edit(file)
    return path


def write_aloha(path: Path, edit: Edit | None = None, *, number: int = 0, rows: int = 5,
                compress: bool = False, mobile: bool = False) -> Path:
    """Write what ALOHA's record_episodes.py does: cameras not in the order of their names."""
    rng = np.random.default_rng(number)
    cameras = ('cam_high', 'cam_low', 'cam_left_wrist')
    with h5py.File(path, 'w', rdcc_nbytes=1024**2 * 2) as file:
        file.attrs['sim'] = False
        images = {name: [picture(number + index, step) for step in range(rows)]
                  for index, name in enumerate(cameras)}
        if compress:
            file.attrs['compress'] = True
            # RGB arrays, given to an encoder that takes them for BGR.
            jpegs = {name: [cv2.imencode('.jpg', image, BEST)[1]
                            .reshape(-1) for image in found] for name, found in images.items()}
            widest = max(len(jpeg) for found in jpegs.values() for jpeg in found)
            for name, found in jpegs.items():
                padded = np.zeros((rows, widest), np.uint8)
                for row, jpeg in zip(padded, found, strict=True):
                    row[:len(jpeg)] = jpeg
                file.create_dataset(f'observations/images/{name}', data=padded,
                                    chunks=(1, widest))
            file['compress_len'] = np.array(
                [[len(jpeg) for jpeg in jpegs[name]] for name in cameras], dtype=np.float32)
        else:
            for name, found in images.items():
                file.create_dataset(f'observations/images/{name}', data=np.stack(found),
                                    chunks=(1, 24, 32, 3))
        for name in ('qpos', 'qvel', 'effort'):
            file[f'observations/{name}'] = rng.normal(size=(rows, 14)).astype(np.float32)
        file['action'] = rng.normal(size=(rows, 14)).astype(np.float32)
        if mobile:
            file['base_action'] = rng.normal(size=(rows, 2)).astype(np.float32)
        if edit is not None:
            edit(file)
    return path


def load(source: Source, number: int = 0) -> LoadedEpisode:
    """Load one episode through pickle, as another process gets it."""
    return pickle.loads(pickle.dumps(source.jobs[number])).load(source.contract)  # noqa: S301


def refusal(source: Source, number: int = 0) -> str:
    """Return why an episode is refused, without the file's name."""
    with pytest.raises(DatasetError) as caught:
        for pictures in load(source, number).aligned.pictures.values():
            list(pictures)
    text = str(caught.value)
    assert text.startswith(str(source.jobs[number].path))
    return text.removeprefix(str(source.jobs[number].path)).removeprefix(': ')


def read(path: Path, key: str) -> NDArray[Any]:
    with h5py.File(path) as file:
        return np.asarray(file[key])


# -- robomimic ----------------------------------------------------------------------------------

def test_every_row_and_picture_of_robomimic_is_there(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'lift.hdf5')
    source = open_hdf5(path, LIFT)
    assert source.kind == 'robomimic HDF5'
    assert source.found == {
        'robot': 'Panda', 'rate_hz': 20, 'episodes': 2, 'files': 1,
        'cameras': 'agentview_image 24x32', 'state': 5, 'action': 7, 'evaluation': 10}
    assert [job.name for job in source.jobs] == ['demo_0', 'demo_1']
    for number, rows in enumerate((6, 9)):
        loaded, demo = load(source, number), f'data/demo_{number}'
        aligned = loaded.aligned
        np.testing.assert_array_equal(aligned.ticks_ns, np.arange(rows) * 50_000_000)
        np.testing.assert_array_equal(
            aligned.action, read(path, f'{demo}/actions').astype(np.float32))
        np.testing.assert_array_equal(aligned.state, np.hstack([
            read(path, f'{demo}/obs/robot0_eef_pos'),
            read(path, f'{demo}/obs/robot0_gripper_qpos')]).astype(np.float32))
        np.testing.assert_array_equal(
            aligned.evaluation, read(path, f'{demo}/obs/object').astype(np.float32))
        assert len(list(aligned.pictures['agentview_image'])) == rows
        for step, image in enumerate(aligned.pictures['agentview_image']):
            np.testing.assert_array_equal(image, picture(number, step))
        assert (loaded.task, loaded.success, loaded.notes) == (
            'lift the cube', number == 0, ())


def test_what_is_kept_and_left_out_of_robomimic_is_told(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        for demo in file['data'].values():
            rows = len(demo['actions'])
            demo['obs/agentview_depth'] = np.zeros((rows, 24, 32, 1), np.float32)
            demo['obs/lang_emb'] = np.zeros((rows, 768), np.float32)

    source = open_hdf5(write_robomimic(tmp_path / 'lift.hdf5', edit), LIFT)
    assert source.problems.lines() == [
        "pictures of robosuite are kept as they are: upright if robomimic's "
        'dataset_states_to_obs.py wrote them, upside down if they are as rendered',
        'nothing names the values of obs/object, obs/robot0_eef_pos, obs/robot0_gripper_qpos, '
        'actions: they are numbered']
    assert source.left_out == [
        'obs/agentview_depth (is float32 (6, 24, 32, 1), must be pictures (T, H, W, 3) uint8 or '
        'vectors (T, N))',
        'obs/lang_emb (has 768 values a row, must be 1 to 64)',
        'dones', 'next_obs', 'rewards', 'states', 'mask']
    assert source.contract.state_names[:3] == (
        'robot0_eef_pos_0', 'robot0_eef_pos_1', 'robot0_eef_pos_2')


def test_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5', lengths=(2,) * 12)
    assert [job.name for job in open_hdf5(path, LIFT).jobs] == [
        f'demo_{number}' for number in range(12)]


def test_success_is_left_open_where_rewards_do_not_say_it(tmp_path: Path) -> None:
    shaped = json.loads(json.dumps(ENV))
    shaped['env_kwargs']['reward_shaping'] = True
    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', env=shaped), LIFT)
    assert load(source).success is None

    def edit(file: h5py.File) -> None:
        file['data/demo_0/rewards'][2] = 0.25
    source = open_hdf5(write_robomimic(tmp_path / 'b.hdf5', edit), LIFT)
    assert (load(source, 0).success, load(source, 1).success) == (None, False)


def test_libero_s_sentence_and_upside_down_pictures_are_read_as_they_are(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        data = file['data']
        data.attrs['problem_info'] = json.dumps({'language_instruction': list('open it')})
        data.attrs['macros_image_convention'] = 'opengl'
        data['demo_1'].attrs['ep_meta'] = json.dumps({'lang': 'close it'})

    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit), ImportOptions())
    assert [load(source, number).task for number in (0, 1)] == ['open it', 'close it']
    assert ("macros_image_convention is 'opengl': the pictures are upside down and are kept so"
            in source.problems.lines())
    first = next(iter(load(source).aligned.pictures['agentview_image']))
    np.testing.assert_array_equal(first, picture(0, 0))


def test_without_words_an_episode_is_refused(tmp_path: Path) -> None:
    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5'), ImportOptions())
    assert refusal(source, 1) == 'data/demo_1: nothing says what was done; say it with --task'


def test_without_a_rate_robomimic_is_refused(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5', env={'env_name': 'Lift'})
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, LIFT)
    assert str(caught.value) == (
        f'{path}: data.attrs env_args.env_kwargs.control_freq is missing: nothing says how many '
        'rows a second were recorded; give it with --rate')
    source = open_hdf5(path, ImportOptions(rate_hz=10, task='lift'))
    assert (source.contract.rate_hz, source.contract.robot) == (10, 'Lift')
    with h5py.File(path, 'a') as file:
        file['data'].attrs['env_args'] = 'not JSON'
    source = open_hdf5(path, ImportOptions(rate_hz=10, task='lift'))
    assert ('a.hdf5: the attribute env_args of /data is no JSON object: not used'
            in source.problems.lines())


def test_several_files_of_one_rate_are_one_source(tmp_path: Path) -> None:
    write_robomimic(tmp_path / 'task_2.hdf5', lengths=(3,))
    write_robomimic(tmp_path / 'task_10.hdf5', lengths=(4, 5))
    slow = json.loads(json.dumps(ENV))
    slow['env_kwargs']['control_freq'] = 10
    other = write_robomimic(tmp_path / 'task_11.hdf5', env=slow)
    source = open_hdf5(tmp_path, LIFT)
    assert [job.name for job in source.jobs] == [
        'task_2.hdf5 demo_0', 'task_10.hdf5 demo_0', 'task_10.hdf5 demo_1']
    assert len(load(source, 2).aligned.ticks_ns) == 5
    assert source.refused == [('task_11.hdf5', f'{other}: env_args.env_kwargs.control_freq is 10, '
                                               'the files before have 20')]


def test_a_demonstration_without_observations_names_the_script(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        for demo in file['data'].values():
            del demo['obs']
    path = write_robomimic(tmp_path / 'a.hdf5', edit)
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, LIFT)
    assert str(caught.value) == (f'{path}: data/demo_0 has no obs; robomimic makes them of the '
                                 'states with dataset_states_to_obs.py')


def test_a_simulator_s_truth_becomes_evaluation_in_the_dataset(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5')
    report = import_dataset(path, tmp_path / 'out', options=LIFT)
    assert (report.kept, report.rows) == (['demo_0', 'demo_1'], 15)
    dataset = Dataset.open(tmp_path / 'out')
    dataset.verify()
    assert dataset.success == [True, False]
    assert dataset.contract.evaluation_names[0] == 'object_0'
    np.testing.assert_array_equal(
        dataset.column('observation.evaluation')[dataset.rows(1)],
        read(path, 'data/demo_1/obs/object').astype(np.float32))
    images = dataset.frames('agentview_image', 1)
    for step, image in enumerate(images):
        assert off(image, picture(1, step)) <= 3


# -- ALOHA --------------------------------------------------------------------------------------

@pytest.mark.parametrize('mobile', [False, True])
@pytest.mark.parametrize('compress', [False, True])
def test_every_row_and_picture_of_aloha_is_there(
    tmp_path: Path, compress: bool, mobile: bool,
) -> None:
    for number in range(2):
        write_aloha(tmp_path / f'episode_{number}.hdf5', number=number, rows=4 + number,
                    compress=compress, mobile=mobile)
    source = open_hdf5(tmp_path, FOLD)
    assert source.kind == 'ALOHA HDF5'
    assert source.contract.rate_hz == 50
    assert source.contract.camera_names == ('cam_high', 'cam_left_wrist', 'cam_low')
    assert source.contract.state_names == tuple(
        f'{name}_{index}' for name in ('effort', 'qpos', 'qvel') for index in range(14))
    assert len(source.contract.action_names) == (16 if mobile else 14)
    for number in range(2):
        path = tmp_path / f'episode_{number}.hdf5'
        aligned = load(source, number).aligned
        np.testing.assert_array_equal(aligned.state[:, 14:28], read(path, 'observations/qpos'))
        np.testing.assert_array_equal(aligned.action[:, :14], read(path, 'action'))
        if mobile:
            np.testing.assert_array_equal(aligned.action[:, 14:], read(path, 'base_action'))
        for index, name in enumerate(('cam_high', 'cam_low', 'cam_left_wrist')):
            images = list(aligned.pictures[name])
            assert len(images) == 4 + number
            for step, image in enumerate(images):
                assert off(image, picture(number + index, step)) <= (1 if compress else 0)


def test_jpegs_of_another_writer_are_read_as_the_standard_says(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        rows = [cv2.imencode('.jpg', picture(0, step)[..., ::-1], BEST)[1].reshape(-1)
                for step in range(5)]
        del file['observations/images/cam_high'], file['observations/images/cam_low']
        bytes_rows = file.create_dataset('observations/images/cam_high', (5,),
                                         h5py.vlen_dtype(np.uint8))
        for step, row in enumerate(rows):
            bytes_rows[step] = row
        file['observations/images/cam_low'] = np.array([row.tobytes() for row in rows])

    source = open_hdf5(write_aloha(tmp_path / 'episode_0.hdf5', edit), FOLD)
    assert ("there is no compress_len: the JPEGs are read as the standard says, not as ALOHA's "
            'recorder writes them') in source.problems.lines()
    pictures = load(source).aligned.pictures
    for name in ('cam_high', 'cam_low'):
        for step, image in enumerate(pictures[name]):
            assert off(image, picture(0, step)) <= 1
        assert step == 4


def test_the_convention_of_aloha_s_jpegs_is_told(tmp_path: Path) -> None:
    source = open_hdf5(write_aloha(tmp_path / 'episode_0.hdf5', compress=True), FOLD)
    assert source.problems.lines() == [
        "the JPEGs are read as ALOHA's recorder writes them, red and blue changed: if another "
        'program wrote them, the colours are wrong',
        'nothing names the values of observations/effort, observations/qpos, observations/qvel, '
        'action: they are numbered']
    assert source.left_out == []


def test_aloha_s_rate_and_task_are_the_user_s_unless_an_attribute_says_them(
    tmp_path: Path,
) -> None:
    path = write_aloha(tmp_path / 'episode_0.hdf5')
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, ImportOptions(task='fold'))
    assert str(caught.value) == (
        f'{path}: nothing says how many rows a second were recorded; give it with --rate '
        "(ALOHA's own recorder: --rate 50)")
    assert refusal(open_hdf5(path, ImportOptions(rate_hz=50))) == (
        'nothing says what was done; say it with --task')
    with h5py.File(path, 'a') as file:
        file.attrs['fps'], file.attrs['task'] = 30, 'fold it'
    source = open_hdf5(path, ImportOptions())
    assert (source.contract.rate_hz, load(source).task) == (30, 'fold it')
    other = write_aloha(tmp_path / 'episode_1.hdf5', lambda file: file.attrs.update(fps=25))
    assert open_hdf5(tmp_path, LIFT).refused == [
        ('episode_1', f'{other}: the rate is 25, the files before have 30')]
    source = open_hdf5(tmp_path, FOLD)
    assert len(source.jobs) == 2
    assert (f'{path}: the attribute fps is 30: taken as 50 Hz, as --rate says'
            in source.problems.lines())


def test_names_in_attributes_are_taken(tmp_path: Path) -> None:
    joints = [f'joint_{index}' for index in range(14)]

    def edit(file: h5py.File) -> None:
        for name in ('qpos', 'qvel'):
            file[f'observations/{name}'].attrs['names'] = joints
        file['action'].attrs['names'] = joints[:3]  # too few: of no use
    source = open_hdf5(write_aloha(tmp_path / 'episode_0.hdf5', edit), FOLD)
    assert source.contract.state_names[14:16] == ('qpos.joint_0', 'qpos.joint_1')
    assert source.contract.state_names[28] == 'qvel.joint_0'
    assert source.contract.action_names[0] == 'action_0'
    assert ('nothing names the values of observations/effort, action: they are numbered'
            in source.problems.lines())
    np.testing.assert_array_equal(load(source).aligned.state[:, 28:],
                                  read(tmp_path / 'episode_0.hdf5', 'observations/qvel'))


def test_episodes_missing_in_the_numbering_are_told(tmp_path: Path) -> None:
    for number in (0, 3, 7):
        write_aloha(tmp_path / f'episode_{number}.hdf5', number=number)
    source = open_hdf5(tmp_path, FOLD)
    assert [job.name for job in source.jobs] == ['episode_0', 'episode_3', 'episode_7']
    assert 'there is no episode_1, 2, 4, 5, 6' in source.problems.lines()


# -- what is wrong ------------------------------------------------------------------------------

def test_other_files_are_refused_by_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='there is no .hdf5 or .h5 file here'):
        open_hdf5(tmp_path, FOLD)
    path = tmp_path / 'a.h5'
    path.write_bytes(b'no such format' * 100)
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, FOLD)
    assert str(caught.value) == f'{path}: is no HDF5 file'
    with h5py.File(path, 'w') as file:
        file['joints'] = [1.0]
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, FOLD)
    assert str(caught.value) == (f'{path}: is neither robomimic (data/demo_0 …) nor ALOHA '
                                 '(observations, action); it has joints')


def test_a_cut_off_file_is_refused_by_name_and_the_others_stay(tmp_path: Path) -> None:
    write_aloha(tmp_path / 'episode_1.hdf5')
    path = write_aloha(tmp_path / 'episode_0.hdf5')
    content = path.read_bytes()
    path.write_bytes(content[:-1000])
    source = open_hdf5(tmp_path, FOLD)
    assert [job.name for job in source.jobs] == ['episode_1']
    sentence = (f'{path}: the file is cut off: it has {len(content) - 1000} of {len(content)} '
                'bytes; copy it again')
    assert source.refused == [('episode_0', sentence)]
    with pytest.raises(DatasetError) as caught:
        open_hdf5(path, FOLD)
    assert str(caught.value) == sentence


def _replace(key: str, value: Any) -> Edit:
    def edit(file: h5py.File) -> None:
        del file[key]
        file[key] = value
    return edit


def _set_row(key: str, row: int, value: float) -> Edit:
    def edit(file: h5py.File) -> None:
        file[key][row, 0] = value
    return edit


@pytest.mark.parametrize(('edit', 'sentence'), [
    (_set_row('action', 3, np.nan), 'action has no number in row 3'),
    (_set_row('observations/qpos', 2, np.inf), 'observations/qpos has no number in row 2'),
    (_replace('action', np.zeros((4, 14))), 'observations/effort has 5 rows, action 4'),
    (_replace('action', np.zeros((5, 7))),
     'action is float64 (5, 7), must be 14 numbers a row'),
    (_replace('action', np.full((5, 14), b'x')),
     'action is |S1 (5, 14), must be 14 numbers a row'),
    (_replace('observations/qpos', np.zeros((5, 14), dtype=np.complex64)),
     'observations/qpos holds complex64, must be numbers'),
    (_replace('observations/images/cam_low', np.zeros((5, 24, 30, 3), np.uint8)),
     'observations/images/cam_low is uint8 (5, 24, 30, 3), must be uint8 (5, 24, 32, 3)'),
    (lambda file: file.pop('action'), ': there is no array action'),
    (lambda file: file.pop('observations'), ': there is no group observations'),
])
def test_an_unusable_episode_is_refused_and_the_others_stay(
    tmp_path: Path, edit: Edit, sentence: str,
) -> None:
    write_aloha(tmp_path / 'episode_0.hdf5')
    write_aloha(tmp_path / 'episode_1.hdf5', edit)
    source = open_hdf5(tmp_path, FOLD)
    assert refusal(source, 1) == sentence.removeprefix(': ')
    assert len(list(load(source, 0).aligned.pictures['cam_low'])) == 5


def test_a_number_that_float32_cannot_hold_refuses_the_demonstration(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5', _set_row('data/demo_1/actions', 4, 1e300))
    source = open_hdf5(path, LIFT)
    assert refusal(source, 1) == 'data/demo_1/actions has no number in row 4'
    assert len(load(source, 0).aligned.ticks_ns) == 6


def test_a_wrong_num_samples_is_told(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file['data/demo_0'].attrs['num_samples'] = 7
    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit), LIFT)
    assert load(source).notes == ('num_samples is 7, there are 6 rows',)


def test_a_damaged_jpeg_refuses_its_episode_and_costs_no_camera(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file['observations/images/cam_low'][2, 300:] = 0

    def blank(file: h5py.File) -> None:
        file['observations/images/cam_low'][0] = 0

    blank_path = write_aloha(tmp_path / 'episode_0.hdf5', blank, compress=True)
    write_aloha(tmp_path / 'episode_1.hdf5', edit, compress=True)
    write_aloha(tmp_path / 'episode_2.hdf5', compress=True)
    source = open_hdf5(tmp_path, FOLD)
    assert len(source.contract.camera_names) == 3
    ((name, reason),) = source.refused
    assert name == 'episode_0'
    assert reason.startswith(f'{blank_path}: observations/images/cam_low: picture 0: neither JPEG')
    assert refusal(source, 0).startswith(
        'observations/images/cam_low: picture 2: the picture is cut off after')
    assert len(list(load(source, 1).aligned.pictures['cam_low'])) == 5


def test_damaged_chunks_refuse_the_episode(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5', compression='gzip', chunks=(2, 24, 32, 3))
    with h5py.File(path) as file:
        place = file['data/demo_0/obs/agentview_image'].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[place.byte_offset:place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(bytes(content))
    source = open_hdf5(path, LIFT)
    assert refusal(source, 0).startswith('data/demo_0/obs/agentview_image cannot be read: ')
    assert len(list(load(source, 1).aligned.pictures['agentview_image'])) == 9


# -- nothing outside of the file, nothing that runs -----------------------------------------------

def test_links_are_not_followed(tmp_path: Path) -> None:
    write_robomimic(tmp_path / 'secret.hdf5')

    def edit(file: h5py.File) -> None:
        for demo in file['data'].values():
            demo['obs/elsewhere'] = h5py.ExternalLink('secret.hdf5', '/data/demo_0/actions')
            demo['obs/again'] = h5py.SoftLink(f'{demo.name}/actions')
        del file['data/demo_1/actions']
        file['data/demo_1/actions'] = h5py.ExternalLink('secret.hdf5', '/data/demo_1/actions')
        file['data/demo_9'] = h5py.ExternalLink('secret.hdf5', '/data/demo_0')

    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit), LIFT)
    assert 'obs/elsewhere (is an external link: links are not followed)' in source.left_out
    assert 'obs/again (is a soft link: links are not followed)' in source.left_out
    assert source.refused == [('demo_9', f'{tmp_path}/a.hdf5: data/demo_9 is an external link: '
                                         'links are not followed')]
    assert refusal(source, 1) == (
        'data/demo_1/actions is an external link: links are not followed')


def test_data_in_other_files_is_not_read(tmp_path: Path) -> None:
    (tmp_path / 'raw').write_bytes(bytes(6 * 7 * 8))
    secret = write_robomimic(tmp_path / 'secret.hdf5')

    def edit(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((6, 3), 'f8')
        layout[:] = h5py.VirtualSource(secret, 'data/demo_0/obs/robot0_eef_pos', (6, 3))
        file['data/demo_0/obs'].create_virtual_dataset('virtual', layout)
        del file['data/demo_1/actions']
        file['data/demo_1'].create_dataset(
            'actions', (6, 7), 'f8', external=[(tmp_path / 'raw', 0, 6 * 7 * 8)])

    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit), LIFT)
    assert ('obs/virtual (has its data in another file: that is not followed)'
            in source.left_out)
    assert refusal(source, 1) == (
        'data/demo_1/actions has its data in another file: that is not followed')


def test_references_objects_and_pickled_attributes_are_no_data(tmp_path: Path) -> None:
    class Trap:

        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / 'sprung',))

    def edit(file: h5py.File) -> None:
        demo = file['data/demo_0']
        demo['obs/pointer'] = np.array([demo['actions'].ref] * 6, dtype=h5py.ref_dtype)
        demo['obs/words'] = np.array(['a'] * 6, dtype=h5py.string_dtype())
        demo['obs/pickled'] = np.array([np.void(pickle.dumps(Trap()))] * 6)
        file['data'].attrs['env_args'] = np.void(pickle.dumps(Trap()))
        demo.attrs['ep_meta'] = demo.ref
        demo.attrs['num_samples'] = h5py.Empty('f4')

    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit),
                       ImportOptions(rate_hz=20, task='lift'))
    assert [entry.partition(',')[0] for entry in source.left_out if entry.startswith('obs/')] == [
        f'obs/pickled (holds |V{len(pickle.dumps(Trap()))}',
        'obs/pointer (holds object', 'obs/words (holds object']
    assert load(source).task == 'lift'
    assert not (tmp_path / 'sprung').exists()


def test_an_array_of_absurd_length_is_not_read(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file.pop('data/demo_1/actions')
        file['data/demo_1'].create_dataset('actions', (10**12, 7), 'f8', chunks=(1024, 7))
    source = open_hdf5(write_robomimic(tmp_path / 'a.hdf5', edit), LIFT)
    assert refusal(source, 1) == (
        'data/demo_1/actions has 1000000000000 rows: no episode is that long')


# -- lazily -------------------------------------------------------------------------------------

@pytest.mark.parametrize('options', [
    {}, {'compression': 'gzip', 'chunks': (7, 8, 16, 3)}, {'chunks': (50, 24, 32, 3)}])
def test_pictures_are_read_a_few_at_a_time_and_no_chunk_twice(
    tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5', lengths=(50,), **options)
    monkeypatch.setattr(hdf5_file, '_BLOCK_BYTES', 10 * 24 * 32 * 3)
    spans: list[tuple[int, int]] = []
    original = hdf5_file.read_array

    def reading(array: h5py.Dataset, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        if array.name.endswith('image') and stop is not None:
            spans.append((start, stop))
        return original(array, start, stop)

    monkeypatch.setattr(hdf5_file, 'read_array', reading)
    pictures = load(open_hdf5(path, LIFT)).aligned.pictures['agentview_image']
    assert spans == [], 'loading reads no picture'
    images = iter(pictures)
    np.testing.assert_array_equal(next(images), picture(0, 0))
    step = {0: 10, 7: 7, 50: 50}[options.get('chunks', (0,))[0]]
    assert spans == [(0, step)]
    for number, image in enumerate(images, 1):
        np.testing.assert_array_equal(image, picture(0, number))
    assert number == 49
    assert spans == [(start, min(start + step, 50)) for start in range(0, 50, step)]


def test_a_job_is_small_and_its_fingerprint_follows_the_content(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / 'a.hdf5')
    jobs = open_hdf5(path, LIFT).jobs
    assert max(len(pickle.dumps(job)) for job in jobs) < 3000
    prints = [job.fingerprint() for job in jobs]
    assert len(set(prints)) == 2
    assert prints == [job.fingerprint() for job in open_hdf5(path, LIFT).jobs]
    other = open_hdf5(path, ImportOptions(task='stack'))
    assert other.jobs[0].fingerprint() != prints[0]
    with h5py.File(path, 'a') as file:
        file['data/demo_0/actions'][0, 0] = 5
    assert open_hdf5(path, LIFT).jobs[0].fingerprint() != prints[0]
    path.unlink()
    with pytest.raises(DatasetError, match='cannot read it: No such file'):
        jobs[0].load(open_hdf5(write_robomimic(tmp_path / 'b.hdf5'), LIFT).contract)
