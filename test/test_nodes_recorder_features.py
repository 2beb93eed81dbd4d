# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pre-roll, splits, re-recording, instructions, extra topics and health, over real DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import time
from typing import Any

import pytest
from recorder_rig import check_balance, Rig, rig_of, TOPICS
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.messages.stamps import header_stamp_ns

pytestmark = pytest.mark.ros

EXTRA = """
extra:
  - {topic: camera/front/camera_info, type: sensor_msgs/CameraInfo}
  - {topic: wrench, type: geometry_msgs/WrenchStamped, reliability: best_effort}
  - {topic: robot_description, type: std_msgs/String, durability: transient_local}
"""


@pytest.fixture
def rig(tmp_path: Path, ros_domain: int) -> Iterator[Rig]:
    with rig_of(tmp_path) as made:
        yield made


def joint_stamps(episode: Episode) -> list[int]:
    """Stamps of the joint states of an episode."""
    return [header_stamp_ns(item.data) for item in episode.raw(['joint_states'])]


def test_an_episode_begins_with_what_came_before_its_start(rig: Rig) -> None:
    rig.recorder('pre_roll_s:=1.0')
    driver = rig.driver()
    rig.settle(driver)
    rig.drive(driver, seconds=2.5)
    sent = rig.counts(driver)               # before the start; the last of it is in the pre-roll
    before = time.time_ns()
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    sent_after = rig.counts(driver)
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    stamps = joint_stamps(episode)
    early = [stamp for stamp in stamps if stamp < before]
    assert 0.3 < (before - early[0]) / 1e9 <= 1.2
    assert 0.3 < episode.info['extra']['pre_roll_s'] <= 1.2
    for topic, account in episode.accounts.items():
        assert account.balanced
        assert account.published_exact, topic
        assert account.written == account.published
        # All that was sent after the start, and not all that was sent before it.
        assert sent_after[topic] < account.published < sent_after[topic] + sent[topic]
    assert stamps == sorted(set(stamps))


def test_nothing_of_an_episode_comes_into_the_next_ones_pre_roll(rig: Rig) -> None:
    rig.recorder('pre_roll_s:=20.0')
    driver = rig.driver()
    rig.settle(driver)
    found = []
    for number in range(2):
        assert rig.call('start_episode').success
        rig.drive(driver, seconds=0.6)
        rig.counts(driver)
        assert rig.call('stop_episode').success
        found.append(joint_stamps(Episode.open(rig.session / f'episode_{number:06d}')))
    assert max(found[0]) < min(found[1])
    rig.drive(driver, seconds=0.4)
    between = rig.counts(driver)
    assert rig.call('start_episode').success
    assert rig.call('stop_episode').success
    third = Episode.open(rig.session / 'episode_000002')
    assert min(joint_stamps(third)) > max(found[1])
    check_balance(third, between)


def test_a_pre_roll_too_large_for_its_memory_is_shorter(rig: Rig) -> None:
    rig.recorder('pre_roll_s:=20.0', 'pre_roll_bytes:=2000000')
    driver = rig.driver()
    rig.settle(driver)
    rig.drive(driver, seconds=2.0)          # two cameras at 40 Hz, 49 KB a picture: 8 MB
    rig.counts(driver)
    assert rig.call('start_episode').success
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    held = sum(len(item.data) for item in episode.raw())
    assert 1_500_000 < held <= 2_000_000
    assert all(account.balanced and account.published_exact
               for account in episode.accounts.values())


