# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The gate over aligned rows: our own datasets, and what others recorded."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dataset_episodes import PERIOD_NS, Recording, START_NS
from episode_samples import need_message_packages
import numpy as np
from numpy.typing import NDArray
import pytest
from quality_samples import angle, Arm, found, limited_contract, Look, view

pytest.importorskip('av', reason='PyAV is not installed')
pytest.importorskip('pyarrow', reason='pyarrow is not installed')

from ssl_vla_ros.dataset.align import align_episode  # noqa: E402
from ssl_vla_ros.dataset.aligned import AlignedEpisode  # noqa: E402
from ssl_vla_ros.dataset.build import build_dataset  # noqa: E402
from ssl_vla_ros.dataset.check import (  # noqa: E402
    check_dataset, judge_aligned, with_what_the_build_says)
from ssl_vla_ros.dataset.sources.base import ImportOptions  # noqa: E402
from ssl_vla_ros.episodes.reader import Episode, list_episodes  # noqa: E402
from ssl_vla_ros.errors import ConfigError, DatasetError  # noqa: E402
from ssl_vla_ros.quality.thresholds import Thresholds  # noqa: E402
from ssl_vla_ros.quality.verdict import Verdict  # noqa: E402

CONTRACT = limited_contract()


@pytest.fixture
def rows(tmp_path: Path) -> AlignedEpisode:
    """Give the rows of a healthy episode."""
    need_message_packages()
    return align_episode(Episode.open(Arm().write(tmp_path / 'healthy')), CONTRACT)


def spoilt(rows: AlignedEpisode, **changes: NDArray[np.float32]) -> set[tuple[str, str, str]]:
    """Judge the rows with something exchanged."""
    return found(judge_aligned(dataclasses.replace(rows, **changes), CONTRACT))


def test_healthy_rows_are_good(rows: AlignedEpisode) -> None:
    verdict = judge_aligned(rows, CONTRACT, name='episode 7')
    assert (verdict.name, verdict.level, verdict.reasons) == ('episode 7', 'good', ())


def test_dead_rows_are_refused(rows: AlignedEpisode) -> None:
    assert spoilt(rows, state=np.ones_like(rows.state)) == {
        ('refused', 'constant', 'state.joint_states')}
    assert spoilt(rows, action=np.ones_like(rows.action)) == {('refused', 'constant', 'action')}
    half = rows.state.copy()
    half[:, 1] = 0.5
    assert spoilt(rows, state=half) == {('note', 'constant', 'state.joint_states')}


def test_rows_that_are_no_numbers_are_refused(rows: AlignedEpisode) -> None:
    state = rows.state.copy()
    state[10:12, 1] = np.nan
    assert spoilt(rows, state=state) == {('refused', 'nan', 'state.joint_states')}


def test_jumps_and_limits_are_found_in_rows(rows: AlignedEpisode) -> None:
    jump = rows.state.copy()
    jump[40, 1] += 1.5
    assert spoilt(rows, state=jump) == {('doubtful', 'jump', 'state.joint_states')}
    stuck = rows.state.copy()
    stuck[:, 1] = np.clip(8.0 * stuck[:, 1], -1.95, 1.95)
    assert spoilt(rows, state=stuck) == {('doubtful', 'limit', 'state.joint_states')}


@pytest.mark.parametrize(('count', 'severity'), [(5, 'doubtful'), (30, 'refused')])
def test_rows_with_far_samples_are_found(
        rows: AlignedEpisode, count: int, severity: str) -> None:
    skew = rows.skew_s['image.wrist'].copy()
    skew[:count] = 0.2
    verdict = judge_aligned(dataclasses.replace(
        rows, skew_s={**rows.skew_s, 'image.wrist': skew}), CONTRACT)
    assert found(verdict) == {(severity, 'skew', 'image.wrist')}
    assert f'{count / len(skew):.1%} of the rows have a sample over 0.05 s away' in (
        verdict.because())
    unknown = {label: np.full_like(skew, np.nan) for label in rows.skew_s}
    assert spoilt(rows, skew_s=unknown) == set()  # type: ignore[arg-type]


def test_rows_out_of_order_and_too_few_are_refused(rows: AlignedEpisode) -> None:
    ticks = rows.ticks_ns.copy()
    ticks[50:] -= 10**9
    assert spoilt(rows, ticks_ns=ticks) == {('refused', 'order', '')}  # type: ignore[arg-type]
    short = {name: getattr(rows, name)[:1] for name in ('ticks_ns', 'state', 'action')}
    assert spoilt(rows, **short) == {('refused', 'short', '')}


def test_thresholds_move_the_verdict(rows: AlignedEpisode) -> None:
    strict = Thresholds(short_s=10.0)
    assert judge_aligned(rows, CONTRACT, strict).keys() == ('short',)


