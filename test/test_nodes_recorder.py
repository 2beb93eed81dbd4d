# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder over real DDS: recorder, driver and client are three processes."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import random
import shutil
import signal
import time

import numpy as np
import pytest
from recorder_rig import check_balance, Rig, rig_of, TOPICS
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.messages.images import to_rgb
from ssl_vla_ros.quality.stamps import split_rising

pytestmark = pytest.mark.ros


@pytest.fixture
def rig(tmp_path: Path, ros_domain: int) -> Iterator[Rig]:
    with rig_of(tmp_path) as made:
        yield made


def test_accounts_equal_the_publishers_own_counts(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)                      # before the episode: must not be counted
    assert rig.call('start_episode').message == 'episode_000000'
    rig.drive(driver, seconds=2.0)
    sent = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert (answer.success, answer.message) == (True, 'episode_000000')

    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'complete'
    assert episode.info['task'] == 'lift the cube'
    assert episode.contract.robot == 'test_arm'
    check_balance(episode, sent)
    assert all(account.written == account.published for account in episode.accounts.values())
    pictures = list(episode.decoded(['camera/front/image_raw']))
    assert to_rgb(pictures[0].message).shape == (128, 128, 3)
    assert all(a.stamp_ns < b.stamp_ns for a, b in zip(pictures, pictures[1:], strict=False))


#: A recorder whose drivers' computers have clocks off by so many seconds (the first argument): the
#: publisher's time stamp is changed where the middleware hands it over.
ELSEWHERE = """
import sys
from ssl_vla_ros.nodes.recorder import main
from ssl_vla_ros.nodes.recorder_inputs import Inputs
off_ns, real = round(float(sys.argv.pop(1)) * 1e9), Inputs._on_message
def taken(self, topic, cdr, info):
    real(self, topic, cdr, info | {'source_timestamp': info['source_timestamp'] + off_ns})
Inputs._on_message = taken
sys.exit(main())
"""


@pytest.mark.parametrize('off_s', [-3600.0, -1.0, 3600.0])
def test_a_camera_computer_with_another_clock_loses_nothing(rig: Rig, off_s: float) -> None:
    rig.recorder(program=('-c', ELSEWHERE, str(off_s)))
    driver = rig.driver()
    rig.settle(driver)                      # before the episode: must not be counted
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=1.5)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    check_balance(episode, sent)
    assert all(account.written == account.published for account in episode.accounts.values())

    # Stopped in mid-stream: no second more than was asked for, and no wait for the limit.
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=4.0)
    time.sleep(1.0)
    began = time.time_ns()
    assert rig.call('stop_episode').success
    later = Episode.open(rig.session / 'episode_000001')
    last = max(item.stamp_ns for item in later.decoded(['joint_states']) if item.stamp_ns)
    assert abs(last - began) < 0.5e9
    rig.counts(driver)


def test_a_topic_without_a_message_is_told_at_the_stop(rig: Rig) -> None:
    recorder = rig.recorder()
    driver = rig.driver()
    assert rig.call('start_episode').success
    rig.drive(driver, stamps=[5 * 10**9, 0])
    rig.counts(driver)
    answer = rig.call('stop_episode')
    cameras, words = TOPICS[:2], f'nothing was recorded on {TOPICS[0]} (1 publisher), '
    assert not answer.success
    assert answer.message.startswith(f'episode_000000 is incomplete: {words}'), answer.message
    assert 'joint_states' not in answer.message
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'incomplete'
    assert all(topic in episode.info['reason'] for topic in (*cameras, 'gripper/command'))
    assert answer.message in rig.call('stop_episode').message      # also to who asks later
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20) == 0
    assert recorder.stdout is not None
    assert answer.message in recorder.stdout.read()


