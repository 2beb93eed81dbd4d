# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""RLDS datasets: a real one compared by hand, and what is wrong with made-up ones, told."""

from __future__ import annotations

import json
from pathlib import Path
import pickle
from typing import Any

import cv2
import numpy as np
import pytest
from rlds_samples import (
    encoded, episode, example, frames, picture, REAL, record, shard, walk, write, write_features)

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.rlds import open_rlds
from ssl_vla_ros.dataset.sources.rlds_files import is_rlds
from ssl_vla_ros.dataset.sources.tfrecord import read_record, Record
from ssl_vla_ros.errors import DatasetError

AT_5 = ImportOptions(rate_hz=5)
NAMELESS = ('RLDS has no names for the values of steps/observation/state, steps/action: they are '
            'numbered')
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f'{REAL} is not there')


def load(source: Source, number: int = 0) -> LoadedEpisode:
    """Load one episode through pickle, as another process gets it."""
    return pickle.loads(pickle.dumps(source.jobs[number])).load(source.contract)  # noqa: S301


def refusal(source: Source, number: int = 0) -> str:
    """Return why an episode is refused, without the file's name."""
    with pytest.raises(DatasetError) as caught:
        loaded = load(source, number)
        for pictures in loaded.aligned.pictures.values():
            list(pictures)
    text = str(caught.value)
    assert text.startswith(f'{source.path}')
    return text.partition(f'record {number}: ')[2]


def opened(tmp_path: Path, *episodes: dict[str, Any], options: ImportOptions = AT_5) -> Source:
    write(shard(tmp_path), *episodes)
    return open_rlds(tmp_path, options)


# -- the real dataset ---------------------------------------------------------------------------

@needs_real
def test_every_row_and_picture_of_the_real_dataset_is_there() -> None:
    """Held against records, numbers and JPEGs found by a walk of our own."""
    source = open_rlds(REAL, AT_5)
    (path,) = REAL.glob('*.tfrecord-*')
    rows = pictures = 0
    for number, data in enumerate(frames(path.read_bytes())):
        theirs, ours = walk(data), load(source, number)
        steps = len(theirs['steps/is_first'])
        rows += steps
        for name, key in (('state', 'steps/observation/state'), ('action', 'steps/action')):
            np.testing.assert_array_equal(
                getattr(ours.aligned, name), np.asarray(theirs[key]).reshape(steps, 7))
        assert ours.task == bytes(theirs['steps/language_instruction'][0]).decode()
        np.testing.assert_array_equal(ours.aligned.ticks_ns, np.arange(steps) * 200_000_000)
        assert all(np.isnan(skew).all() for skew in ours.aligned.skew_s.values())
        for camera, found in ours.aligned.pictures.items():
            jpegs = theirs[f'steps/observation/{camera}']
            images = list(found)
            assert len(images) == len(jpegs) == steps
            for image, jpeg in zip(images, jpegs, strict=True):
                theirs_bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                np.testing.assert_array_equal(image, theirs_bgr[..., ::-1])
                pictures += 1
    assert (rows, pictures) == (267, 3 * 267)
    assert len(source.jobs) == 25
    assert len({load(source, number).task for number in range(25)}) == 4


@needs_real
def test_what_the_real_dataset_says_wrongly_is_told() -> None:
    source = open_rlds(REAL, AT_5)
    assert source.contract.camera_names == ('image_0', 'image_1', 'image_2')
    assert source.contract.state_names == tuple(f'state_{index}' for index in range(7))
    assert source.contract.rate_hz == 5
    assert source.contract.robot == 'bridge_dataset'
    assert source.problems.lines() == [NAMELESS] + [
        f'episode_metadata/has_image_{index} is 0, but image_{index} has pictures (episodes 0-24)'
        for index in range(3)]
    assert 'steps/observation/image_3 (black in all 25 episodes)' in source.left_out
    assert 'steps/language_embedding' in source.left_out
    assert source.refused == []
    assert load(source).notes == (
        'steps/is_last is not set at the last step: the episode may be cut off',)


