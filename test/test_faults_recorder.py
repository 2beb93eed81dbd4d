# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The recorder under the faults of processes and disks, over real DDS and with real processes.

What each fault of the list is tested by; those without a file name are here:

====================================  ==========================================================
publisher dies mid-episode            test_faults_recorder_messages: test_a_camera_computer_…;
                                      test_nodes_recorder: test_a_driver_that_dies_…
disk full                             test_a_full_disk_…; test_nodes_recorder:
                                      test_a_disk_that_fills_up_…
below min_free_bytes                  test_too_little_room_…; test_nodes_recorder:
                                      test_too_little_disk_…
SIGKILL at random write offsets       test_a_kill_at_any_moment_… (all 50: make test-faults)
SIGINT, SIGTERM                       test_more_signals_…; test_nodes_recorder:
                                      test_a_signal_finishes_…
clock jumps, looping /clock           test_faults_recorder_messages: test_ros_time_…,
                                      test_a_jump_of_the_system_clock_…
out-of-order, double, zero stamps     test_nodes_recorder: test_bad_stamps_…
malformed images                      test_faults_recorder_messages: test_malformed_pictures_…
size or joint names change            test_faults_recorder_messages: test_another_size_…
late joiners                          test_faults_recorder_messages: test_a_late_…,
                                      test_a_recorder_that_comes_late_…
slow subscribers, slow disk           test_a_disk_that_hangs_…, test_a_slow_disk_…;
                                      test_nodes_recorder: test_transport_losses_…
start twice, stop twice, unconfigured  test_two_operators_…; test_nodes_recorder:
                                      test_services_refuse_…, test_a_wrong_contract_…
a node stopped for a second           test_a_recorder_stopped_for_a_second_…
two recorders on one session          test_two_recorders_…
session directory removed             test_nodes_recorder: test_a_session_that_goes_away_…
====================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import json
from pathlib import Path
import random
import shutil
import signal
import subprocess
import time
from typing import Any

import pytest
from recorder_faults import (
    ask, crashing, fingerprints, freezing_disk, frozen, resident_bytes, seeds, SLOW_SYNC,
    small_disk)
from recorder_payload import CAMERAS, check_unbroken, numbers
from recorder_rig import check_balance, Rig, rig_of
from ssl_vla_ros.episodes.reader import Episode, list_episodes

pytestmark = pytest.mark.ros


Crash = Callable[[subprocess.Popen[str]], None]


@pytest.fixture
def crash(ros_domain: int) -> Iterator[Crash]:
    with crashing() as kill:
        yield kill


@pytest.fixture
def rig(tmp_path: Path, ros_domain: int, crash: Crash) -> Iterator[Rig]:
    with rig_of(tmp_path) as made:
        yield made


# -- SIGKILL -------------------------------------------------------------------------------


def wait_for_a_random_moment(rig: Rig, seed: int) -> None:
    """Wait until an episode is begun, recorded, discarded or finished, as the seed says."""
    rng = random.Random(seed)
    moment = ('recording', 'finishing', 'beginning', 'recording', 'discarding')[seed % 5]
    if moment == 'beginning':
        ask(rig, 'start_episode')
        time.sleep(rng.uniform(0.0, 0.03))
    else:
        assert rig.call('start_episode').success
        if moment == 'recording':
            time.sleep(rng.uniform(0.0, 1.2))
        else:
            time.sleep(0.4)
            ask(rig, 'stop_episode' if moment == 'finishing' else 'discard_episode')
            # The end waits 0.1 to 0.2 s for messages on their way, and then writes.
            time.sleep(rng.uniform(0.0, 0.3))


def check_recovered(rig: Rig, known: set[str]) -> int:
    """See that what a kill left is whole messages as they were published; gives how many."""
    kept = 0
    for path in list_episodes(rig.session):
        if path.name in known:
            continue
        episode = Episode.open(path)
        assert episode.info['status'] in ('recovered', 'complete'), episode.info
        assert all(account.balanced for account in episode.accounts.values())
        found = check_unbroken(episode)
        for topic, account in episode.accounts.items():
            assert account.written == len(found[topic])
        kept += sum(map(len, found.values()))
    return kept


