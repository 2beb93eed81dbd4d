# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The newest pictures of one tick reach the worker together; the rest is counted."""

from __future__ import annotations

import threading
import time

import pytest
from ssl_vla_ros.runtime.frames import FrameSet, Mailbox

MS = 1_000_000
BEGIN = 100 * 10**9


def box(wait_s: float = 0.02) -> Mailbox:
    return Mailbox(('front', 'wrist'), 0.05, 0.05, wait_s)


def stamp(tick: int) -> int:
    return BEGIN + tick * 50 * MS


def take(mailbox: Mailbox, timeout_s: float = 2.0) -> FrameSet | None:
    found: list[FrameSet | None] = []
    thread = threading.Thread(target=lambda: found.append(mailbox.take()), daemon=True)
    thread.start()
    thread.join(timeout_s)
    assert found, 'take did not return'
    return found[0]


def test_pictures_of_one_tick_come_together_though_one_arrives_later() -> None:
    mailbox = box(wait_s=1.0)
    mailbox.put('wrist', stamp(0), 'wrist 0')
    mailbox.put('front', stamp(1), 'front 1')
    threading.Timer(0.3, mailbox.put, ('wrist', stamp(1), 'wrist 1')).start()
    frames = take(mailbox)
    assert frames is not None and frames.stamp_ns == stamp(1)
    assert dict(frames.messages) == {'front': 'front 1', 'wrist': 'wrist 1'}
    assert 0.02 < frames.waited_s < 0.8


def test_the_wait_is_short_and_ends_with_the_nearest_that_is_there() -> None:
    mailbox = box(wait_s=0.02)
    mailbox.put('wrist', stamp(0) - 10 * MS, 'wrist early')
    began = time.monotonic()
    mailbox.put('front', stamp(0), 'front 0')
    frames = take(mailbox)
    assert frames is not None and frames.messages['wrist'] == 'wrist early'
    assert 0.015 < time.monotonic() - began < 1.0


def test_the_nearest_stamp_is_taken_not_the_newest() -> None:
    mailbox = box()
    for tick in range(3):
        mailbox.put('wrist', stamp(tick) + 1 * MS, f'wrist {tick}')
    mailbox.put('front', stamp(1), 'front 1')
    frames = take(mailbox)
    assert frames is not None and frames.messages['wrist'] == 'wrist 1'


@pytest.mark.parametrize(('wrist', 'cause'), [
    (None, 'wrist.missing'), (stamp(0) - 51 * MS, 'wrist.skew')])
def test_a_tick_without_its_other_camera_is_dropped_by_cause(
        wrist: int | None, cause: str) -> None:
    mailbox = box(wait_s=0.0)
    if wrist is not None:
        mailbox.put('wrist', wrist, 'wrist')
    mailbox.put('front', stamp(0), 'front 0')
    thread = threading.Thread(target=mailbox.take, daemon=True)
    thread.start()
    end = time.monotonic() + 10.0
    while not mailbox.drops and time.monotonic() < end:
        time.sleep(0.01)
    assert thread.is_alive() and dict(mailbox.drops) == {cause: 1}
    mailbox.close()
    thread.join(1.0)
    assert not thread.is_alive()


def test_the_newest_wins_and_nothing_queues() -> None:
    mailbox = box()
    for tick in range(1000):
        mailbox.put('wrist', stamp(tick), tick)
        mailbox.put('front', stamp(tick), tick)
    frames = take(mailbox)
    assert frames is not None and dict(frames.messages) == {'front': 999, 'wrist': 999}
    assert mailbox.drops['superseded'] == 999
    assert mailbox.deadlines.periods == 1000


def test_broken_stamps_are_left_out_by_cause() -> None:
    mailbox = box()
    for when in (0, stamp(1), stamp(1), stamp(0)):
        mailbox.put('front', when, 'front')
        mailbox.put('wrist', when, 'wrist')
    causes = ('zero_stamp', 'duplicate_stamp', 'backward_stamp')
    assert dict(mailbox.drops) == {
        name: 1 for cause in causes for name in (cause, f'wrist.{cause}')}


@pytest.mark.parametrize('jump_s', [10, -10])
def test_a_jump_is_told_once_and_matching_goes_on(jump_s: int) -> None:
    mailbox = box()
    jumps = []
    for begin in (0, jump_s * 20):
        for tick in range(begin, begin + 5):
            mailbox.put('front', stamp(tick), tick)
            mailbox.put('wrist', stamp(tick), tick)
            frames = take(mailbox)
            assert frames is not None and dict(frames.messages) == {'front': tick, 'wrist': tick}
            jumps.append(frames.jumped)
    assert jumps == [False] * 5 + [True] + [False] * 4


