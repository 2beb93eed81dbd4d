# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The books: what was published, lost and refused, from sequence numbers and stamps."""

from __future__ import annotations

from collections import Counter
import time

from episode_samples import joints_cdr
from hypothesis import given, settings, strategies as st
import pytest
from ssl_vla_ros.episodes.accounting import mostly_rejected, TopicAccount
from ssl_vla_ros.episodes.books import Books, ClockWatch
from ssl_vla_ros.episodes.intake import Fate, NO_SEQUENCE, TopicIntake

START, STOP = 1000, 2000


def take(intake: TopicIntake, sequence: int, source_ns: int, cdr: bytes, *,
         received_ns: int | None = None, paused: bool = False) -> tuple[Fate, int | None]:
    """Take a message that arrived when it was published, unless said otherwise."""
    return intake.take(
        sequence, source_ns, cdr, paused=paused,
        received_ns=source_ns if received_ns is None else received_ns)


def cdr(stamp: int) -> bytes:
    return joints_cdr(stamp, {'a': 0.0})


def open_intake(publishers: int = 1) -> TopicIntake:
    intake = TopicIntake(stamped=True)
    intake.publishers_changed(publishers, publishers)
    return intake


@settings(deadline=None)     # machines under load
@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(0, 20), st.integers(0, 20))
def test_lost_and_published_are_exact_whatever_is_lost_in_the_middle(
        delivered: list[bool], before: int, after: int) -> None:
    intake = open_intake()
    sequence = 0
    for _ in range(before + 1):                 # heard before the episode
        sequence += 1
        assert take(intake, sequence, START - 1, cdr(5))[0] is Fate.OUTSIDE
    intake.begin(START)
    for arrives in delivered:
        sequence += 1
        if arrives:
            assert take(intake, sequence, START + sequence, cdr(sequence))[0] is Fate.KEEP
    intake.stop(STOP)
    for _ in range(after + 1):                  # still published, after the stop
        sequence += 1
        assert take(intake, sequence, STOP + 1, cdr(sequence))[0] is Fate.OUTSIDE
    assert intake.tail_known
    account = intake.end()
    assert account.published == len(delivered)
    assert account.lost == delivered.count(False)
    assert account.published_exact
    account.written = delivered.count(True)
    assert account.balanced


@settings(deadline=None)     # machines under load
@given(st.lists(st.integers(-1, 6), max_size=40))
def test_stamps_that_are_kept_rise_and_every_refusal_has_a_cause(stamps: list[int]) -> None:
    intake = open_intake()
    intake.begin(START)
    kept = []
    for sequence, stamp in enumerate(stamps, 1):
        fate, found = take(intake, sequence, START, cdr(stamp))
        if fate is Fate.KEEP:
            kept.append(found)
    account = intake.end()
    account.written = len(kept)
    assert account.balanced
    assert kept == sorted(set(kept))
    assert min(kept, default=1) > 0
    causes = Counter(account.rejected_by_cause)
    assert causes['zero_stamp'] == sum(stamp <= 0 for stamp in stamps)


def test_a_message_published_before_the_stop_is_taken_after_it() -> None:
    intake = open_intake()
    intake.begin(START)
    take(intake, 1, START, cdr(1))
    intake.stop(STOP)
    assert take(intake, 2, STOP - 1, cdr(2), received_ns=STOP + 50)[0] is Fate.KEEP
    assert not intake.tail_known
    assert intake.end().published == 2
    take(intake, 3, STOP - 1, cdr(3), received_ns=STOP + 60)
    assert intake.late == 1
    take(intake, 4, STOP + 70, cdr(4))
    assert intake.late == 1


HOUR = 3600 * 10**9


@settings(deadline=None)     # machines under load
@given(st.sampled_from([-HOUR, -1, 0, 1, HOUR]) | st.integers(-HOUR, HOUR),
       st.lists(st.integers(10, 40), min_size=1, max_size=30), st.integers(0, 50))
