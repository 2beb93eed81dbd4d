# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Importing LeRobot v3.0: many episodes in one file, by us, by others, and by careless others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
import json
from pathlib import Path
from typing import Any

from dataset_episodes import Recording
from hypothesis import given, strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.importing import import_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.lerobot_v3 import open_lerobot_v3
from ssl_vla_ros.dataset.sources.lerobot_video import VideoSpan
from ssl_vla_ros.dataset.sources.video_file import PictureTimes
from ssl_vla_ros.errors import DatasetError
from video_samples import Frame, marked, marks, OPEN_GROUPS, write_video

DEAD = Path(__file__).parents[2] / 'shared' / 'data' / 'odd' / 'so101_frozen_lerobot_v3'
KEY = 'observation.images.top'
NOTHING = ImportOptions()
FPS = 10


@dataclass
class Packed:
    """
    A v3.0 dataset with all episodes in one Parquet file and one video; edit it, then ``write``.

    Attributes
    ----------
    lengths
        Rows of each episode.
    frames, times
        Pictures of the video, and when each is shown.
    rows
        The columns of all rows.
    episodes
        The columns of ``meta/episodes``.
    info
        What ``info.json`` says otherwise.

    """

    lengths: list[int]
    frames: list[Frame] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    rows: dict[str, list[Any]] = field(default_factory=dict)
    episodes: dict[str, list[Any]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    group: int = 1000

    @classmethod
    def of(cls, *lengths: int, drift_s: float = 0.0) -> Packed:
        """
        Make a faultless one; every concatenation puts the pictures ``drift_s`` later.

        The declared times are sums of durations in single precision, as others add them up.
        """
        made = cls(list(lengths))
        starts = np.cumsum([0, *lengths[:-1]])
        summed = [np.float32(0.0)]
        for length in lengths:
            summed.append(np.float32(summed[-1] + np.float32(length) / np.float32(FPS)))
        for episode, (start, length) in enumerate(zip(starts.tolist(), lengths, strict=True)):
            made.frames += [marked(episode, row) for row in range(length)]
            made.times += [(start + row) / FPS + drift_s * episode for row in range(length)]
            rng = np.random.default_rng(episode)
            for name, values in {
                    'observation.state': rng.normal(size=(length, 2)).tolist(),
                    'action': rng.normal(size=(length, 1)).tolist(),
                    'timestamp': [row / FPS for row in range(length)],
                    'frame_index': list(range(length)), 'episode_index': [episode] * length,
                    'index': list(range(start, start + length)),
                    'task_index': [episode % 2] * length}.items():
                made.rows.setdefault(name, []).extend(values)
            for name, value in {
                    'episode_index': episode, 'length': length,
                    'tasks': [('open', 'close')[episode % 2]], 'data/chunk_index': 0,
                    'data/file_index': 0, 'dataset_from_index': start,
                    'dataset_to_index': start + length, f'videos/{KEY}/chunk_index': 0,
                    f'videos/{KEY}/file_index': 0,
                    f'videos/{KEY}/from_timestamp': float(summed[episode]),
                    f'videos/{KEY}/to_timestamp': float(summed[episode + 1]),
                    'stats/action/min': [0.0]}.items():
                made.episodes.setdefault(name, []).append(value)
        return made

    def write(self, root: Path, **codec: Any) -> Path:
        """Write the dataset."""
        video = root / f'videos/{KEY}/chunk-000/file-000.mp4'
        write_video(video, self.frames, self.times, **({'g': 2, 'crf': 10} | codec))
        data = root / 'data/chunk-000/file-000.parquet'
        data.parent.mkdir(parents=True)
        pq.write_table(pa.table(self.rows), data, row_group_size=self.group)
        listed = root / 'meta/episodes/chunk-000/file-000.parquet'
        listed.parent.mkdir(parents=True)
        pq.write_table(pa.table(self.episodes), listed)
        pq.write_table(layout.tasks_table(['open', 'close']), root / 'meta/tasks.parquet')
        features: dict[str, Any] = {
            'observation.state': {'dtype': 'float32', 'shape': [2], 'names': ['a', 'b']},
            'action': {'dtype': 'float32', 'shape': [1], 'names': {'motors': ['a']}},
            KEY: {'dtype': 'video', 'shape': [32, 48, 3], 'names': None}}
        features |= {name: {'dtype': 'int64', 'shape': [1], 'names': None}
                     for name in self.rows if name not in features}
        (root / 'meta/info.json').write_text(json.dumps({
            'codebase_version': 'v3.0', 'robot_type': 'arm', 'fps': FPS, 'features': features,
            'total_episodes': len(self.lengths), 'total_frames': sum(self.lengths),
            'total_tasks': 2, 'splits': {'train': f'0:{len(self.lengths)}'},
            'data_path': 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
            'video_path': 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4',
        } | self.info))
        return root


def loaded_marks(source: Any) -> dict[str, list[tuple[int, int]]]:
    """Load every episode and read the numbers of its pictures."""
    found = {}
    for job in source.jobs:
        loaded = job.load(source.contract)
        found[job.name] = [marks(frame) for frame in loaded.aligned.pictures['top']]
    return found


@pytest.mark.parametrize('codec', [
    {}, {'bf': 3, 'g': 250}, OPEN_GROUPS,
    {'codec': 'libsvtav1', 'svtav1-params': 'keyint=30', 'preset': 12}],
    ids=['key frames everywhere', 'one key frame and B-frames', 'open groups', 'AV1'])
@pytest.mark.parametrize('drift_s', [0.0, 0.0009], ids=['exact', 'drift'])
def test_fifty_episodes_in_one_video_keep_their_own_pictures(
        tmp_path: Path, codec: dict[str, Any], drift_s: float) -> None:
    """With the drift, the last episode begins 44 ms off, nearly half a picture."""
    lengths = [3 + episode % 5 for episode in range(50)]
    source = open_lerobot_v3(
        Packed.of(*lengths, drift_s=drift_s).write(tmp_path / 'src', **codec), NOTHING)
    assert source.problems.lines() == []
    assert source.refused == []
    found = loaded_marks(source)
    for episode, length in enumerate(lengths):
        assert found[f'episode {episode}'] == [(episode, row) for row in range(length)]


def test_a_drift_of_more_than_half_a_picture_never_takes_a_neighbour_s(tmp_path: Path) -> None:
    """Every picture belongs to a row, so the pictures are counted where the times mislead."""
    source = open_lerobot_v3(
        Packed.of(*[4] * 30, drift_s=0.004).write(tmp_path / 'src'), NOTHING)
    assert loaded_marks(source) == {
        f'episode {episode}': [(episode, row) for row in range(4)] for episode in range(30)}
    told = [bool(job.load(source.contract).notes) for job in source.jobs]
    assert told == [False] * 14 + [True] * 16
    assert source.jobs[14].load(source.contract).notes == (
        f'{KEY}: file-000.mp4: the declared times are more than half a picture off: the pictures '
        'are counted instead',)


def test_times_that_mislead_where_counting_cannot_help_are_refused(tmp_path: Path) -> None:
    made = Packed.of(*[4] * 30, drift_s=0.004)
    made.frames, made.times = made.frames + [marked(59)], [*made.times, 99.0]
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    for episode, job in enumerate(source.jobs):
        if episode <= 6:
            loaded = job.load(source.contract)
            assert [marks(frame) for frame in loaded.aligned.pictures['top']] == [
                (episode, row) for row in range(4)]
        else:
            with pytest.raises(DatasetError, match='which picture is the first cannot be told'):
                job.load(source.contract)


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40),
       drift=st.floats(-0.9, 3.0), stretch=st.floats(0.99, 1.01), extra=st.integers(0, 2))
