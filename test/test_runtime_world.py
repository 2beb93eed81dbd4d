# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The world model gets whole contexts and the actions really commanded, or is not asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.runtime.history import StreamLog
from ssl_vla_ros.runtime.world import Foresight, WorldTracker
from tiny_bundle import CONTEXT, HORIZON, make_bundle, STEP, tiny_contract

MS = 1_000_000
BEGIN = 100 * 10**9


class Scene:
    """Features that move by STEP times the sum of the action in force, plus ``push``."""

    def __init__(self, directory: Path) -> None:
        self.twist = StreamLog(lambda value: np.asarray(value, float))
        self.gripper = StreamLog(lambda value: np.asarray(value, float))
        self.tracker = WorldTracker(load_bundle(directory), [self.twist, self.gripper], 0.05)
        self.features = np.full((2, 3), 0.3, np.float32)
        self.tick = 0
        self.action = np.zeros(3)

    def command(self, action: list[float]) -> None:
        """Command between this tick and the next."""
        when = BEGIN + self.tick * 50 * MS - 45 * MS
        self.twist.append(when, action[:2])
        self.gripper.append(when + MS, action[2:])
        self.action = np.array(action)

    def step(self, push: float = 0.0, skip: int = 0) -> Foresight:
        """Go on to the next tick and show it."""
        self.features = (self.features + STEP * self.action.sum() + push).astype(np.float32)
        found = self.tracker.step(BEGIN + self.tick * 50 * MS, self.features, True, True)
        self.tick += 1 + skip
        return found


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(make_bundle(tmp_path / 'tiny'))


def test_nothing_is_foreseen_before_the_context_is_whole_and_an_action_known(
        scene: Scene) -> None:
    assert scene.step() == Foresight(None, None, 'short_history')
    assert scene.step().cause == 'no_action'
    scene.command([1.0, 0.0, 0.0])
    scene.step()
    scene.command([1.0, 0.0, 0.0])
    assert scene.step().prediction is not None


def test_the_prediction_holds_the_last_command(scene: Scene) -> None:
    for value in (1.0, 2.0, 3.0):
        scene.command([value, 0.0, 1.0])
        found = scene.step()
    assert found.prediction is not None and found.prediction.shape == (HORIZON, 2, 3)
    steps = STEP * 4.0 * np.arange(1, HORIZON + 1)
    np.testing.assert_allclose(
        found.prediction, scene.features + steps[:, None, None], rtol=1e-5)


def test_a_world_that_does_as_foreseen_is_no_surprise_though_commands_change(
        scene: Scene) -> None:
    rng = np.random.default_rng(0)
    for tick in range(12):
        scene.command([float(rng.uniform(1, 4)), float(rng.uniform(0, 1)), 1.0])
        found = scene.step()
        assert (found.surprise is not None) == (tick >= CONTEXT)
        if found.surprise is not None:
            assert found.surprise < 1e-6


def test_a_push_is_a_surprise_in_units_of_the_usual_change(scene: Scene) -> None:
    for _ in range(6):
        scene.command([1.0, 0.0, 0.0])
        scene.step()
    scene.command([1.0, 0.0, 0.0])
    found = scene.step(push=0.1)
    changes = [STEP**2] * 5 + [(STEP + 0.1)**2]
    assert found.surprise == pytest.approx(0.1**2 / np.mean(changes), rel=1e-3)


def test_a_still_picture_gives_a_finite_surprise(scene: Scene) -> None:
    for _ in range(6):
        scene.command([0.0, 0.0, 0.0])
        found = scene.step()
    assert found.surprise == pytest.approx(0.0, abs=1e-6)


def test_a_gap_is_never_bridged(scene: Scene) -> None:
    for _ in range(5):
        scene.command([1.0, 0.0, 0.0])
        scene.step()
    scene.tick += 2
    scene.command([1.0, 0.0, 0.0])
    assert scene.step() == Foresight(None, None, 'short_history')
    scene.command([1.0, 0.0, 0.0])
    found = scene.step()
    assert found.surprise is None and found.prediction is not None


@pytest.mark.parametrize('how', ['next', 'nearest'])
def test_past_actions_are_paired_as_in_the_data_that_the_model_was_trained_on(
        how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = tiny_contract()   # its own pairing is "next": what counts is how the model was trained
    trained = replace(robot, sync=replace(robot.sync, action=how))
    bundle = load_bundle(make_bundle(tmp_path / how, trained), robot=robot)
    given: list[Any] = []
    monkeypatch.setattr(bundle, 'predict_batch', lambda features, actions: (
        given.append(actions), np.zeros((len(features), HORIZON, 2, 3), np.float32))[1])
    log = StreamLog(lambda value: np.full(3, value))
    tracker = WorldTracker(bundle, [log], 0.05)
    ticks = clock.make_ticks(BEGIN, BEGIN, BEGIN + 950 * MS, 20)
    # A commander at the control rate, 35 ms after each tick: 15 ms before the next one.
    stamps = np.concatenate([[BEGIN - 15 * MS], ticks + 35 * MS])
    index = (clock.pick_next(ticks, stamps, 50 * MS) if how == 'next'
             else clock.pick_nearest(ticks, stamps)).index
    for tick, stamp in enumerate(ticks.tolist()):
        log.append(int(stamps[tick]), float(tick))
        tracker.step(stamp, np.zeros((2, 3), np.float32), False, True)
        if tick >= CONTEXT:
            paired = index[tick - CONTEXT:tick]
            np.testing.assert_array_equal(given[-1][0, :CONTEXT, 0], paired)
    assert len(given) == len(ticks) - CONTEXT


def test_what_nobody_wants_is_not_computed(scene: Scene) -> None:
    for tick in range(6):
        scene.command([1.0, 0.0, 0.0])
        stamp = BEGIN + tick * 50 * MS
        assert scene.tracker.step(stamp, scene.features, False, False) == Foresight(None, None, '')
        scene.tick += 1
    found = scene.tracker.step(BEGIN + 300 * MS, scene.features, False, True)
    assert found.prediction is None and found.surprise is not None