def check_quarantine(rig: Rig) -> None:
    """See that only that was given up in which there was not one whole message."""
    for place in (rig.session / 'quarantine').glob('episode_*'):
        reason = json.loads((place / 'quarantine.json').read_text())['reason']
        assert reason.startswith(('NothingReadableError: ', 'FileNotFoundError: ')), reason


def killed_with(seed: int) -> tuple[str, ...]:
    """Every other time the episode falls into parts: some kills come between two of them."""
    return ('fsync_interval_s:=0.1', *(('split_duration_s:=0.2',) if seed % 2 else ()))


def test_a_kill_at_any_moment_costs_at_most_the_open_episode(
        rig: Rig, crash: Crash) -> None:
    recorder = rig.recorder(*killed_with(0))
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    sent = rig.counts(driver)
    assert rig.call('stop_episode').success
    check_balance(Episode.open(rig.session / 'episode_000000'), sent)
    kept = []
    for seed in seeds(few=4):
        finished = fingerprints(rig.session)
        names = {path.name for path in list_episodes(rig.session)}
        rig.drive(driver, until_told=True)
        wait_for_a_random_moment(rig, seed)
        crash(recorder)
        rig.drive(driver)
        rig.counts(driver)
        rig.counts(driver)
        # Before anybody recovers anything: whatever is listed is finished.
        after = fingerprints(rig.session)
        assert after.items() >= finished.items(), seed
        for path in list_episodes(rig.session):
            assert Episode.open(path).info['status'] in ('complete', 'recovered'), seed
        following = seed + 1 if seed + 1 in seeds(few=4) else 0
        recorder = rig.recorder(*killed_with(following))
        assert fingerprints(rig.session).items() >= after.items(), seed
        assert not list(rig.session.glob('.episode_*')), seed
        kept.append(check_recovered(rig, names))
        rig.until(lambda: rig.state.get('waiting_for') == '')
        rig.settle(driver)
    check_quarantine(rig)
    # Of an episode that was being recorded something is left, of others perhaps nothing.
    assert any(kept)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    sent = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    check_balance(Episode.open(rig.session / answer.message), sent)


# -- signals, services, processes ----------------------------------------------------------


def test_more_signals_while_it_finishes_change_nothing(rig: Rig) -> None:
    recorder = rig.recorder(program=('-c', SLOW_SYNC, '0.15'))
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.5)
    sent = rig.counts(driver)
    time.sleep(0.5)
    recorder.send_signal(signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
        time.sleep(0.15)
        assert recorder.poll() is None       # it is still finishing
        recorder.send_signal(number)
    assert recorder.wait(20) == 0
    episode = Episode.open(rig.session / 'episode_000000')
    assert episode.info['status'] == 'incomplete'
    assert episode.ended_early
    check_unbroken(episode)
    assert {topic: account.written for topic, account in episode.accounts.items()} == sent
    assert not list(rig.session.glob('.episode_*'))


def test_two_operators_at_once_get_one_episode_and_one_reason(rig: Rig) -> None:
    # Slow, so that a finish takes a second.
    rig.recorder(program=('-c', SLOW_SYNC, '0.1'))
    driver = rig.driver()
    rig.settle(driver)

    def both(first: str, second: str) -> list[Any]:
        futures = [ask(rig, first), ask(rig, second)]
        rig.until(lambda: all(future.done() for future in futures))
        return sorted((future.result() for future in futures), key=lambda item: not item.success)

    started, refused = both('start_episode', 'start_episode')
    assert (started.success, started.message) == (True, 'episode_000000')
    assert (refused.success, refused.message) == (
        False, 'an episode is being started; wait for it first')
    rig.drive(driver, seconds=0.3)
    sent = rig.counts(driver)
    stopped, late = both('stop_episode', 'stop_episode')
    assert (stopped.success, stopped.message) == (True, 'episode_000000')
    assert not late.success
    assert late.message.startswith('no episode is being recorded')
    check_balance(Episode.open(rig.session / 'episode_000000'), sent)

    # A start while the last one is being finished is refused, and works as soon as it is.
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=0.3)
    rig.counts(driver)
    stopped = ask(rig, 'stop_episode')
    rig.until(lambda: rig.state['state'] == 'stopping')
    early = rig.call('start_episode')
    assert not early.success
    assert early.message == 'episode_000001 is being finished; wait for it first'
    rig.until(stopped.done)
    assert stopped.result().message == 'episode_000001'
    assert rig.call('start_episode').message == 'episode_000002'