def test_a_session_that_goes_away_leaves_a_recorder_that_can_be_used(rig: Rig) -> None:
    recorder = rig.recorder()
    driver = rig.driver()
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    rig.counts(driver)
    shutil.rmtree(rig.session)
    # Found out by itself or at the stop, whichever comes first: told either way.
    answer = rig.call('stop_episode')
    assert not answer.success
    assert f'{rig.session}/.episode_000000.part: cannot be finished' in answer.message
    assert 'bring it back' in answer.message
    rig.until(lambda: rig.state.get('state') == 'idle')
    assert rig.state['last']['reason'].startswith('disk: ')
    assert all(sum(item[fate] for fate in ('written', 'lost', 'dropped', 'rejected'))
               == item['published'] for item in rig.state['last']['counts'].values())
    answer = rig.call('start_episode')
    assert not answer.success
    assert f'{rig.session}: the session directory is gone' in answer.message
    assert recorder.poll() is None
    rig.session.mkdir()
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    sent = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    check_balance(Episode.open(rig.session / answer.message), sent)

    # With nobody at the stop, it ends by itself, and a signal still ends the process well.
    assert rig.call('start_episode').success
    shutil.rmtree(rig.session)
    rig.until(lambda: rig.state.get('state') == 'idle')
    assert rig.state['last']['status'] == 'unfinished'
    recorder.send_signal(signal.SIGINT)
    assert recorder.wait(20) == 0


def test_transport_losses_are_counted_exactly(tmp_path: Path, ros_domain: int) -> None:
    with rig_of(tmp_path, 'best_effort') as rig:
        recorder = rig.recorder()
        driver = rig.driver(depth=1)
        rig.call('start_episode')
        rig.drive(driver, seconds=4.0, image_hz=100, height=480, width=640)
        time.sleep(1.0)
        # Stopped for so long that a best-effort reader, which keeps 60 images, loses some even
        # where a busy machine sends but a third of them.
        recorder.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        recorder.send_signal(signal.SIGCONT)
        sent = rig.counts(driver)
        # One more of everything: it tells the recorder what was lost last.
        rig.drive(driver, seconds=0.02)
        after = rig.counts(driver)
        assert rig.call('stop_episode').success
        episode = Episode.open(rig.session / 'episode_000000')
        lost = 0
        for topic, account in episode.accounts.items():
            assert account.balanced
            assert account.published == sent[topic] + after[topic], (topic, account)
            lost += account.lost
        assert lost > 0