def test_an_episode_gets_its_own_pictures_or_none(
        lengths: list[int], drift: float, stretch: float, extra: int) -> None:
    """Whatever the drift at each joint and in each clock, and with pictures that are nobody's."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    stamps = np.concatenate(
        [np.arange(start, end) * 1000.0 * stretch + 1000.0 * drift * episode
         for episode, (start, end) in enumerate(zip(starts, starts[1:], strict=False))]
        + [np.arange(extra) * 1000.0 + 10**7])
    times = PictureTimes(np.sort(np.rint(stamps).astype(np.int64)), Fraction(1, 10_000))
    every = tuple((starts[:-1] / FPS).tolist())
    owners = np.argsort(stamps, kind='stable')
    for episode, length in enumerate(lengths):
        span = VideoSpan(Path('a.mp4'), every, episode, int(starts[episode]), int(starts[-1]))
        try:
            found, _ = span.choose(times, length, FPS)
        except DatasetError:
            continue
        own = np.flatnonzero((owners >= starts[episode]) & (owners < starts[episode + 1]))
        assert found.tolist() == times.stamps[own].tolist()


def test_rows_and_words_are_those_of_their_episode(tmp_path: Path) -> None:
    made = Packed.of(5, 3, 4)
    made.group = 4  # row groups that begin in the middle of episodes
    root = made.write(tmp_path / 'src')
    report = import_dataset(root, tmp_path / 'out', encoder='libx264')
    assert report.kind == 'LeRobot v3.0'
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert report.problems == []
    dataset = Dataset.open(tmp_path / 'out')
    dataset.verify()
    assert dataset.lengths == [5, 3, 4]
    assert dataset.episode_tasks == ['open', 'close', 'open']
    assert dataset.contract.state_names == ('a', 'b')
    np.testing.assert_array_equal(
        dataset.column('observation.state'),
        np.array(made.rows['observation.state'], dtype=np.float32))
    assert [marks(frame) for frame in dataset.frames('top', 2)] == [(2, row) for row in range(4)]


def test_a_stalled_encoder_refuses_its_episode_alone(tmp_path: Path) -> None:
    """Two pictures of episode 1 were lost; the times tell what was really written."""
    made = Packed.of(6, 6, 6)
    del made.frames[8:10], made.times[-2:]
    made.episodes[f'videos/{KEY}/from_timestamp'] = [0.0, 0.6, 1.0]
    made.episodes[f'videos/{KEY}/to_timestamp'] = [0.6, 1.0, 1.6]
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    assert source.refused == [('episode 1', (
        f'meta/episodes: {KEY} from 0.600 to 1.000 s are 4.0 pictures at 10 Hz, the episode has '
        '6 rows'))]
    assert loaded_marks(source) == {
        'episode 0': [(0, row) for row in range(6)], 'episode 2': [(2, row) for row in range(6)]}


def test_a_stalled_encoder_that_nobody_noticed_refuses_the_whole_file(tmp_path: Path) -> None:
    """Two pictures were lost and the times say otherwise: whose, cannot be told."""
    made = Packed.of(6, 6, 6)
    del made.frames[8:10], made.times[-2:]
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    for job in source.jobs:
        with pytest.raises(DatasetError, match='the video has 16 pictures, its episodes need 18'):
            job.load(source.contract)


def test_a_hole_in_the_video_refuses_the_episode_it_lies_in(tmp_path: Path) -> None:
    made = Packed.of(6, 6, 6)
    made.times[9:12] = [0.97, 1.08, 1.11]  # row 3 has no picture, then one too many
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    reasons = {}
    for job in source.jobs:
        try:
            job.load(source.contract)
        except DatasetError as error:
            reasons[job.name] = str(error)
    assert list(reasons) == ['episode 1']
    assert ('the picture of row 3 is at 0.370 s, at 10 Hz it must be at 0.300 s'
            in reasons['episode 1'])


def test_episodes_that_claim_one_picture_are_both_refused(tmp_path: Path) -> None:
    made = Packed.of(6, 6, 6)
    made.episodes[f'videos/{KEY}/from_timestamp'][2] = 1.0
    made.episodes[f'videos/{KEY}/to_timestamp'][2] = 1.6
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    assert source.refused == [
        ('episode 1', f'meta/episodes: {KEY}: up to 2 pictures of file-000.mp4 are both this '
                      "episode's and episode 2's"),
        ('episode 2', f'meta/episodes: {KEY}: up to 2 pictures of file-000.mp4 are both this '
                      "episode's and episode 1's")]


def test_pictures_of_deleted_episodes_are_told(tmp_path: Path) -> None:
    made = Packed.of(6, 6, 6, 6)
    for name in made.episodes:
        made.episodes[name] = made.episodes[name][::2]
    made.info = {'total_episodes': 2, 'total_frames': 12, 'splits': {}}
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    assert loaded_marks(source) == {
        'episode 0': [(0, row) for row in range(6)], 'episode 2': [(2, row) for row in range(6)]}
    assert source.problems.lines() == [
        'meta/episodes: episode_index is not the place in the list',
        f'{KEY}: 6 pictures of file-000.mp4 between the episodes 0 and 2 belong to none']
    last = source.jobs[1].load(source.contract)
    assert last.notes == (
        f'{KEY}: file-000.mp4: the last 6 of 24 pictures belong to no episode',)


def _edit(part: str, name: str, row: int, value: object) -> Callable[[Packed], None]:
    def edit(made: Packed) -> None:
        getattr(made, part)[name][row] = value
    return edit


def _stray(made: Packed) -> None:
    made.rows['episode_index'][1], made.rows['episode_index'][8] = 1, 0


@pytest.mark.parametrize(('edit', 'number', 'reason'), [
    (_edit('episodes', 'length', 1, 5), 1, 'are 6.0 pictures at 10 Hz, the episode has 5 rows'),
    (_edit('rows', 'episode_index', 6, 0), 0, 'has 7 rows of episode 0, meta/episodes says 6'),
    (_stray, 0, 'other rows lie between those of episode 0'),
    (_edit('rows', 'observation.state', 7, [0.0, float('nan')]), 1,
     'observation.state has no number in row 1'),
    (_edit('rows', 'action', 7, [1e300]), 1, 'action has no number in row 1'),
    (_edit('rows', 'timestamp', 7, 0.0), 1, 'timestamp does not rise at row 1'),
    (_edit('rows', 'task_index', 7, 0), 1, 'task_index has the values [0, 1], must be one'),
    (_edit('episodes', 'data/file_index', 1, 4), 1, 'file-004.parquet: cannot read this Parquet'),
    (_edit('episodes', 'data/file_index', 1, -1), 1,
     'data/chunk_index and data/file_index are [0, -1], must be whole numbers from 0 on'),
    (_edit('episodes', f'videos/{KEY}/file_index', 1, 4), 1, 'file-004.mp4: the video is missing'),
    (_edit('episodes', f'videos/{KEY}/file_index', 1, None), 1,
     f'videos/{KEY}/file_index are 0 and None, must be whole numbers from 0 on'),
    (_edit('episodes', f'videos/{KEY}/from_timestamp', 1, float('nan')), 1,
     'are nan and 1.2000000476837158, must be seconds from 0 on'),
    (_edit('episodes', 'length', 1, 0), 1, 'the episode has no rows'),
])
def test_a_bad_episode_is_refused_and_the_others_kept(
        tmp_path: Path, edit: Callable[[Packed], None], number: int, reason: str) -> None:
    made = Packed.of(6, 6, 6)
    edit(made)
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    refused, kept = dict(source.refused), {}
    for job in source.jobs:
        try:
            kept[job.name] = job.load(source.contract)
        except DatasetError as error:
            refused[job.name] = str(error)
    assert reason in refused[f'episode {number}']
    assert 'episode 2' in kept


def test_columns_that_are_missing_are_told_and_made_up_for(tmp_path: Path) -> None:
    made = Packed.of(6, 4, 5)
    for name in ('episode_index', 'frame_index', 'timestamp', 'index'):
        del made.rows[name]
    del made.episodes['tasks'], made.episodes[f'videos/{KEY}/to_timestamp']
    report = import_dataset(made.write(tmp_path / 'src'), tmp_path / 'out', encoder='libx264')
    assert report.kept == ['episode 0', 'episode 1', 'episode 2']
    assert "the rows lack the column 'episode_index' (episodes 0-2)" in report.problems
    assert 'meta/episodes: tasks is no list: not used' in report.problems
    dataset = Dataset.open(tmp_path / 'out')
    np.testing.assert_array_equal(
        dataset.column('action'), np.array(made.rows['action'], dtype=np.float32))
    assert [marks(frame) for frame in dataset.frames('top', 1)] == [(1, row) for row in range(4)]


def test_the_second_of_two_files_begins_anew(tmp_path: Path) -> None:
    """Without episode_index, rows are found by their place in the file, not in the dataset."""
    made = Packed.of(6, 4)
    root = made.write(tmp_path / 'src')
    table = pa.table(made.rows).drop_columns(['episode_index'])
    for number, (start, count) in enumerate(((0, 6), (6, 4))):
        name = f'chunk-000/file-{number:03d}'
        pq.write_table(table.slice(start, count), root / f'data/{name}.parquet')
        write_video(root / f'videos/{KEY}/{name}.mp4',
                    made.frames[start:start + count], [Fraction(row, FPS) for row in range(count)])
    made.episodes['data/file_index'] = made.episodes[f'videos/{KEY}/file_index'] = [0, 1]
    made.episodes[f'videos/{KEY}/from_timestamp'] = [0.0, 0.0]
    made.episodes[f'videos/{KEY}/to_timestamp'] = [0.6, 0.4]
    pq.write_table(pa.table(made.episodes), root / 'meta/episodes/chunk-000/file-000.parquet')
    source = open_lerobot_v3(root, NOTHING)
    assert loaded_marks(source)['episode 1'] == [(1, row) for row in range(4)]
    second = source.jobs[1].load(source.contract)
    np.testing.assert_array_equal(
        second.aligned.action,
        np.array(made.rows['action'][6:], dtype=np.float32))


def test_without_tasks_the_list_of_episodes_says_them(tmp_path: Path) -> None:
    made = Packed.of(4, 4)
    del made.rows['task_index']
    root = made.write(tmp_path / 'src')
    (root / 'meta/tasks.parquet').unlink()
    source = open_lerobot_v3(root, NOTHING)
    assert 'meta/tasks.parquet is missing: tasks are taken from meta/episodes' in \
        source.problems.lines()
    assert [job.load(source.contract).task for job in source.jobs] == [
        'open', 'close']


@pytest.mark.parametrize('column', ['task', '__index_level_0__', 'sentence'])
def test_tasks_are_found_under_any_name(tmp_path: Path, column: str) -> None:
    root = Packed.of(4, 4).write(tmp_path / 'src')
    pq.write_table(pa.table({column: ['close', 'open'], 'task_index': [1, 0]}),
                   root / 'meta/tasks.parquet')
    source = open_lerobot_v3(root, NOTHING)
    assert [job.load(source.contract).task for job in source.jobs] == [
        'open', 'close']


def test_totals_that_lie_are_told(tmp_path: Path) -> None:
    made = Packed.of(6, 6)
    made.info = {'total_episodes': 7, 'total_frames': 3, 'total_tasks': 0,
                 'splits': {'train': '0:9'}}
    root = made.write(tmp_path / 'src')
    (root / 'data/chunk-000/file-009.parquet').write_bytes(b'')
    source = open_lerobot_v3(root, NOTHING)
    assert source.problems.lines() == [
        'data/chunk-000/file-009.parquet belongs to no episode: left out',
        'meta/info.json: total_episodes is 7, there are 2',
        'meta/info.json: total_tasks is 0, there are 2',
        'meta/info.json: total_frames is 3, there are 12',
        "meta/info.json: splits.train is '0:9', there are 2 episodes"]


def test_a_camera_without_a_video_is_left_out_with_a_word(tmp_path: Path) -> None:
    root = Packed.of(6, 6).write(tmp_path / 'src')
    (root / f'videos/{KEY}/chunk-000/file-000.mp4').unlink()
    source = open_lerobot_v3(root, NOTHING)
    assert source.contract.cameras == ()
    assert source.refused == []
    assert source.problems.lines() == [
        f"meta/info.json declares the camera '{KEY}' (32x48), but no episode has a video of it: "
        'left out']


@pytest.mark.parametrize(('change', 'reason'), [
    ({'codebase_version': 'v3.1'}, "codebase_version is 'v3.1', must be one of v3.0"),
    ({'fps': 0}, 'fps is 0, must be a whole number from 1 to 1000'),
    ({'data_path': 'data/{episode_index}.parquet'}, 'data_path is .* names no file'),
    ({'data_path': 'data/{file_index:x-}.parquet'}, 'data_path is .* names no file'),
    ({'video_path': '/videos/{file_index}.mp4'}, 'video_path is .* names no file'),
    ({'features': ['action']}, 'features must be a mapping'),
    ({'features': {'action': {'dtype': 'float32', 'shape': [1]}}},
     "features has neither a camera with videos nor 'observation.state'"),
    ({'features': {'observation.state': {'dtype': 'float32', 'shape': 2}}},
     'features.observation.state.shape is 2, must be one number in a list'),
    ({'features': {'../a': {'dtype': 'video', 'shape': [1, 1, 3]}}},
     "features has the camera '../a', which no file may be called"),
])
def test_a_source_that_cannot_be_used_says_why(
        tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    made = Packed.of(4)
    made.info = change
    with pytest.raises(DatasetError, match=reason):
        open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)


@pytest.mark.parametrize(('edit', 'reason'), [
    (lambda made: made.episodes.pop('length'), 'there is no column length'),
    (lambda made: made.episodes['episode_index'].__setitem__(1, 0), 'lists episode 0 twice'),
    (lambda made: made.episodes['length'].__setitem__(1, None),
     'row 1: episode_index is 1 and length None, must be whole numbers from 0 on'),
])
def test_a_list_of_episodes_that_makes_no_sense_says_where(
        tmp_path: Path, edit: Callable[[Packed], object], reason: str) -> None:
    made = Packed.of(4, 4)
    edit(made)
    with pytest.raises(DatasetError, match=reason):
        open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)


def test_without_a_list_of_episodes_there_is_nothing(tmp_path: Path) -> None:
    root = Packed.of(4).write(tmp_path / 'src')
    (root / 'meta/episodes/chunk-000/file-000.parquet').unlink()
    with pytest.raises(DatasetError, match='no episode is listed in meta/episodes'):
        open_lerobot_v3(root, NOTHING)


def test_a_source_without_a_usable_episode_says_why(tmp_path: Path) -> None:
    made = Packed.of(4, 4)
    made.episodes['length'] = [9, 9]
    with pytest.raises(DatasetError, match=(
            'none of the 2 episodes can be used; the first: meta/episodes: .* are 4.0 pictures')):
        open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    root = Packed.of(4).write(tmp_path / 'src')
    (root / f'videos/{KEY}/chunk-000/file-000.mp4').write_bytes(b'no video')
    with pytest.raises(DatasetError, match=f'no video of {KEY} can be read: .*does not decode'):
        open_lerobot_v3(root, NOTHING)


def test_our_own_dataset_comes_back_as_it_was(tmp_path: Path) -> None:
    session = tmp_path / 'session'
    Recording.regular(20).write(session, success=True)
    Recording.regular(24).write(session, success=False, task='drop the cube')
    late = Recording.regular(30)
    late.messages = [item for index, item in enumerate(late.messages)
                     if item[1] != 'camera/front/image_raw' or index % 97]
    late.write(session, success=None)
    build_dataset(session, tmp_path / 'built')
    built = Dataset.open(tmp_path / 'built')
    report = import_dataset(tmp_path / 'built', tmp_path / 'out', encoder='libx264')
    assert report.problems == []
    assert report.left_out == []
    again = Dataset.open(tmp_path / 'out')
    assert again.contract.digest() == built.contract.digest()
    assert again.success == built.success == [True, False, None]
    assert again.episode_tasks == built.episode_tasks
    names = list(built._table().column_names)
    assert {'stamp_ns', 'flagged', 'skew.camera.front', 'observation.evaluation'} <= set(names)
    for name in names:
        np.testing.assert_array_equal(again.column(name), built.column(name), err_msg=name)
    source = open_lerobot_v3(tmp_path / 'built', NOTHING)
    loaded = source.jobs[0].load(source.contract)
    assert loaded.status == 'complete'
    streams = loaded.aligned.report.streams
    assert streams[0].name == 'image.front'


def test_our_own_contract_must_fit_its_dataset(tmp_path: Path) -> None:
    session = tmp_path / 'session'
    Recording.regular(20).write(session)
    build_dataset(session, tmp_path / 'built')
    path = tmp_path / 'built/meta/contract.json'
    contract = json.loads(path.read_text())
    contract['state'][0]['names'] = ['shoulder', 'wrist']
    path.write_text(json.dumps(contract))
    with pytest.raises(DatasetError, match=(
            r"contract\.json: state is \['shoulder', 'wrist'\], meta/info\.json and the files "
            r"have \['shoulder', 'elbow'\]")):
        open_lerobot_v3(tmp_path / 'built', NOTHING)


def test_foreign_columns_with_our_names_are_not_taken_for_ours(tmp_path: Path) -> None:
    made = Packed.of(4)
    made.rows |= {'flagged': [1] * 4, 'stamp_ns': [7] * 4}
    source = open_lerobot_v3(made.write(tmp_path / 'src'), NOTHING)
    aligned = source.jobs[0].load(source.contract).aligned
    assert not aligned.flagged.any()
    assert aligned.ticks_ns.tolist() == [0, 10**8, 2 * 10**8, 3 * 10**8]


def test_a_contract_chooses_by_name(tmp_path: Path) -> None:
    root = Packed.of(4).write(tmp_path / 'src')
    stream = {'topic': 'joints', 'type': 'std_msgs/Float64MultiArray', 'names': ['b']}
    contract = parse_contract({'robot': 'mine', 'rate_hz': FPS, 'cameras': {},
                               'state': [stream], 'action': []}, 'mine.yaml')
    source = open_lerobot_v3(root, ImportOptions(contract=contract))
    assert source.left_out == [KEY, 'observation.state (a)', 'action (a)']
    loaded = source.jobs[0].load(source.contract)
    values = pq.read_table(root / 'data/chunk-000/file-000.parquet')['observation.state']
    np.testing.assert_array_equal(
        loaded.aligned.state,
        np.array(values.to_pylist(), dtype=np.float32)[:, 1:])
    assert loaded.aligned.pictures == {}


def test_a_fingerprint_changes_with_what_the_episode_is_made_from(tmp_path: Path) -> None:
    made = Packed.of(4, 4)
    made.write(tmp_path / 'a')
    there = [job.fingerprint() for job in open_lerobot_v3(tmp_path / 'a', NOTHING).jobs]
    moved = open_lerobot_v3((tmp_path / 'a').rename(tmp_path / 'b'), NOTHING).jobs
    before = [job.fingerprint() for job in moved]
    assert before == there, 'a dataset that was moved is the same'
    assert len(set(before)) == 2
    made.rows['action'][5] = [2.0]
    pq.write_table(pa.table(made.rows), tmp_path / 'b/data/chunk-000/file-000.parquet')
    after = [job.fingerprint() for job in open_lerobot_v3(tmp_path / 'b', NOTHING).jobs]
    assert not set(before) & set(after)
    (tmp_path / f'b/videos/{KEY}/chunk-000/file-000.mp4').unlink()
    with pytest.raises(DatasetError, match=r'file-000\.mp4: the file is missing'):
        moved[0].fingerprint()


def test_the_dead_recording_opens_and_is_called_dead() -> None:
    if not DEAD.is_dir():
        pytest.skip(f'{DEAD} is not there')
    source = open_lerobot_v3(DEAD, NOTHING)
    assert source.found == {
        'robot': 'so101_follower', 'fps': 30, 'episodes': 6, 'tasks': 1,
        'cameras': 'wrist 360x640', 'state': 6, 'action': 6}
    assert source.problems.lines() == []
    lengths = []
    for job in source.jobs:
        loaded = job.load(source.contract)
        lengths.append(len(loaded.aligned.ticks_ns))
        assert loaded.notes == tuple(
            f'{name}: not one of its 6 values changes in the whole episode: is this recording '
            'dead?' for name in ('observation.state', 'action'))
    assert lengths == [383, 386, 379, 382, 90, 162]
    fifth = source.jobs[4].load(source.contract).aligned
    assert fifth.frames('wrist').shape == (90, 360, 640, 3)