@pytest.mark.parametrize('limit', ['split_duration_s:=0.7', 'split_bytes:=2500000'])
def test_a_split_loses_and_doubles_nothing(rig: Rig, limit: str) -> None:
    rig.recorder(limit)
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=2.5)
    sent = rig.counts(driver)
    assert rig.call('mark_success').success
    assert rig.call('stop_episode').success
    rig.until(lambda: rig.state.get('state') == 'idle')
    episodes = [Episode.open(path) for path in list_episodes(rig.session)]
    assert len(episodes) >= 3
    for topic in TOPICS:
        accounts = [episode.accounts[topic] for episode in episodes]
        assert all(account.balanced and account.published_exact for account in accounts)
        assert sum(account.published for account in accounts) == sent[topic]
        assert sum(account.written for account in accounts) == sent[topic]
    stamps = [stamp for episode in episodes for stamp in joint_stamps(episode)]
    assert stamps == sorted(set(stamps))
    names = [episode.path.name for episode in episodes]
    for place, episode in enumerate(episodes[:-1]):
        assert episode.info['extra']['part'] == place + 1
        assert episode.info['extra']['goes_on_in'] == names[place + 1]
        assert limit.partition(':')[0] in episode.info['reason']
        assert episodes[place + 1].info['extra']['continues'] == names[place]
    assert [episode.info['success'] for episode in episodes] == [None] * (len(names) - 1) + [True]
    assert {episode.info['status'] for episode in episodes[:-1]} == {'complete'}


def test_recording_again_replaces_the_last_episode_and_nothing_leaks(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    answer = rig.call('rerecord_episode')
    assert not answer.success
    assert 'no episode of this recorder' in answer.message
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.4)
    rig.counts(driver)
    assert rig.call('stop_episode').success
    bad = joint_stamps(Episode.open(rig.session / 'episode_000000'))
    answer = rig.call('rerecord_episode')   # the finished one
    assert (answer.success, answer.message) == (True, 'episode_000001')
    rig.drive(driver, seconds=0.4)
    rig.counts(driver)
    answer = rig.call('rerecord_episode')   # the open one
    assert (answer.success, answer.message) == (True, 'episode_000002')
    rig.drive(driver, seconds=0.4)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    assert [path.name for path in list_episodes(rig.session)] == ['episode_000002']
    kept = Episode.open(rig.session / 'episode_000002')
    check_balance(kept, sent)
    assert min(joint_stamps(kept)) > max(bad)
    assert sorted(path.name for path in (rig.session / 'discarded').iterdir()) == [
        'episode_000000', 'episode_000001']


def test_an_instruction_becomes_the_task(rig: Rig) -> None:
    from std_msgs.msg import String
    rig.recorder()
    driver = rig.driver()
    speaker = rig.node.create_publisher(String, 'instruction', 10)
    rig.until(speaker.get_subscription_count)
    speaker.publish(String(data='  push the cube '))
    speaker.publish(String(data=' '))

    def started() -> bool:
        answer = rig.call('start_episode')
        assert answer.success, answer.message
        rig.drive(driver, seconds=0.3)
        rig.counts(driver)
        return True
    time.sleep(0.3)
    assert started()
    assert rig.call('stop_episode').success
    assert Episode.open(rig.session / 'episode_000000').info['task'] == 'push the cube'
    assert started()
    speaker.publish(String(data='open the drawer'))
    time.sleep(0.3)
    assert rig.call('stop_episode').success
    info = Episode.open(rig.session / 'episode_000001').info
    assert info['task'] == 'open the drawer'
    assert [item['text'] for item in info['extra']['instructions']] == ['open the drawer']


def test_extra_topics_are_recorded_and_latched_ones_begin_every_episode(
        tmp_path: Path, ros_domain: int) -> None:
    from geometry_msgs.msg import WrenchStamped
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo
    from ssl_vla_ros.nodes.reporting import LATCHED_QOS
    from std_msgs.msg import String
    with rig_of(tmp_path, more=EXTRA) as rig:
        latched = rig.node.create_publisher(String, 'robot_description', LATCHED_QOS)
        latched.publish(String(data='<robot/>'))
        info = rig.node.create_publisher(CameraInfo, 'camera/front/camera_info', 10)
        wrench = rig.node.create_publisher(
            WrenchStamped, 'wrench',
            QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT))
        rig.recorder('compression:=lz4')
        driver = rig.driver()
        rig.until(lambda: latched.get_subscription_count() and info.get_subscription_count()
                  and wrench.get_subscription_count())
        rig.settle(driver)
        for number in range(2):
            assert rig.call('start_episode').success
            rig.drive(driver, seconds=0.4)
            for step in range(5):
                for publisher, message in ((info, CameraInfo()), (wrench, WrenchStamped())):
                    message.header.stamp.sec = 10 + step
                    publisher.publish(message)
                time.sleep(0.02)
            rig.counts(driver)
            assert rig.call('stop_episode').success
            episode = Episode.open(rig.session / f'episode_{number:06d}')
            assert [item.message.data for item in episode.decoded(['robot_description'])] == [
                '<robot/>']
            assert sum(1 for _ in episode.raw(['camera/front/camera_info'])) == 5
            assert sum(1 for _ in episode.raw(['wrench'])) == 5
            assert all(account.balanced for account in episode.accounts.values())


