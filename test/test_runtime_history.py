# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Histories hold neighbouring ticks or nothing; streams are read by stamp as datasets are."""

from __future__ import annotations

from hypothesis import given, strategies as st
import numpy as np
import pytest
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.runtime.history import commanded, latest, StreamLog, TickGate, TickHistory

MS = 1_000_000
BEGIN = 100 * 10**9


def log_of(*pairs: tuple[int, float]) -> StreamLog:
    log = StreamLog(lambda value: np.array([value]))
    for milliseconds, value in pairs:
        log.append(BEGIN + milliseconds * MS, value)
    return log


def test_a_source_at_the_control_rate_passes_whole_in_spite_of_jitter() -> None:
    rng = np.random.default_rng(0)
    gate = TickGate(0.05)
    verdicts = [gate.judge(BEGIN + round((tick * 50 + rng.uniform(-8, 8)) * MS))
                for tick in range(500)]
    assert set(verdicts) == {'tick'}


@pytest.mark.parametrize('rate', [30, 60, 125])
def test_a_faster_source_is_thinned_to_the_control_rate(rate: int) -> None:
    gate = TickGate(0.05)
    stamps = [BEGIN + round(index * 1e9 / rate) for index in range(rate * 10)]
    ticks = [stamp for stamp in stamps if gate.judge(stamp) == 'tick']
    assert abs(len(ticks) - 200) <= 2
    history = TickHistory(5, 0.05)
    assert {history.push(stamp) for stamp in ticks} == {'first', 'next'}


def test_a_slower_source_passes_whole() -> None:
    gate = TickGate(0.05)
    assert {gate.judge(BEGIN + tick * 100 * MS) for tick in range(50)} == {'tick'}


def test_broken_stamps_are_named() -> None:
    gate = TickGate(0.05)
    assert gate.judge(0) == 'zero_stamp'
    assert gate.judge(BEGIN) == 'tick'
    assert gate.judge(BEGIN) == 'duplicate_stamp'
    assert gate.judge(BEGIN - 20 * MS) == 'backward_stamp'
    assert gate.judge(BEGIN + 20 * MS) == 'decimated'
    assert gate.judge(BEGIN + 10_000 * MS) == 'jump'
    assert gate.judge(BEGIN) == 'jump'
    assert gate.judge(BEGIN + 50 * MS) == 'tick'


def test_a_history_is_full_after_its_length_and_keeps_the_newest() -> None:
    history = TickHistory(3, 0.05)
    for tick in range(5):
        history.push(BEGIN + tick * 50 * MS, np.array([tick]), np.array([-tick]))
        assert history.full == (tick >= 2)
    np.testing.assert_array_equal(history.stack(0)[:, 0], [2, 3, 4])
    np.testing.assert_array_equal(history.stack(1)[:, 0], [-2, -3, -4])


@pytest.mark.parametrize(('step_ms', 'verdict', 'left'), [
    (100, 'gap', 1), (5_000, 'jump', 1), (-5_000, 'jump', 1), (10, 'late', 3), (-50, 'late', 3),
    (60, 'next', 3)])
def test_a_hole_or_a_jump_empties_the_history(step_ms: int, verdict: str, left: int) -> None:
    history = TickHistory(3, 0.05)
    for tick in range(3):
        history.push(BEGIN + tick * 50 * MS)
    assert history.push(BEGIN + (100 + step_ms) * MS) == verdict
    assert len(history) == left


def test_state_is_interpolated_between_its_neighbours() -> None:
    log = log_of((0, 0.0), (10, 1.0), (20, 3.0))
    assert log.at(BEGIN + 15 * MS, 'linear', 0.05) == pytest.approx(2.0)
    assert log.at(BEGIN + 10 * MS, 'linear', 0.05) == pytest.approx(1.0)
    assert log.at(BEGIN + 14 * MS, 'nearest', 0.05) == pytest.approx(1.0)
    assert log.at(BEGIN + 30 * MS, 'linear', 0.05) == pytest.approx(3.0)
    assert log.at(BEGIN + 100 * MS, 'linear', 0.05) is None
    assert StreamLog(lambda value: value).at(BEGIN, 'linear', 0.05) is None