def stands(begin: float, end: float) -> Look:
    """Make a view whose front camera stands still in that time."""
    kept: dict[str, NDArray[np.uint8]] = {}

    def look(seconds: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = view(seconds, name, rng)
        return (kept.setdefault(name, picture) if name == 'front' and begin <= seconds < end
                else picture)
    return look


def test_pictures_are_judged_through_the_codec(tmp_path: Path) -> None:
    """A frozen camera is found in the encoded videos, and a black one; others are good."""
    need_message_packages()

    def black(seconds: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        return np.zeros((32, 48, 3), np.uint8) if name == 'wrist' else view(seconds, name, rng)
    for looks in (view, stands(2.0, 5.0), black):
        Arm(view=looks).write(tmp_path / 'session')
    build_dataset(tmp_path / 'session', tmp_path / 'dataset')
    told: list[tuple[int, int, str]] = []
    report = check_dataset(
        tmp_path / 'dataset', Thresholds(),
        told=lambda done, total, verdict: told.append((done, total, verdict.name)))
    assert report.kind == 'LeRobot v3.0'
    assert [found(verdict) for verdict in report.verdicts] == [
        set(), {('refused', 'frozen', 'image.front')}, {('refused', 'flat', 'image.wrist')}]
    assert told == [(1, 3, 'episode 0'), (2, 3, 'episode 1'), (3, 3, 'episode 2')]
    assert check_dataset(tmp_path / 'dataset', Thresholds(), workers=2) == report
    with pytest.raises(ConfigError, match="'image.top', which this robot has not"):
        check_dataset(tmp_path / 'dataset', Thresholds(expected_hz={'image.top': 1.0}))
    video = next(path for path in sorted((tmp_path / 'dataset').rglob('*.mp4'))
                 if 'front' in str(path))
    video.write_bytes(video.read_bytes()[:400])
    broken = check_dataset(tmp_path / 'dataset', Thresholds()).verdicts[0]
    assert found(broken) == {('refused', 'unreadable', '')}
    assert str(video) in broken.because()


def test_a_camera_that_stands_while_the_arm_rests_is_no_fault(tmp_path: Path) -> None:
    need_message_packages()

    def still(seconds: float) -> tuple[float, float]:
        return angle(min(seconds, 2.0)), -angle(min(seconds, 2.0))
    Arm(seconds=3.7, view=stands(2.3, 3.7), joints=still).write(tmp_path / 'session')
    build_dataset(tmp_path / 'session', tmp_path / 'dataset')
    verdict, = check_dataset(tmp_path / 'dataset', Thresholds()).verdicts
    assert found(verdict) == set()


def test_the_dead_recording_of_others_is_refused_for_what_it_is(shared_data: Path) -> None:
    report = check_dataset(shared_data / 'odd' / 'so101_frozen_lerobot_v3', Thresholds())
    assert len(report.verdicts) == 6
    for verdict in report.verdicts:
        refused = [reason for reason in verdict.reasons if reason.severity == 'refused']
        assert [(reason.key, reason.stream.partition('.')[0]) for reason in refused] == [
            ('constant', 'state'), ('constant', 'action')]
        assert refused[0].text.startswith('all 6 values are constant from start to end: the arm')


def test_a_living_recording_of_others_is_not_refused(shared_data: Path) -> None:
    report = check_dataset(
        shared_data / 'lerobot_v20_gr1_pickplace' / 'robot_sim.PickNPlace', Thresholds())
    assert [verdict.level for verdict in report.verdicts] == ['good'] * 5
    # Legs, neck and waist of this robot stand: that is said, and held against nobody.
    assert {('note', 'constant', 'state.imported.state')} <= found(report.verdicts[0])


def test_short_steps_of_a_real_arm_are_not_refused(shared_data: Path) -> None:
    report = check_dataset(shared_data / 'rlds_widowx_bridge', Thresholds(),
                           options=ImportOptions(rate_hz=5))
    assert len(report.verdicts) == 25
    assert not any(verdict.refused for verdict in report.verdicts)
    assert {key for verdict in report.verdicts for key in verdict.keys('doubtful')} == {'short'}


def test_what_is_no_dataset_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match='nowhere'):
        check_dataset(tmp_path / 'nowhere', Thresholds())


def test_the_gate_and_the_build_agree_on_recorded_episodes(tmp_path: Path) -> None:
    """One stream after the other is near enough; all of them at once are not."""
    session = tmp_path / 'session'
    good = Recording.regular(40)
    good.write(session)
    late = Recording.regular(40)
    # Two cameras that each lack 8 % of the pictures, at different times: 16 % of the rows.
    for camera, first in (('front', 10), ('wrist', 24)):
        late.drop(f'camera/{camera}/image_raw', START_NS + first * PERIOD_NS,
                  START_NS + (first + 6) * PERIOD_NS - 1)
    late.write(session)
    verdicts = [with_what_the_build_says((path, Verdict.of(path.name, [])))
                for path in list_episodes(session)]
    report = build_dataset(session, tmp_path / 'out')
    assert [verdict.refused for verdict in verdicts] == [False, True]
    assert [item.kept for item in report.episodes] == [True, False]
    (reason,) = verdicts[1].reasons
    assert reason.key == 'build'
    assert 'sync.max_flagged_fraction allows 0.1' in reason.text
    assert report.refused[0].reason.endswith(reason.text)