@needs_real
def test_without_a_rate_the_real_dataset_is_refused_with_the_published_one() -> None:
    with pytest.raises(DatasetError) as caught:
        open_rlds(REAL, ImportOptions())
    assert str(caught.value) == (
        f'{REAL}: RLDS does not say how many steps a second were recorded; give it with --rate '
        '(bridge_dataset was published with 5 Hz: --rate 5)')


@needs_real
@pytest.mark.parametrize('cut', [1, 5000, 174_000])
def test_a_cut_off_copy_keeps_all_but_the_last_episode(tmp_path: Path, cut: int) -> None:
    (path,) = REAL.glob('*.tfrecord-*')
    content = path.read_bytes()
    (tmp_path / path.name).write_bytes(content[:-cut])
    source = open_rlds(tmp_path, AT_5)
    assert len(source.jobs) == 24
    ((name, reason),) = source.refused
    assert name == 'train episode 24'
    assert reason.startswith(f'{tmp_path / path.name}: record 24 at byte ')
    assert reason.endswith(f'is cut off: it has 174072 bytes, {174_072 - cut} are there')
    assert load(source, 23).aligned.state.shape == (13, 7)


@needs_real
def test_the_real_dataset_is_imported_whole(tmp_path: Path) -> None:
    report = import_dataset(REAL, tmp_path / 'out', options=AT_5)
    assert (len(report.kept), report.refused, report.rows) == (25, [], 267)
    assert ('steps/is_last is not set at the last step: the episode may be cut off '
            '(episodes 0-24)') in report.text()
    dataset = Dataset.open(tmp_path / 'out')
    dataset.verify()
    (path,) = REAL.glob('*.tfrecord-*')
    for number, data in enumerate(frames(path.read_bytes())):
        theirs = walk(data)
        np.testing.assert_array_equal(
            dataset.column('action')[dataset.rows(number)].reshape(-1), theirs['steps/action'])
        for camera in dataset.camera_names:
            jpegs = theirs[f'steps/observation/{camera}']
            images = np.stack([cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
                               for jpeg in jpegs])[..., ::-1].astype(np.int16)
            for row, image in enumerate(dataset.frames(camera, number)):
                off = np.abs(images - image).mean(axis=(1, 2, 3))
                assert off[row] == off.min() < 3, 'of all pictures, the row has its own'


# -- files --------------------------------------------------------------------------------------

def test_a_faultless_dataset_has_one_note_about_names(tmp_path: Path) -> None:
    source = opened(tmp_path, episode(0), episode(1, 7))
    assert source.problems.lines() == [NAMELESS]
    assert [job.name for job in source.jobs] == ['train episode 0', 'train episode 1']
    assert source.found == {
        'dataset': 'toy', 'rate_hz': 5, 'episodes': 2, 'shards': 1, 'cameras': 'image 32x48',
        'state': 3, 'action': 2}
    assert source.left_out == ['episode_metadata/file_path', 'steps/discount', 'steps/reward']
    loaded = load(source, 1)
    assert (loaded.task, loaded.success, loaded.notes) == ('open the drawer', None, ())
    for step, image in enumerate(loaded.aligned.pictures['image']):
        np.testing.assert_array_equal(image, picture(1, step))
    assert step == 6
    assert len(list(loaded.aligned.pictures['image'])) == 7, 'pictures can be read again'


def test_shards_and_splits_are_read_in_order_and_missing_ones_told(tmp_path: Path) -> None:
    for split, number, total in (('val', 0, 1), ('train', 2, 4), ('train', 0, 4)):
        write(shard(tmp_path, number, total, split), episode(number, 3 + number))
    source = open_rlds(tmp_path, AT_5)
    assert [job.name for job in source.jobs] == [
        'train episode 0', 'train episode 1', 'val episode 2']
    assert len(load(source, 1).aligned.ticks_ns) == 5
    assert 'toy-train: of 4 shards these are missing: 1, 3' in source.problems.lines()


