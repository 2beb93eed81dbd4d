# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Building a dataset from a session: whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dataset_episodes import PERIOD_NS, Recording, small_contract, START_NS
import numpy as np
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.files import building, part_of
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import DatasetError, EpisodeError


@pytest.fixture
def session(tmp_path: Path) -> Path:
    for ticks in (10, 12):
        Recording.regular(ticks).write(tmp_path / 'session', success=ticks == 12)
    return tmp_path / 'session'


def test_a_session_becomes_a_dataset(session: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    report = build_dataset(session, tmp_path / 'out', progress=lambda *what: told.append(what))
    dataset = Dataset.open(tmp_path / 'out')
    dataset.verify()
    assert dataset.lengths == [10, 12]
    assert dataset.success == [False, True]
    assert dataset.digest() == report.digest
    assert (len(report.kept), report.refused, report.rows) == (2, [], 22)
    assert told == [(0, 2, 'episodes'), (1, 2, 'episodes: session/episode_000000'),
                    (2, 2, 'episodes: session/episode_000001')]
    json.dumps(report.to_dict(), allow_nan=False)
    text = report.text()
    assert 'image.front: 20.00 Hz, 0 gaps' in text
    assert 'by receive time (no header)' in text
    assert 'kept 2 of 2 episodes, 22 rows' in text
    assert not part_of(tmp_path / 'out').exists()
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == [
        'data', 'meta', 'videos']


def test_rows_of_messages_without_a_header_are_flagged_as_such(tmp_path: Path) -> None:
    contract = small_contract()
    recording = Recording.regular(10)
    recording.write(tmp_path / 'session')
    build_dataset(tmp_path / 'session', tmp_path / 'out')
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.column('unstamped').tolist() == [[True]] * dataset.num_rows
    assert not dataset.column('flagged').any()
    extra = json.loads((tmp_path / 'out/meta/ssl_vla.json').read_text())
    assert extra['unstamped'] == ['action.gripper']
    data = contract.to_dict()
    data['action'] = [stream for stream in data['action'] if stream['topic'] != 'gripper']
    features = layout.describe_features(parse_contract(data, 'stamped.yaml'), 20)
    assert 'unstamped' not in features
    assert 'flagged' in features


def test_two_builds_of_one_session_are_the_same(session: Path, tmp_path: Path) -> None:
    digests = {build_dataset(session, tmp_path / name).digest for name in ('a', 'b')}
    assert len(digests) == 1


def test_unusable_episodes_are_listed_with_their_reason(session: Path, tmp_path: Path) -> None:
    silent = Recording.regular(10)
    silent.drop('gripper', 0)
    silent.write(session, success=True)
    dead = Recording.regular(10)
    dead.drop('camera/wrist/image_raw', START_NS + 5 * PERIOD_NS)
    dead.write(session)
    broken = Recording.regular(10).write(session)
    (bag,) = broken.glob('*.mcap')
    bag.write_bytes(bag.read_bytes()[:1000])
    Recording.regular(10).write(session, status='recovered')
    report = build_dataset(session, tmp_path / 'out')
    reasons = [result.reason for result in report.refused]
    assert len(reasons) == 3
    assert 'is incomplete (nothing was recorded on gripper (nothing came))' in reasons[0]
    assert 'image.wrist ended' in reasons[1]
    assert broken.name in reasons[2]
    assert Dataset.open(tmp_path / 'out').lengths == [10, 12, 10]
    assert report.text().count('refused: ') == 3


def test_an_early_end_is_used_and_an_unknown_loss_is_refused(
        session: Path, tmp_path: Path) -> None:
    early = Recording.regular(8).write(session, status='incomplete', success=None)
    recovered = Recording.regular(9).write(session, status='recovered', success=None)
    for path, changes in ((recovered, {}), (early, {'reason': 'deactivated while recording'})):
        rewrite(path, changes, published_exact=path is early)
    for reason in ('disk: [Errno 28] No space left on device', 'writer: KeyError(1)'):
        rewrite(Recording.regular(10).write(session, status='incomplete'),
                {'reason': reason, 'faults': [reason]})
    rewrite(Recording.regular(10).write(session, status='incomplete'), {}, published=11)
    rewrite(Recording.regular(10).write(session), {'status': 'discarded', 'reason': 'no'})
    report = build_dataset(session, tmp_path / 'out')
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.lengths == [10, 12, 8, 9]
    assert dataset.success == [False, True, None, None]
    assert [result.status for result in report.kept] == [
        'complete', 'complete', 'incomplete', 'recovered']
    assert [result.exact for result in report.kept] == [True, True, True, False]
    told = report.to_dict()
    assert (told['kept'], told['ended_early'], told['recovered']) == (4, 1, 1)
    text = report.text()
    assert 'of these, 1 ended early' in text
    assert 'of these, 1 recovered after a kill' in text
    assert '(counts not exact)' in text
    reasons = [result.reason for result in report.refused]
    assert len(reasons) == 4
    for words, reason in zip(
            ('is incomplete (disk: [Errno 28]', 'is incomplete (writer: KeyError(1))',
             'accounting does not balance: camera/front/image_raw', 'is discarded (no)'),
            reasons, strict=True):
        assert words in reason, reason


def rewrite(path: Path, changes: dict[str, Any], **counts: Any) -> None:
    """Change what an episode says of itself, and of its first topic."""
    file = path / 'episode.json'
    info = json.loads(file.read_text()) | changes
    next(iter(info['counts'].values())).update(counts)
    file.write_text(json.dumps(info))


def test_another_robots_episode_is_refused_by_name(session: Path, tmp_path: Path) -> None:
    data = small_contract().to_dict()
    data['state'][0]['names'] = ['shoulder', 'wrist']
    with pytest.raises(DatasetError, match='lacks elbow'):
        build_dataset(session, tmp_path / 'out', parse_contract(data, 'other'))
    assert not (tmp_path / 'out').exists()


def test_a_dataset_may_have_another_rate_and_size(session: Path, tmp_path: Path) -> None:
    data = small_contract().to_dict()
    data['rate_hz'] = 10
    data['cameras']['front'].update(height=16, width=16)
    build_dataset(session, tmp_path / 'out', parse_contract(data, 'slow'))
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.lengths == [5, 6]
    assert dataset.frames('front', 0).shape == (5, 16, 16, 3)
    np.testing.assert_allclose(
        dataset.column('observation.state')[:5, 0], 0.1 * np.arange(5), atol=1e-6)


def test_an_interrupted_build_shows_no_dataset_and_starts_again(
        session: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        build_dataset(session, tmp_path / 'out', progress=stop)
    assert part_of(tmp_path / 'out').is_dir()
    with pytest.raises(DatasetError, match='interrupted build is beside it'):
        Dataset.open(tmp_path / 'out')
    build_dataset(session, tmp_path / 'out')
    Dataset.open(tmp_path / 'out').verify()
    assert not part_of(tmp_path / 'out').exists()


def test_a_build_beside_another_one_is_refused(session: Path, tmp_path: Path) -> None:
    with building(tmp_path / 'out', ()), pytest.raises(
            DatasetError, match='another process is building'):
        build_dataset(session, tmp_path / 'out')


def test_a_strangers_files_are_never_removed(session: Path, tmp_path: Path) -> None:
    part = part_of(tmp_path / 'out')
    part.mkdir()
    (part / 'thesis.tex').write_text('precious')
    with pytest.raises(DatasetError, match=r"'thesis\.tex'.*yourself"):
        build_dataset(session, tmp_path / 'out')
    assert (part / 'thesis.tex').read_text() == 'precious'


def test_what_is_no_dataset_of_this_session_stays(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    first = build_dataset(session, out)
    other = tmp_path / 'other'
    Recording.regular(14).write(other)
    with pytest.raises(DatasetError, match='exists already'):
        build_dataset(other, out)
    assert Dataset.open(out).digest() == first.digest
    build_dataset(other, out, overwrite=True)
    assert Dataset.open(out).lengths == [14]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['other', 'out', 'session']
    folder = tmp_path / 'photos'
    folder.mkdir()
    with pytest.raises(DatasetError, match='is no dataset'):
        build_dataset(session, folder, overwrite=True)


def test_sessions_without_a_usable_episode_say_so(tmp_path: Path) -> None:
    with pytest.raises(EpisodeError, match='no such session'):
        build_dataset(tmp_path / 'none', tmp_path / 'out')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DatasetError, match='no finished episode'):
        build_dataset(tmp_path / 'empty', tmp_path / 'out')
    Recording.regular(10).write(tmp_path / 'bad', status='discarded')
    with pytest.raises(DatasetError, match='none of the 1 episodes can be used'):
        build_dataset(tmp_path / 'bad', tmp_path / 'out')


@pytest.mark.parametrize('empty', ['', '  '])
def test_a_task_can_be_given_to_episodes_recorded_without_one(
        empty: str, tmp_path: Path) -> None:
    session = tmp_path / 'session'
    Recording.regular(10).write(session, task=empty)
    with pytest.raises(DatasetError, match='task is empty: .* build with --task TEXT'):
        build_dataset(session, tmp_path / 'out')
    Recording.regular(10).write(session, task='push the cube')
    build_dataset(session, tmp_path / 'out', task='lift the cube')
    assert Dataset.open(tmp_path / 'out').episode_tasks == ['lift the cube', 'push the cube']


def test_a_session_with_gaps_is_split_where_the_contract_says_so(
        session: Path, tmp_path: Path) -> None:
    long = Recording.regular(60)
    long.drop('camera/wrist/image_raw', START_NS + 20 * PERIOD_NS, START_NS + 35 * PERIOD_NS)
    long.write(session)
    splitting = small_contract(on_gap='split', min_run_s=0.6)
    report = build_dataset(session, tmp_path / 'out', splitting)
    dataset = Dataset.open(tmp_path / 'out')
    sources = [str(entry['source']) for entry in dataset.episodes]
    assert sources[2:] == ['session/episode_000002 part 1 of 2',
                           'session/episode_000002 part 2 of 2']
    assert all(not dataset.column('flagged')[dataset.rows(number)].any() for number in (2, 3))
    assert dataset.column('skew.camera.wrist').max() <= 0.05
    assert len(report.kept) == 4
    # Bringing it up to date finds both parts again.
    assert build_dataset(session, tmp_path / 'out', splitting).changed is False
    refusing = build_dataset(session, tmp_path / 'refused')
    assert [Path(item.source).name for item in refusing.refused] == ['episode_000002']