@given(st.lists(st.integers(1, 40), min_size=2, max_size=50), st.integers(-20, 1500))
def test_interpolation_agrees_with_numpy(steps: list[int], when: int) -> None:
    stamps = np.cumsum(steps)
    log = log_of(*[(int(stamp), float(stamp) ** 2) for stamp in stamps])
    found = log.at(BEGIN + when * MS, 'linear', 0.05)
    if found is None:
        assert np.min(np.abs(stamps - when)) > 50
    else:
        assert found[0] == pytest.approx(np.interp(when, stamps, stamps.astype(float) ** 2))


def test_an_action_is_the_first_command_after_its_tick_or_the_one_held() -> None:
    log = log_of((0, 1.0), (52, 2.0), (58, 3.0), (160, 4.0))
    tick = [BEGIN + index * 50 * MS for index in range(5)]
    found = [log.commanded(tick[index], tick[index + 1]) for index in range(4)]
    assert [value[0] for value in found if value is not None] == [1.0, 2.0, 3.0, 4.0]
    assert log.commanded(BEGIN - 50 * MS, BEGIN) is None


def test_the_nearest_command_may_lie_before_its_tick_or_after_the_next() -> None:
    log = log_of((0, 1.0), (45, 2.0), (60, 3.0), (230, 4.0))
    tick = [BEGIN + index * 50 * MS for index in range(5)]
    found = [log.commanded(tick[index], tick[index + 1], 'nearest') for index in range(4)]
    assert [value[0] for value in found if value is not None] == [1.0, 2.0, 3.0, 4.0]
    early = log.commanded(BEGIN - 50 * MS, BEGIN, 'nearest')
    assert early is not None and early[0] == 1.0
    assert log_of().commanded(BEGIN, BEGIN + MS, 'nearest') is None


@pytest.mark.parametrize('how', ['next', 'nearest'])
@given(steps=st.lists(st.integers(1, 130), min_size=1, max_size=40), first=st.integers(-90, 90))
def test_commands_are_paired_with_ticks_as_datasets_pair_them(
        how: str, steps: list[int], first: int) -> None:
    stamps = BEGIN + (first + np.cumsum(steps)) * MS
    log = StreamLog(lambda value: np.array([value]))
    for index, stamp in enumerate(stamps.tolist()):
        log.append(stamp, float(index))
    ticks = clock.make_ticks(BEGIN, BEGIN, int(stamps[-1]) + 10**8, 20)
    picked = (clock.pick_next(ticks, stamps, 50 * MS) if how == 'next'
              else clock.pick_nearest(ticks, stamps))
    for tick, index in zip(ticks.tolist(), picked.index.tolist(), strict=True):
        served = commanded([log], tick, tick + 50 * MS, how)
        assert (-1 if served is None else served[0]) == index


def test_an_action_over_streams_needs_all_of_them() -> None:
    one, two = log_of((0, 1.0)), log_of()
    assert commanded([one, two], BEGIN, BEGIN + MS) is None and latest([one, two]) is None
    two.append(BEGIN, 2.0)
    np.testing.assert_array_equal(commanded([one, two], BEGIN, BEGIN + MS), [1.0, 2.0])
    np.testing.assert_array_equal(latest([one, two]), [1.0, 2.0])


def test_a_log_refuses_broken_stamps_survives_jumps_and_stays_bounded() -> None:
    log = StreamLog(lambda value: np.array([value]), capacity=10)
    assert log.append(0, 0.0) == 'zero_stamp'
    for index in range(1000):
        assert log.append(BEGIN + index * MS, float(index)) == 'ok'
        assert len(log) <= 20
    assert log.append(BEGIN + 999 * MS, 0.0) == 'duplicate_stamp'
    assert log.append(BEGIN + 900 * MS, 0.0) == 'backward_stamp'
    assert log.at(BEGIN + 990 * MS, 'nearest', 0.01) == pytest.approx(990.0)
    assert log.append(BEGIN - 10**10, 5.0) == 'jump'
    assert len(log) == 1 and log.newest_ns == BEGIN - 10**10
    log.clear()
    assert log.latest() is None and log.newest_ns is None


def test_messages_are_decoded_only_when_asked_for() -> None:
    decoded: list[int] = []

    def decode(value: int) -> np.ndarray:
        decoded.append(value)
        return np.array([float(value)])

    log = StreamLog(decode)
    for index in range(100):
        log.append(BEGIN + index * 8 * MS, index)
    assert decoded == []
    log.at(BEGIN + 12 * MS, 'linear', 0.05)
    assert decoded == [1, 2]