def test_one_shard_alone_may_be_imported(tmp_path: Path) -> None:
    write(shard(tmp_path, 0, 2), episode(0))
    path = write(shard(tmp_path, 1, 2), episode(1, 4))
    source = open_rlds(path, AT_5)
    assert len(source.jobs) == 1
    assert len(load(source).aligned.ticks_ns) == 4
    assert 'this is one of 2 shards of toy-train: only it is read' in source.problems.lines()


def test_a_shard_that_is_none_is_refused_and_an_empty_one_told(tmp_path: Path) -> None:
    write(shard(tmp_path, 0, 3), episode(0))
    shard(tmp_path, 1, 3).write_bytes(b'')
    bad = shard(tmp_path, 2, 3)
    bad.write_bytes(b'<html>not found</html>')
    source = open_rlds(tmp_path, AT_5)
    assert len(source.jobs) == 1
    assert 'toy-train.tfrecord-00001-of-00003 is empty' in source.problems.lines()
    assert source.refused == [(bad.name, f'{bad}: is no TFRecord file: the checksum of its first '
                                         'length is wrong')]
    shard(tmp_path, 0, 3).unlink()
    with pytest.raises(DatasetError, match='is no TFRecord file'):
        open_rlds(tmp_path, AT_5)


def test_a_folder_without_shards_says_where_they_are(tmp_path: Path) -> None:
    write(shard(tmp_path / 'toy' / '1.0.0'), episode(0))
    with pytest.raises(DatasetError) as caught:
        open_rlds(tmp_path / 'toy', AT_5)
    assert str(caught.value) == (f'{tmp_path}/toy: there is no .tfrecord file here; did you mean '
                                 f'{tmp_path}/toy/1.0.0?')
    with pytest.raises(DatasetError, match='nowhere: does not exist'):
        open_rlds(tmp_path / 'nowhere', AT_5)
    assert is_rlds(tmp_path / 'toy' / '1.0.0')
    assert not is_rlds(tmp_path / 'toy')


def test_dataset_info_names_the_dataset_and_is_held_against_the_shards(tmp_path: Path) -> None:
    (tmp_path / 'dataset_info.json').write_text(json.dumps({
        'name': 'droid', 'splits': [{'name': 'train', 'shardLengths': ['3']}]}))
    write(shard(tmp_path), episode(0), episode(1))
    with pytest.raises(DatasetError, match=r'\(droid was published with 15 Hz: --rate 15\)'):
        open_rlds(tmp_path, ImportOptions())
    source = open_rlds(tmp_path, AT_5)
    assert source.contract.robot == 'droid'
    assert ('dataset_info.json: toy-train.tfrecord-00000-of-00001 has 3 episodes, 2 can be read'
            in source.problems.lines())
    (tmp_path / 'dataset_info.json').write_text('{')
    with pytest.raises(DatasetError, match='dataset_info.json: not valid JSON'):
        open_rlds(tmp_path, AT_5)


def test_a_rate_in_metadata_json_is_taken_unless_the_user_says_another(tmp_path: Path) -> None:
    (tmp_path / 'metadata.json').write_text('{"control_frequency": 12}')
    source = opened(tmp_path, episode(0), options=ImportOptions())
    assert source.contract.rate_hz == 12
    source = open_rlds(tmp_path, AT_5)
    assert source.contract.rate_hz == 5
    assert (f'{tmp_path}/metadata.json: control_frequency is 12: taken as 5 Hz, as --rate says'
            in source.problems.lines())
    (tmp_path / 'metadata.json').write_text('{"control_frequency": 0.5}')
    with pytest.raises(DatasetError) as caught:
        open_rlds(tmp_path, ImportOptions())
    assert str(caught.value) == (
        f'{tmp_path}/metadata.json: control_frequency is 0.5, must be a whole number from 1 to '
        '1000; give the true one with --rate')
    with pytest.raises(DatasetError, match='--rate is 0, must be a whole number from 1 to 1000'):
        open_rlds(tmp_path, ImportOptions(rate_hz=0))


