# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The pure alignment functions against naive ones, for whatever stamps there are."""

from __future__ import annotations

from hypothesis import given, strategies
import numpy as np
import pytest

from ssl_vla_ros.dataset import clock

rising = strategies.lists(
    strategies.integers(1, 3_000), min_size=1, max_size=40, unique=True).map(
        lambda values: np.array(sorted(values), dtype=np.int64) * 1_000_000)
any_ticks = strategies.lists(strategies.integers(-100, 3_200), min_size=1, max_size=40).map(
    lambda values: np.array(sorted(values), dtype=np.int64) * 1_000_000)


@given(strategies.lists(strategies.integers(-3, 8), max_size=30))
def test_keep_rising_keeps_a_rising_sequence_and_counts_the_rest(stamps: list[int]) -> None:
    keep, refused = clock.keep_rising(np.array(stamps, dtype=np.int64))
    kept = [stamp for stamp, good in zip(stamps, keep, strict=True) if good]
    assert kept == sorted(set(kept))
    assert all(stamp > 0 for stamp in kept)
    assert len(kept) + sum(refused.values()) == len(stamps)
    assert refused.get('zero_stamp', 0) == sum(stamp <= 0 for stamp in stamps)
    assert max(kept, default=0) == max([0, *stamps])


def test_keep_rising_names_each_cause() -> None:
    keep, refused = clock.keep_rising(np.array([5, 5, 3, 0, 9]))
    assert keep.tolist() == [True, False, False, False, True]
    assert refused == {'duplicate_stamp': 1, 'backward_stamp': 1, 'zero_stamp': 1}


@given(strategies.integers(2, 30), strategies.integers(0, 40), strategies.integers(1, 3),
       strategies.integers(2 * 10**9, 10**13), strategies.booleans())
def test_keep_rising_loses_nothing_to_a_few_stamps_far_ahead(
        before: int, after: int, wrong: int, far: int, flat: bool) -> None:
    right = (np.arange(before + wrong + after) + 1) * 33_000_000
    stamps = right.copy()
    stamps[before:before + wrong] += far
    if flat:                 # those that are wrong need not rise among themselves
        stamps[before:before + wrong] = right[before] + far
    keep, refused = clock.keep_rising(stamps)
    if after > wrong:
        assert sum(refused.values()) == wrong
        assert set(refused) <= {'future_stamp', 'duplicate_stamp'}
        assert keep.tolist() == [True] * before + [False] * wrong + [True] * after
    elif not flat and not after:
        assert keep.all()


def test_keep_rising_believes_a_clock_that_was_set() -> None:
    forward = np.array([*range(1, 50), *range(5050, 5100)]) * 10**8
    assert clock.keep_rising(forward)[0].all()
    keep, refused = clock.keep_rising(np.array([*range(5001, 5050), *range(1, 50)]) * 10**8)
    assert keep.tolist() == [True] * 49 + [False] * 49
    assert refused == {'backward_stamp': 49}
    jitter = np.array([1, 2, 3, 4, 900, 899, 5, 6, 7, 8]) * 10**9
    assert clock.keep_rising(jitter)[0].tolist() == [*[True] * 4, False, False, *[True] * 4]
    # One that is late stays the one that is wrong, however late it is.
    keep, refused = clock.keep_rising(np.array([100, 101, 2, 102, 103]) * 10**9)
    assert keep.tolist() == [True, True, False, True, True]
    assert refused == {'backward_stamp': 1}


@given(strategies.integers(0, 2 * 10**18), strategies.integers(-10**10, 10**10),
       strategies.integers(-10**8, 10**9), strategies.integers(1, 1000))
