# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes on disk: what is written is read back, by our reader and by independent ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

from episode_samples import (
    all_written, fill, GRIPPER, IMAGE, image_cdr, JOINTS, joints_cdr, open_writer,
    sample_contract, SIZE)
import numpy as np
import pytest
from recorder_faults import small_disk
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import EpisodeError
from ssl_vla_ros.messages.images import camera_rgb
from ssl_vla_ros.messages.streams import read_stream
import yaml


def test_an_episode_reads_back_as_it_was_written(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, operator='Ada')
    fill(writer, 30, np.random.default_rng(1))
    assert list_episodes(tmp_path) == []
    path = writer.close(all_written(writer), success=True, extra={'seed': 3})
    assert list_episodes(tmp_path) == [path] == [tmp_path / 'episode_000000']
    assert sorted(item.name for item in path.iterdir()) == [
        'episode.json', 'episode_000000_0.mcap', 'metadata.yaml']
    assert [item.name for item in tmp_path.glob('.episode*')] == []

    episode = Episode.open(path)
    assert episode.contract == sample_contract() or (
        episode.contract.to_dict() == sample_contract().to_dict())
    for key, value in {'status': 'complete', 'task': 'lift', 'success': True, 'operator': 'Ada',
                       'clock': 'system', 'first_stamp_ns': 10**9, 'extra': {'seed': 3},
                       'last_stamp_ns': 10**9 + 29 * 50_000_000, 'duration_s': 1.45}.items():
        assert episode.info[key] == value, key
    rng = np.random.default_rng(1)
    for tick, item in enumerate(episode.decoded([IMAGE])):
        want = np.frombuffer(rng.bytes(SIZE * SIZE * 3), np.uint8).reshape(SIZE, SIZE, 3)
        assert np.array_equal(camera_rgb(episode.contract.cameras[0], item.message), want)
        assert item.stamp_ns == 10**9 + tick * 50_000_000
        assert item.log_time_ns == item.stamp_ns + 1000
    joints = [read_stream(episode.contract.state[0], item.message)
              for item in episode.decoded([JOINTS])]
    assert np.array_equal(joints, [[tick, tick + 0.5] for tick in range(30)])
    commands = list(episode.decoded([GRIPPER]))
    assert commands[7].stamp_ns is None
    assert read_stream(episode.contract.action[0], commands[7].message) == [0.07]
    raw = next(episode.raw([IMAGE]))
    assert raw.type == 'sensor_msgs/Image'
    rng = np.random.default_rng(1)
    assert raw.data == image_cdr(10**9, rng.bytes(SIZE * SIZE * 3))