def test_a_recorder_stopped_for_a_second_counts_exactly_what_it_missed(rig: Rig) -> None:
    recorder = rig.recorder()
    # A driver that keeps but five messages for a reader that does not take them.
    driver = rig.driver(depth=5)
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=2.0)
    time.sleep(0.4)
    recorder.send_signal(signal.SIGSTOP)
    time.sleep(1.0)
    recorder.send_signal(signal.SIGCONT)
    sent = rig.counts(driver)
    rig.drive(driver, seconds=0.1)
    after = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    episode = Episode.open(rig.session / answer.message)
    check_balance(episode, {topic: sent[topic] + after[topic] for topic in sent})
    for topic, found in numbers(episode).items():
        account = episode.accounts[topic]
        assert found == sorted(set(found))
        assert found[-1] - found[0] + 1 == account.published
        assert found[-1] - found[0] + 1 - len(found) == account.lost + account.dropped, topic


def test_two_recorders_share_a_session_without_touching_each_others_episodes(
        rig: Rig, crash: Crash) -> None:
    rig.recorder()
    command = ('-m', 'ssl_vla_ros.nodes.recorder', '--ros-args', '-r', '__node:=second',
               '-p', f'contract:={rig.contract}', '-p', f'session_dir:={rig.session}',
               '-p', 'autostart:=true')
    second = rig.start(*command)
    driver = rig.driver()
    rig.settle(driver)
    answers: list[Any] = []

    def second_starts() -> bool:
        answers.append(rig.call('start_episode', node='second'))
        return bool(answers[-1].success)

    assert rig.call('start_episode').message == 'episode_000000'
    rig.until(second_starts)                 # as soon as it has found the driver
    assert answers[-1].message == 'episode_000001'
    rig.drive(driver, seconds=0.5)
    rig.counts(driver)
    crash(second)
    rig.start(*command)
    # The restarted one recovers its own, and leaves the open one of the other alone.
    rig.until(lambda: (rig.session / 'episode_000001').is_dir())
    assert (rig.session / '.episode_000000.part').is_dir()
    rig.drive(driver, seconds=0.3)
    rig.counts(driver)
    assert rig.call('stop_episode').success
    first = Episode.open(rig.session / 'episode_000000')
    assert all(account.balanced and account.written == account.published
               for account in first.accounts.values())
    check_unbroken(first)
    recovered = Episode.open(rig.session / 'episode_000001')
    assert recovered.info['status'] == 'recovered'
    check_unbroken(recovered)
    answers.clear()
    rig.until(second_starts)
    assert answers[-1].message == 'episode_000002'


# -- disks ---------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_is_there_and_says_so(tmp_path: Path, ros_domain: int) -> None:
    with small_disk(tmp_path / 'disk', 12 * 2**20) as disk, rig_of(tmp_path) as rig:
        rig.session = disk / 'session'
        rig.recorder('min_free_bytes:=0', 'fsync_interval_s:=0.2')
        driver = rig.driver()
        rig.settle(driver)
        assert rig.call('start_episode').success
        rig.drive(driver, seconds=0.5)
        rig.counts(driver)
        assert rig.call('stop_episode').success
        finished = fingerprints(rig.session)

        assert rig.call('start_episode').success
        rig.drive(driver, seconds=4.0)
        rig.until(lambda: (rig.state.get('last') or {}).get('episode') == 'episode_000001')
        last = rig.state['last']
        assert last['status'] == 'incomplete', last
        assert last['reason'].startswith('disk: '), last
        assert 'No space left on device' in last['reason']
        rig.counts(driver)
        assert fingerprints(rig.session).items() >= finished.items()
        episode = Episode.open(rig.session / 'episode_000001')
        assert last['reason'] in episode.faults
        assert all(account.balanced for account in episode.accounts.values())
        found = check_unbroken(episode)
        assert {topic: len(values) for topic, values in found.items()} == {
            topic: account.written for topic, account in episode.accounts.items()}
        assert min(map(len, found.values())) > 10
        # With room again it goes on as if nothing had been.
        shutil.move(rig.session / 'episode_000001', tmp_path)
        answer = rig.call('start_episode')
        assert answer.success, answer.message
        rig.drive(driver, seconds=0.3)
        sent = rig.counts(driver)
        answer = rig.call('stop_episode')
        assert answer.success, answer.message
        check_balance(Episode.open(rig.session / answer.message), sent)