def test_a_publishers_clock_may_be_anywhere(
        offset: int, ways: list[int], kept_back: int) -> None:
    intake = open_intake()
    take(intake, 1, START - 20 + offset, cdr(5), received_ns=START - 1)
    intake.begin(START)
    # Published before the start and taken after it: it waited here.
    assert take(intake, 2, START - 15 + offset, cdr(6), received_ns=START - 1)[0] is Fate.OUTSIDE
    sequence, now = 2, START
    for way in ways:
        sequence, now = sequence + 1, now + 20
        fate, _ = take(intake, sequence, now + offset, cdr(sequence), received_ns=now + way)
        assert fate is Fate.KEEP
    stop = now + 100
    intake.stop(stop)
    # Received before the stop and taken after it, then on its way at the stop.
    for source, received in ((stop - 50, stop), (stop - 1 - max(ways), stop + kept_back)):
        sequence += 1
        assert take(intake, sequence, source + offset, cdr(sequence),
                    received_ns=received)[0] is Fate.KEEP
    assert not intake.tail_known
    sequence += 3                               # two are lost before the first from after it
    assert take(intake, sequence, stop + 1 + offset, cdr(sequence),
                received_ns=stop + 90)[0] is Fate.OUTSIDE
    assert intake.tail_known
    account = intake.end()
    account.written = len(ways) + 2
    assert (account.published, account.lost) == (len(ways) + 4, 2)
    assert account.balanced
    assert account.published_exact
    take(intake, sequence + 1, stop + HOUR + offset, cdr(sequence), received_ns=stop + HOUR)
    assert intake.late == 0


def test_a_clock_of_ours_that_is_set_back_in_mid_episode_cuts_nothing() -> None:
    intake = open_intake()
    intake.begin(START)
    for sequence, now in ((1, START), (2, START + 10), (3, START - 500), (4, START - 490)):
        assert take(intake, sequence, now, cdr(sequence))[0] is Fate.KEEP
    assert intake.end().published == 4


def test_several_publishers_are_judged_by_receive_time_alone() -> None:
    intake = open_intake(publishers=2)
    intake.begin(START)
    take(intake, 1, START, cdr(1))
    take(intake, 1, START - HOUR, cdr(1), received_ns=START)
    intake.stop(STOP)
    assert take(intake, 2, STOP - HOUR, cdr(2), received_ns=STOP)[0] is Fate.KEEP
    assert take(intake, 2, STOP + 1, cdr(2))[0] is Fate.OUTSIDE


def test_a_publisher_first_heard_in_mid_sequence_is_not_called_exact() -> None:
    intake = open_intake()
    intake.begin(START)
    take(intake, 500, START, cdr(1))
    account = intake.end()
    assert (account.published, account.lost, account.published_exact) == (1, 0, False)


def test_a_publisher_that_starts_again_is_counted_on() -> None:
    intake = open_intake()
    intake.begin(START)
    take(intake, 1, START, cdr(1))
    take(intake, 2, START, cdr(2))
    intake.publishers_changed(0, 0)
    intake.publishers_changed(1, 1)
    take(intake, 1, START, cdr(3))
    take(intake, 3, START, cdr(4))               # the second of the new one is lost
    account = intake.end()
    assert (account.published, account.lost, account.published_exact) == (5, 1, True)


def test_with_several_publishers_the_transports_report_is_added() -> None:
    intake = open_intake(publishers=2)
    intake.begin(START)
    for sequence in (1, 1, 7, 2):
        take(intake, sequence, START, cdr(sequence))
    intake.transport_lost(3)
    account = intake.end()
    assert (account.published, account.lost, account.published_exact) == (7, 3, False)
    assert account.rejected == 0                # interleaved stamps are no mistake


def test_middleware_without_sequences_is_not_called_exact() -> None:
    intake = open_intake()
    intake.begin(START)
    take(intake, NO_SEQUENCE, START, cdr(1))
    take(intake, NO_SEQUENCE, START, cdr(2))
    account = intake.end()
    assert (account.published, account.published_exact) == (2, False)


