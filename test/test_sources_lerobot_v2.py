# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Importing LeRobot v2.0 and v2.1: a real dataset with its faults, small ones with worse."""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
from typing import Any

from dataset_episodes import picture
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.importing import import_dataset, ImportReport
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.lerobot_common import camera_names
from ssl_vla_ros.dataset.sources.lerobot_v2 import open_lerobot_v2
from ssl_vla_ros.dataset.video import encode_video, read_frames
from ssl_vla_ros.errors import DatasetError

GR1 = (Path(__file__).parents[2] / 'shared' / 'data' / 'lerobot_v20_gr1_pickplace'
       / 'robot_sim.PickNPlace')
KEY = 'observation.images.top'
ROWS = (8, 6, 7)


def import_v2(source: Path, out: Path, **options: Any) -> ImportReport:
    """Import in this process, with the encoder that every machine has."""
    return import_dataset(source, out, encoder='libx264', options=ImportOptions(**options))


@pytest.fixture(scope='module')
def gr1(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, ImportReport]:
    if not GR1.is_dir():
        pytest.skip(f'{GR1} is not there')
    out = tmp_path_factory.mktemp('gr1') / 'out'
    report = import_v2(GR1, out)
    return Dataset.open(out), report


def test_the_real_dataset_is_kept_whole(gr1: tuple[Dataset, ImportReport]) -> None:
    dataset, report = gr1
    assert report.kind == 'LeRobot v2.0'
    assert report.kept == [f'episode {number}' for number in range(5)]
    assert report.refused == []
    assert dataset.lengths == [416, 470, 470, 412, 328]
    assert dataset.camera_names == ('ego_view',)
    assert dataset.contract.state_names[22] == 'right_arm_0'
    assert len(dataset.tasks) == 5
    assert dataset.tasks[0] == 'pick the pear from the counter and place it in the plate'
    assert dataset.contract.limits is None
    source = pq.read_table(GR1 / 'data/chunk-000/episode_000003.parquet')
    for ours, name in (('observation.state', 'observation.state'), ('action', 'action')):
        np.testing.assert_array_equal(
            dataset.column(ours)[dataset.rows(3)],
            np.array(source.column(name).to_pylist(), dtype=np.float32))
    video = GR1 / 'videos/chunk-000/observation.images.ego_view/episode_000004.mp4'
    theirs = read_frames(video, 328, 256, 256).astype(np.int16)
    difference = np.abs(dataset.frames('ego_view', 4) - theirs).mean(axis=(1, 2, 3))
    assert difference.max() < 2.0, 'every picture belongs to its row'


def test_the_real_dataset_s_faults_are_told(gr1: tuple[Dataset, ImportReport]) -> None:
    _, report = gr1
    text = report.text()
    assert ("declares the camera 'observation.images.egoview' (800x1280), but no episode has a "
            'video of it') in text
    assert 'total_videos is 2, there are 5' in text
    assert "splits.train is '0:100', there are 5 episodes" in text
    assert 'timestamp starts at 0.0500 s instead of 0' in text
    assert "the rows lack the column 'frame_index' (episodes 0-4)" in text
    assert 'observation.state: 18 of 44 values never change' in text
    assert 'next.reward' in report.left_out
    json.dumps(report.to_dict(), allow_nan=False)


