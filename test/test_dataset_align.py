# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Alignment of real bags, whole and damaged."""

from __future__ import annotations

from pathlib import Path

from dataset_episodes import (
    array_message, image_message, joints_message, MS, PERIOD_NS, picture, Recording,
    small_contract, START_NS)
import numpy as np
import pytest

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.align import align_episode, AlignedEpisode, StreamReport
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.errors import DatasetError

WRIST = 'camera/wrist/image_raw'


def align(recording: Recording, folder: Path, contract: Contract | None = None) -> AlignedEpisode:
    episode = Episode.open(recording.write(folder))
    return align_episode(episode, contract or recording.contract)


def stream(aligned: AlignedEpisode, name: str) -> StreamReport:
    assert aligned.report is not None
    return next(found for found in aligned.report.streams if found.name == name)


def test_a_faultless_episode_comes_out_tick_by_tick(tmp_path: Path) -> None:
    aligned = align(Recording.regular(20), tmp_path)
    steps = np.arange(20)
    assert aligned.ticks_ns.tolist() == (START_NS + steps * PERIOD_NS).tolist()
    np.testing.assert_allclose(
        aligned.state, np.stack([steps * 0.05, steps * -0.1], axis=1), atol=1e-6)
    np.testing.assert_allclose(aligned.action[:, 0], 0.1 * steps, atol=1e-6)
    assert aligned.action[:, 1].tolist() == (steps % 2).tolist()
    assert aligned.evaluation[:, 0].tolist() == steps.tolist()
    for camera in ('front', 'wrist'):
        expected = np.stack([picture(tick, camera) for tick in steps])
        np.testing.assert_array_equal(aligned.frames(camera), expected)
    assert not aligned.flagged.any()
    assert not stream(aligned, 'action.gripper').stamped
    assert stream(aligned, 'action.twist').skew_p50_s == pytest.approx(0.004)
    assert stream(aligned, 'state.joint_states').rate_hz == pytest.approx(100.0)


def test_pictures_are_resized_to_the_contracts_size(tmp_path: Path) -> None:
    recording = Recording.regular(3)
    recording.messages = [item for item in recording.messages if item[1] != WRIST]
    recording.messages += [
        (START_NS + tick * PERIOD_NS + 2 * MS, WRIST, image_message(
            START_NS + tick * PERIOD_NS, picture(tick, 'wrist', 64, 96))) for tick in range(3)]
    aligned = align(recording, tmp_path)
    np.testing.assert_allclose(aligned.frames('wrist')[2], picture(2, 'wrist'), atol=1)


