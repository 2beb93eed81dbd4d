# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Rates, ages, skews and standstills of topics, without ROS."""

from __future__ import annotations

from hypothesis import given, strategies
import pytest

from ssl_vla_ros.episodes.health import LOOK, STALL, TopicHealth

MS = 1_000_000


def fed(period_ns: int, count: int = 20, floor_s: float = 0.0) -> tuple[TopicHealth, int]:
    """Make a regular topic; gives the time of its last message, too."""
    health = TopicHealth(floor_s)
    now = 0
    for number in range(count):
        now = number * period_ns
        health.came(now, 10**9 + now, 10**9 + now + 5 * MS)
    return health, now


@given(strategies.integers(1, 500), strategies.floats(0.0, 0.4))
def test_a_standstill_is_told_before_two_periods_are_over(period_ms: int, phase: float) -> None:
    health, now = fed(period_ms * MS)
    step = round(LOOK * period_ms * MS)
    looked = now + round(phase * period_ms * MS)
    assert health.look(looked) is None
    while (silent := health.look(looked)) is None:
        looked += step
    assert STALL * period_ms * MS < looked - now <= 2 * period_ms * MS
    assert silent == pytest.approx((looked - now) / 1e9)
    assert health.stalled
    assert health.look(looked + step) is None, 'told once'
    health.came(looked + 2 * step, None, 0)
    assert health.look(looked + 2 * step) == 0.0
    assert not health.stalled


def test_what_is_usual_is_known_only_after_some_messages() -> None:
    health, now = fed(33 * MS, count=5)
    assert health.usual_ns is None
    assert health.look(now + 10**9) is None


def test_a_fast_topic_stands_still_after_the_floor_alone() -> None:
    health, now = fed(2 * MS, floor_s=0.2)
    assert health.look(now + 150 * MS) is None
    assert health.look(now + 201 * MS) is not None


def test_a_standstill_is_not_taken_for_usual() -> None:
    health, now = fed(10 * MS)
    for _ in range(30):
        now += 500 * MS
        health.look(now - 1)
        health.came(now, None, 0)
        health.look(now)
    assert health.usual_ns == 10 * MS


def test_a_publisher_that_is_new_sets_its_own_rate() -> None:
    health, now = fed(10 * MS)
    health.forget()
    assert health.look(now + 10**9) is None
    for step in range(12):
        health.came(now + step * 100 * MS, None, 0)
    assert health.usual_ns == 100 * MS


def test_figures_are_of_the_period_alone() -> None:
    health, _ = fed(10 * MS, count=100)
    figures = health.figures(1.0, [])
    assert figures.rate_hz == 100.0
    assert figures.age_p50_ms == figures.age_p99_ms == 5.0
    assert figures.skew_ms is None
    nothing = health.figures(1.0, [])
    assert (nothing.rate_hz, nothing.age_p50_ms, nothing.skew_ms) == (0.0, None, None)


@given(strategies.lists(strategies.integers(0, 1000), min_size=1, max_size=40),
       strategies.lists(strategies.integers(0, 1000), max_size=20))
def test_skew_is_the_farthest_nearest_stamp(stamps: list[int], reference: list[int]) -> None:
    health = TopicHealth()
    for stamp in stamps:
        health.came(0, stamp, stamp)
    inner = [item for item in reference if min(stamps) <= item <= max(stamps)]
    expected = max((min(abs(item - stamp) for stamp in stamps) for item in inner), default=None)
    found = health.figures(1.0, sorted(reference)).skew_ms
    assert found == (None if expected is None else pytest.approx(expected / 1e6))