def test_rosbags_reads_the_bag_and_its_metadata(tmp_path: Path) -> None:
    from rosbags.highlevel import AnyReader
    writer = open_writer(tmp_path)
    fill(writer, 5, np.random.default_rng(1))
    path = writer.close(all_written(writer))
    with AnyReader([path]) as reader:
        counts = {item.topic: item.msgcount for item in reader.connections}
        assert counts == {f'/{topic}': 5 for topic in (IMAGE, JOINTS, GRIPPER)}
        messages = [reader.deserialize(data, item.msgtype)
                    for item, _, data in reader.messages() if item.topic == f'/{JOINTS}']
        assert [message.position[1] for message in messages] == [0, 1, 2, 3, 4]
        assert reader.duration == 4 * 50_000_000 + 2000 + 1
    info = yaml.safe_load((path / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    assert info['version'] == 9
    assert info['message_count'] == 15
    assert info['topics_with_message_count'][0]['topic_metadata'][
        'type_description_hash'].startswith('RIHS01_')


def test_mcap_ros2_support_reads_the_bag_on_its_own(tmp_path: Path) -> None:
    from mcap_ros2.reader import read_ros2_messages
    writer = open_writer(tmp_path)
    fill(writer, 5, np.random.default_rng(1))
    path = writer.close(all_written(writer))
    found = [item.ros_msg.data[0] for item in read_ros2_messages(
        str(path / 'episode_000000_0.mcap'), topics=[f'/{GRIPPER}'])]
    assert found == [0.0, 0.01, 0.02, 0.03, 0.04]


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    first = open_writer(tmp_path)
    second = open_writer(tmp_path)          # beside the first, which is still open
    second.discard('wrong cube')
    path = first.close(all_written(first))
    third = open_writer(tmp_path)
    third.close(all_written(third))
    for item in path.iterdir():
        item.unlink()
    path.rmdir()
    (tmp_path / 'episode_000002').rename(tmp_path / 'kept_elsewhere')
    fourth = open_writer(tmp_path)
    assert (first.number, second.number, third.number, fourth.number) == (0, 1, 2, 3)
    fourth.discard()
    info = json.loads((tmp_path / 'discarded' / 'episode_000001' / 'episode.json').read_text())
    assert (info['status'], info['reason']) == ('discarded', 'wrong cube')
    assert list_episodes(tmp_path) == []


def test_books_that_do_not_balance_make_an_episode_incomplete(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    accounts = all_written(writer) | {JOINTS: TopicAccount(published=9, written=3, lost=5)}
    info = Episode.open(writer.close(accounts)).info
    assert info['status'] == 'incomplete'
    assert JOINTS in info['reason']
    assert IMAGE not in info['reason']


def test_an_episode_without_a_camera_state_or_action_is_never_complete(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    writer.write(JOINTS, joints_cdr(5, {'a': 1.0, 'b': 2.0}), 6, 5)
    episode = Episode.open(writer.close(all_written(writer)))
    assert episode.info['status'] == 'incomplete'
    fault, = episode.faults
    assert episode.info['reason'] == fault == (
        f'nothing was recorded on {IMAGE} (nothing came), {GRIPPER} (nothing came)')


def test_an_incomplete_episode_of_before_faults_were_noted_is_taken_for_faulty(
        tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    path = writer.close(all_written(writer), status='incomplete', reason='disk: full')
    assert Episode.open(path).ended_early
    file = path / 'episode.json'
    info = json.loads(file.read_text())
    del info['faults']
    file.write_text(json.dumps(info))
    assert Episode.open(path).faults == ('disk: full',)
    assert not Episode.open(path).ended_early
    file.write_text(json.dumps(info | {'status': 'complete', 'reason': ''}))
    assert Episode.open(path).faults == ()


def test_a_bag_topic_with_a_namespace_is_read_by_the_contracts_name(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, bag_topics={JOINTS: '/left/joint_states'})
    fill(writer, 2, np.random.default_rng(1))
    episode = Episode.open(writer.close(all_written(writer)))
    assert {item.topic for item in episode.raw([JOINTS])} == {JOINTS}
    with pytest.raises(EpisodeError, match='wrist.*it has'):
        list(episode.raw(['camera/wrist/image_raw']))


def test_a_message_type_that_is_not_installed_is_named(tmp_path: Path) -> None:
    contract = sample_contract()
    with pytest.raises(EpisodeError, match='nowhere_msgs/Thing'):
        EpisodeWriter(tmp_path, contract, task='', topics={'x': 'nowhere_msgs/Thing'})
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    with pytest.raises(EpisodeError, match='file'):
        open_writer(tmp_path / 'file')


@pytest.mark.parametrize(('damage', 'match'), [
    ({'schema_version': 2}, 'schema_version'), ({'status': 'recording'}, 'status'),
    ({'contract': None}, 'contract'), ({'episode': 'x'}, 'episode'),
    ({'faults': 'disk'}, 'faults')])
def test_a_damaged_episode_json_is_named_with_its_key(
        tmp_path: Path, damage: dict[str, object], match: str) -> None:
    writer = open_writer(tmp_path)
    path = writer.close(all_written(writer))
    file = path / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | damage))
    with pytest.raises(EpisodeError, match=f'episode.json.*{match}'):
        Episode.open(path)


def test_a_file_cut_off_after_it_was_finished_is_an_episode_error(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 30, np.random.default_rng(1))
    path = writer.close(all_written(writer))
    file = path / 'episode_000000_0.mcap'
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(EpisodeError, match='episode_000000_0.mcap'):
        list(Episode.open(path).raw())
    file.unlink()
    with pytest.raises(EpisodeError, match='0 .mcap files'):
        Episode.open(path)


def test_there_is_no_session_is_said(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match='nothing_here'):
        list_episodes(tmp_path / 'nothing_here')


def test_a_number_that_cannot_be_noted_leaves_nothing_behind(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_vla_ros.episodes import session as sessions

    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')
    plain = sessions.write_durably
    monkeypatch.setattr(sessions, 'write_durably', full)
    with pytest.raises(EpisodeError, match='No space left on device'):
        open_writer(tmp_path / 'session')
    assert list((tmp_path / 'session').iterdir()) == []
    monkeypatch.setattr(sessions, 'write_durably', plain)
    writer = open_writer(tmp_path / 'session')
    assert writer.number == 0
    writer.discard()


@pytest.mark.parametrize('killed', [False, True])
def test_a_disk_without_a_free_byte_lets_an_episode_be_finished(
        tmp_path: Path, killed: bool) -> None:
    with small_disk(tmp_path / 'disk', 8 * 2**20) as disk:
        writer = open_writer(disk)
        fill(writer, 10, np.random.default_rng(1))
        writer.sync()
        with (disk / 'others').open('wb', buffering=0) as others, pytest.raises(OSError):
            while others.write(bytes(os.sysconf('SC_PAGE_SIZE'))):
                pass
        if killed:
            writer.abandon()
            path = recover_session(disk)[0].path
        else:
            path = writer.close(all_written(writer))
        assert sorted(item.name for item in path.iterdir()) == [
            'episode.json', 'episode_000000_0.mcap', 'metadata.yaml']
        assert len(list(Episode.open(path).raw())) == 30
