# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An episode from start to end without ROS: queue, disk, clock jumps, and the books throughout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import shutil
import threading
import time
from typing import Any

from episode_samples import (
    GRIPPER, gripper_cdr, IMAGE, image_cdr, JOINTS, joints_cdr, open_writer, SIZE)
import pytest
from ssl_vla_ros.episodes.books import Books
from ssl_vla_ros.episodes.control import EpisodeControl, RecordingLimits
from ssl_vla_ros.episodes.intake import Fate
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recording import Outcome
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import EpisodeError


class Feed:
    """Plays a subscription: numbers messages and hands them on as the node does."""

    def __init__(self, limits: RecordingLimits) -> None:
        topics = dict.fromkeys((IMAGE, JOINTS), True) | {GRIPPER: False}
        self.books = Books(topics, dict.fromkeys(topics, True))
        self.control = EpisodeControl(self.books, limits)
        self.sequence = dict.fromkeys(topics, 0)

    def send(self, topic: str, cdr: bytes) -> None:
        self.sequence[topic] += 1
        now = time.time_ns()
        self.books.heard(topic)
        fate, _ = self.books.intakes[topic].take(
            self.sequence[topic], now, cdr, received_ns=now, paused=self.books.paused)
        if fate is Fate.KEEP:
            self.control.put(topic, cdr, now, now)

    def send_pictures(self, count: int) -> None:
        for _ in range(count):
            self.send(IMAGE, image_cdr(10**9 + self.sequence[IMAGE], bytes(SIZE * SIZE * 3)))

    def send_streams(self, count: int) -> None:
        for _ in range(count):
            self.send(JOINTS, joints_cdr(10**9 + self.sequence[JOINTS], {'a': 1.0}))
            self.send(GRIPPER, gripper_cdr(0.5))

    def start(self, open_writer: Callable[[], EpisodeWriter]) -> str:
        self.control.start(open_writer)
        return self.until(lambda: self.control.name)

    def split(self, open_writer: Callable[[], EpisodeWriter], reason: str) -> str:
        self.control.split(open_writer, reason)
        return self.until(lambda: self.control.switch('system'))

    @staticmethod
    def until(found: Callable[[], str | None]) -> str:
        end = time.monotonic() + 10.0
        while time.monotonic() < end:
            name = found()
            if name:
                return name
            time.sleep(0.001)
        raise AssertionError('nothing came')

    def outcome(self, timeout_s: float = 10.0) -> Outcome:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            outcome = self.control.step('system')
            if outcome is not None:
                return outcome
            time.sleep(0.005)
        raise AssertionError(f'still {self.control.phase}')


class Gate:
    """Holds a writer's ``write`` until it is opened: a disk that does not keep up."""

    def __init__(self, write: Callable[..., None]) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self._write = write

    def __call__(self, *arguments: Any) -> None:
        self.entered.set()
        self.open.wait(10)
        self._write(*arguments)


@pytest.mark.parametrize('limits', [
    RecordingLimits(queue_size=10), RecordingLimits(queue_bytes=10 * (SIZE * SIZE * 3 + 100))])
def test_a_full_queue_drops_and_counts(
        tmp_path: Path, limits: RecordingLimits) -> None:
    feed = Feed(limits)
    writer = open_writer(tmp_path)
    gate = Gate(writer.write)
    writer.write = gate  # type: ignore[method-assign]
    feed.start(lambda: writer)
    feed.send_pictures(1)
    assert gate.entered.wait(10)
    feed.send_pictures(30)
    assert feed.control.depth == 10
    gate.open.set()
    while feed.control.depth:
        time.sleep(0.005)
    feed.send_streams(1)
    feed.control.stop()
    assert feed.control.phase == 'stopping'
    outcome = feed.outcome()
    account = outcome.accounts[IMAGE]
    assert (account.published, account.written, account.dropped) == (31, 11, 20)
    episode = Episode.open(tmp_path / outcome.name)
    assert episode.info['status'] == 'complete'
    assert len(list(episode.raw([IMAGE]))) == 11