def test_after_a_backward_jump_the_other_camera_is_waited_for_too() -> None:
    mailbox = box(wait_s=1.0)
    mailbox.put('wrist', stamp(0), 'wrist before')
    mailbox.put('front', stamp(0) - 10**10, 'front')
    threading.Timer(0.05, mailbox.put, ('wrist', stamp(0) - 10**10, 'wrist')).start()
    frames = take(mailbox)
    assert frames is not None and frames.messages['wrist'] == 'wrist'


def test_a_jump_is_not_lost_with_a_picture_that_was_superseded() -> None:
    mailbox = Mailbox(('features',), 0.05, 0.05, 0.0)
    mailbox.put('features', stamp(0), 0)
    take(mailbox)
    mailbox.put('features', stamp(400), 400)
    mailbox.put('features', stamp(401), 401)
    frames = take(mailbox)
    assert frames is not None and frames.messages['features'] == 401 and frames.jumped


def test_closing_lets_the_worker_go_and_takes_nothing_more() -> None:
    mailbox = box(wait_s=10.0)
    mailbox.put('front', stamp(0), 'front')
    threading.Timer(0.05, mailbox.close).start()
    assert take(mailbox) is None
    assert not mailbox.put('front', stamp(1), 'front')
    assert take(mailbox) is None


class ByHand:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def clocked(clock: ByHand | None = None) -> Mailbox:
    return Mailbox(('front',), 0.05, 0.05, 0.0, 'rate', *((clock,) if clock else ()))


def test_the_clock_takes_the_newest_picture_once_a_tick() -> None:
    mailbox = clocked()
    found: list[tuple[float, FrameSet]] = []

    def work() -> None:
        while (frames := mailbox.take()) is not None:
            found.append((time.monotonic(), frames))
            mailbox.deadlines.publish(frames.tick_ns)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    put: list[tuple[float, int]] = []
    for number in range(60):     # at 100 Hz, stamped with any other clock
        put.append((time.monotonic(), BEGIN + number * 10 * MS))
        mailbox.put('front', put[-1][1], number)
        time.sleep(0.01)
    mailbox.close()
    thread.join(2.0)
    took = time.monotonic() - put[0][0]
    assert 8 <= len(found) <= took / 0.05 + 2, f'{took} s at 20 Hz'
    for at, frames in found[:-1]:
        newest = max(stamp for when, stamp in put if when < at)
        assert newest - frames.stamp_ns <= 30 * MS, 'at most the one that is just coming in'
    ticks = [frames.tick_ns for _, frames in found]
    assert all(tick % (50 * MS) == 0 for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert mailbox.drops['decimated'] + mailbox.drops['superseded'] + len(found) in (59, 60)
    assert mailbox.deadlines.periods - mailbox.deadlines.missed in (len(found), len(found) + 1)


def test_a_tick_of_the_clock_without_a_new_picture_is_silent_and_one_overslept_is_missed() -> None:
    clock = ByHand()
    mailbox = clocked(clock)
    clock.now += 0.01
    mailbox.put('front', BEGIN, 'first')
    clock.now += 0.04                       # the tick
    first = take(mailbox)
    assert first is not None and first.messages['front'] == 'first'
    mailbox.deadlines.publish(first.tick_ns)
    clock.now += 0.15                       # three ticks, nothing came
    clock.now += 0.01
    mailbox.put('front', BEGIN + 200 * MS, 'second')
    clock.now += 0.05                       # its tick is over: the worker was busy
    mailbox.put('front', BEGIN + 250 * MS, 'third')
    clock.now += 0.05
    third = take(mailbox)
    assert third is not None and third.messages['front'] == 'third'
    mailbox.deadlines.publish(third.tick_ns)
    deadlines = mailbox.deadlines
    assert (deadlines.periods, deadlines.silent) == (3, 3)
    assert mailbox.drops == {'superseded': 1}
    # What was overslept is counted once it is no longer one of the newest two.
    for tick in range(2):
        clock.now += 0.05
        mailbox.put('front', BEGIN + (300 + 50 * tick) * MS, tick)
    assert deadlines.missed == 1


def test_another_trigger_is_refused() -> None:
    with pytest.raises(ValueError, match="trigger is 'timer', must be one of image, rate"):
        Mailbox(('front',), 0.05, 0.05, 0.0, 'timer')
