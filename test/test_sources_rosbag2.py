# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Any rosbag2 through a contract: every storage and every way of being broken, made and real."""

from __future__ import annotations

from collections.abc import Callable
import gc
from pathlib import Path
import pickle
import shutil
import sqlite3
from typing import Any

from bag_samples import pack, split, write_mcap, write_metadata, write_sqlite
from dataset_episodes import PERIOD_NS, picture, Recording, small_contract, START_NS
import numpy as np
import pytest

from ssl_vla_ros.contract import Contract, load_contract, parse_contract
from ssl_vla_ros.dataset.align import align_episode, AlignedEpisode
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.rosbag2 import open_rosbag2
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import DatasetError, EpisodeError

DATA = Path(__file__).parents[2] / 'shared' / 'data'
RESOURCES = 'odd/rosbag2_resources/'
MIDDLE = START_NS + 10 * PERIOD_NS


def options(contract: Contract | None = None, **changes: Any) -> ImportOptions:
    return ImportOptions(contract=contract or small_contract(), task='lift', **changes)


def load_all(source: Source) -> list[AlignedEpisode]:
    found = []
    for job in source.jobs:
        # Jobs travel to other processes.
        loaded = pickle.loads(pickle.dumps(job)).load(source.contract)  # noqa: S301
        assert all(episode.task == 'lift' and episode.success is None for episode in loaded)
        found += [episode.aligned for episode in loaded]
    return found


def assert_same(one: AlignedEpisode, other: AlignedEpisode) -> None:
    np.testing.assert_array_equal(one.ticks_ns, other.ticks_ns)
    for part in ('state', 'action', 'evaluation', 'flagged'):
        np.testing.assert_array_equal(getattr(one, part), getattr(other, part))
    for name, skew in other.skew_s.items():
        np.testing.assert_array_equal(one.skew_s[name], skew)
    for camera in other.pictures:
        np.testing.assert_array_equal(one.frames(camera), other.frames(camera))
    assert one.report == other.report


@pytest.fixture(scope='module')
def reference(tmp_path_factory: pytest.TempPathFactory) -> AlignedEpisode:
    recording = Recording.regular(20)
    path = recording.write(tmp_path_factory.mktemp('session'))
    return align_episode(Episode.open(path), recording.contract)


def mcap(folder: Path, recording: Recording) -> Path:
    return write_mcap(folder / 'bag.mcap', recording)


def mcap_without_schemas(folder: Path, recording: Recording) -> Path:
    return write_mcap(folder / 'bag.mcap', recording, schemas=False)


def mcap_packed(folder: Path, recording: Recording) -> Path:
    return pack(mcap(folder, recording))


def sqlite(folder: Path, recording: Recording) -> Path:
    return write_sqlite(folder / 'bag.db3', recording)


def sqlite_of_iron(folder: Path, recording: Recording) -> Path:
    return write_sqlite(folder / 'bag.db3', recording, definitions=True)


def sqlite_packed(folder: Path, recording: Recording) -> Path:
    return pack(sqlite(folder, recording))


def sqlite_of_packed_messages(folder: Path, recording: Recording) -> Path:
    return write_sqlite(folder / 'bag.db3', recording, compress=True)


def folder_with_metadata(folder: Path, recording: Recording) -> Path:
    write_metadata(folder, recording, [mcap(folder, recording)])
    return folder


def folder_without_metadata(folder: Path, recording: Recording) -> Path:
    return sqlite(folder, recording).parent


def split_mcap(folder: Path, recording: Recording) -> Path:
    files = [write_mcap(folder / f'bag_{number}.mcap', recording, part)
             for number, part in enumerate(split(recording, MIDDLE))]
    write_metadata(folder, recording, files)
    return folder


def split_packed_sqlite_without_metadata(folder: Path, recording: Recording) -> Path:
    for number, part in enumerate(split(recording, MIDDLE), 9):
        pack(write_sqlite(folder / f'bag_{number}.db3', recording, part))
    return folder