def test_features_json_is_held_against_the_records(tmp_path: Path) -> None:
    write_features(
        tmp_path, observation__state=[4], observation__image=[32, 48, 3], observation__lost=[64],
        action=[2], is_first=[], is_last=[], is_terminal=[], reward=[])
    source = opened(tmp_path, episode(0))
    assert source.problems.lines() == [
        "features.json declares 'steps/observation/lost', which the records do not have",
        "the records have 'episode_metadata/file_path', which features.json does not declare",
        "the records have 'steps/discount', which features.json does not declare",
        "the records have 'steps/language_instruction', which features.json does not declare",
        'features.json: steps/observation/state has the shape (4,), the records have 3 values a '
        'step', NAMELESS]
    write_features(tmp_path, observation__image=[64, -1, 3])
    assert ('features.json: steps/observation/image is (64, -1, 3), the pictures are 32x48'
            in open_rlds(tmp_path, AT_5).problems.lines())
    (tmp_path / 'features.json').write_text('{"featuresDict": []}')
    assert 'features.json declares no feature: not used' in open_rlds(
        tmp_path, AT_5).problems.lines()


# -- what the features are ----------------------------------------------------------------------

def test_state_and_action_in_parts_are_put_together(tmp_path: Path) -> None:
    """As the datasets of the RT-1 family have them: one feature a quantity, no joint vector."""
    counts = np.arange(15, dtype=np.float32)
    source = opened(tmp_path, episode(
        0, steps__observation__state=None, steps__action=None,
        steps__observation__gripper_closed=counts[:5],
        steps__observation__base_pose=counts,
        steps__observation__natural_language_embedding=np.zeros(5 * 512, np.float32),
        steps__action__world_vector=counts, steps__action__open=np.arange(5),
        steps__action__terminate_episode=np.zeros(15, np.int64)))
    assert source.contract.state_names == (
        'base_pose_0', 'base_pose_1', 'base_pose_2', 'gripper_closed_0')
    assert source.contract.action_names == (
        'open_0', 'world_vector_0', 'world_vector_1', 'world_vector_2')
    loaded = load(source).aligned
    np.testing.assert_array_equal(loaded.state[2], [6, 7, 8, 2])
    np.testing.assert_array_equal(loaded.action[4], [4, 12, 13, 14])
    assert {'steps/action/terminate_episode',
            'steps/observation/natural_language_embedding'} <= set(source.left_out)


def test_depth_and_odd_pictures_are_left_out_with_the_reason(tmp_path: Path) -> None:
    source = opened(tmp_path, episode(
        0, steps__observation__depth=[encoded(np.zeros((32, 48), np.uint8))] * 5,
        steps__observation__far=[encoded(np.zeros((32, 48), np.uint16))] * 5,
        steps__observation__packed=[encoded(np.zeros((32, 48, 4), np.uint8))] * 5,
        steps__observation__tiny=[encoded(np.zeros((8, 8, 3), np.uint8))] * 5,
        steps__observation__grey=[encoded(np.full((32, 48), 77, np.uint8))] * 5))
    assert source.contract.camera_names == ('grey', 'image')
    assert [entry for entry in source.left_out if entry.startswith('steps/observation')] == [
        'steps/observation/depth (depth)',
        'steps/observation/far (is uint16 (32, 48), must be 8-bit colour or grey)',
        'steps/observation/packed (is uint8 (32, 48, 4), must be 8-bit colour or grey)',
        'steps/observation/tiny (is 8x8, must be 16 to 4096 pixels)']
    for image in load(source).aligned.pictures['grey']:
        assert (image == 77).all()
        assert image.shape == (32, 48, 3)


def test_pictures_of_odd_size_are_one_pixel_smaller(tmp_path: Path) -> None:
    source = opened(tmp_path, episode(
        0, steps__observation__image=[encoded(picture(0, step, 33, 48)) for step in range(5)]))
    assert 'image: 33x48 is odd: stored one pixel smaller' in source.problems.lines()
    assert next(iter(load(source).aligned.pictures['image'])).shape == (32, 48, 3)


