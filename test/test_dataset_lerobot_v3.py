# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What is written is read back, conforms to LeRobot v3.0, and damage is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
import json
from pathlib import Path

from dataset_episodes import PERIOD_NS, picture, small_contract, START_NS
import numpy as np
from numpy.typing import NDArray
import pyarrow.parquet as pq
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.errors import DatasetError

CONTRACT = small_contract()


def aligned(ticks: int, seed: int = 0) -> AlignedEpisode:
    rng = np.random.default_rng(seed)
    pictures: dict[str, Iterable[NDArray[np.uint8]]] = {
        camera: [picture(tick, camera) for tick in range(ticks)]
        for camera in CONTRACT.camera_names}
    evaluation = rng.normal(size=(ticks, 1)).astype(np.float32)
    evaluation[0] = np.nan
    return AlignedEpisode(
        ticks_ns=START_NS + np.arange(ticks) * PERIOD_NS, pictures=pictures,
        state=rng.normal(size=(ticks, 2)).astype(np.float32),
        action=rng.normal(size=(ticks, 2)).astype(np.float32), evaluation=evaluation,
        skew_s={label: rng.uniform(0, 0.05, ticks).astype(np.float32)
                for label, _, _ in stream_labels(CONTRACT)},
        flagged=rng.uniform(size=ticks) < 0.1)


def write(out: Path) -> list[AlignedEpisode]:
    writer = DatasetWriter(out, CONTRACT, 20)
    episodes = [aligned(6, 0), aligned(4, 1), aligned(5, 2)]
    for number, (episode, task, success) in enumerate(zip(
            episodes, ('lift', 'push', 'lift'), (True, False, None), strict=True)):
        assert writer.add_episode(episode, task, success, f'source {number}') == number
    writer.finish()
    return episodes


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    episodes = write(tmp_path)
    dataset = Dataset.open(tmp_path)
    assert dataset.lengths == [6, 4, 5]
    assert dataset.num_rows == 15
    assert dataset.fps == 20
    assert dataset.contract.digest() == CONTRACT.digest()
    assert dataset.camera_names == ('front', 'wrist')
    assert dataset.tasks == ['lift', 'push']
    assert dataset.episode_tasks == ['lift', 'push', 'lift']
    assert dataset.success == [True, False, None]
    assert dataset.episode_index.tolist() == [0] * 6 + [1] * 4 + [2] * 5
    assert dataset.rows(1) == slice(6, 10)
    for name, attribute in (('observation.state', 'state'), ('action', 'action'),
                            ('observation.evaluation', 'evaluation')):
        expected = np.concatenate([getattr(episode, attribute) for episode in episodes])
        np.testing.assert_array_equal(dataset.column(name), expected)
    for name, expected in (
            ('stamp_ns', np.concatenate([episode.ticks_ns for episode in episodes])),
            ('flagged', np.concatenate([episode.flagged for episode in episodes])),
            ('index', np.arange(15)), ('task_index', [0] * 6 + [1] * 4 + [0] * 5),
            ('frame_index', [*range(6), *range(4), *range(5)]),
            ('skew.camera.wrist',
             np.concatenate([episode.skew_s['image.wrist'] for episode in episodes]))):
        assert dataset.column(name).shape == (15, 1)
        np.testing.assert_array_equal(dataset.column(name)[:, 0], expected)
    np.testing.assert_array_equal(
        dataset.column('timestamp'), (dataset.column('frame_index') / 20).astype(np.float32))
    frames = dataset.frames('wrist', 2)
    assert frames.shape == (5, 32, 48, 3)
    difference = frames.astype(int) - episodes[2].frames('wrist')
    assert np.abs(difference[..., 0].mean(axis=(1, 2))).max() < 1.0, 'a tick is 3 levels of red'
    assert np.abs(difference).max() <= 8
    dataset.verify()