def test_a_short_message_and_a_pause_are_rejected_with_their_cause() -> None:
    intake = open_intake()
    intake.begin(START)
    assert take(intake, 1, START, b'\x00\x01')[0] is Fate.REFUSED
    assert take(intake, 2, START, cdr(2), paused=True)[0] is Fate.REFUSED
    assert intake.end().rejected_by_cause == {'short': 1, 'paused': 1}


SECOND = 10**9


@pytest.mark.parametrize('wrong', [(0,), (5,), (5, 6), (0, 1, 2), (18,), tuple(range(5, 12))])
@pytest.mark.parametrize('off_s', [3600, -3600])
def test_stamps_that_are_far_off_cost_nothing_that_came(
        wrong: tuple[int, ...], off_s: int) -> None:
    """Which side of a long jump is right only the whole stream can tell: all of it is kept."""
    intake = open_intake()
    intake.begin(0)
    stamps = [5000 * SECOND + number * SECOND // 30 for number in range(20)]
    for number in wrong:
        stamps[number] += off_s * SECOND
    kept = [number for number, stamp in enumerate(stamps)
            if take(intake, number + 1, number * SECOND // 30, cdr(stamp))[0] is Fate.KEEP]
    assert kept == list(range(20))
    account = intake.end()
    assert account.rejected_by_cause == {}
    account.written = 20
    assert account.balanced


def test_more_rejected_than_written_is_said_and_a_pause_is_not() -> None:
    bad = TopicAccount(published=10, written=4, rejected=6,
                       rejected_by_cause={'backward_stamp': 5, 'paused': 1})
    paused = TopicAccount(published=10, written=1, rejected=9, rejected_by_cause={'paused': 9})
    even = TopicAccount(published=10, written=5, rejected=5, rejected_by_cause={'short': 5})
    accounts = {'bad': bad, 'paused': paused, 'even': even, 'unneeded': bad}
    assert mostly_rejected(['bad', 'paused', 'even'], accounts) == (
        'more was rejected than recorded of bad (4 written, 6 rejected: 5 backward_stamp, '
        '1 paused)')
    assert mostly_rejected(['paused', 'even', 'gone'], accounts) == ''


def test_an_unstamped_topic_is_taken_as_it_comes() -> None:
    intake = TopicIntake(stamped=False)
    intake.begin(START)
    assert take(intake, 1, START, b'') == (Fate.KEEP, None)


def test_an_account_that_hides_a_message_does_not_balance() -> None:
    assert TopicAccount(published=3, written=2, lost=1).balanced
    assert not TopicAccount(published=3, written=2).balanced
    assert not TopicAccount(published=1, rejected=1).balanced
    account = TopicAccount(published=1)
    account.reject('zero_stamp')
    assert account.balanced
    account.publishers = 2
    assert TopicAccount.from_dict(account.to_dict()) == account


def test_a_silent_best_effort_topic_is_not_exact_and_a_reliable_one_is() -> None:
    books = Books({'a': False, 'b': False}, {'a': True, 'b': False})
    books.begin()
    for intake in books.intakes.values():
        intake.publishers_changed(1, 1)
        take(intake, 1, time.time_ns(), b'')
    books.stop()
    accounts = books.end(drained=True)
    assert accounts['a'].published_exact
    assert not accounts['b'].published_exact


def test_a_jump_of_the_system_clock_is_found_and_a_pause_of_the_process_is_not() -> None:
    now = {'system': 0, 'steady': 0, 'read': 0}

    def steady() -> int:
        now['steady'] += now['read']
        return now['steady']

    watch = ClockWatch(1.0, system_ns=lambda: now['system'], steady_ns=steady)
    assert watch.jump_s() == 0.0
    for step, jump in ((10**9, 0), (10**9, 10 * 10**9), (10**9, 0), (10**9, -10 * 10**9)):
        now['steady'] += step
        now['system'] += step + jump
        assert watch.jump_s() == jump / 1e9
    now['read'] = 10 * 10**9                    # stopped between the two readings
    assert watch.jump_s() == 0.0