def test_nothing_is_thrown_away_by_a_recorder_that_could_not_start_again(rig: Rig) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    rig.counts(driver)
    assert rig.call('stop_episode').success
    change = rig.node.create_client(ChangeState, '/recorder/change_state')
    rig.until(change.service_is_ready)
    future = change.call_async(ChangeState.Request(
        transition=Transition(id=Transition.TRANSITION_DEACTIVATE)))
    rig.until(future.done)
    answer = rig.call('rerecord_episode')
    assert (answer.success, answer.message) == (
        False, 'the recorder is inactive; configure and activate it first')
    answer = rig.call('mark_failure')            # which needs no more than the disk
    assert (answer.success, answer.message) == (True, 'episode_000000')
    assert Episode.open(rig.session / 'episode_000000').info['success'] is False


def test_a_camera_that_stands_still_is_told_within_two_periods(rig: Rig) -> None:
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    recorder = rig.recorder()
    told: list[tuple[float, str]] = []

    def take(message: Any) -> None:
        for status in message.status:
            if status.level == DiagnosticStatus.WARN and 'stands still' in status.message:
                told.append((time.monotonic(), status.message))
    rig.node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=3.0, image_hz=10)
    time.sleep(1.5)
    told.clear()
    rig.counts(driver)
    stopped = time.monotonic()
    rig.until(lambda: told)
    assert 'camera/' in told[0][1]
    # Two periods of 10 Hz, and what this process takes to hear of it.
    assert told[0][0] - stopped < 0.2 + 0.15
    assert rig.call('stop_episode').success
    rig.drive(driver, seconds=1.0, image_hz=10)
    rig.counts(driver)
    recorder.terminate()
    assert recorder.wait(20) == 0
    assert recorder.stdout is not None
    log = recorder.stdout.read()
    assert 'stands still: nothing for' in log
    assert 'comes again' in log


def test_diagnostics_tell_rate_age_skew_and_losses_of_every_topic(rig: Rig) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    rig.recorder()
    values: dict[str, str] = {}

    def take(message: Any) -> None:
        for status in message.status:
            if status.values and any(' rate_hz' in item.key for item in status.values):
                values.update({item.key: item.value for item in status.values})
    rig.node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=3.5, stamps=[1])
    rig.until(lambda: float(values.get('joint_states rate_hz', 0)) > 150
              and {'joint_states skew_ms', 'joint_states lost'} <= set(values), 10.0)
    front = 'camera/front/image_raw'
    assert 30 < float(values[f'{front} rate_hz']) < 50
    assert 0.0 < float(values[f'{front} age_p50_ms']) <= float(values[f'{front} age_p99_ms'])
    assert float(values['joint_states skew_ms']) < 50.0
    assert float(values['free_disk_bytes']) > 1e6
    for topic in TOPICS:
        assert all(f'{topic} {fate}' in values for fate in ('lost', 'dropped', 'rejected'))
    rig.counts(driver)
    assert rig.call('stop_episode').success


def test_a_wrong_compression_is_named(rig: Rig) -> None:
    recorder = rig.recorder('compression:=brotli', wait='unconfigured')
    recorder.terminate()
    assert recorder.wait(20) == 0
    (rig.session.parent / 'again').mkdir()
    with rig_of(rig.session.parent / 'again') as other:
        started = other.start('-m', 'ssl_vla_ros.nodes.recorder', '--ros-args', '-p',
                              'compression:=brotli', '-p', 'autostart:=true', '-p',
                              f'contract:={other.contract}', '-p', f'session_dir:={other.session}')
        assert started.stdout is not None
        text = ''
        while 'brotli' not in text:
            text = started.stdout.readline()
        assert "compression is 'brotli', must be one of zstd, lz4, none" in text