def test_files_conform_to_lerobot_v3(tmp_path: Path) -> None:
    write(tmp_path)
    info = json.loads((tmp_path / 'meta/info.json').read_text())
    assert info['codebase_version'] == 'v3.0'
    assert (info['total_episodes'], info['total_frames'], info['total_tasks']) == (3, 15, 2)
    assert not [name for name in info['features'] if '/' in name]
    videos = {name for name, entry in info['features'].items() if entry['dtype'] == 'video'}
    assert videos == {'observation.images.front', 'observation.images.wrist'}
    start = 0
    for episode, length in enumerate((6, 4, 5)):
        place = f'chunk-000/file-{episode:03d}'
        rows = pq.read_table(tmp_path / f'data/{place}.parquet')
        assert set(rows.column_names) == set(info['features']) - videos
        for name in rows.column_names:
            shape = info['features'][name]['shape']
            kind = rows.schema.field(name).type
            assert getattr(kind, 'list_size', 1) == shape[0], name
            assert (shape[0] > 1) == (kind.num_fields == 1), f'{name}: [1] is a plain number'
        assert all((tmp_path / f'videos/{key}/{place}.mp4').is_file() for key in videos)
        (row,) = pq.read_table(tmp_path / f'meta/episodes/{place}.parquet').to_pylist()
        assert (row['episode_index'], row['length']) == (episode, length)
        assert (row['dataset_from_index'], row['dataset_to_index']) == (start, start + length)
        assert row['tasks'] == [['lift'], ['push'], ['lift']][episode]
        for key in videos:
            assert row[f'videos/{key}/file_index'] == episode
            assert row[f'videos/{key}/from_timestamp'] == 0.0
            assert row[f'videos/{key}/to_timestamp'] == pytest.approx(length / 20)
            assert np.shape(row[f'stats/{key}/q99']) == (3, 1, 1)
        start += length
    tasks = pq.read_table(tmp_path / 'meta/tasks.parquet')
    assert tasks.column('task_index').to_pylist() == [0, 1]
    footer = json.loads(tasks.schema.metadata[b'pandas'])
    assert tasks.column(footer['index_columns'][0]).to_pylist() == ['lift', 'push']
    stats = json.loads((tmp_path / 'meta/stats.json').read_text())
    assert stats['action']['count'] == [15]
    values = Dataset.open(tmp_path).column('action')
    np.testing.assert_allclose(stats['action']['q10'], np.quantile(
        values.astype(np.float64), 0.1, axis=0))


def test_the_same_content_has_the_same_digest(tmp_path: Path) -> None:
    for name in ('a', 'b'):
        write(tmp_path / name)
    first, second = (Dataset.open(tmp_path / name).digest() for name in ('a', 'b'))
    assert first == second
    writer = DatasetWriter(tmp_path / 'c', CONTRACT, 20)
    writer.add_episode(aligned(6), 'lift', True, 'x')
    assert writer.finish() != first


@pytest.mark.parametrize('count', [5, 7])
def test_a_stalled_camera_is_no_episode(tmp_path: Path, count: int) -> None:
    writer = DatasetWriter(tmp_path, CONTRACT, 20)
    writer.add_episode(aligned(4), 'lift', True, 'good')
    broken = aligned(6)
    pictures = {**broken.pictures,
                'wrist': [picture(tick, 'wrist') for tick in range(count)]}
    with pytest.raises(DatasetError, match=f'gave {count} pictures for 6 rows'):
        writer.add_episode(replace(broken, pictures=pictures), 'lift', True, 'stalled')
    assert len(list(tmp_path.rglob('*.mp4'))) == 2, 'nothing of the refused episode stays'
    assert writer.add_episode(aligned(5), 'lift', True, 'next') == 1
    writer.finish()
    dataset = Dataset.open(tmp_path)
    assert dataset.lengths == [4, 5]
    dataset.verify()


