# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Percentiles look back over a window; missed periods are counted exactly."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st
import numpy as np
import pytest
from ssl_vla_ros.runtime.timing import DeadlineCounter, LatencyWindow

PERIOD = 50_000_000


def test_percentiles_are_those_of_the_newest_samples_and_the_count_is_of_all() -> None:
    window = LatencyWindow(100)
    assert math.isnan(window.summary().p50_s) and window.summary().count == 0
    for value in range(250):
        window.add(float(value))
    summary = window.summary()
    assert summary.count == 250 and summary.max_s == 249.0
    assert summary.p50_s == np.percentile(np.arange(150, 250), 50)
    assert summary.p99_s == np.percentile(np.arange(150, 250), 99)


def test_nothing_is_missed_when_each_input_is_answered() -> None:
    counter = DeadlineCounter(0.05)
    for tick in range(100):
        counter.observe(10**9 + tick * PERIOD + (tick % 3) * 1_000_000)
        counter.publish(10**9 + tick * PERIOD + (tick % 3) * 1_000_000)
    assert (counter.periods, counter.missed, counter.late) == (100, 0, 0)


def test_what_is_still_under_way_is_not_missed_yet() -> None:
    counter = DeadlineCounter(0.05)
    for tick in range(5):
        counter.observe(tick * PERIOD)
    counter.publish(2 * PERIOD)
    assert counter.missed == 2   # 0 and 1; 3 may be under way and 4 waiting
    counter.observe(5 * PERIOD)
    assert counter.missed == 3


def test_a_model_that_never_answers_misses_everything() -> None:
    counter = DeadlineCounter(0.05)
    for tick in range(100):
        counter.observe(tick * PERIOD)
    assert counter.missed == 98


def test_lost_inputs_are_missed_and_a_silent_source_is_not() -> None:
    counter = DeadlineCounter(0.05)
    for tick, lost in ((0, 0), (1, 0), (2, 0), (5, 2), (6, 0), (9, 1)):
        counter.observe(tick * PERIOD, lost)
        counter.publish(tick * PERIOD, 0.06 if tick == 5 else 0.01)
    assert (counter.periods, counter.missed, counter.silent) == (9, 3, 1)
    assert counter.late == 1


@pytest.mark.parametrize('jump_s', [10.0, -10.0])
def test_a_jump_is_no_missed_deadline(jump_s: float) -> None:
    counter = DeadlineCounter(0.05)
    for begin in (20 * 10**9, 20 * 10**9 + round(jump_s * 1e9)):
        for tick in range(20):
            counter.observe(begin + tick * PERIOD)
            counter.publish(begin + tick * PERIOD)
    assert (counter.periods, counter.missed, counter.jumps) == (40, 0, 1)


def test_an_answer_from_before_a_jump_does_not_disturb_the_count_after_it() -> None:
    counter = DeadlineCounter(0.05)
    counter.observe(10**9)
    counter.observe(20 * 10**9)
    counter.publish(10**9)
    counter.publish(20 * 10**9)
    assert (counter.periods, counter.missed) == (2, 1)


@given(st.lists(st.sampled_from(['answered', 'ignored', 'lost', 'silent']), max_size=80))
def test_missed_is_inputs_less_answers(fates: list[str]) -> None:
    fates = ['answered', *fates, 'answered']
    counter = DeadlineCounter(0.05, jump_s=100.0)
    lost = 0
    for tick, fate in enumerate(fates):
        if fate == 'lost':
            lost += 1
        if fate in ('answered', 'ignored'):
            counter.observe(tick * PERIOD, lost)
            lost = 0
        if fate == 'answered':
            counter.publish(tick * PERIOD)
    assert counter.silent == fates.count('silent')
    assert counter.periods == len(fates) - fates.count('silent')
    assert counter.missed == fates.count('ignored') + fates.count('lost')


def test_a_silence_that_is_filled_by_losses_is_no_jump_and_all_of_it_is_missed() -> None:
    for lost, missed, jumps in ((29, 29, 0), (0, 0, 1), (3, 0, 1)):
        deadlines = DeadlineCounter(0.05)
        for tick in (0, 1, 31, 32):
            stamp = 10**9 + tick * 50_000_000
            deadlines.observe(stamp, lost if tick == 31 else 0)
            deadlines.publish(stamp)
        assert (deadlines.missed, deadlines.jumps) == (missed, jumps), lost
        assert deadlines.periods == 4 + missed


@pytest.mark.parametrize('passed_s, missed, silent, jumps', [
    (4.15, 20, 62, 0),       # its clock went as ours did: it was slow, and nothing of it arrived
    (0.5, 0, 0, 1), (3600.0, 0, 0, 1), (None, 0, 0, 1)])
def test_a_slow_source_whose_inputs_were_lost_has_not_jumped(
        passed_s: float | None, missed: int, silent: int, jumps: int) -> None:
    deadlines = DeadlineCounter(0.05)
    deadlines.observe(10**9, now_s=100.0)
    deadlines.publish(10**9)
    stamp = 10**9 + 83 * PERIOD
    deadlines.observe(stamp, 20, None if passed_s is None else 100.0 + passed_s)
    deadlines.publish(stamp)
    assert (deadlines.missed, deadlines.silent, deadlines.jumps) == (missed, silent, jumps)
    assert deadlines.periods == 2 + missed