def metadata_of_old(folder: Path, recording: Recording) -> Path:
    file = sqlite(folder, recording)
    write_metadata(folder, recording, [file], version=2,
                   relative_file_paths=[f'{folder.name}/{file.name}'])
    return folder


def metadata_itself(folder: Path, recording: Recording) -> Path:
    return folder_with_metadata(folder, recording) / 'metadata.yaml'


@pytest.mark.parametrize('make', [
    mcap, mcap_without_schemas, mcap_packed, sqlite, sqlite_of_iron, sqlite_packed,
    sqlite_of_packed_messages, folder_with_metadata, folder_without_metadata, split_mcap,
    split_packed_sqlite_without_metadata, metadata_of_old, metadata_itself])
@pytest.mark.parametrize('keep', [True, False])
def test_every_storage_gives_the_rows_of_our_own_episode(
        tmp_path: Path, reference: AlignedEpisode, make: Callable[[Path, Recording], Path],
        keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not keep:
        monkeypatch.setattr(
            'ssl_vla_ros.dataset.align_pictures.Budget.spend', lambda *_: False)
    path = make(tmp_path / 'the_bag', Recording.regular(20))
    before = {file: file.read_bytes() for file in (tmp_path / 'the_bag').iterdir()}
    source = open_rosbag2(path, options())
    assert source.refused == []
    (aligned,) = load_all(source)
    assert_same(aligned, reference)
    assert before == {file: file.read_bytes() for file in (tmp_path / 'the_bag').iterdir()}


def test_our_own_file_as_a_bag_of_others_gives_the_dataset_that_build_gives(
        tmp_path: Path) -> None:
    path = Recording.regular(20).write(tmp_path / 'session', success=None, task='lift')
    build_dataset(tmp_path / 'session', tmp_path / 'built')
    (bag,) = path.glob('*.mcap')
    shutil.copyfile(bag, tmp_path / 'copy.mcap')
    report = import_dataset(tmp_path / 'copy.mcap', tmp_path / 'imported', options=options())
    assert report.kept == ['copy.mcap']
    assert report.digest == Dataset.open(tmp_path / 'built').digest()


def test_several_bags_are_several_episodes_in_their_order(tmp_path: Path) -> None:
    for number in (10, 9):
        folder = tmp_path / 'bags' / f'take_{number}'
        recording = Recording.regular(number, START_NS + number * 10**10)
        write_metadata(folder, recording, [write_mcap(folder / 'a_0.mcap', recording)])
    lone = Recording.regular(8)
    write_sqlite(tmp_path / 'bags' / 'lone.db3', lone)
    write_mcap(tmp_path / 'bags' / '.hidden' / 'b.mcap', lone)
    source = open_rosbag2(tmp_path / 'bags', options())
    assert [job.name for job in source.jobs] == ['lone.db3', 'take_9', 'take_10']
    assert [len(aligned.ticks_ns) for aligned in load_all(source)] == [8, 9, 10]
    assert source.kind == 'rosbag2 (sqlite3, mcap)'
    assert source.found == {'bags': 3, 'files': 3, 'messages': 10 * 27 + 3, 'topics': 6}
    assert source.problems.lines() == []


def test_numbered_files_that_do_not_follow_each_other_are_bags_of_their_own(
        tmp_path: Path) -> None:
    for number in range(3):
        recording = Recording.regular(8, START_NS + number * 60 * 10**9)
        write_mcap(tmp_path / 'bags' / f'demo_{number}.mcap', recording)
    source = open_rosbag2(tmp_path / 'bags', options())
    assert [job.name for job in source.jobs] == ['demo_0.mcap', 'demo_1.mcap', 'demo_2.mcap']
    assert [aligned.frames('front')[0, 0, 0, 0] for aligned in load_all(source)] == [16] * 3


def test_a_split_bag_without_metadata_is_told(tmp_path: Path) -> None:
    split_packed_sqlite_without_metadata(tmp_path / 'bag', Recording.regular(20))
    source = open_rosbag2(tmp_path / 'bag', options())
    assert [job.name for job in source.jobs] == ['bag_9.db3.zstd']
    (line,) = source.problems.lines()
    assert 'bag_9.db3.zstd and the 1 files after it follow each other without a pause' in line


@pytest.mark.parametrize('write', [write_mcap, write_sqlite])
def test_a_bag_whose_receive_times_begin_at_zero_is_read(
        tmp_path: Path, reference: AlignedEpisode, write: Callable[..., Path]) -> None:
    recording = Recording.regular(20)
    begin = min(received for received, _, _ in recording.messages)
    messages = [(received - begin, topic, data) for received, topic, data in recording.messages]
    path = write(tmp_path / ('a.mcap' if write is write_mcap else 'a.db3'), recording, messages)
    data = small_contract().to_dict()
    data['action'] = data['action'][:1]  # the gripper has no stamps but these
    (aligned,) = load_all(open_rosbag2(path, options(parse_contract(data, 'stamped'))))
    np.testing.assert_array_equal(aligned.ticks_ns, reference.ticks_ns)
    np.testing.assert_array_equal(aligned.state, reference.state)
    np.testing.assert_array_equal(aligned.frames('wrist'), reference.frames('wrist'))


def test_copies_are_made_only_where_they_are_needed_and_vanish(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / 'scratch'
    scratch.mkdir()
    monkeypatch.setattr('tempfile.tempdir', str(scratch))
    source = open_rosbag2(mcap(tmp_path / 'a', Recording.regular(8)), options())
    loaded = source.jobs[0].load(source.contract)
    assert [*scratch.iterdir()] == []
    source = open_rosbag2(sqlite_packed(tmp_path / 'b', Recording.regular(8)), options())
    loaded = source.jobs[0].load(source.contract)
    assert len([*scratch.iterdir()]) == 1
    assert len(loaded[0].aligned.frames('front')) == 8  # type: ignore[index]
    del loaded
    gc.collect()
    assert [*scratch.iterdir()] == []


def test_fingerprints_follow_files_and_task(tmp_path: Path) -> None:
    bag = folder_with_metadata(tmp_path / 'bag', Recording.regular(8))

    def digest(task: str = 'lift', path: Path = bag) -> str:
        return open_rosbag2(path, ImportOptions(
            contract=small_contract(), task=task)).jobs[0].fingerprint()

    first = digest()
    assert digest() == first
    assert digest('put') != first
    shutil.copytree(bag, tmp_path / 'other' / 'bag')
    assert digest(path=tmp_path / 'other' / 'bag') == first
    write_mcap(bag / 'bag.mcap', Recording.regular(9))
    assert digest() != first


def test_a_rate_of_the_user_s_replaces_the_contract_s(tmp_path: Path) -> None:
    path = mcap(tmp_path, Recording.regular(20))
    source = open_rosbag2(path, options(rate_hz=10))
    assert source.contract.rate_hz == 10
    (aligned,) = load_all(source)
    assert len(aligned.ticks_ns) == 10
    with pytest.raises(DatasetError, match='--rate is 0, must be a whole number from 1 to 1000'):
        open_rosbag2(path, options(rate_hz=0))


# ------------------------------------------------------------------------ what is damaged

def test_the_readable_part_of_a_cut_off_file_is_used_and_told(tmp_path: Path) -> None:
    path = mcap(tmp_path, Recording.regular(40))
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 3])
    source = open_rosbag2(path, options())
    (loaded,) = source.jobs[0].load(source.contract)  # type: ignore[misc]
    assert 10 <= len(loaded.aligned.ticks_ns) < 30
    expected = np.stack([picture(tick, 'front') for tick in range(len(loaded.aligned.ticks_ns))])
    np.testing.assert_array_equal(loaded.aligned.frames('front'), expected)
    (note,) = loaded.notes
    assert note.startswith(f'{path} is not whole: it is cut off at byte {len(whole) // 3}')
    assert path.read_bytes() == whole[:len(whole) // 3], 'the source is not touched'


def test_a_part_of_a_split_bag_that_is_cut_off_leaves_a_gap_that_is_refused(
        tmp_path: Path) -> None:
    folder = split_mcap(tmp_path / 'bag', Recording.regular(40))
    first = folder / 'bag_0.mcap'
    first.write_bytes(first.read_bytes()[:len(first.read_bytes()) // 3])
    source = open_rosbag2(folder, options())
    with pytest.raises(DatasetError, match=r'of 40 ticks lack data'):
        source.jobs[0].load(source.contract)
    (loaded,) = source.jobs[0].load(small_contract(max_flagged_fraction=1.0))  # type: ignore[misc]
    assert loaded.aligned.flagged.any()
    assert any('bag_0.mcap is not whole' in note for note in loaded.notes)
    assert any('metadata.yaml says 201 messages of /joint_states, the files have' in note
               for note in loaded.notes)


@pytest.mark.parametrize(('make', 'spoil', 'complaint'), [
    (mcap, lambda data: data[:40], 'the bag has no messages; it is not whole: it is cut off at '
     'byte 40'),
    (mcap, lambda data: b'nothing' * 9, 'is no MCAP file'),
    (sqlite, lambda data: data[:4096 * 3], 'cannot be read: database disk image is malformed'),
    (sqlite, lambda data: b'nothing' * 99, 'cannot be read: file is not a database'),
    (sqlite_packed, lambda data: b'nothing' * 9, 'does not decompress with zstd'),
    (mcap_packed, lambda data: data[:40], 'is no MCAP file|has no messages'),
])
def test_a_file_that_cannot_be_read_is_refused(
        tmp_path: Path, make: Callable[[Path, Recording], Path],
        spoil: Callable[[bytes], bytes], complaint: str) -> None:
    path = make(tmp_path, Recording.regular(20))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DatasetError, match=complaint):
        open_rosbag2(path, options())


def test_a_bad_bag_among_good_ones_is_refused_alone(tmp_path: Path) -> None:
    mcap(tmp_path / 'a', Recording.regular(8))
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'bad.mcap').write_bytes(b'nothing')
    source = open_rosbag2(tmp_path, options())
    assert [job.name for job in source.jobs] == ['a/bag.mcap']
    assert source.refused == [
        ('b/bad.mcap', f'{tmp_path}/b/bad.mcap: is no MCAP file (it begins otherwise)')]


@pytest.mark.parametrize('spoilt', ["X'28B52FFD0011223344'", 'SUBSTR(data, 1, 20)'])
def test_a_message_whose_own_compression_is_broken_refuses_the_bag(
        tmp_path: Path, spoilt: str) -> None:
    path = sqlite_of_packed_messages(tmp_path, Recording.regular(8))
    with sqlite3.connect(path) as base:
        base.execute(f'UPDATE messages SET data = {spoilt} WHERE id = 5')
    base.close()
    source = open_rosbag2(path, options())
    with pytest.raises(EpisodeError, match='a message does not decompress with zstd'):
        source.jobs[0].load(source.contract)


def test_what_a_killed_recorder_left_beside_a_database_is_read(tmp_path: Path) -> None:
    """Messages in the write-ahead log alone are read from a copy; nothing is written here."""
    recording = Recording.regular(20)
    first, second = split(recording, MIDDLE)
    write_sqlite(tmp_path / 'live' / 'bag.db3', recording, first)
    base = sqlite3.connect(tmp_path / 'live' / 'bag.db3')
    base.execute('PRAGMA journal_mode=WAL').fetchone()
    numbers = {name.lstrip('/'): number
               for number, name in base.execute('SELECT id, name FROM topics')}
    for received, topic, data in second:
        base.execute('INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)',
                     (numbers[topic], received, data))
    base.commit()
    shutil.copytree(tmp_path / 'live', tmp_path / 'dead')
    base.close()
    names = sorted(file.name for file in (tmp_path / 'dead').iterdir())
    assert 'bag.db3-wal' in names
    (aligned,) = load_all(open_rosbag2(tmp_path / 'dead', options()))
    assert len(aligned.ticks_ns) == 20
    assert sorted(file.name for file in (tmp_path / 'dead').iterdir()) == names


# ----------------------------------------------------------------------- what metadata says

def test_counts_of_metadata_are_held_against_the_files(tmp_path: Path) -> None:
    recording = Recording.regular(8)
    folder = tmp_path / 'bag'
    write_metadata(folder, recording, [mcap(folder, recording)], counts={'twist': 12})
    source = open_rosbag2(folder, options())
    (loaded,) = source.jobs[0].load(source.contract)  # type: ignore[misc]
    assert loaded.notes == (
        f'{folder}/bag.mcap: metadata.yaml says 12 messages of /twist, the files have 8',)


@pytest.mark.parametrize(('changes', 'complaint'), [
    ({'relative_file_paths': ['bag.mcap', 'gone.mcap']}, 'lists gone.mcap, which is missing'),
    ({'relative_file_paths': []}, 'metadata.yaml lists no file'),
    ({'compression_format': 'lz4'}, "compression_format is 'lz4', only zstd can be read"),
    ({'encoding': 'fancy'}, r'image\.front needs /camera/front/image_raw, which is serialized as '
     "'fancy'; only cdr"),
])
def test_metadata_that_speaks_against_a_bag_refuses_it(
        tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    recording = Recording.regular(8)
    write_metadata(tmp_path, recording, [mcap(tmp_path, recording)], **changes)
    with pytest.raises(DatasetError, match=complaint):
        open_rosbag2(tmp_path, options())


@pytest.mark.parametrize('text', ['a: [1', 'something: else', 'rosbag2_bagfile_information: 3',
                                  'rosbag2_bagfile_information: {relative_file_paths: 3}'])
def test_metadata_of_no_use_is_told_and_the_files_are_read(tmp_path: Path, text: str) -> None:
    mcap(tmp_path, Recording.regular(8))
    (tmp_path / 'metadata.yaml').write_text(text)
    source = open_rosbag2(tmp_path, options())
    assert len(load_all(source)) == 1
    (line,) = source.problems.lines()
    assert 'metadata.yaml is of no use (' in line
    assert line.endswith('the files were read without it')


def test_files_that_metadata_does_not_list_are_told(tmp_path: Path) -> None:
    recording = Recording.regular(8)
    listed = mcap(tmp_path, recording)
    write_mcap(tmp_path / 'other.mcap', recording)
    write_metadata(tmp_path, recording, [listed])
    source = open_rosbag2(tmp_path, options())
    assert len(source.jobs) == 1
    assert source.problems.lines() == [
        f'{tmp_path}: metadata.yaml does not list other.mcap; not read']


# ------------------------------------------------------------------- contracts and the rest

def test_without_a_contract_the_topics_are_listed_and_a_contract_is_proposed(
        tmp_path: Path) -> None:
    path = mcap(tmp_path, Recording.regular(20))
    with pytest.raises(DatasetError) as caught:
        open_rosbag2(path, ImportOptions(task='lift'))
    text = str(caught.value)
    assert '--contract FILE' in text
    assert '  /joint_states (sensor_msgs/JointState, 101 messages)\n' in text
    proposed = tmp_path / 'proposed.yaml'
    lines = text.split('check every line of it:\n')[1].splitlines()
    proposed.write_text('\n'.join(line.removeprefix('  ') for line in lines))
    contract = load_contract(proposed)
    assert contract.camera_names == ('front', 'wrist')
    assert (contract.cameras[0].height, contract.cameras[0].width) == (32, 48)
    assert contract.state_names[:2] == ('elbow', 'shoulder')
    assert contract.action_names[-1] == 'linear.x' or 'linear.x' in contract.action_names
    assert contract.rate_hz in (19, 20)
    (aligned,) = load_all(open_rosbag2(path, options(contract)))
    assert len(aligned.ticks_ns) >= 18
    assert aligned.state[5, :2].tolist() == pytest.approx([-0.5, 0.25], abs=0.02)


def test_without_a_task_nothing_is_imported(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='does not say what was done in it; give it with --task'
                       ' TEXT'):
        open_rosbag2(mcap(tmp_path, Recording.regular(8)), ImportOptions(
            contract=small_contract(), task='  '))


@pytest.mark.parametrize(('change', 'complaint'), [
    ({'topic': 'camera/back'}, r"image\.front needs the topic 'camera/back', which was not "
     r'recorded; recorded: .*/twist \(geometry_msgs/TwistStamped, 8\)'),
    ({'type': 'sensor_msgs/CompressedImage'}, r'image\.front \(camera/front/image_raw\) is '
     'sensor_msgs/CompressedImage in other, and sensor_msgs/Image in the recording'),
])
def test_a_contract_that_does_not_fit_is_refused(
        tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    data = small_contract().to_dict()
    data['cameras']['front'] |= change
    with pytest.raises(DatasetError, match=complaint):
        open_rosbag2(mcap(tmp_path, Recording.regular(8)),
                     options(parse_contract(data, 'other')))


def test_topics_that_the_contract_does_not_name_are_told(tmp_path: Path) -> None:
    data = small_contract().to_dict() | {'evaluation': []}
    source = open_rosbag2(mcap(tmp_path, Recording.regular(8)),
                          options(parse_contract(data, 'other')))
    assert source.left_out == ['/truth (geometry_msgs/PoseStamped, 8 messages)']


@pytest.mark.parametrize(('place', 'complaint'), [
    ('gone', 'there is no such file or folder'), ('.', 'holds no rosbag2')])
def test_where_there_is_no_bag_that_is_told(
        tmp_path: Path, place: str, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        open_rosbag2(tmp_path / place, options())


def test_a_definition_that_nobody_has_is_told(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        'ssl_vla_ros.dataset.sources.rosbag2_types._FIELDS', {})
    monkeypatch.setattr('ssl_vla_ros.episodes.schemas.share_directories', lambda: [])
    source = open_rosbag2(sqlite(tmp_path, Recording.regular(8)), options())
    with pytest.raises(EpisodeError, match='carries no definition of its messages: message type '
                       'sensor_msgs/Image is not installed'):
        source.jobs[0].load(source.contract)


# ------------------------------------------------------------------------------ real bags

def real(place: str) -> Path:
    path = DATA / place
    if not path.exists():
        pytest.skip(f'{path} is not there')
    return path


def joints(topic: str = 'joint_state', **changes: Any) -> Contract:
    return parse_contract({
        'robot': 'real', 'rate_hz': 10, 'cameras': {},
        'state': [{'topic': topic, 'type': 'sensor_msgs/JointState',
                   'names': ['wrist_joint', 'shoulder_joint']}],
        'action': [], 'sync': {'max_skew_s': 0.12}} | changes, 'real.yaml')


def camera(topic: str, kind: str) -> Contract:
    return joints(cameras={'eye': {
        'topic': topic, 'type': kind, 'height': 48, 'width': 64}}, state=[])


def test_joint_states_of_others_are_imported(tmp_path: Path) -> None:
    path = real('mcap_rosbag2_sensor_msgs')
    contract = joints(action=[{'topic': '/joint_state', 'type': 'sensor_msgs/JointState',
                               'field': 'velocity', 'names': ['elbow_joint']}])
    report = import_dataset(path, tmp_path / 'out', options=options(contract))
    assert report.kind == 'rosbag2 (mcap)'
    assert report.found['messages'] == 194
    assert len(report.left_out) == 31
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.lengths == [15]
    state, action = dataset.column('observation.state'), dataset.column('action')
    np.testing.assert_allclose(state[0], [-0.2, 0.0], atol=1e-6)
    # Sent at 10 Hz and late by a few ms each time: the last row lies before the last message.
    assert state[-1, 1] == pytest.approx(0.49, abs=0.01)
    assert action[1, 0] == pytest.approx(-0.06724716)
    assert not dataset.column('flagged').any()


@pytest.mark.parametrize('kind', ['sensor_msgs/Image', 'sensor_msgs/CompressedImage'])
def test_pictures_of_others_are_imported(tmp_path: Path, kind: str) -> None:
    topic = '/image' if kind == 'sensor_msgs/Image' else '/compressed_image'
    source = open_rosbag2(real('mcap_rosbag2_sensor_msgs'), options(camera(topic, kind)))
    (aligned,) = load_all(source)
    assert aligned.frames('eye').shape == (1, 48, 64, 3)
    assert aligned.ticks_ns.tolist() == [1757502238482648699]


def test_the_readable_part_of_a_real_bag_that_is_cut_off_is_imported() -> None:
    """Its first chunk is not whole; what lies before the cut is not compressed."""
    path = real('odd/truncated_mcap')
    source = open_rosbag2(path, options(camera('/compressed_image',
                                               'sensor_msgs/CompressedImage')))
    (loaded,) = source.jobs[0].load(source.contract)  # type: ignore[misc]
    assert len(loaded.aligned.ticks_ns) == 1
    (whole,) = load_all(open_rosbag2(
        real('mcap_rosbag2_sensor_msgs'), options(source.contract)))
    np.testing.assert_array_equal(loaded.aligned.frames('eye'), whole.frames('eye'))
    (note,) = loaded.notes
    assert 'rerun_truncated_900000.mcap is not whole: it is cut off at byte 900000' in note
    with pytest.raises(DatasetError, match=r"needs the topic 'joint_state', which was not "
                       r'recorded.*; it is not whole: it is cut off at byte 900000'):
        open_rosbag2(path, options(joints()))
    with pytest.raises(DatasetError, match=r'image\.eye \(/image\) has no usable message'):
        cut = open_rosbag2(path, options(camera('/image', 'sensor_msgs/Image')))
        cut.jobs[0].load(cut.contract)


PY, TESTS = f'{RESOURCES}rosbag2_py/test/resources/', f'{RESOURCES}rosbag2_tests/resources/'
CPP = f'{RESOURCES}rosbag2_cpp/test/rosbag2_cpp/bags/'
NO_TYPE = 'None of these has messages of a type that a contract can name'
SERVICES = '/test_service1/_service_event (test_msgs/BasicTypes_Event, 4 messages)'
#: Folder or file; what is told without a contract; a topic to ask for, and why it is refused.
REAL: list[tuple[str, list[str], str, str]] = [
    ('odd/nav2_zstd_file_bag',
     ['/cmd_vel_smoothed (geometry_msgs/Twist, 231 messages)',
      '/local_costmap/costmap (nav2_msgs/Costmap, 231 messages)', NO_TYPE],
     '/cmd_vel_smoothed', 'is sensor_msgs/JointState in real.yaml, and geometry_msgs/Twist in'),
    (f'{RESOURCES}ros2bag/test/resources/empty_bag',
     ['/rosout (rcl_interfaces/Log, 0 messages)', NO_TYPE], '/rosout', 'the bag has no messages'),
    (f'{TESTS}empty_dir', ['holds no rosbag2: no file ends in .mcap or .db3'], 'x',
     'holds no rosbag2'),
    (f'{CPP}only_services.mcap',
     ['/add_two_ints/_service_event (example_interfaces/AddTwoInts_Event, 12 messages)', NO_TYPE],
     '/add_two_ints/_service_event', 'and example_interfaces/AddTwoInts_Event in'),
    (f'{CPP}only_topics.mcap',
     ['/parameter_events (rcl_interfaces/ParameterEvent, 7 messages)', NO_TYPE],
     '/parameter_events', 'and rcl_interfaces/ParameterEvent in'),
    (f'{CPP}topics_and_services.mcap',
     ['/add_two_ints/_service_event (example_interfaces/AddTwoInts_Event, 6 messages)', NO_TYPE],
     'joint_states', "needs the topic 'joint_states', which was not recorded"),
    (f'{CPP}topics_and_services.db3',
     ['/add_two_ints/_service_event (example_interfaces/AddTwoInts_Event, 6 messages)', NO_TYPE],
     'joint_states', "needs the topic 'joint_states', which was not recorded"),
    (CPP, ['/parameter_events (rcl_interfaces/ParameterEvent, 21 messages)', NO_TYPE],
     'joint_states', 'none of the 4 bags can be used:')]
for storage in ('mcap', 'sqlite3'):
    REAL += [
        (f'{PY}{storage}/convert_a',
         ['a_empty (test_msgs/Empty, 100 messages)',
          'b_basictypes (test_msgs/BasicTypes, 50 messages)', NO_TYPE],
         'b_basictypes', 'and test_msgs/BasicTypes in the recording'),
        (f'{PY}{storage}/convert_b',
         ['a_empty (test_msgs/Empty, 25 messages)', 'c_strings (test_msgs/Strings, 50 messages)',
          NO_TYPE], 'a_empty', 'and test_msgs/Empty in the recording'),
        (f'{PY}{storage}/reindex_test_bags/multiple_files',
         ['/chatter (std_msgs/String, 3177 messages)', NO_TYPE],
         'chatter', 'and std_msgs/String in the recording'),
        (f'{PY}{storage}/talker',
         ['/rosout (rcl_interfaces/Log, 10 messages)', '/topic (std_msgs/String, 10 messages)',
          NO_TYPE], '/topic', 'and std_msgs/String in the recording'),
        (f'{PY}{storage}/wbag',
         ['AAA (std_msgs/String, 804 messages)', 'HHH (std_msgs/String, 726 messages)', NO_TYPE],
         'joint_states', "needs the topic 'joint_states', which was not recorded; recorded: "),
        (f'{TESTS}{storage}/bag_with_topics_and_service_events',
         [SERVICES, '/test_topic1 (test_msgs/Strings, 1 message)', NO_TYPE],
         '/test_topic1', 'and test_msgs/Strings in the recording'),
        (f'{TESTS}{storage}/cdr_test',
         ['/array_topic (test_msgs/Arrays, 4 messages)',
          '/test_topic (test_msgs/BasicTypes, 3 messages)', NO_TYPE],
         '/array_topic', 'and test_msgs/Arrays in the recording'),
        (f'{TESTS}{storage}/wrong_rmw_test',
         ["/test_topic (test_msgs/BasicTypes, 3 messages, serialized as 'wrong_format')", NO_TYPE],
         '/test_topic', "which is serialized as 'wrong_format'; only cdr can be read")]


@pytest.mark.parametrize(('place', 'told', 'topic', 'reason'), REAL, ids=[
    case[0].rstrip('/') for case in REAL])
def test_real_bags_are_listed_in_full_and_refused_for_the_right_reason(
        place: str, told: list[str], topic: str, reason: str) -> None:
    """Counts are those of the files, though other readers give 0 for some of them."""
    path = real(place)
    with pytest.raises(DatasetError) as caught:
        open_rosbag2(path, ImportOptions())
    for words in told:
        assert words in str(caught.value)
    with pytest.raises(DatasetError) as caught:
        open_rosbag2(path, options(joints(topic)))
    assert reason in str(caught.value)


def test_every_real_bag_is_in_the_table() -> None:
    """Nothing in the data is left out by forgetting it."""
    real('odd')
    files = [path for ending in ('*.mcap', '*.db3', '*.zstd') for path in DATA.rglob(ending)]
    covered = [DATA / case[0] for case in REAL] + [
        DATA / 'mcap_rosbag2_sensor_msgs', DATA / 'odd' / 'truncated_mcap']
    assert len(files) > 30
    assert [path for path in files
            if not any(path.is_relative_to(place) for place in covered)] == []