def test_an_episode_that_does_not_fit_says_what(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, CONTRACT, 20)
    good = aligned(4)
    nan = good.action.copy()
    nan[2] = np.nan
    for wrong, text in (
            (replace(good, state=good.state[:, :1]), r'state is \(4, 1\)'),
            (replace(good, action=nan), 'action has no number in row 2'),
            (replace(good, pictures={'front': good.pictures['front']}), 'lacks wrist'),
            (replace(good, skew_s={}), r'lacks image\.front'),
            (replace(good, ticks_ns=good.ticks_ns[:0]), 'no rows')):
        with pytest.raises(DatasetError, match=text):
            writer.add_episode(wrong, 'lift', True, 'wrong')
    with pytest.raises(DatasetError, match='task is empty'):
        writer.add_episode(good, ' ', True, 'wrong')
    other = {**good.pictures, 'front': [np.zeros((16, 16, 3), np.uint8)] * 4}
    with pytest.raises(DatasetError, match='front are 16x16, the contract says 32x48'):
        writer.add_episode(replace(good, pictures=other), 'lift', True, 'wrong')
    with pytest.raises(DatasetError, match='at least one episode'):
        writer.finish()


def test_the_rate_must_be_the_contracts(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='fps is 30'):
        DatasetWriter(tmp_path, CONTRACT, 30)


def test_directories_that_are_no_dataset_of_ours_say_so(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r'meta/info\.json is missing'):
        Dataset.open(tmp_path / 'none')
    writer = DatasetWriter(tmp_path / 'half', CONTRACT, 20)
    writer.add_episode(aligned(4), 'lift', True, 'x')
    with pytest.raises(DatasetError, match='no dataset here'):
        Dataset.open(tmp_path / 'half')
    write(tmp_path / 'data')
    info = tmp_path / 'data/meta/info.json'
    text = info.read_text()
    info.write_text(text.replace('v3.0', 'v2.1'))
    with pytest.raises(DatasetError, match="codebase_version is 'v2.1'.*import"):
        Dataset.open(tmp_path / 'data')
    info.write_text(text.replace('"total_frames": 15', '"total_frames": 16'))
    with pytest.raises(DatasetError, match='total_frames is 16'):
        Dataset.open(tmp_path / 'data')
    info.write_text(text[:50])
    with pytest.raises(DatasetError, match='not valid JSON'):
        Dataset.open(tmp_path / 'data')
    info.write_text(text)
    (tmp_path / 'data/meta/contract.json').unlink()
    with pytest.raises(DatasetError, match=r'contract\.json is missing'):
        Dataset.open(tmp_path / 'data')


def test_unknown_names_get_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = Dataset.open(tmp_path)
    with pytest.raises(DatasetError, match="did you mean 'action'"):
        dataset.column('actions')
    with pytest.raises(DatasetError, match="did you mean 'front'"):
        dataset.frames('frnt', 0)


def test_changes_behind_our_back_are_noticed(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / 'data/chunk-000/file-001.parquet'
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 3), path)
    with pytest.raises(DatasetError, match='has 3 rows, the dataset says 4'):
        Dataset.open(tmp_path).column('action')
    shifted = table.set_column(
        table.column_names.index('stamp_ns'), 'stamp_ns', table.column('index'))
    pq.write_table(shifted, path)
    with pytest.raises(DatasetError, match='episode 1 was changed'):
        Dataset.open(tmp_path).verify()
    path.write_bytes(b'PAR1 nonsense')
    with pytest.raises(DatasetError, match='cannot read this Parquet file'):
        Dataset.open(tmp_path).column('action')


def test_two_streams_of_one_topic_get_different_columns() -> None:
    data = CONTRACT.to_dict()
    data['state'].append({**data['state'][0], 'field': 'velocity'})
    labels = [label for label, _, _ in stream_labels(parse_contract(data, 'two'))]
    assert labels[2:4] == ['state.joint_states', 'state.joint_states.velocity']
    assert len(set(labels)) == len(labels)