def test_make_ticks_gives_every_tick_between_the_bounds(
        phase: int, offset: int, length: int, rate: int) -> None:
    start = phase + offset
    ticks = clock.make_ticks(phase, start, start + length, rate).tolist()
    around = range(offset * rate // clock.SECOND - 2,
                   (offset + length) * rate // clock.SECOND + 3)
    grid = [phase + step * clock.SECOND // rate for step in around]
    assert ticks == [tick for tick in grid if start <= tick <= start + length]


def test_make_ticks_does_not_drift_in_a_day() -> None:
    start = 1_700_000_000 * clock.SECOND
    ticks = clock.make_ticks(start, start, start + 86_400 * clock.SECOND, 30)
    assert len(ticks) == 86_400 * 30 + 1
    assert ticks[-1] == start + 86_400 * clock.SECOND


@given(any_ticks, rising)
def test_pick_nearest_is_the_naive_nearest(ticks: clock.Stamps, stamps: clock.Stamps) -> None:
    picked = clock.pick_nearest(ticks, stamps)
    for row, tick in enumerate(ticks.tolist()):
        distances = [abs(stamp - tick) for stamp in stamps.tolist()]
        assert picked.index[row] == distances.index(min(distances))
        assert picked.skew_s[row] == pytest.approx(min(distances) / 1e9)


@given(any_ticks, rising, strategies.integers(1, 200))
def test_pick_next_takes_the_first_command_of_the_period_or_holds(
        ticks: clock.Stamps, stamps: clock.Stamps, period_ms: int) -> None:
    picked = clock.pick_next(ticks, stamps, period_ms * 1_000_000)
    for row, tick in enumerate(ticks.tolist()):
        inside = [index for index, stamp in enumerate(stamps.tolist())
                  if tick <= stamp < tick + period_ms * 1_000_000]
        before = [index for index, stamp in enumerate(stamps.tolist()) if stamp < tick]
        expected = inside[0] if inside else before[-1] if before else -1
        assert picked.index[row] == expected
        skew = np.inf if expected < 0 else abs(int(stamps[expected]) - tick) / 1e9
        assert picked.skew_s[row] == pytest.approx(skew)


@given(any_ticks, rising)
def test_interpolate_agrees_with_numpy_and_bounds_its_skew(
        ticks: clock.Stamps, stamps: clock.Stamps) -> None:
    values = np.stack([np.sin(stamps / 1e8), stamps / 1e9], axis=1)
    mixed, skew = clock.interpolate(ticks, stamps, values)
    for column in range(2):
        np.testing.assert_allclose(
            mixed[:, column], np.interp(ticks, stamps, values[:, column]), atol=1e-9)
    for row, tick in enumerate(ticks.tolist()):
        if tick in stamps:
            assert skew[row] == 0.0
        elif tick < stamps[0] or tick > stamps[-1]:
            assert skew[row] == pytest.approx(np.abs(stamps - tick).min() / 1e9)
        else:
            low, high = stamps[stamps < tick][-1], stamps[stamps > tick][0]
            assert skew[row] == pytest.approx(max(tick - low, high - tick) / 1e9)


def test_nothing_can_be_picked_from_nothing() -> None:
    ticks, none = np.array([1, 2]), np.empty(0, dtype=np.int64)
    assert clock.pick_nearest(ticks, none).index.tolist() == [-1, -1]
    assert np.isinf(clock.pick_next(ticks, none, 5).skew_s).all()
    values, skew = clock.interpolate(ticks, none, np.empty((0, 3)))
    assert values.shape == (2, 3)
    assert np.isnan(values).all()
    assert np.isinf(skew).all()


def test_intervals_count_gaps() -> None:
    stamps = np.array([0, 50, 100, 200, 250, 300]) * 1_000_000 + 1
    rate, gaps, longest = clock.intervals(stamps)
    assert (rate, gaps, longest) == (pytest.approx(5 / 0.3), 1, pytest.approx(0.1))
    assert clock.intervals(stamps[:1]) == (0.0, 0, 0.0)


@pytest.mark.parametrize('lag', [-3, 0, 2, 7])
@pytest.mark.parametrize('commands', ['velocity', 'position'])
def test_command_lag_finds_a_known_lag(lag: int, commands: str) -> None:
    rng = np.random.default_rng(lag + 10)
    speed = np.zeros((200, 2))
    for start in (20, 70, 110, 150):
        speed[start:start + 12] = rng.normal(size=2)
    place = np.cumsum(speed, axis=0)
    state = place[np.clip(np.arange(200) - 1 - lag, 0, 199)]
    if commands == 'velocity':
        found = clock.command_lag(speed, state, 20.0)
        expected = lag
    else:
        found = clock.command_lag(place, state, 20.0)
        expected = lag + 1
    assert found is not None
    assert found[0] == pytest.approx(expected / 20.0)
    assert found[1] > 0.9


def test_command_lag_of_a_still_robot_is_unknown() -> None:
    assert clock.command_lag(np.zeros((100, 2)), np.zeros((100, 3)), 20.0) is None
