# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The gate over real bags: a healthy one is good, and each fault is found, it alone."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

from dataset_episodes import image_message, joints_message, MS, PERIOD_NS, START_NS
from episode_samples import need_message_packages
import numpy as np
from numpy.typing import NDArray
import pytest
from quality_samples import angle, Arm, at, DELAY_S, found, judged, Look, speed, view

from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.check import (
    check_episode, check_session, episodes_to_check, load_thresholds)
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import ConfigError, EpisodeError
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import Verdict

FRONT = 'camera/front/image_raw'
JOINTS = 'state.joint_states'


@pytest.fixture(autouse=True)
def message_packages() -> None:
    need_message_packages()


def sentence(verdict: Verdict, key: str) -> str:
    """Give the one reason of a key."""
    reason, = (reason for reason in verdict.reasons if reason.key == key)
    return reason.text


def test_a_healthy_episode_is_good_without_a_word(tmp_path: Path) -> None:
    assert judged(Arm(), tmp_path) == Verdict('episode_000000', ())


@pytest.mark.parametrize('seconds', [1.5, 12.0])
def test_short_and_long_healthy_episodes_are_good(tmp_path: Path, seconds: float) -> None:
    assert found(judged(Arm(seconds=seconds), tmp_path)) == set()


# -- pictures ----------------------------------------------------------------------------------