def test_too_little_room_ends_the_episode_in_time_and_loses_nothing_of_it(
        tmp_path: Path, ros_domain: int) -> None:
    size, room = 48 * 2**20, 32 * 2**20
    with small_disk(tmp_path / 'disk', size) as disk, rig_of(tmp_path) as rig:
        rig.session = disk / 'session'
        rig.recorder(f'min_free_bytes:={room}')
        driver = rig.driver()
        rig.settle(driver)
        assert rig.call('start_episode').success
        rig.drive(driver, until_told=True, height=256, width=256)    # 16 MB/s
        rig.until(lambda: rig.state.get('last') is not None)
        rig.drive(driver)
        rig.counts(driver)
        rig.counts(driver)
        # It looks twice a second; a busy machine may take a second more.
        free = shutil.disk_usage(disk).free
        assert room - 24e6 < free < room
        last = rig.state['last']
        assert last['status'] == 'incomplete'
        assert last['reason'].startswith('min_free_bytes: ')
        episode = Episode.open(rig.session / 'episode_000000')
        assert episode.ended_early           # nothing of it is missing
        for topic, found in check_unbroken(episode).items():
            assert len(found) == episode.accounts[topic].published
        answer = rig.call('start_episode')
        assert not answer.success
        assert f'fewer than min_free_bytes {room}' in answer.message


def test_a_disk_that_takes_long_for_a_start_and_a_split_costs_no_message(
        tmp_path: Path, ros_domain: int) -> None:
    # Best-effort, and a queue of 10 in the middleware: whoever does not take what comes for the
    # second in which the disk makes a directory loses most of the pictures of that second.
    with rig_of(tmp_path, 'best_effort') as rig:
        rig.recorder('split_duration_s:=1.5', program=('-c', SLOW_SYNC, '0.3'))
        driver = rig.driver()
        rig.settle(driver)
        future = ask(rig, 'start_episode')
        rig.until(lambda: rig.state.get('state') == 'starting')
        rig.drive(driver, seconds=3.0)
        rig.until(future.done)
        assert future.result().success
        sent = rig.counts(driver)
        answer = rig.call('stop_episode')
        assert answer.success, answer.message
        rig.until(lambda: rig.state.get('state') == 'idle')
        episodes = [Episode.open(path) for path in list_episodes(rig.session)]
        assert len(episodes) >= 2
        for topic in CAMERAS:
            accounts = [episode.accounts[topic] for episode in episodes]
            assert all(account.balanced for account in accounts)
            assert sum(account.written for account in accounts) == sent[topic]
            assert not any(account.lost or account.dropped for account in accounts)


def test_what_is_asked_while_the_disk_makes_the_episode_is_not_lost(
        tmp_path: Path, ros_domain: int) -> None:
    from std_msgs.msg import String
    with rig_of(tmp_path) as rig:
        recorder = rig.recorder(program=('-c', SLOW_SYNC, '0.4'))
        instructions = rig.node.create_publisher(String, 'instruction', 10)
        driver = rig.driver()
        rig.settle(driver)
        rig.until(instructions.get_subscription_count)
        future = ask(rig, 'start_episode')
        rig.until(lambda: rig.state.get('state') == 'starting')
        instructions.publish(String(data='push the cube'))
        for name in ('stop_episode', 'mark_success'):
            answer = rig.call(name)
            assert not answer.success
            assert answer.message == 'an episode is being started; wait for it first'
        rig.until(future.done)
        assert future.result().success
        rig.drive(driver, seconds=0.2)
        rig.counts(driver)
        assert rig.call('stop_episode').success
        info = Episode.open(rig.session / 'episode_000000').info
        assert info['task'] == 'push the cube'
        assert [item['text'] for item in info['extra']['instructions']] == ['push the cube']
        # A signal in that phase finishes the episode, too.
        ask(rig, 'start_episode')
        rig.until(lambda: rig.state.get('state') == 'starting')
        rig.drive(driver, seconds=0.2)
        rig.counts(driver)
        recorder.send_signal(signal.SIGTERM)
        assert recorder.wait(30) == 0
        episode = Episode.open(rig.session / 'episode_000001')
        assert episode.info['status'] == 'incomplete'
        assert all(account.balanced and account.written
                   for account in episode.accounts.values())