def test_broken_pictures_are_counted_and_never_taken(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.drop(WRIST, START_NS + 5 * PERIOD_NS, START_NS + 6 * PERIOD_NS)
    stamp = START_NS + 5 * PERIOD_NS
    red = np.full((32, 48, 3), 255, dtype=np.uint8)
    recording.messages += [
        (stamp + MS, WRIST, image_message(stamp, red, step=7)),
        (stamp + 2 * MS, WRIST, image_message(stamp + MS, np.full((8, 8, 3), 255, np.uint8)))]
    aligned = align(recording, tmp_path)
    report = stream(aligned, 'image.wrist')
    assert report.rejected == {'step': 1, 'size_changed': 1}
    assert report.repeated == 1
    assert aligned.frames('wrist')[..., 0].max() < 255
    assert aligned.skew_s['image.wrist'][5] == pytest.approx(0.05)
    assert not aligned.flagged.any(), '50 ms is still within the bound'


def test_bad_stamps_are_counted_and_never_become_rows(tmp_path: Path) -> None:
    clean = align(Recording.regular(20), tmp_path / 'clean')
    recording = Recording.regular(20)
    at = START_NS + 7 * PERIOD_NS + 20 * MS
    recording.messages += [
        (at, 'joint_states', joints_message(0, [99.0, 99.0])),
        (at + 1, 'joint_states', joints_message(START_NS, [99.0, 99.0])),
        (at + 2, WRIST, image_message(START_NS + 7 * PERIOD_NS, picture(0, 'wrist'))),
        (at + 3, WRIST, image_message(START_NS + 2 * PERIOD_NS, picture(0, 'wrist')))]
    aligned = align(recording, tmp_path / 'bad')
    np.testing.assert_array_equal(aligned.state, clean.state)
    np.testing.assert_array_equal(aligned.frames('wrist'), clean.frames('wrist'))
    assert stream(aligned, 'state.joint_states').rejected == {
        'zero_stamp': 1, 'backward_stamp': 1}
    assert stream(aligned, 'image.wrist').rejected == {'duplicate_stamp': 1, 'backward_stamp': 1}


def test_unusable_joint_states_are_counted(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    at = START_NS + 7 * PERIOD_NS + 20 * MS
    recording.messages += [
        (at, 'joint_states', joints_message(at, [1.0], ['shoulder'])),
        (at + 1, 'joint_states', joints_message(at + 1, [float('nan'), 1.0]))]
    aligned = align(recording, tmp_path)
    assert stream(aligned, 'state.joint_states').rejected == {'missing_joint': 1, 'nan': 1}
    assert np.isfinite(aligned.state).all()


def test_a_short_gap_is_flagged_row_by_row(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 10 * PERIOD_NS, START_NS + 13 * PERIOD_NS)
    aligned = align(recording, tmp_path)
    assert np.flatnonzero(aligned.flagged).tolist() == [11], 'the middle one is 100 ms off'
    report = stream(aligned, 'image.wrist')
    assert report.gaps == 1
    assert report.longest_s == pytest.approx(0.2)


def test_state_across_a_gap_is_flagged_not_invented(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop('joint_states', START_NS + 10 * PERIOD_NS - 5 * MS,
                   START_NS + 12 * PERIOD_NS)
    aligned = align(recording, tmp_path)
    assert np.flatnonzero(aligned.flagged).tolist() == [10, 11, 12]


def test_too_many_flagged_rows_refuse_the_episode_by_name(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 10 * PERIOD_NS, START_NS + 20 * PERIOD_NS)
    with pytest.raises(DatasetError, match=r'8 of 40 ticks .* image\.wrist in 8 .*0\.250 s off'):
        align(recording, tmp_path)


def test_a_looser_contract_keeps_the_same_episode(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 10 * PERIOD_NS, START_NS + 20 * PERIOD_NS)
    aligned = align(recording, tmp_path, small_contract(max_flagged_fraction=0.25))
    assert aligned.flagged.sum() == 8


def test_a_camera_that_dies_refuses_the_episode(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop(WRIST, START_NS + 20 * PERIOD_NS)
    with pytest.raises(DatasetError, match=r'image\.wrist ended 19 ticks before the others'):
        align(recording, tmp_path)


def test_one_command_stream_that_dies_refuses_the_episode(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop('gripper', START_NS + 20 * PERIOD_NS)
    with pytest.raises(DatasetError, match=r'action\.gripper ended'):
        align(recording, tmp_path)


def test_a_teleoperator_who_stops_ends_the_episode(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    for topic in ('twist', 'gripper'):
        recording.drop(topic, START_NS + 30 * PERIOD_NS)
    aligned = align(recording, tmp_path)
    assert len(aligned.ticks_ns) == 30
    assert aligned.report is not None
    assert aligned.report.limits[1].startswith('action.')
    assert aligned.report.lost_ticks == 0


def test_a_late_joiner_starts_the_episode_on_the_cameras_phase(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.messages = [
        item for item in recording.messages
        if item[1] != 'joint_states' or item[0] >= START_NS + 5 * PERIOD_NS + 12 * MS]
    aligned = align(recording, tmp_path)
    assert aligned.ticks_ns[0] == START_NS + 6 * PERIOD_NS
    assert aligned.frames('front')[0, 0, 0, 0] == picture(6, 'front')[0, 0, 0]
    assert aligned.report is not None
    assert aligned.report.limits[0] == 'state.joint_states'
    assert aligned.report.trimmed_s[0] == pytest.approx(0.3)


def test_a_missing_command_is_held_and_its_age_is_the_skew(tmp_path: Path) -> None:
    recording = Recording.regular(40)
    recording.drop('twist', START_NS + 10 * PERIOD_NS, START_NS + 12 * PERIOD_NS)
    aligned = align(recording, tmp_path)
    assert aligned.action[8:13, 0].tolist() == pytest.approx([0.8, 0.9, 0.9, 0.9, 1.2])
    assert aligned.skew_s['action.twist'][[10, 11]].tolist() == pytest.approx([0.046, 0.096])
    assert np.flatnonzero(aligned.flagged).tolist() == [11]


def test_cameras_out_of_step_keep_their_skew(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.messages = [item for item in recording.messages if item[1] != WRIST]
    for tick in range(-1, 20):
        stamp = START_NS + tick * PERIOD_NS + 20 * MS
        recording.messages.append(
            (stamp + MS, WRIST, image_message(stamp, picture(tick + 1, 'wrist'))))
    aligned = align(recording, tmp_path)
    assert set(np.round(aligned.skew_s['image.wrist'], 6).tolist()) == {np.float32(0.02).item()}
    assert aligned.frames('wrist')[3, 0, 0, 0] == picture(4, 'wrist')[0, 0, 0]


def test_evaluation_that_was_not_published_is_nan_and_not_flagged(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.drop('truth', 0)
    aligned = align(recording, tmp_path)
    assert np.isnan(aligned.evaluation).all()
    assert not aligned.flagged.any()


def test_evaluation_is_nan_where_it_is_too_far_off(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.drop('truth', START_NS + 5 * PERIOD_NS, START_NS + 10 * PERIOD_NS)
    aligned = align(recording, tmp_path)
    assert np.flatnonzero(np.isnan(aligned.evaluation[:, 0])).tolist() == [6, 7, 8]


def test_a_stream_without_messages_refuses_by_name(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.drop(WRIST, 0)
    with pytest.raises(DatasetError, match=r'image\.wrist .* has no usable message \(none was'):
        align(recording, tmp_path)


def test_receive_times_of_another_clock_are_found_out(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    recording.drop('gripper', 0)
    recording.messages += [(10**9 * second, 'gripper', array_message([0.0]))
                           for second in range(1, 5)]
    with pytest.raises(DatasetError, match=r'action\.gripper.*one clock'):
        align(recording, tmp_path)


def test_a_topic_that_was_not_recorded_refuses_by_name(tmp_path: Path) -> None:
    recording = Recording.regular(20)
    other = small_contract().to_dict()
    other['cameras']['front']['topic'] = 'camera/other/image_raw'
    with pytest.raises(DatasetError, match=r"image\.front needs the topic 'camera/other"):
        align(recording, tmp_path, parse_contract(other, 'other'))