def test_stopping_twice_starting_twice_and_nothing_open(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    assert feed.control.step('system') is None
    assert feed.control.finish_now('', 'system') == []
    feed.send_pictures(2)                        # nobody records
    feed.start(lambda: open_writer(tmp_path))
    with pytest.raises(EpisodeError, match='episode_000000 is being recorded'):
        feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(3)
    feed.control.stop()
    with pytest.raises(EpisodeError, match='is being finished'):
        feed.start(lambda: open_writer(tmp_path))
    assert feed.outcome().accounts[IMAGE].written == 3
    assert feed.control.phase == 'idle'
    assert feed.start(lambda: open_writer(tmp_path)) == 'episode_000001'
    feed.control.stop(discard=True, reason='no')
    assert feed.outcome().status == 'discarded'
    assert not (tmp_path / 'episode_000001').exists()


def test_a_clock_jump_and_a_full_disk_end_an_episode_with_the_reason(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(1)
    feed.send_streams(1)
    feed.control.step('sim', 'back by 10 s')
    assert feed.outcome().reason == 'clock_jump: back by 10 s'
    assert Episode.open(tmp_path / 'episode_000000').info['status'] == 'incomplete'
    feed = Feed(RecordingLimits(min_free_bytes=2**60))
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(4)
    feed.send_streams(2)
    outcome = feed.outcome()
    assert outcome.reason.startswith('min_free_bytes')
    assert outcome.accounts[IMAGE].written == 4
    for number in (0, 1):                       # nothing is lost up to the early end
        episode = Episode.open(tmp_path / f'episode_{number:06d}')
        assert episode.ended_early
        assert episode.faults == ()
        assert episode.info['success'] is None


def test_finish_now_keeps_what_came(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(50)
    feed.send_streams(1)
    (outcome,) = feed.control.finish_now('shut down', 'system')
    assert outcome is not None
    assert (outcome.status, outcome.reason) == ('incomplete', 'shut down')
    assert outcome.accounts[IMAGE].written == 50


def test_a_disk_that_fails_loses_nothing_uncounted(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    writer = open_writer(tmp_path)
    real, calls = writer.write, []

    def failing(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 21:
            writer.sync()
        if len(calls) > 30:
            raise OSError(28, 'No space left on device')
        real(*arguments)

    writer.write = failing  # type: ignore[method-assign]
    feed.start(lambda: writer)
    feed.send_pictures(60)
    outcome = feed.outcome()
    assert (outcome.status, outcome.reason) == (
        'incomplete', 'disk: [Errno 28] No space left on device')
    account = outcome.accounts[IMAGE]
    assert account.balanced
    # Ten stood in the open chunk: written once, and not on the disk.
    assert (account.published, account.written, account.dropped) == (60, 20, 40)
    episode = Episode.open(tmp_path / outcome.name)
    assert len(list(episode.raw())) == 20
    assert episode.faults == (outcome.reason,)
    assert not episode.ended_early


def test_a_topic_without_a_message_makes_an_episode_incomplete_by_name(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.books.intakes[GRIPPER].publishers_changed(2, 2)
    feed.books.intakes[JOINTS].publishers_changed(1, 1)
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(3)
    feed.send(JOINTS, joints_cdr(0, {'a': 1.0}))
    feed.control.success = True
    feed.control.stop()
    outcome = feed.outcome()
    reason = (f'nothing was recorded on {JOINTS} (1 publisher, 1 rejected: 1 zero_stamp), '
              f'{GRIPPER} (2 publishers)')
    assert (outcome.status, outcome.reason) == ('incomplete', reason)
    assert outcome.told == f'episode_000000 is incomplete: {reason}'
    episode = Episode.open(tmp_path / outcome.name)
    assert (episode.info['status'], episode.info['reason']) == ('incomplete', reason)
    assert episode.faults == (reason,)
    assert not episode.ended_early
    assert episode.info['success'] is True      # what the operator said stays said
    assert all(account.balanced for account in episode.accounts.values())


@pytest.mark.parametrize('what', ['session', 'part'])
def test_a_directory_that_goes_away_ends_the_episode_in_a_sentence(
        tmp_path: Path, what: str) -> None:
    session = tmp_path / 'session'
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(session))
    feed.send_pictures(5)
    feed.send_streams(5)
    shutil.rmtree(session if what == 'session' else session / '.episode_000000.part')
    outcome = feed.outcome()                    # by itself: nobody has asked for the end
    assert outcome.status == 'unfinished'
    assert outcome.reason.startswith('disk: [Errno 2]')
    assert '.episode_000000.part: cannot be finished' in outcome.error
    assert 'bring it back' in outcome.error
    for account in outcome.accounts.values():
        assert (account.published, account.balanced) == (5, True)
    # The recorder goes on as soon as there is a place.
    assert feed.control.phase == 'idle'
    name = feed.start(lambda: open_writer(session))
    feed.send_pictures(2)
    feed.send_streams(2)
    feed.control.stop()
    assert feed.outcome().status == 'complete'
    assert list_episodes(session) == [session / name]
    assert sorted(path.name for path in session.iterdir()) == ['.next_episode', name]


def test_a_directory_that_is_gone_at_the_stop_still_answers(tmp_path: Path) -> None:
    session = tmp_path / 'session'
    for discard in (False, True):
        feed = Feed(RecordingLimits())
        feed.start(lambda: open_writer(session))
        feed.send_pictures(5)
        feed.control.stop(discard=discard)
        shutil.rmtree(session)
        (outcome,) = feed.control.finish_now('', 'system')
        assert outcome is not None
        assert outcome.status == 'unfinished'
        assert 'its directory is gone' in outcome.error


@pytest.mark.parametrize('method', ['write', 'sync_if_due', 'close'])
@pytest.mark.parametrize('error', [RuntimeError('a bug'), OSError(5, 'Input/output error')])
def test_whatever_breaks_on_the_thread_there_is_an_outcome(
        tmp_path: Path, method: str, error: Exception) -> None:
    feed = Feed(RecordingLimits())
    writer = open_writer(tmp_path, fsync_interval_s=0.0)

    def broken(*_: Any, **__: Any) -> None:
        raise error

    feed.start(lambda: writer)
    feed.send_pictures(5)
    feed.send_streams(5)
    while sum(writer.written.values()) < 15:
        time.sleep(0.005)
    setattr(writer, method, broken)
    feed.send_pictures(1)
    if method == 'close':
        feed.control.stop()
    outcome = feed.outcome()
    # What was on the disk is rescued; only a mistake at the very end leaves it to recovery.
    late = method == 'close' and isinstance(error, RuntimeError)
    assert outcome.status == ('unfinished' if late else 'incomplete')
    assert outcome.reason == (
        'disk: [Errno 5] Input/output error' if isinstance(error, OSError)
        else "writer: RuntimeError('a bug')")
    assert all(account.balanced for account in outcome.accounts.values())
    if late:
        assert 'not finished' in outcome.told
        found, = recover_session(tmp_path)
        assert found.status == 'recovered'
    else:
        assert Episode.open(tmp_path / outcome.name).faults == (outcome.reason,)
    assert feed.start(lambda: open_writer(tmp_path)) == 'episode_000001'
    assert len(feed.control.finish_now('end', 'system')) == 1


def test_a_split_while_the_disk_is_behind_shares_the_messages_out(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    gate: list[Gate] = []

    def slow_writer() -> Any:
        writer = open_writer(tmp_path)
        gate.append(Gate(writer.write))
        writer.write = gate[-1]  # type: ignore[method-assign]
        return writer
    feed.books.intakes[IMAGE].publishers_changed(1, 1)
    assert feed.start(slow_writer) == 'episode_000000'
    feed.send_pictures(5)
    feed.send_streams(5)
    assert feed.split(lambda: open_writer(tmp_path), 'long') == 'episode_000001'
    assert feed.control.running
    feed.send_pictures(7)
    feed.send_streams(7)
    assert feed.control.step('system') is None, 'the first part still waits for its disk'
    gate[0].open.set()
    first = feed.outcome()
    assert (first.name, first.status) == ('episode_000000', 'complete')
    assert feed.control.running
    feed.control.stop()
    last = feed.outcome()
    assert (last.name, last.status) == ('episode_000001', 'complete')
    counts = [{topic: account.written for topic, account in Episode.open(path).accounts.items()}
              for path in list_episodes(tmp_path)]
    assert counts == [dict.fromkeys((IMAGE, JOINTS, GRIPPER), 5),
                      dict.fromkeys((IMAGE, JOINTS, GRIPPER), 7)]


def test_an_end_in_haste_finishes_every_part(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(tmp_path))
    for part in range(3):
        feed.send_pictures(2)
        feed.send_streams(2)
        feed.split(lambda: open_writer(tmp_path), 'long')
        if part < 2:
            assert feed.outcome().status == 'complete'
    feed.send_pictures(1)
    feed.send_streams(1)
    outcomes = feed.control.finish_now('shut down', 'system')
    assert [item.status for item in outcomes] == ['complete', 'incomplete']
    assert len(list_episodes(tmp_path)) == 4


def test_messages_from_before_the_start_are_not_held_back_by_the_queue(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits(queue_size=3))
    feed.start(lambda: open_writer(tmp_path))
    for number in range(50):
        cdr = gripper_cdr(number)
        feed.books.intakes[GRIPPER].take(number + 1, time.time_ns(), cdr,
                                         received_ns=time.time_ns())
        feed.control.put(GRIPPER, cdr, number, number, before=True)
    (outcome,) = feed.control.finish_now('', 'system')
    assert (outcome.accounts[GRIPPER].written, outcome.accounts[GRIPPER].dropped) == (50, 0)


def test_what_comes_while_the_disk_makes_the_episode_is_in_it(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    gate = Gate(lambda: None)

    def slow() -> EpisodeWriter:
        gate()
        return open_writer(tmp_path)
    feed.control.start(slow)
    assert gate.entered.wait(10)
    assert (feed.control.phase, feed.control.name) == ('starting', None)
    with pytest.raises(EpisodeError, match='an episode is being started; wait for it'):
        feed.control.start(slow)
    feed.send_pictures(7)
    feed.send_streams(7)
    assert feed.control.step('system') is None
    assert feed.control.counts()[IMAGE]['written'] == 0
    gate.open.set()
    assert feed.until(lambda: feed.control.name) == 'episode_000000'
    assert feed.control.phase == 'recording'
    feed.control.stop()
    outcome = feed.outcome()
    assert outcome.status == 'complete'
    assert {account.written for account in outcome.accounts.values()} == {7}


@pytest.mark.parametrize('haste', [False, True])
def test_an_episode_that_cannot_be_made_is_told_and_leaves_nothing_behind(
        tmp_path: Path, haste: bool) -> None:
    (tmp_path / 'session').touch()              # a file where the directory should be
    feed = Feed(RecordingLimits())
    feed.control.start(lambda: open_writer(tmp_path / 'session'))
    feed.send_pictures(3)
    outcome = (feed.control.finish_now('shut down', 'system')[0] if haste else feed.outcome())
    assert (outcome.name, outcome.status) == ('', 'refused')
    assert 'cannot make a new episode there' in outcome.told
    assert feed.control.phase == 'idle'
    assert feed.start(lambda: open_writer(tmp_path / 'other')) == 'episode_000000'
    feed.send_pictures(2)
    feed.send_streams(2)
    feed.control.stop()
    assert feed.outcome().accounts[IMAGE].written == 2


def test_a_split_that_the_disk_refuses_lets_the_episode_go_on(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(2)
    (tmp_path / 'file').touch()
    with pytest.raises(EpisodeError, match='cannot make a new episode there'):
        feed.split(lambda: open_writer(tmp_path / 'file'), 'long')
    assert feed.control.may_split
    feed.send_pictures(2)
    feed.send_streams(1)
    feed.control.stop()
    outcome = feed.outcome()
    assert (outcome.name, outcome.accounts[IMAGE].written) == ('episode_000000', 4)


def test_an_episode_that_ends_before_the_next_part_is_made_needs_none(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    gate = Gate(lambda: None)

    def slow() -> EpisodeWriter:
        gate()
        return open_writer(tmp_path)
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(2)
    feed.send_streams(2)
    feed.control.split(slow, 'long')
    feed.control.stop()
    assert feed.outcome().status == 'complete'
    gate.open.set()
    assert feed.control.finish_now('', 'system') == []
    assert [path.name for path in list_episodes(tmp_path)] == ['episode_000000']
    assert not list(tmp_path.glob('.episode_*'))
    assert (tmp_path / 'discarded' / 'episode_000001' / 'episode.json').is_file()


def test_messages_from_before_the_start_do_not_drive_out_what_comes_now(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits(queue_size=40))
    gate: list[Gate] = []

    def gated() -> EpisodeWriter:
        writer = open_writer(tmp_path)
        real = writer.write

        def slow(*arguments: Any) -> None:
            time.sleep(0.002)
            real(*arguments)
        gate.append(Gate(slow))
        writer.write = gate[0]  # type: ignore[method-assign]
        return writer
    feed.start(gated)
    for number in range(300):                   # 0.6 s of this disk
        cdr = gripper_cdr(number)
        feed.books.intakes[GRIPPER].take(number + 1, time.time_ns(), cdr,
                                         received_ns=time.time_ns())
        feed.control.put(GRIPPER, cdr, number, number, before=True)
    gate[0].open.set()
    for _ in range(100):                        # 0.4 s of pictures, in a queue of 0.08 s
        feed.send_pictures(1)
        time.sleep(0.004)
    feed.send(JOINTS, joints_cdr(1, {'a': 1.0}))
    (outcome,) = feed.control.finish_now('', 'system')
    account = outcome.accounts[IMAGE]
    assert (account.written, account.dropped) == (100, 0)
    assert outcome.accounts[GRIPPER].written == 300


def test_a_clock_jump_is_never_covered_up_by_a_split(tmp_path: Path) -> None:
    feed = Feed(RecordingLimits())
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(2)
    feed.send_streams(2)
    feed.control.split(lambda: open_writer(tmp_path), 'long')
    time.sleep(0.3)                             # the next part is there
    assert feed.control.step('system', 'back by 10 s') is None
    assert feed.control.switch('system') is None
    assert feed.outcome().reason == 'clock_jump: back by 10 s'
    assert [path.name for path in list_episodes(tmp_path)] == ['episode_000000']


def test_no_part_is_begun_while_the_last_one_waits_for_the_disk(tmp_path: Path) -> None:
    """Each part has a queue: memory must not grow with their number."""
    feed = Feed(RecordingLimits())
    writer = open_writer(tmp_path)
    gate = Gate(writer.write)
    writer.write = gate  # type: ignore[method-assign]
    feed.start(lambda: writer)
    feed.send_pictures(3)
    feed.send_streams(3)
    feed.split(lambda: open_writer(tmp_path), 'long')
    assert not feed.control.may_split
    gate.open.set()
    assert feed.outcome().name == 'episode_000000'
    assert feed.control.may_split
    feed.send_pictures(1)
    feed.send_streams(1)
    assert feed.control.finish_now('', 'system')[0].name == 'episode_000001'


def test_a_listener_that_is_gone_does_not_cost_the_episode(tmp_path: Path) -> None:
    def gone() -> None:
        raise RuntimeError('destroyed')
    feed = Feed(RecordingLimits())
    feed.control = EpisodeControl(feed.books, RecordingLimits(), gone)
    feed.start(lambda: open_writer(tmp_path))
    feed.send_pictures(2)
    feed.send_streams(2)
    (outcome,) = feed.control.finish_now('shut down', 'system')
    assert {account.written for account in outcome.accounts.values()} == {2}