def test_bad_stamps_are_rejected_by_cause(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.call('start_episode')
    rig.drive(driver, stamps=[5 * 10**9, 0, 6 * 10**9, 6 * 10**9, 5 * 10**9 + 1, 7 * 10**9],
              seconds=0.2)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    account = Episode.open(rig.session / 'episode_000000').accounts['joint_states']
    assert account.published == sent['joint_states']
    assert account.written == sent['joint_states'] - 3
    assert account.rejected_by_cause == {
        'zero_stamp': 1, 'duplicate_stamp': 1, 'backward_stamp': 1}
    assert account.balanced


def test_one_stamp_of_the_future_costs_no_other_message(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.2)
    before = rig.counts(driver)['joint_states']
    rig.drive(driver, stamps=[time.time_ns() + 3600 * 10**9], seconds=0.2)
    after = rig.counts(driver)['joint_states']
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    account = episode.accounts['joint_states']
    assert account.rejected_by_cause == {}
    assert (account.published, account.written) == (before + after, before + after)
    assert episode.info['duration_s'] < 60.0
    stamps = np.array([item.message.header.stamp.sec * 10**9 + item.message.header.stamp.nanosec
                       for item in episode.decoded(['joint_states'])])
    keep, refused = split_rising(stamps)        # as the build and the check read it
    assert refused == {'future_stamp': 1}
    assert keep.sum() == before + after - 1


def test_a_topic_that_is_mostly_rejected_makes_no_complete_episode(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.1)
    rig.counts(driver)
    rig.drive(driver, stamps=[9 * 10**9] * 61)
    rig.counts(driver)
    answer = rig.call('stop_episode')
    assert not answer.success
    assert 'more was rejected than recorded of joint_states' in answer.message
    assert '60 duplicate_stamp' in answer.message
    assert Episode.open(rig.session / 'episode_000000').info['status'] == 'incomplete'


def test_an_episode_that_has_ended_can_still_be_marked(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.2)
    rig.counts(driver)
    assert rig.call('stop_episode').success
    before = [(item.topic, item.data) for item in
              Episode.open(rig.session / 'episode_000000').raw()]
    for name, outcome in (('mark_success', True), ('mark_failure', False)):
        answer = rig.call(name)
        assert (answer.success, answer.message) == (True, 'episode_000000')
        assert Episode.open(rig.session / 'episode_000000').info['success'] is outcome
    assert [(item.topic, item.data) for item in
            Episode.open(rig.session / 'episode_000000').raw()] == before
    assert rig.call('start_episode').success      # from here on it is the new one that is meant
    assert rig.call('mark_success').message == 'episode_000001'
    assert Episode.open(rig.session / 'episode_000000').info['success'] is False
    assert rig.call('discard_episode').success


def test_services_refuse_what_is_not_possible_and_say_why(rig: Rig) -> None:
    from std_srvs.srv import SetBool
    rig.recorder()
    answer = rig.call('start_episode')
    assert not answer.success
    assert '/camera/front/image_raw' in answer.message
    driver = rig.driver()
    assert 'no episode' in rig.call('stop_episode').message
    assert 'no episode' in rig.call('mark_success').message
    assert rig.call('start_episode').success
    assert 'episode_000000' in rig.call('start_episode').message
    assert rig.call('mark_success').success
    assert rig.call('pause', SetBool.Request(data=True)).success
    rig.drive(driver, seconds=0.2)
    paused = rig.counts(driver)
    assert rig.call('pause', SetBool.Request(data=False)).success
    rig.drive(driver, seconds=0.2)
    rest = rig.counts(driver)
    assert rig.call('stop_episode').success
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['success'] is True
    account = episode.accounts['joint_states']
    assert account.rejected_by_cause == {'paused': paused['joint_states']}
    assert account.written == rest['joint_states']

    assert rig.call('start_episode').message == 'episode_000001'
    assert rig.call('discard_episode').message == 'episode_000001'
    assert rig.call('start_episode').message == 'episode_000002'
    assert rig.call('mark_failure').success
    rig.drive(driver, seconds=0.2)
    rig.counts(driver)
    assert rig.call('stop_episode').success
    assert [path.name for path in list_episodes(rig.session)] == [
        'episode_000000', 'episode_000002']
    tomb = rig.session / 'discarded' / 'episode_000001' / 'episode.json'
    assert json.loads(tomb.read_text())['status'] == 'discarded'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_episode_and_exits_with_0(
        rig: Rig, number: signal.Signals) -> None:
    recorder = rig.recorder()
    driver = rig.driver()
    rig.call('start_episode')
    rig.drive(driver, seconds=1.0)
    sent = rig.counts(driver)['joint_states']
    recorder.send_signal(number)
    recorder.send_signal(number)          # an impatient second one changes nothing
    assert recorder.wait(20) == 0
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'incomplete'
    assert 'deactivated' in episode.info['reason']
    assert all(account.balanced for account in episode.accounts.values())
    # What is on its way is not waited for: the process is to end.
    assert 0.9 * sent < len(list(episode.raw(['joint_states']))) <= sent
    assert not list(rig.session.glob('.episode*'))


def test_a_killed_recorder_costs_at_most_the_last_second(rig: Rig) -> None:
    recorder = rig.recorder('fsync_interval_s:=0.5')
    driver = rig.driver()
    rig.call('start_episode')
    rig.drive(driver, seconds=3.0)
    time.sleep(2.0 + random.random())
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()
    assert list_episodes(rig.session) == []
    rig.counts(driver)
    # The next start recovers it, and goes on with the next number.
    rig.recorder()
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'recovered'
    assert len(list(episode.raw(['camera/front/image_raw']))) > 40
    assert all(account.balanced and not account.published_exact
               for account in episode.accounts.values())
    rig.until(lambda: rig.state.get('waiting_for') == '')
    assert rig.call('start_episode').message == 'episode_000001'


def test_a_driver_that_dies_is_seen_and_one_that_comes_back_is_counted_on(rig: Rig) -> None:
    rig.recorder()
    first = rig.driver()
    rig.call('start_episode')
    rig.drive(first, seconds=0.5)
    sent = rig.counts(first)
    first.kill()
    first.wait()
    second = rig.driver()
    rig.drive(second, seconds=0.5)
    more = rig.counts(second)
    assert rig.call('stop_episode').success
    for topic, account in Episode.open(rig.session / 'episode_000000').accounts.items():
        assert account.balanced
        assert account.published == account.written == sent[topic] + more[topic]


def test_recovery_leaves_the_episode_of_a_live_recorder_alone(rig: Rig) -> None:
    rig.recorder()
    driver = rig.driver()
    rig.call('start_episode')
    assert recover_session(rig.session) == []
    rig.drive(driver, seconds=0.3)
    rig.counts(driver)
    assert rig.call('stop_episode').success


def test_a_wrong_contract_fails_to_configure_and_a_retry_works(rig: Rig) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    good = rig.contract.read_text()
    rig.contract.write_text(good.replace('rate_hz: 20', 'rate_hz: fast'))
    rig.recorder(wait='unconfigured')
    client = rig.node.create_client(ChangeState, '/recorder/change_state')
    rig.until(client.service_is_ready)

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        future = client.call_async(request)
        rig.until(future.done)
        return bool(future.result().success)

    assert not change(Transition.TRANSITION_ACTIVATE)        # not possible now
    assert not change(Transition.TRANSITION_CONFIGURE)       # the contract is wrong
    assert 'configure' in rig.call('start_episode').message
    rig.contract.write_text(good)
    assert change(Transition.TRANSITION_CONFIGURE)
    assert not change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)
    rig.until(lambda: rig.state.get('lifecycle') == 'active')
    assert change(Transition.TRANSITION_DEACTIVATE)
    assert change(Transition.TRANSITION_CLEANUP)
    rig.until(lambda: rig.state.get('lifecycle') == 'unconfigured')


