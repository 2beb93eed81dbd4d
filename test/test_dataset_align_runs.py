# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An episode with too many gaps falls into its clean runs, if the contract wants it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dataset_episodes import (
    joints_message, PERIOD_NS, picture, Recording, small_contract, START_NS)
from hypothesis import given, strategies
import numpy as np
import pytest

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.align import align_episode, align_runs, AlignedEpisode
from ssl_vla_ros.dataset.align_rows import Rows, StreamRows
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import DatasetError

WRIST = 'camera/wrist/image_raw'


def splitting(min_run_s: float = 0.5, on_gap: str = 'split', **sync: Any) -> Contract:
    return small_contract(on_gap=on_gap, min_run_s=min_run_s, **sync)


def gappy() -> Recording:
    """Sixty ticks: the wrist camera misses ten of them, later the joints six."""
    recording = Recording.regular(60)
    recording.drop(WRIST, START_NS + 15 * PERIOD_NS, START_NS + 25 * PERIOD_NS)
    recording.drop('joint_states', START_NS + 50 * PERIOD_NS, START_NS + 54 * PERIOD_NS)
    return recording


def ticks(aligned: AlignedEpisode) -> list[int]:
    return ((aligned.ticks_ns - START_NS) // PERIOD_NS).tolist()


def test_each_clean_run_is_an_episode_of_its_own(tmp_path: Path) -> None:
    episode = Episode.open(gappy().write(tmp_path))
    runs = align_runs(episode, splitting(min_run_s=0.2))
    assert [ticks(run) for run in runs] == [
        list(range(16)), list(range(24, 50)), list(range(55, 60))]
    for run in runs:
        steps = np.array(ticks(run))
        assert not run.flagged.any()
        assert all((skew <= np.float32(0.05)).all() for skew in run.skew_s.values())
        np.testing.assert_allclose(run.state[:, 0], steps * 0.05, atol=1e-6)
        np.testing.assert_allclose(run.action[:, 0], 0.1 * steps, atol=1e-6)
        assert run.evaluation[:, 0].tolist() == steps.tolist()
        # A tick next to a gap takes the picture at its edge.
        edge = np.where(steps == 15, 14, np.where(steps == 24, 25, steps))
        for camera, shown in (('front', steps), ('wrist', edge)):
            expected = np.stack([picture(tick, camera) for tick in shown])
            np.testing.assert_array_equal(run.frames(camera), expected)


def test_runs_that_are_too_short_are_left_out(tmp_path: Path) -> None:
    episode = Episode.open(gappy().write(tmp_path))
    assert [ticks(run)[0] for run in align_runs(episode, splitting(min_run_s=0.5))] == [0, 24]
    assert [ticks(run)[0] for run in align_runs(episode, splitting(min_run_s=0.81))] == [24]
    with pytest.raises(DatasetError, match=r'13 of 60 ticks .*no run of at least sync\.min_run_s '
                       r'= 1\.31 s is without such a tick'):
        align_runs(episode, splitting(min_run_s=1.31))


def test_each_run_reports_its_own_span_and_refused_messages_once(tmp_path: Path) -> None:
    recording = gappy()
    at = START_NS + 30 * PERIOD_NS
    recording.messages.append((at, 'joint_states', joints_message(0, [9.0, 9.0])))
    runs = align_runs(Episode.open(recording.write(tmp_path)), splitting(min_run_s=0.2))
    reports = [run.report for run in runs]
    assert all(report is not None and report.lost_ticks == 0 for report in reports)
    wrist, joints = ([report.streams[place] for report in reports if report is not None]
                     for place in (1, 2))
    assert [stream.messages for stream in wrist] == [15, 25, 5]
    assert [stream.gaps for stream in wrist] == [0, 0, 0]
    assert [stream.rejected for stream in joints] == [{'zero_stamp': 1}, {}, {}]
    assert [report.limits for report in reports if report is not None] == [
        ('image.front', 'image.wrist'), ('image.wrist', 'state.joint_states'),
        ('state.joint_states', 'image.front')]
    assert [report.trimmed_s[0] for report in reports if report is not None] == [
        pytest.approx(0.007 + tick * 0.05) for tick in (0, 24, 55)]


def test_an_episode_within_its_bounds_is_not_split(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 10 * PERIOD_NS, START_NS + 13 * PERIOD_NS)
    episode = Episode.open(recording.write(tmp_path))
    (whole,) = align_runs(episode, splitting())
    assert whole.flagged.sum() == 1
    assert whole.report == align_episode(episode, small_contract()).report


def test_a_camera_that_dies_leaves_the_run_before(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 20 * PERIOD_NS)
    (run,) = align_runs(Episode.open(recording.write(tmp_path)), splitting())
    assert ticks(run) == list(range(20))
    assert run.report is not None
    assert run.report.lost_ticks == 19


@pytest.mark.parametrize('on_gap', ['refuse', None])
def test_without_the_word_split_the_episode_is_refused(
        tmp_path: Path, on_gap: str | None) -> None:
    episode = Episode.open(gappy().write(tmp_path))
    contract = small_contract() if on_gap is None else splitting(on_gap=on_gap)
    with pytest.raises(DatasetError, match=r'13 of 60 ticks lack data.*allows 0\.1: '
                       r'image\.wrist in 8 .*state\.joint_states in 5'):
        align_runs(episode, contract)


@given(strategies.lists(strategies.booleans(), min_size=1, max_size=40),
       strategies.integers(1, 6))
def test_clean_runs_are_the_longest_stretches_without_a_flag(
        flagged: list[bool], least: int) -> None:
    mask, none = np.array(flagged), np.empty(0, dtype=np.int64)
    stream = StreamRows('x', 'x', True, none, {}, none, np.empty(0, np.float32), mask)
    rows = Rows(np.arange(len(mask)), 20, {}, {}, (stream,), {}, ('', ''), (0, 0))
    expected, start = [], None
    for place, bad in enumerate([*flagged, True]):
        if bad and start is not None:
            if place - start >= least:
                expected.append((start, place))
            start = None
        elif not bad and start is None:
            start = place
    assert rows.clean_runs(least) == expected