def make(root: Path, edit: Callable[[int, dict[str, Any]], None] | None = None,
         **info: Any) -> Path:
    """Write a small faultless v2.0 dataset; ``edit`` changes an episode's columns."""
    (root / 'meta').mkdir(parents=True)
    start = 0
    for number, rows in enumerate(ROWS):
        rng = np.random.default_rng(number)
        columns: dict[str, Any] = {
            'observation.state': rng.normal(size=(rows, 2)).tolist(),
            'action': rng.normal(size=(rows, 3)).tolist(),
            'timestamp': [row / 10 for row in range(rows)],
            'frame_index': list(range(rows)), 'episode_index': [number] * rows,
            'index': [start + row for row in range(rows)], 'task_index': [number % 2] * rows}
        start += rows
        if edit is not None:
            edit(number, columns)
        data = root / f'data/chunk-000/episode_{number:06d}.parquet'
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), data)
        video = root / f'videos/chunk-000/{KEY}/episode_{number:06d}.mp4'
        video.parent.mkdir(parents=True, exist_ok=True)
        encode_video(video, [picture(row, 'front') for row in range(rows)], 10)
    shapes = {'observation.state': [2], 'action': [3], 'timestamp': [1], 'frame_index': [1],
              'episode_index': [1], 'index': [1], 'task_index': [1]}
    features: dict[str, Any] = {
        name: {'dtype': 'float32', 'shape': shape, 'names': None}
        for name, shape in shapes.items()}
    features['action']['names'] = {'motors': ['x', 'y', 'z']}
    features[KEY] = {'dtype': 'video', 'shape': [32, 48, 3], 'names': None}
    (root / 'meta/info.json').write_text(json.dumps({
        'codebase_version': 'v2.0', 'robot_type': 'small arm', 'fps': 10, 'chunks_size': 1000,
        'total_episodes': 3, 'total_frames': sum(ROWS), 'total_videos': 3, 'total_tasks': 2,
        'total_chunks': 1, 'splits': {'train': '0:3'}, 'features': features,
        'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': 'videos/chunk-{episode_chunk:03d}/{video_key}/'
                      'episode_{episode_index:06d}.mp4'} | info))
    tasks = ['open', 'close']
    (root / 'meta/tasks.jsonl').write_text('\n'.join(
        json.dumps({'task_index': index, 'task': task}) for index, task in enumerate(tasks)))
    (root / 'meta/episodes.jsonl').write_text('\n'.join(
        json.dumps({'episode_index': number, 'tasks': [tasks[number % 2]], 'length': rows})
        for number, rows in enumerate(ROWS)) + '\n')
    return root