def frozen_between(begin: float, end: float, camera: str = 'front') -> Look:
    """Make a view that stands still in that time, to the last bit."""
    kept: dict[str, NDArray[np.uint8]] = {}

    def look(seconds: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = view(seconds, name, rng)
        if name == camera and begin <= seconds < end:
            return kept.setdefault(name, picture)
        return picture
    return look


def test_a_camera_frozen_for_three_seconds_is_refused(tmp_path: Path) -> None:
    verdict = judged(Arm(view=frozen_between(2.0, 5.0)), tmp_path)
    assert found(verdict) == {('refused', 'frozen', 'image.front')}
    assert 'stood still for up to 2.95 s (50% of the episode)' in sentence(verdict, 'frozen')
    assert 'record again, or trim that part away' in sentence(verdict, 'frozen')


def test_a_camera_frozen_for_a_moment_is_doubtful(tmp_path: Path) -> None:
    verdict = judged(Arm(view=frozen_between(2.0, 2.8)), tmp_path)
    assert found(verdict) == {('doubtful', 'frozen', 'image.front')}


def test_a_camera_frozen_while_the_arm_stands_is_no_fault(tmp_path: Path) -> None:
    """A renderer draws the same picture as long as nothing moves."""
    def joints(seconds: float) -> tuple[float, float]:
        return angle(min(seconds, 2.0)), -angle(min(seconds, 2.0))
    verdict = judged(Arm(view=frozen_between(2.3, 3.6), joints=joints, seconds=3.7), tmp_path)
    assert found(verdict) == set()


@pytest.mark.parametrize(('grey', 'look'), [(0, 'black'), (255, 'white'), (120, 'of one colour')])
@pytest.mark.parametrize('noise', [0.0, 2.0])
def test_a_camera_without_contrast_is_refused(
        tmp_path: Path, grey: int, look: str, noise: float) -> None:
    def flat(_: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        if name == 'wrist':
            return view(_, name, rng)
        return np.clip(rng.normal(grey, noise, (32, 48, 3)), 0, 255).astype(np.uint8)
    verdict = judged(Arm(view=flat), tmp_path)
    assert found(verdict) == {('refused', 'flat', 'image.front')}
    assert f'120 of 120 pictures are {look} ' in sentence(verdict, 'flat')


def test_some_black_pictures_are_doubtful(tmp_path: Path) -> None:
    def blinks(seconds: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        picture = view(seconds, name, rng)
        return np.zeros_like(picture) if seconds < 0.3 and name == 'front' else picture
    assert found(judged(Arm(view=blinks), tmp_path)) == {('doubtful', 'flat', 'image.front')}


def test_pictures_sent_twice_are_doubtful(tmp_path: Path) -> None:
    """The camera takes ten a second, and its driver sends twenty."""
    kept: dict[str, NDArray[np.uint8]] = {}

    def twice(seconds: float, name: str, rng: np.random.Generator) -> NDArray[np.uint8]:
        if round(seconds * 20) % 2 == 0:
            kept[name] = view(seconds, name, rng)
        return kept[name]
    verdict = judged(Arm(view=twice), tmp_path)
    assert found(verdict) == {('doubtful', 'duplicates', f'image.{name}')
                              for name in ('front', 'wrist')}


def test_a_picture_of_another_size_is_unusable(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.messages.append((at(3.02), FRONT, image_message(
        at(3.02), np.zeros((16, 16, 3), np.uint8))))
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {('doubtful', 'unusable', 'image.front')}
    assert '1 of 121 messages cannot be read (1 size_changed)' in sentence(verdict, 'unusable')


# -- timing ------------------------------------------------------------------------------------


def test_a_camera_that_stalls_for_two_seconds_is_refused(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.drop(FRONT, at(2.0), at(4.0))
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {
        ('refused', key, 'image.front') for key in ('gap', 'missing', 'skew')} | {
        ('doubtful', 'rate', 'image.front')}
    assert 'nothing came for 2.05 s, 1.9 s after its beginning' in sentence(verdict, 'gap')


def test_a_short_stall_is_doubtful(tmp_path: Path) -> None:
    recording = Arm(seconds=12.0).recording()
    recording.drop(FRONT, at(2.0), at(2.3))
    assert found(judged(recording, tmp_path)) == {
        ('doubtful', key, 'image.front') for key in ('gap', 'missing', 'skew')}


def test_commands_that_pause_are_never_refused_for_it(tmp_path: Path) -> None:
    recording = Arm(seconds=30.0).recording()
    recording.drop('twist', at(10.0), at(12.0))
    assert found(judged(recording, tmp_path)) == {
        ('doubtful', 'gap', 'action.twist'), ('doubtful', 'skew', 'action.twist')}


@pytest.mark.parametrize(('step', 'severity'), [(3, 'refused'), (2, 'doubtful')])
def test_a_camera_slower_than_the_contract_is_found(
        tmp_path: Path, step: int, severity: str) -> None:
    verdict = judged(Arm(camera_step=step), tmp_path)
    assert (severity, 'rate', 'image.front') in found(verdict)
    assert f'{20 / step:.2f} Hz, 20 Hz are expected' in next(
        reason.text for reason in verdict.reasons if reason.key == 'rate')


def test_the_expected_rate_can_be_said(tmp_path: Path) -> None:
    assert found(judged(Arm(), tmp_path, expected_hz={'image.front': 30.0})) == {
        ('doubtful', 'rate', 'image.front')}
    assert found(judged(Arm(), tmp_path, expected_hz={'image.front': 20.0})) == set()
    with pytest.raises(ConfigError, match="'image.frnt', which this robot has not; did you mean"
                       " 'image.front'"):
        judged(Arm(), tmp_path, expected_hz={'image.frnt': 30.0})


def test_a_camera_that_dies_is_refused(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.drop(FRONT, at(4.0))
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {('refused', 'edge', 'image.front')}
    assert 'ends 2.0 s before the last stream' in sentence(verdict, 'edge')


def test_commands_that_begin_late_are_doubtful(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.drop('twist', 0, at(2.0))
    assert found(judged(recording, tmp_path)) == {('doubtful', 'edge', 'action.twist')}


def test_a_silent_camera_is_refused(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.drop(FRONT, 0)
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {('refused', 'empty', 'image.front'), ('refused', 'fault', '')}
    assert 'no usable message: check that its publisher runs' in sentence(verdict, 'empty')


def test_stamps_that_do_not_rise_are_found(tmp_path: Path) -> None:
    recording = Arm().recording()
    for place, shift in ((0.5, 0), (1.0, 0), (1.5, -3), (2.0, None)):
        stamp = 0 if shift is None else at(place) + shift * PERIOD_NS
        recording.messages.append((at(place) + 6 * MS, FRONT, image_message(
            stamp, view(place, 'front', np.random.default_rng(0)))))
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {('doubtful', 'order', 'image.front')}
    assert sentence(verdict, 'order').startswith(
        '4 of 124 stamps do not rise (1 zero_stamp, 2 duplicate_stamp, 1 backward_stamp)')


def test_stamps_that_never_rise_are_refused(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.messages = [
        (received, topic, image_message(START_NS, view(0.0, 'front', np.random.default_rng(0)))
         if topic == FRONT else data) for received, topic, data in recording.messages]
    assert ('refused', 'order', 'image.front') in found(judged(recording, tmp_path))


@pytest.mark.parametrize(('offset', 'severity'), [(-0.5, 'doubtful'), (-2.0, 'refused')])
def test_a_camera_whose_clock_is_off_is_found(
        tmp_path: Path, offset: float, severity: str) -> None:
    verdict = judged(Arm(offset_s={FRONT: offset}), tmp_path)
    assert (severity, 'clock', 'image.front') in found(verdict)
    assert {stream for _, key, stream in found(verdict) if key == 'clock'} == {'image.front'}
    assert f'come {-offset:.2f} s later after their stamps' in sentence(verdict, 'clock')


def test_streams_that_never_meet_are_refused(tmp_path: Path) -> None:
    verdict = judged(Arm(offset_s={FRONT: -100.0}), tmp_path)
    assert ('refused', 'skew', '') in found(verdict)
    assert 'there is no moment with data of every stream' in sentence(verdict, 'skew')


# -- values ------------------------------------------------------------------------------------


def test_a_dead_arm_is_refused(tmp_path: Path) -> None:
    verdict = judged(Arm(joints=lambda t: (0.3, -0.2)), tmp_path)
    assert found(verdict) == {('refused', 'constant', JOINTS)}
    assert 'all 2 values are constant from start to end: the arm never moves' in sentence(
        verdict, 'constant')


def test_a_dead_arm_whose_encoders_tremble_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    verdict = judged(Arm(joints=lambda t: (
        0.3 + rng.normal(0, 0.002), -0.2 + rng.normal(0, 0.002))), tmp_path)
    assert found(verdict) == {('refused', 'constant', JOINTS)}
    assert 'all 2 values are noise within' in sentence(verdict, 'constant')


def test_an_arm_whose_encoders_tremble_while_it_moves_is_good(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    assert found(judged(Arm(joints=lambda t: (
        angle(t) + rng.normal(0, 0.002), rng.normal(0, 0.002))), tmp_path)) == set()


def test_dead_commands_are_refused(tmp_path: Path) -> None:
    verdict = judged(Arm(twist=lambda t: 0.0, gripper=lambda t: 0.0), tmp_path)
    assert found(verdict) == {('refused', 'constant', 'action')}
    assert 'all 2 values are constant from start to end: nothing is commanded' in sentence(
        verdict, 'constant')


def test_one_dead_joint_is_a_note(tmp_path: Path) -> None:
    verdict = judged(Arm(joints=lambda t: (angle(t), 0.25)), tmp_path)
    assert found(verdict) == {('note', 'constant', JOINTS)}
    assert verdict.level == 'good'
    assert sentence(verdict, 'constant').startswith('1 of 2 values never change (elbow)')


@pytest.mark.parametrize('joint', [0, 1])
def test_a_sample_far_away_is_a_jump(tmp_path: Path, joint: int) -> None:
    """Of a joint with a velocity limit and of one without."""
    def jumps(seconds: float) -> tuple[float, float]:
        values = [angle(seconds), -0.6 * angle(seconds)]
        values[joint] += 0.6 * (round(seconds * 100) == 250)
        return values[0], values[1]
    verdict = judged(Arm(joints=jumps), tmp_path)
    assert found(verdict) == {('doubtful', 'jump', JOINTS)}
    assert sentence(verdict, 'jump').startswith('2 steps are faster than a joint can move')
    assert ('shoulder', 'elbow')[joint] in sentence(verdict, 'jump')


def test_a_jump_in_a_joint_that_stands_is_found(tmp_path: Path) -> None:
    verdict = judged(Arm(joints=lambda t: (angle(t), 0.3 + 0.5 * (round(t * 100) == 250))),
                     tmp_path)
    assert found(verdict) == {('doubtful', 'jump', JOINTS)}


def test_many_jumps_are_refused(tmp_path: Path) -> None:
    verdict = judged(Arm(joints=lambda t: (
        angle(t), 0.6 * angle(t) + 0.6 * (round(t * 100) % 50 == 25))), tmp_path)
    assert found(verdict) == {('refused', 'jump', JOINTS)}


def test_a_gripper_that_snaps_shut_is_no_jump(tmp_path: Path) -> None:
    assert found(judged(Arm(joints=lambda t: (angle(t), float(t > 3.0))), tmp_path)) == set()


def test_a_joint_at_its_limit_is_doubtful(tmp_path: Path) -> None:
    verdict = judged(Arm(joints=lambda t: (
        angle(t), float(np.clip(8.0 * angle(t), -1.95, 1.95)))), tmp_path)
    assert found(verdict) == {('doubtful', 'limit', JOINTS)}
    assert 'elbow is at its limit in ' in sentence(verdict, 'limit')
    assert 'limits.joints.elbow allows -1.9 to 1.9' in sentence(verdict, 'limit')


def test_nan_is_found(tmp_path: Path) -> None:
    recording = Arm().recording()
    recording.messages.append((at(1.005), 'joint_states', joints_message(
        at(1.004), [math.nan, 0.0])))
    verdict = judged(recording, tmp_path)
    assert found(verdict) == {('doubtful', 'nan', JOINTS)}
    assert sentence(verdict, 'nan').startswith('1 of 601 messages hold NaN')
    assert found(judged(Arm(joints=lambda t: (angle(t), math.nan if t < 1 else angle(t))),
                        tmp_path)) >= {('refused', 'nan', JOINTS)}


def test_a_missing_joint_is_named_by_its_cause(tmp_path: Path) -> None:
    verdict = judged(Arm(joint_names=['shoulder', 'wrist']), tmp_path)
    assert found(verdict) == {('refused', 'empty', JOINTS)}
    assert 'no usable message (600 missing_joint)' in sentence(verdict, 'empty')


# -- idle, lag, length -------------------------------------------------------------------------


def test_idle_time_at_the_ends_is_told_with_the_cut_that_mends_it(tmp_path: Path) -> None:
    def late(seconds: float) -> float:
        return min(max(seconds, 3.0), 9.0)
    verdict = judged(Arm(
        seconds=12.5, joints=lambda t: (angle(late(t)), -angle(late(t))),
        twist=lambda t: speed(t) if 3.0 - DELAY_S < t < 9.0 - DELAY_S else 0.0), tmp_path)
    assert found(verdict) == {('doubtful', 'idle_start', ''), ('doubtful', 'idle_end', '')}
    assert 'the arm rests for 2.8 s at its start' in sentence(verdict, 'idle_start')
    assert '--start 2.8' in sentence(verdict, 'idle_start')
    assert '--end 9.2' in sentence(verdict, 'idle_end')


def test_an_arm_that_mostly_rests_is_doubtful(tmp_path: Path) -> None:
    def stops(seconds: float) -> float:
        return min(seconds, 1.0) + max(seconds - 8.0, 0.0)
    verdict = judged(Arm(seconds=9.0, joints=lambda t: (angle(stops(t)), -angle(stops(t))),
                         twist=lambda t: speed(t) * (stops(t) != 1.0)), tmp_path)
    assert found(verdict) == {('doubtful', 'idle', '')}
    assert 'for up to 6.' in sentence(verdict, 'idle')


@pytest.mark.parametrize(('shift', 'words'), [
    (-0.7, 'the state follows the action after 0.8'), (0.5, 'the state moves 0.4')])
def test_a_lag_that_cannot_be_is_doubtful(tmp_path: Path, shift: float, words: str) -> None:
    verdict = judged(Arm(seconds=12.0, twist=lambda t: speed(t - shift), gripper=lambda t: 0.0),
                     tmp_path)
    assert found(verdict) == {('doubtful', 'lag', ''), ('note', 'constant', 'action')}
    assert words in sentence(verdict, 'lag')


def test_an_episode_of_a_moment_is_doubtful(tmp_path: Path) -> None:
    assert found(judged(Arm(seconds=0.8), tmp_path)) == {('doubtful', 'short', '')}


def test_an_episode_of_one_row_is_refused(tmp_path: Path) -> None:
    assert ('refused', 'short', '') in found(judged(Arm(seconds=0.05), tmp_path))


# -- what the recorder says --------------------------------------------------------------------


def edited(path: Path, **changes: object) -> Path:
    """Change an episode.json by hand."""
    file = path / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return path


def test_what_the_recorder_found_counts(tmp_path: Path) -> None:
    check = check_episode
    path = Arm(seconds=2.0).write(tmp_path)
    assert found(check(edited(path, status='recovered'), Thresholds())) == {
        ('doubtful', 'status', '')}
    assert found(check(edited(path, status='incomplete', reason='SIGTERM', faults=[]),
                       Thresholds())) == {('doubtful', 'status', '')}
    verdict = check(edited(path, status='incomplete', faults=['disk: gone']), Thresholds())
    assert found(verdict) == {('refused', 'fault', '')}
    assert verdict.because() == 'disk: gone: mend the cause and record it again'
    assert found(check(edited(path, status='complete', faults=[], task=' '), Thresholds())) == {
        ('note', 'task', '')}


@pytest.mark.parametrize(('lost', 'severity'), [(1, 'doubtful'), (20, 'refused')])
def test_lost_messages_count(tmp_path: Path, lost: int, severity: str) -> None:
    recording = Arm().recording()
    topics = recording.contract.topics()
    writer = EpisodeWriter(tmp_path, recording.contract, task='x', topics=topics)
    for received, topic, data in sorted(recording.messages, key=lambda item: item[0]):
        writer.write(topic, data, received, received)
    accounts = {topic: TopicAccount(published=count, written=count)
                for topic, count in writer.written.items()}
    accounts[FRONT].published += lost + 1
    accounts[FRONT].lost += lost
    # What the operator paused is nobody's fault.
    accounts[FRONT].reject('paused')
    verdict = check_episode(writer.close(accounts), Thresholds())
    assert found(verdict) == {(severity, 'lost', 'image.front')}
    assert f'{lost} of {121 + lost} messages did not reach the bag' in sentence(verdict, 'lost')


def test_what_cannot_be_read_is_refused_and_named(tmp_path: Path) -> None:
    path = Arm(seconds=1.0).write(tmp_path)
    bag, = path.glob('*.mcap')
    data = bytearray(bag.read_bytes())
    data[len(data) // 3:len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    bag.write_bytes(data)
    verdict = check_episode(path, Thresholds())
    assert found(verdict) == {('refused', 'unreadable', '')}
    assert f'{bag}: ' in verdict.because()
    (path / 'episode.json').unlink()
    assert 'missing, so' in check_episode(path, Thresholds()).because()


# -- sessions ----------------------------------------------------------------------------------


def test_a_session_is_judged_in_processes_as_in_this_one(tmp_path: Path) -> None:
    Arm(seconds=2.0).write(tmp_path)
    Arm(seconds=2.0, joints=lambda t: (0.0, 0.0)).write(tmp_path)
    Arm(seconds=2.0, view=frozen_between(0.5, 2.0)).write(tmp_path)
    told: list[tuple[int, int, str]] = []
    paths = episodes_to_check(tmp_path)
    alone = check_session(paths, Thresholds(), progress=lambda *words: told.append(words))
    assert [verdict.level for verdict in alone] == ['good', 'refused', 'refused']
    assert told == [(1, 3, 'check'), (2, 3, 'check'), (3, 3, 'check')]
    assert check_session(paths, Thresholds(), workers=2) == alone


def test_a_wrong_threshold_stops_the_check_in_every_process(tmp_path: Path) -> None:
    for _ in range(2):
        Arm(seconds=0.5).write(tmp_path)
    with pytest.raises(ConfigError, match='image.left'):
        check_session(episodes_to_check(tmp_path), Thresholds(expected_hz={'image.left': 1.0}),
                      workers=2)


def test_what_is_to_be_checked_must_be_there(tmp_path: Path) -> None:
    path = Arm(seconds=0.5).write(tmp_path / 'session')
    assert list(episodes_to_check(path)) == [path]
    with pytest.raises(EpisodeError, match='no such session directory'):
        episodes_to_check(tmp_path / 'sesion')
    with pytest.raises(EpisodeError, match='there is no finished episode; record some first'):
        episodes_to_check(tmp_path)


def test_thresholds_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / 'strict.yaml'
    file.write_text('short_s: 10\n')
    assert load_thresholds(file) == dataclasses.replace(Thresholds(), short_s=10.0)
    assert load_thresholds(None) == Thresholds()
    with pytest.raises(ConfigError, match=r'lax\.yaml: cannot read the thresholds'):
        load_thresholds(tmp_path / 'lax.yaml')


def test_memory_does_not_grow_with_the_pictures(tmp_path: Path) -> None:
    """Sixteen times as many pixels leave as little behind: a few numbers a picture."""
    import tracemalloc
    from ssl_vla_ros.quality.pictures import PictureWatch
    rng = np.random.default_rng(0)

    def left_behind(height: int) -> int:
        watch = PictureWatch('image.front')
        tracemalloc.start()
        for tick in range(200):
            watch.take(tick, rng.integers(0, 255, (height, height, 3), dtype=np.uint8))
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size
    small, large = left_behind(64), left_behind(256)
    assert large < 1.5 * small + 10_000 < 200_000
