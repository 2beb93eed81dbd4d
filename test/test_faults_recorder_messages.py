# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The recorder under faults of drivers and clocks, over real DDS and with real processes.

The table of all faults is in ``test_faults_recorder``. What a recorder does about a message that
is wrong: its stamp is judged when it comes (``episodes/intake.py``: zero, double and backward
stamps are refused and counted); its content is kept as it came. A picture that is malformed or
changes its size, and joints that are missing or change their order, are judged when a dataset is
built (``messages/images.py``, ``messages/streams.py``) and by ``ssl_vla episodes check``.

The system clock is not really set, which would set it for the whole machine: it jumps inside the
recorder's process, wherever Python reads it. Times that DDS itself takes stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import signal
import subprocess
import time
from typing import Any

import pytest
from recorder_faults import crashing, JUMPING_CLOCK
from recorder_payload import CAMERAS, check_unbroken, GRIPPER, JOINT_STATES, JOINTS
from recorder_rig import check_balance, Rig, rig_of
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.images import to_rgb

pytestmark = pytest.mark.ros


Crash = Callable[[subprocess.Popen[str]], None]


@pytest.fixture
def crash(ros_domain: int) -> Iterator[Crash]:
    with crashing() as kill:
        yield kill


@pytest.fixture
def rig(tmp_path: Path, ros_domain: int) -> Iterator[Rig]:
    with rig_of(tmp_path) as made:
        yield made


# -- drivers that go and come --------------------------------------------------------------


@pytest.mark.parametrize('reliability', ['reliable', 'best_effort'])
def test_a_camera_computer_that_dies_in_mid_stream_costs_nothing_that_came(
        tmp_path: Path, ros_domain: int, crash: Crash, reliability: str) -> None:
    from diagnostic_msgs.msg import DiagnosticArray
    with rig_of(tmp_path, reliability) as rig:
        told: list[str] = []
        rig.node.create_subscription(
            DiagnosticArray, '/diagnostics',
            lambda message: told.append(message.status[0].message), 10)
        recorder = rig.recorder()
        driver = rig.driver()
        rig.settle(driver)
        assert rig.call('start_episode').success
        rig.drive(driver, until_told=True)
        time.sleep(1.0)
        crash(driver)
        told.clear()
        rig.until(lambda: any(f'{CAMERAS[0]} is silent' in words for words in told))
        assert recorder.poll() is None
        answer = rig.call('stop_episode')
        assert answer.success, answer.message
        episode = Episode.open(rig.session / answer.message)
        for topic, found in check_unbroken(episode).items():
            account = episode.accounts[topic]
            assert account.balanced
            assert account.published == account.written == len(found)
            assert len(found) > 20, topic
            # Whether the dead one sent more, nobody knows where nothing is repeated.
            assert account.published_exact == (reliability == 'reliable'), topic


def test_a_late_command_publisher_is_counted_from_its_first_message(rig: Rig) -> None:
    rig.recorder()
    early = rig.start_driver('--topics', *CAMERAS, JOINT_STATES)
    rig.until(lambda: rig.state.get('waiting_for') == '')
    assert rig.call('start_episode').success
    rig.drive(early, seconds=0.4)
    sent = rig.counts(early)
    late = rig.start_driver('--topics', GRIPPER, '--name', 'late')
    rig.drive(late, seconds=0.5)
    sent |= rig.counts(late)
    rig.drive(early, seconds=0.2)
    more = rig.counts(early)
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    check_balance(episode, {topic: sent[topic] + more.get(topic, 0) for topic in sent})
    found = check_unbroken(episode)
    assert found[GRIPPER][0] == 0
    assert len(found[GRIPPER]) == sent[GRIPPER]


def test_a_recorder_that_comes_late_begins_in_mid_stream(rig: Rig) -> None:
    driver = rig.start_driver('--no-wait')
    rig.drive(driver, until_told=True)
    time.sleep(0.5)
    rig.recorder()
    rig.until(lambda: rig.state.get('waiting_for') == '')
    time.sleep(1.0)
    began = time.time_ns()
    assert rig.call('start_episode').success
    time.sleep(0.5)
    assert rig.call('stop_episode').success
    ended = time.time_ns()
    rig.drive(driver)
    sent = rig.counts(driver)
    rig.counts(driver)
    episode = Episode.open(rig.session / 'episode_000000')
    for topic, found in check_unbroken(episode).items():
        account = episode.accounts[topic]
        assert account.balanced
        assert account.published_exact, topic
        assert account.published == account.written == len(found) > 10
        # Neither from the first message on, nor to the last.
        assert found[0] > 10
        assert found[-1] < sent[topic] - 1
    assert all(began - 0.2e9 < item.log_time_ns < ended for item in episode.raw())


# -- clocks --------------------------------------------------------------------------------


class SimulatedTime:
    """Publishes /clock."""

    def __init__(self, rig: Rig) -> None:
        from rosgraph_msgs.msg import Clock
        self._rig = rig
        self._message = Clock()
        self._publisher = rig.node.create_publisher(Clock, '/clock', 10)

    def tick(self, seconds: float) -> None:
        """Publish one time."""
        self._message.clock.sec, self._message.clock.nanosec = divmod(
            round(seconds * 1e9), 10**9)
        self._publisher.publish(self._message)

    def run(self, begin: float, seconds: float) -> None:
        """Publish a time that runs on from ``begin`` for so many seconds."""
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < seconds:
            self.tick(begin + elapsed)
            self._rig.executor.spin_once(timeout_sec=0.01)

    def ready(self, seconds: float) -> None:
        """Hold a time until the recorder has it and knows every publisher."""
        self._rig.until(lambda: self.tick(seconds) or self._rig.state.get('waiting_for') == '')