def test_a_camera_that_is_black_somewhere_is_kept_and_told(tmp_path: Path) -> None:
    black = [encoded(np.zeros((32, 48, 3), np.uint8), '.jpg')] * 5
    flag = {'episode_metadata__has_image': np.array([1])}
    source = opened(tmp_path, episode(0, steps__observation__image=black, **flag), episode(1))
    assert source.contract.camera_names == ('image',)
    assert ('episode_metadata/has_image is 1, but image is black (episodes 0)'
            in source.problems.lines())
    assert load(source, 0).notes == ('image is black',)
    assert load(source, 1).notes == ()


def test_when_every_camera_is_black_only_a_state_helps(tmp_path: Path) -> None:
    black = [encoded(np.zeros((32, 48, 3), np.uint8))] * 5
    source = opened(tmp_path, episode(0, steps__observation__image=black))
    assert source.contract.cameras == ()
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, episode(0, steps__observation__image=black,
                                 steps__observation__state=None))
    assert str(caught.value) == (f'{tmp_path}: every camera is black in all 1 episodes, and there '
                                 'is no state')


def test_only_so_many_of_many_episodes_are_looked_at_for_black(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr('ssl_vla_ros.dataset.sources.rlds._LOOKED_AT', 2)
    monkeypatch.setattr('ssl_vla_ros.dataset.sources.rlds._LOOKED_AT_MOST', 4)
    black = {'steps__observation__dark': [encoded(np.zeros((32, 48, 3), np.uint8))] * 5}
    seen = {'steps__observation__dark': [encoded(picture(0, 1))] * 5}
    source = opened(tmp_path, *[episode(number, **black) for number in range(9)])
    assert ('steps/observation/dark (black in all 4 episodes looked at, of 9)'
            in source.left_out)
    source = opened(tmp_path, *[episode(number, **(seen if number == 5 else black))
                                for number in range(9)])
    assert source.contract.camera_names == ('dark', 'image'), 'the second look found it'


def test_records_of_something_else_are_no_episodes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, {'image/encoded': [b'x'], 'image/label': np.array([3])})
    assert str(caught.value) == (
        f'{tmp_path}: none of the 1 records can be used; the first: {shard(tmp_path)}: record 0: '
        'is no RLDS episode: it has no steps/…, but image/encoded, image/label')
    with pytest.raises(DatasetError, match='nothing tells how many steps there are'):
        opened(tmp_path, {'steps/other': np.ones(4, np.float32)})
    with pytest.raises(DatasetError) as caught:
        opened(tmp_path, episode(0, steps__observation__image=None,
                                 steps__observation__state=None))
    assert str(caught.value).startswith(
        f'{tmp_path}: there is neither a picture nor a state to observe; it has episode_metadata')


def test_without_an_action_there_are_videos_with_states(tmp_path: Path) -> None:
    source = opened(tmp_path, episode(0, steps__action=None))
    assert source.contract.action == ()
    assert 'there is no action' in source.problems.lines()
    assert load(source).aligned.action.shape == (5, 0)


def test_a_contract_of_the_user_chooses_by_name(tmp_path: Path) -> None:
    def contract(*names: str) -> ImportOptions:
        stream = {'topic': 'joints', 'type': 'std_msgs/Float64MultiArray'}
        return ImportOptions(rate_hz=5, contract=parse_contract(
            {'robot': 'mine', 'rate_hz': 5, 'cameras': {'image': {
                'topic': 'camera', 'type': 'sensor_msgs/Image', 'height': 16, 'width': 24}},
             'state': [stream | {'names': list(names)}], 'action': []}, 'mine.yaml'))

    source = opened(tmp_path, episode(0), options=contract('state_2', 'state_0'))
    loaded = load(source).aligned
    values = episode(0)['steps/observation/state'].reshape(5, 3)
    np.testing.assert_array_equal(loaded.state, values[:, [2, 0]])
    assert next(iter(loaded.pictures['image'])).shape == (16, 24, 3)
    with pytest.raises(DatasetError, match='lacks what mine.yaml names: state elbow'):
        opened(tmp_path, episode(0), options=contract('elbow'))


# -- one episode --------------------------------------------------------------------------------