def test_a_start_that_the_disk_refuses_keeps_what_happened_before(
        tmp_path: Path, ros_domain: int) -> None:
    with rig_of(tmp_path) as rig:
        rig.recorder('pre_roll_s:=20.0')
        driver = rig.driver()
        rig.settle(driver)
        rig.drive(driver, seconds=0.5)
        sent = rig.counts(driver)
        rig.session.rename(tmp_path / 'aside')
        rig.session.touch()                      # a file where the session was
        answer = rig.call('start_episode')
        assert not answer.success
        assert 'cannot make a new episode there' in answer.message
        rig.session.unlink()
        (tmp_path / 'aside').rename(rig.session)
        assert rig.call('start_episode').success
        assert rig.call('stop_episode').success
        accounts = Episode.open(rig.session / 'episode_000000').accounts
        for topic in CAMERAS:
            assert accounts[topic].written >= sent[topic] > 10
        # What belongs to one episode never comes into the next.
        assert rig.call('start_episode').success
        rig.drive(driver, seconds=0.2)
        sent = rig.counts(driver)
        assert rig.call('stop_episode').success
        check_balance(Episode.open(rig.session / 'episode_000001'), sent)


def record_beside_a_stuck_disk(rig: Rig, recorder: Any, stuck: Any) -> Episode:
    """Record with a queue of 8 MiB while the disk takes nothing: memory must not grow."""
    driver = rig.driver()
    rig.settle(driver)
    assert rig.call('start_episode').success
    rig.drive(driver, seconds=3.0, height=256, width=256)     # 47 MB in all
    time.sleep(0.5)
    before = most = resident_bytes(recorder.pid)
    with stuck:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            # Whoever talks to it does not wait for the disk.
            asked = time.monotonic()
            assert rig.call('mark_success').success
            assert time.monotonic() - asked < 1.0
            most = max(most, resident_bytes(recorder.pid))
            time.sleep(0.1)
    sent = rig.counts(driver)
    answer = rig.call('stop_episode')
    assert answer.success, answer.message
    # The queue, a chunk, a message on its way in and out, and what Python keeps of the freed.
    assert most - before < 8 * 2**20 + 24 * 2**20
    episode = Episode.open(rig.session / answer.message)
    check_balance(episode, sent)
    missing = 0
    for topic, found in numbers(episode).items():
        account = episode.accounts[topic]
        assert len(found) == account.written
        missing += account.dropped + account.lost
        assert account.dropped + account.lost == sent[topic] - len(found), topic
    assert missing > 0
    return episode


def test_a_disk_that_hangs_costs_messages_but_no_memory(tmp_path: Path, ros_domain: int) -> None:
    with freezing_disk(tmp_path / 'disk') as disk, rig_of(tmp_path) as rig:
        rig.session = disk / 'session'
        recorder = rig.recorder('queue_bytes:=8388608', 'min_free_bytes:=0')
        record_beside_a_stuck_disk(rig, recorder, frozen(disk))


def test_a_slow_disk_costs_messages_but_no_memory(rig: Rig) -> None:
    recorder = rig.recorder('queue_bytes:=8388608', 'fsync_interval_s:=0.1',
                            program=('-c', SLOW_SYNC, '1.5'))
    record_beside_a_stuck_disk(rig, recorder, contextlib.nullcontext())