def test_a_faultless_dataset_has_one_note_about_names(tmp_path: Path) -> None:
    report = import_v2(make(tmp_path / 'src'), tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert len(report.problems) == 1
    assert 'observation.state.names does not name 2' in report.problems[0]
    dataset = Dataset.open(tmp_path / 'out')
    dataset.verify()
    assert dataset.contract.robot == 'small_arm'
    assert dataset.contract.action_names == ('x', 'y', 'z')
    assert dataset.episode_tasks == ['open', 'close', 'open']
    assert dataset.success == [None, None, None]


def test_success_is_read_where_it_is_said(tmp_path: Path) -> None:
    def edit(number: int, columns: dict[str, Any]) -> None:
        columns['next.success'] = [False] * (ROWS[number] - 1) + [number == 1]
    report = import_v2(make(tmp_path / 'src', edit), tmp_path / 'out')
    assert Dataset.open(tmp_path / 'out').success == [False, True, False]
    assert "a column 'next.success' that info.json does not declare" in report.text()


def _set(name: str, value: Callable[[int], Any]) -> Callable[[int, dict[str, Any]], None]:
    def edit(number: int, columns: dict[str, Any]) -> None:
        if number == 1:
            columns[name] = value(ROWS[1])
    return edit


@pytest.mark.parametrize(('edit', 'reason'), [
    (_set('action', lambda rows: [[1.0, 2.0]] * rows), 'action has 2 values a row, .* says 3'),
    (_set('action', lambda rows: [[1.0, 2.0]] + [[1.0, 2.0, 3.0]] * (rows - 1)),
     'different lengths'),
    (_set('observation.state', lambda rows: [[1.0, float('nan')]] * rows), 'no number in row 0'),
    (_set('timestamp', lambda rows: [0.0, 0.2, 0.1, 0.3, 0.4, 0.5]), 'does not rise at row 2'),
    (_set('task_index', lambda rows: [0, 1] * (rows // 2)), r'task_index has the values \[0, 1\]'),
    (_set('task_index', lambda rows: [7] * rows), r'task_index has the values \[7\]'),
])
def test_an_episode_with_bad_rows_is_refused_and_the_others_kept(
        tmp_path: Path, edit: Callable[[int, dict[str, Any]], None], reason: str) -> None:
    report = import_v2(make(tmp_path / 'src', edit), tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 2']
    ((name, said),) = report.refused
    assert name == 'episode 1'
    with pytest.raises(DatasetError, match=reason):
        raise DatasetError(said)
    assert Dataset.open(tmp_path / 'out').lengths == [8, 7]


@pytest.mark.parametrize('count', [5, 7])
def test_a_video_with_another_count_refuses_its_episode(tmp_path: Path, count: int) -> None:
    root = make(tmp_path / 'src')
    encode_video(root / f'videos/chunk-000/{KEY}/episode_000001.mp4',
                 [picture(row, 'front') for row in range(count)], 10)
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 2']
    assert f'the video has {count} pictures, its episode 6 rows' in report.refused[0][1]


@pytest.mark.parametrize(('damage', 'reason'), [
    (lambda path: path.unlink(), 'the file is missing'),
    (lambda path: path.write_bytes(path.read_bytes()[:-500]), 'does not decode'),
    (lambda path: encode_video(path, [np.zeros((16, 16, 3), np.uint8)] * 6, 10), 'is 16x16'),
    (lambda path: encode_video(path, [picture(row, 'front') for row in range(6)], 5),
     'at 10 Hz it must be'),
])
def test_a_bad_video_refuses_its_episode(
        tmp_path: Path, damage: Callable[[Path], object], reason: str) -> None:
    root = make(tmp_path / 'src')
    damage(root / f'videos/chunk-000/{KEY}/episode_000001.mp4')
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 2']
    assert reason in report.refused[0][1]


def test_lengths_and_lists_are_held_against_the_files(tmp_path: Path) -> None:
    root = make(tmp_path / 'src', total_frames=999)
    lines = (root / 'meta/episodes.jsonl').read_text().splitlines()
    lines[1] = lines[1].replace('"length": 6', '"length": 5')
    lines[2] = lines[2].replace('"episode_index": 2', '"episode_index": 5')
    (root / 'meta/episodes.jsonl').write_text('\n'.join(lines))
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0']
    reasons = dict(report.refused)
    assert 'has 6 rows, meta/episodes.jsonl says 5' in reasons['episode 1']
    assert 'does not list this episode' in reasons['episode 2']
    assert 'episode_000005.parquet: the file is missing' in reasons['episode 5']
    assert 'total_frames is 999' in report.text()


def change_line(root: Path, name: str, key: str, value: object) -> None:
    path = root / 'meta' / name
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1][key] = value
    path.write_text('\n'.join(map(json.dumps, lines)))


@pytest.mark.parametrize(('modality', 'words'), [
    ({'state': {'arm': {'start': 0}}}, 'the ranges of state do not cover'),
    ({'state': {'arm': {'start': '0', 'end': '2'}}}, 'the ranges of state do not cover'),
    ({'state': {'arm': {'start': 0, 'end': 10 ** 12}}}, 'the ranges of state do not cover'),
    ({'state': ['arm']}, 'the ranges of state do not cover'),
    ({'video': {'front': KEY}}, 'video is no mapping of mappings'),
    ({'video': [KEY]}, 'video is no mapping of mappings')])
def test_odd_groups_are_told_and_not_used(
        tmp_path: Path, modality: dict[str, Any], words: str) -> None:
    root = make(tmp_path / 'src')
    (root / 'meta' / 'modality.json').write_text(json.dumps(modality))
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert words in report.text()


def test_odd_splits_and_tasks_are_told(tmp_path: Path) -> None:
    root = make(tmp_path / 'src', splits=['train'])
    change_line(root, 'episodes.jsonl', 'tasks', 'close')
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert "splits is ['train'], no mapping" in report.text()
    assert 'tasks is no list: taken as one sentence' in report.text()


@pytest.mark.parametrize(('name', 'key', 'value'), [
    ('tasks.jsonl', 'task_index', 'a'), ('tasks.jsonl', 'task_index', -1),
    ('episodes.jsonl', 'length', None), ('episodes.jsonl', 'length', 6.5),
    ('episodes.jsonl', 'episode_index', True)])
def test_numbers_that_are_none_are_named_with_their_line(
        tmp_path: Path, name: str, key: str, value: object) -> None:
    root = make(tmp_path / 'src')
    change_line(root, name, key, value)
    with pytest.raises(DatasetError) as caught:
        import_v2(root, tmp_path / 'out')
    assert f'{name}: line 2: {key} is {value!r}, must be a whole number' in str(caught.value)


def test_a_declared_size_that_is_wrong_is_told(tmp_path: Path) -> None:
    root = make(tmp_path / 'src')
    path = root / 'meta/info.json'
    info = json.loads(path.read_text())
    info['features'][KEY]['shape'] = [480, 640, 3]
    path.write_text(json.dumps(info))
    report = import_v2(root, tmp_path / 'out')
    assert 'the videos are 32x48' in report.text()


@pytest.mark.parametrize(('change', 'reason'), [
    ({'codebase_version': 'v1.6'}, "codebase_version is 'v1.6', must be one of v2.0, v2.1"),
    ({'fps': 29.97}, 'fps is 29.97, must be a whole number'),
    ({'data_path': '/etc/{secret}'}, 'data_path is .* names no file'),
    ({'features': {}}, "features has neither a camera with videos nor 'observation.state'"),
    ({'fps': True}, 'fps is True, must be a whole number'),
    ({'data_path': '../{episode_index}.parquet'}, 'data_path is .* names no file'),
    ({'chunks_size': 'many'}, "chunks_size is 'many', must be a whole number above 0"),
])
def test_a_source_that_cannot_be_used_says_why(
        tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    root = make(tmp_path / 'src', **change)
    with pytest.raises(DatasetError, match=reason):
        import_v2(root, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_source_without_a_usable_episode_leaves_nothing(tmp_path: Path) -> None:
    def edit(number: int, columns: dict[str, Any]) -> None:
        columns['action'] = [[1.0]] * ROWS[number]
    with pytest.raises(DatasetError, match='none of the 3 episodes can be used:'):
        import_v2(make(tmp_path / 'src', edit), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_no_dataset_at_all(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'info\.json: cannot read it'):
        open_lerobot_v2(tmp_path, ImportOptions())


def test_worker_processes_give_the_same_dataset(tmp_path: Path) -> None:
    root = make(tmp_path / 'src', codebase_version='v2.1')
    alone = import_v2(root, tmp_path / 'alone')
    both = import_dataset(root, tmp_path / 'both', workers=2, encoder='libx264')
    assert both.kind == 'LeRobot v2.1'
    assert both.digest == alone.digest
    assert both.problems == alone.problems


def test_lists_whose_lengths_add_up_are_still_refused(tmp_path: Path) -> None:
    """One value too few in a row and one too many in another: the count alone is right."""
    edit = _set('action', lambda rows: [[1.0] * 2, [1.0] * 4] + [[1.0] * 3] * (rows - 2))
    report = import_v2(make(tmp_path / 'src', edit), tmp_path / 'out')
    ((name, said),) = report.refused
    assert name == 'episode 1'
    assert said.endswith('episode_000001.parquet: action: has rows of different lengths')


def test_an_episode_without_words_takes_the_user_s(tmp_path: Path) -> None:
    edit = _set('task_index', lambda rows: [7] * rows)
    report = import_v2(make(tmp_path / 'src', edit), tmp_path / 'out', task='wipe the table')
    assert report.refused == []
    assert Dataset.open(tmp_path / 'out').episode_tasks == ['open', 'wipe the table', 'open']
    assert 'the task is the one given with --task (episodes 1)' in report.text()


def change_features(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = root / 'meta/info.json'
    info = json.loads(path.read_text())
    edit(info['features'])
    path.write_text(json.dumps(info))


def test_episodes_without_state_and_action_are_pictures_alone(tmp_path: Path) -> None:
    root = make(tmp_path / 'src')
    change_features(root, lambda features: (features.pop('observation.state'),
                                            features.pop('action')))
    report = import_v2(root, tmp_path / 'out')
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert "features lacks 'action': the episodes have no action" in report.text()
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.contract.state == dataset.contract.action == ()
    assert dataset.frames('top', 2).shape == (7, 32, 48, 3)


def test_depth_and_pictures_in_parquet_are_left_out_with_a_word(tmp_path: Path) -> None:
    root = make(tmp_path / 'src')
    depth = {'dtype': 'video', 'shape': [32, 48, 1], 'info': {'video.is_depth_map': True}}
    inside = {'dtype': 'image', 'shape': [32, 48, 3]}
    change_features(root, lambda features: features.update(
        {'observation.images.depth': depth, 'observation.images.inside': inside}))
    report = import_v2(root, tmp_path / 'out')
    assert Dataset.open(tmp_path / 'out').camera_names == ('top',)
    assert 'observation.images.depth: depth, no picture: left out' in report.problems
    assert ('observation.images.inside: pictures inside of Parquet files are not read: left out'
            in report.problems)
    assert report.left_out == ['observation.images.depth', 'observation.images.inside']


def test_cameras_whose_names_become_one_stay_two() -> None:
    assert camera_names(['observation.images.a-b', 'observation.images.a_b', 'left']) == {
        'observation.images.a-b': 'a_b', 'observation.images.a_b': 'a_b_2', 'left': 'left'}


def test_a_contract_chooses_cameras_and_values_by_name(tmp_path: Path) -> None:
    root = make(tmp_path / 'src')
    stream = {'topic': 'command', 'type': 'std_msgs/Float64MultiArray'}
    contract = {'robot': 'mine', 'rate_hz': 10, 'cameras': {
        'top': {'topic': 'top', 'type': 'sensor_msgs/Image', 'height': 16, 'width': 24}},
        'state': [], 'action': [stream | {'names': ['z', 'x']}]}
    report = import_v2(root, tmp_path / 'out', contract=parse_contract(contract, 'mine.yaml'))
    assert report.left_out == ['observation.state (state_0, state_1)', 'action (y)']
    dataset = Dataset.open(tmp_path / 'out')
    source = pq.read_table(root / 'data/chunk-000/episode_000000.parquet')
    values = np.array(source.column('action').to_pylist(), dtype=np.float32)
    np.testing.assert_array_equal(dataset.column('action')[:8], values[:, [2, 0]])
    assert dataset.frames('top', 0).shape == (8, 16, 24, 3)
    contract['action'] = [stream | {'names': ['gripper']}]
    with pytest.raises(DatasetError, match=r'lacks what mine\.yaml names: action gripper; it has'):
        open_lerobot_v2(root, ImportOptions(contract=parse_contract(contract, 'mine.yaml')))
    contract |= {'action': [], 'rate_hz': 20}
    with pytest.raises(DatasetError, match=r'has 10 rows a second, mine\.yaml says rate_hz: 20'):
        open_lerobot_v2(root, ImportOptions(contract=parse_contract(contract, 'mine.yaml')))


def test_a_rate_that_is_not_the_source_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='has 10 rows a second, --rate says 5; rows are taken'):
        open_lerobot_v2(make(tmp_path / 'src'), ImportOptions(rate_hz=5))


def test_a_dead_episode_is_told_by_name(tmp_path: Path) -> None:
    edit = _set('action', lambda rows: [[1.0, 2.0, 3.0]] * rows)
    source = open_lerobot_v2(make(tmp_path / 'src', edit), ImportOptions())
    notes = [job.load(source.contract).notes for job in source.jobs]
    assert notes == [(), ('action: not one of its 3 values changes in the whole episode: is this '
                          'recording dead?',), ()]


def test_a_changed_file_is_another_episode(tmp_path: Path) -> None:
    root = make(tmp_path / 'src')
    before = [job.fingerprint() for job in open_lerobot_v2(root, ImportOptions()).jobs]
    assert len(set(before)) == 3
    path = root / 'data/chunk-000/episode_000001.parquet'
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, 'action', pa.array([[0.0, 1.0, 2.0]] * 6)), path)
    after = [job.fingerprint() for job in open_lerobot_v2(root, ImportOptions()).jobs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    other = [job.fingerprint() for job in open_lerobot_v2(root, ImportOptions(task='x')).jobs]
    assert not set(other) & set(after)