def last_reason(rig: Rig, name: str) -> str:
    """Wait for the end of an episode that nobody stopped, and give its reason."""
    rig.until(lambda: (rig.state.get('last') or {}).get('episode') == name)
    assert rig.state['last']['status'] == 'incomplete'
    return str(rig.state['last']['reason'])


def test_ros_time_that_jumps_forward_ends_the_episode_and_the_next_one_works(rig: Rig) -> None:
    clock = SimulatedTime(rig)
    rig.recorder('use_sim_time:=true')
    driver = rig.driver(until_ready=False)
    clock.ready(100.0)
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    clock.run(100.0, 0.5)
    sent = rig.counts(driver)
    clock.run(110.5, 0.2)
    assert last_reason(rig, 'episode_000000').startswith('clock_jump: ROS time jumped by 10.')
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.ended_early
    check_balance(episode, sent)
    check_unbroken(episode)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    clock.run(110.7, 0.5)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    check_balance(Episode.open(rig.session / 'episode_000001'), sent)


def test_ros_time_that_runs_in_a_loop_never_mixes_two_rounds_in_an_episode(rig: Rig) -> None:
    clock = SimulatedTime(rig)
    rig.recorder('use_sim_time:=true')
    driver = rig.driver(until_ready=False)
    clock.ready(50.0)
    rig.settle(driver)
    for number in range(3):
        assert rig.call('start_episode').success
        rig.drive(driver, seconds=0.4)
        # On from where the last round left off: a jump at the start would end the episode before
        # every topic has spoken.
        clock.run(50.1, 0.5)
        rig.counts(driver)
        clock.run(50.0, 0.1)                 # a bag that is played again from its start
        reason = last_reason(rig, f'episode_{number:06d}')
        assert reason.startswith('clock_jump: ROS time jumped by -0.')
    for path in list_episodes(rig.session):
        episode = Episode.open(path)
        assert episode.ended_early
        check_unbroken(episode)
        times = [item.log_time_ns for item in episode.raw([GRIPPER])]
        assert 50e9 <= min(times) <= max(times) < 50.7e9


def test_a_jump_of_the_system_clock_ends_the_episode(rig: Rig) -> None:
    jumps = (10.0, -10.0)
    recorder = rig.recorder(program=('-c', JUMPING_CLOCK, ','.join(map(str, jumps))))
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    sent = rig.counts(driver)
    for number, seconds in enumerate(jumps):
        if number:
            assert rig.call('start_episode').success
        time.sleep(0.3)
        recorder.send_signal(signal.SIGUSR1)
        reason = last_reason(rig, f'episode_{number:06d}')
        # In the second nothing was recorded: DDS's receive times are from before its start.
        words, _, moved = reason.partition(';')[0].removesuffix(' s').rpartition(' ')
        assert words == 'clock_jump: the system clock jumped by'
        assert float(moved) == pytest.approx(seconds, abs=0.1)
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.ended_early
    check_unbroken(episode)
    check_balance(episode, sent)
    # Right again, it records as before.
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    check_balance(Episode.open(rig.session / 'episode_000002'), sent)


# -- content -------------------------------------------------------------------------------


def test_malformed_pictures_are_kept_as_they_came_and_named_when_they_are_read(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    size = 128 * 128 * 3
    rig.drive(driver, seconds=0.2, images=[
        {'step': 100}, {'length': size - 1}, {'encoding': 'rgb12'},
        {'height': 0, 'width': 0, 'step': 0, 'length': 0}, {'step': 1000}])
    sent = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    episode = Episode.open(rig.session / answer.message)
    check_balance(episode, sent)
    causes: list[str] = []
    good = 0
    for item in episode.decoded(CAMERAS):
        try:
            good += to_rgb(item.message).shape == (128, 128, 3)
        except MessageError as error:
            causes.append(error.cause)
    assert causes == ['step', 'length', 'encoding', 'size', 'length']
    assert good == sent[CAMERAS[0]] + sent[CAMERAS[1]] - len(causes)


def test_another_size_and_other_joints_in_mid_episode_are_kept_as_they_came(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    sent: dict[str, int] = {}
    orders: tuple[dict[str, Any], ...] = (
        {}, {'height': 64, 'width': 96}, {'joints': ['left', 'right']})
    for order in orders:
        rig.drive(driver, seconds=0.2, **order)
        for topic, count in rig.counts(driver).items():
            sent[topic] = sent.get(topic, 0) + count
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    episode = Episode.open(rig.session / answer.message)
    check_balance(episode, sent)
    check_unbroken(episode)
    shapes = {to_rgb(item.message).shape for item in episode.decoded(CAMERAS)}
    assert shapes == {(128, 128, 3), (64, 96, 3)}
    names = {tuple(item.message.name) for item in episode.decoded([JOINT_STATES])}
    assert names == {JOINTS, ('left', 'right')}