def test_a_last_action_of_zeros_is_left_out_with_its_row(tmp_path: Path) -> None:
    action = episode(0)['steps/action']
    dummy = action.copy()
    dummy[-2:] = 0
    loaded = load(opened(tmp_path, episode(0, steps__action=dummy)))
    assert len(loaded.aligned.ticks_ns) == len(list(loaded.aligned.pictures['image'])) == 4
    np.testing.assert_array_equal(loaded.aligned.action, action.reshape(5, 2)[:4])
    assert loaded.notes == (
        'the last step has an action of zeros, as RLDS fills the one after the last action: it '
        'is left out',)


def test_a_robot_that_rests_keeps_its_rows(tmp_path: Path) -> None:
    resting = episode(0)['steps/action'].copy()
    resting[-4:] = 0
    loaded = load(opened(tmp_path, episode(0, steps__action=resting)))
    assert len(loaded.aligned.ticks_ns) == 5
    assert loaded.notes == ()


def test_flags_of_first_and_last_step_are_held_against_the_rows(tmp_path: Path) -> None:
    flags = np.array([1, 0, 0, 1, 0])
    source = opened(tmp_path, episode(0, steps__is_first=flags), episode(1, steps__is_last=flags))
    assert refusal(source, 0) == (
        'steps/is_first is set at step 3: there are two episodes in one record')
    assert load(source, 1).notes == (
        'steps/is_last is not set at the last step: the episode may be cut off',
        'steps/is_last is set before the last step')


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('key', ['steps/action', 'steps/observation/state'])
def test_a_value_that_is_no_number_refuses_the_episode_by_its_row(
    tmp_path: Path, key: str, bad: float,
) -> None:
    values = episode(1)[key].copy()
    values[len(values) // 5 * 3 + 1] = bad
    source = opened(tmp_path, episode(0), episode(1, **{key: values}))
    assert refusal(source, 1) == f'{key} has no number in row 3'
    assert len(load(source, 0).aligned.ticks_ns) == 5


@pytest.mark.parametrize(('changes', 'sentence'), [
    ({'steps/action': np.zeros(9, np.float32)},
     'steps/action has 9 values, 5 steps of 2 make 10'),
    ({'steps/observation/state': [b'x'] * 5}, 'there are no numbers in steps/observation/state'),
    ({'steps/observation/state': None}, 'there are no numbers in steps/observation/state'),
    ({'steps/reward': np.zeros(4, np.float32)}, 'steps/is_first has 5 steps, steps/reward 4'),
    ({'steps/observation/image': None}, 'there are no pictures of steps/observation/image'),
    ({'steps/observation/image': [encoded(picture(0, 0))] * 4},
     'steps/observation/image has 4 pictures, the episode 5 steps'),
    ({'steps/observation/image': [encoded(picture(0, 0))] * 4 + [b'GIF89a']},
     "steps/observation/image: picture 4: neither JPEG nor PNG: begins with b'GIF89a'"),
    ({'steps/observation/image': [encoded(picture(0, 0))] * 2 + [b'GIF89a']
      + [encoded(picture(0, 0))] * 2},
     "steps/observation/image: picture 2: neither JPEG nor PNG: begins with b'GIF89a'"),
    ({'steps/observation/image': [encoded(picture(0, 0))] * 2
      + [encoded(picture(0, 0, 16, 16))] * 3},
     'steps/observation/image: picture 2 is 16x16, the others are 32x48'),
    ({'steps/language_instruction': [b' '] * 5},
     'there is no instruction; say what was done with --task'),
])
def test_an_unusable_episode_is_refused_and_the_others_stay(
    tmp_path: Path, changes: dict[str, Any], sentence: str,
) -> None:
    source = opened(tmp_path, episode(0), episode(1, **changes))
    assert refusal(source, 1) == sentence
    assert len(list(load(source, 0).aligned.pictures['image'])) == 5


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_a_cut_off_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    images = [encoded(picture(0, 0), suffix)] * 5
    half = images[0][:len(images[0]) // 2]
    source = opened(tmp_path, episode(0, steps__observation__image=images),
                    episode(1, steps__observation__image=[*images[:4], half]))
    assert refusal(source, 1) == (f'steps/observation/image: picture 4: the picture is cut off '
                                  f'after {len(half)} bytes')


def test_a_damaged_first_episode_costs_no_camera(tmp_path: Path) -> None:
    images = [encoded(picture(0, step)) for step in range(5)]
    source = opened(tmp_path, episode(0, steps__observation__image=[images[0][:40], *images[1:]]),
                    episode(1))
    assert source.contract.camera_names == ('image',)
    assert refusal(source, 0).endswith('picture 0: the picture is cut off after 40 bytes')


def test_changed_bytes_refuse_the_episode_by_its_checksum(tmp_path: Path) -> None:
    source = opened(tmp_path, episode(0), episode(1))
    content = bytearray(shard(tmp_path).read_bytes())
    content[-100] ^= 4
    shard(tmp_path).write_bytes(bytes(content))
    assert refusal(source, 1) == 'the data does not fit its checksum'


def test_the_instruction_may_be_the_user_s_and_a_changing_one_is_told(tmp_path: Path) -> None:
    source = opened(
        tmp_path, episode(0, steps__language_instruction=None),
        episode(1, steps__observation__natural_language_instruction=[b'grasp'] * 2 + [b'lift'] * 3,
                steps__language_instruction=None),
        options=ImportOptions(rate_hz=5, task='tidy up', robot='my arm'))
    assert load(source, 0).task == 'tidy up'
    assert source.contract.robot == 'my_arm'
    assert load(source, 1).task == 'grasp'
    assert load(source, 1).notes == (
        "the instruction changes in the episode: its first is taken, not 'lift'",)
    source = opened(tmp_path, episode(
        0, steps__language_instruction=[b'', b'grasp', b'grasp', b'lift', b'lift']))
    loaded = load(source)
    assert loaded.task == 'grasp'
    assert loaded.notes == (
        "the instruction changes in the episode: its first is taken, not 'lift'",)


# -- jobs ---------------------------------------------------------------------------------------

def test_a_job_is_small_and_its_fingerprint_follows_the_content(tmp_path: Path) -> None:
    source = opened(tmp_path / 'a', episode(0), episode(1))
    again = open_rlds(tmp_path / 'a', AT_5)
    assert max(len(pickle.dumps(job)) for job in source.jobs) < 2000
    prints = [job.fingerprint() for job in source.jobs]
    assert prints == [job.fingerprint() for job in again.jobs]
    assert len(set(prints)) == 2
    (tmp_path / 'a').rename(tmp_path / 'b')
    assert prints == [job.fingerprint() for job in open_rlds(tmp_path / 'b', AT_5).jobs]
    other = open_rlds(tmp_path / 'b', ImportOptions(rate_hz=5, task='other'))
    assert other.jobs[0].fingerprint() != prints[0]
    changed = episode(1)
    changed['steps/action'] = changed['steps/action'] + 1
    write(shard(tmp_path / 'b'), episode(0), changed)
    assert open_rlds(tmp_path / 'b', AT_5).jobs[1].fingerprint() != prints[1]


def test_opening_reads_no_more_than_some_episodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A damaged one among the others is met when it is loaded."""
    episodes = [record(example(episode(number, 2))) for number in range(40)]
    read: set[int] = set()

    def reading(one: Record) -> bytes:
        read.add(one.index)
        return read_record(one)

    monkeypatch.setattr('ssl_vla_ros.dataset.sources.rlds.read_record', reading)
    write(shard(tmp_path))
    shard(tmp_path).write_bytes(b''.join(episodes))
    open_rlds(tmp_path, AT_5)
    assert len(read) == 32
    unread = min(set(range(40)) - read)
    broken = bytearray(episodes[unread])
    broken[-6] ^= 1
    episodes[unread] = bytes(broken)
    shard(tmp_path).write_bytes(b''.join(episodes))
    source = open_rlds(tmp_path, AT_5)
    assert len(source.jobs) == 40
    assert refusal(source, unread) == 'the data does not fit its checksum'
