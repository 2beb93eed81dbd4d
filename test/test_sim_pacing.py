# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pacing against a clock that the test holds in its hand."""

from __future__ import annotations

import pytest

from ssl_vla_ros.sim.pacing import Pacer

MS = 1_000_000


class _World:
    """A steady clock that moves when somebody sleeps or works."""

    def __init__(self) -> None:
        self.now_ns = 5_000 * MS
        self.slept: list[float] = []

    def clock(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_ns += round(seconds * 1e9)

    def pacer(self, speed: float) -> Pacer:
        return Pacer(speed, self.sleep, clock=self.clock)


@pytest.mark.parametrize('speed', [0.5, 1.0, 2.0, 3.0])
def test_no_drift_over_many_ticks(speed: float) -> None:
    world = _World()
    pacer = world.pacer(speed)
    for tick in range(1, 1001):
        assert pacer.wait_until(tick * 8 * MS) == 0.0
        world.now_ns += 1 * MS   # work, always a little
    assert world.now_ns - 5_000 * MS == pytest.approx(1000 * 8 * MS / speed + MS, abs=1000)
    assert pacer.slipped_s == 0.0


def test_a_small_delay_is_made_up_for() -> None:
    world = _World()
    pacer = world.pacer(1.0)
    pacer.wait_until(8 * MS)
    world.now_ns += 30 * MS
    assert pacer.wait_until(16 * MS) == pytest.approx(0.022)
    assert pacer.wait_until(24 * MS) == pytest.approx(0.014)
    assert pacer.wait_until(32 * MS) == pytest.approx(0.006)
    assert pacer.wait_until(40 * MS) == 0.0
    assert pacer.due_ns(40 * MS) == world.now_ns
    assert pacer.slipped_s == 0.0


def test_a_long_delay_moves_the_schedule_and_is_reported() -> None:
    world = _World()
    pacer = world.pacer(1.0)
    world.now_ns += 1_008 * MS
    assert pacer.wait_until(8 * MS) == pytest.approx(1.0)
    assert pacer.slipped_s == pytest.approx(1.0)
    assert pacer.due_ns(8 * MS) == world.now_ns
    assert pacer.wait_until(16 * MS) == 0.0
    assert world.slept == [pytest.approx(0.008)]


def test_speed_zero_never_sleeps_and_is_never_late() -> None:
    world = _World()
    pacer = world.pacer(0.0)
    for tick in range(100):
        world.now_ns += 1_000 * MS
        assert pacer.wait_until(tick * 8 * MS) == 0.0
    assert world.slept == []
    assert pacer.slipped_s == 0.0


def test_negative_speed_is_refused() -> None:
    with pytest.raises(ValueError, match=r'speed is -1\.0'):
        _World().pacer(-1.0)