def test_too_little_disk_ends_the_episode_with_the_reason(rig: Rig) -> None:
    rig.recorder(f'min_free_bytes:={2**49}')
    rig.driver()
    answer = rig.call('start_episode')
    assert not answer.success
    assert 'min_free_bytes' in answer.message


def test_a_disk_that_fills_up_ends_the_episode_and_the_books_still_balance(rig: Rig) -> None:
    # A file may not grow beyond 4 MB: the write fails as on a full disk.
    code = ('import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); '
            'resource.setrlimit(resource.RLIMIT_FSIZE, (4000000, 4000000)); '
            'from ssl_vla_ros.nodes.recorder import main; sys.exit(main())')
    rig.recorder(program=('-c', code))
    driver = rig.driver()
    rig.call('start_episode')
    rig.drive(driver, seconds=3.0)
    rig.counts(driver)
    rig.until(lambda: rig.state.get('last') is not None)
    last = rig.state['last']
    assert last['status'] == 'incomplete', last
    assert last['reason'].startswith('disk'), last
    episode = Episode.open(rig.session / 'episode_000000')
    assert all(account.balanced for account in episode.accounts.values())
    assert episode.accounts['camera/front/image_raw'].dropped > 0
    assert len(list(episode.raw())) == sum(
        account.written for account in episode.accounts.values()) > 0


def test_a_jump_of_ros_time_ends_the_episode(rig: Rig) -> None:
    from rosgraph_msgs.msg import Clock
    clock = rig.node.create_publisher(Clock, '/clock', 10)

    def tick(seconds: int) -> None:
        message = Clock()
        message.clock.sec = seconds
        clock.publish(message)

    rig.recorder('use_sim_time:=true')
    driver = rig.driver(until_ready=False)
    rig.until(lambda: '/clock' in rig.state.get('waiting_for', ''))
    rig.until(lambda: tick(100) or rig.state.get('waiting_for') == '')
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    rig.counts(driver)
    tick(101)
    time.sleep(0.3)
    tick(91)
    rig.until(lambda: rig.state.get('last') is not None)
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'incomplete'
    assert episode.info['reason'].startswith('clock_jump')
    assert episode.info['clock'] == 'sim'
    assert {item.log_time_ns for item in episode.raw(['gripper/command'])} == {100 * 10**9}


def test_an_unwritable_session_is_named(rig: Rig) -> None:
    rig.session = Path('/proc/nowhere')
    process = rig.recorder('autostart:=true', wait='unconfigured')
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stdout is not None
    assert 'session_dir' in process.stdout.read()
