# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The world model recovers a known system, and only if actions and frames are in step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.world_model import WorldModel, WorldModelConfig
from ssl_vla_ros.training.batches import Table, WindowSource
from ssl_vla_ros.training.evaluate import world_model_errors
from tiny_training import walk
import torch

EPISODES, ROWS = 40, 24
SHAPE = DataShape(1, 32, 32, 2, 2, tokens=1, dim=2)
CONFIG = WorldModelConfig(
    context=2, horizon=4, width=48, depth=1, heads=2, latent_noise=0.0)


def table(shift: int = 0) -> Table:
    """Rows of ``position += action``; a shift pairs each frame with another row's action."""
    positions, actions = zip(*(walk(ROWS, seed) for seed in range(EPISODES)), strict=True)
    moved = [np.roll(action, shift, axis=0) for action in actions]
    return Table(np.concatenate(positions)[:, None], np.concatenate(positions),
                 np.concatenate(moved), (ROWS,) * EPISODES)


def fit(rows: Table, config: WorldModelConfig = CONFIG, steps: int = 200
        ) -> tuple[WorldModel, WindowSource]:
    """Train on the first episodes; returns the model and windows of the others."""
    sources = [WindowSource(rows, episodes, history=config.context, chunk=config.horizon,
                            batch_size=64, seed=0, whole=True)
               for episodes in (range(30), range(30, EPISODES))]
    torch.manual_seed(0)
    objective = WorldModel(SHAPE, config)
    objective.prepare(sources[0].statistics_rows())
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        loss = objective(sources[0].batch(step), generator)['loss']
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return objective.eval(), sources[1]


@pytest.fixture(scope='module')
def in_step() -> dict[str, float | list[float]]:
    return world_model_errors(*fit(table()), 0)


def test_a_deterministic_system_is_recovered(in_step: dict[str, float | list[float]]) -> None:
    ratio = in_step['error_ratio']
    assert isinstance(ratio, list)
    assert len(ratio) == CONFIG.horizon
    assert max(ratio) < 0.02, 'squared error, in units of copying the last frame'


def test_shuffled_actions_are_clearly_worse(in_step: dict[str, float | list[float]]) -> None:
    ratio, shuffled = in_step['error_ratio'], in_step['error_ratio_shuffled']
    assert isinstance(ratio, list)
    assert isinstance(shuffled, list)
    assert all(strange > 0.5 and strange > 20.0 * own
               for own, strange in zip(ratio, shuffled, strict=True))
    assert in_step['error_ratio_shuffled_last'] == shuffled[-1]


@pytest.mark.parametrize('shift', [1, -1])
def test_actions_one_row_off_are_found_out(
        shift: int, in_step: dict[str, float | list[float]]) -> None:
    """Were action i taken to lead to another frame, one of these would be the good case."""
    # With one frame of context: a second one holds the action that a row of -1 misplaces.
    errors = world_model_errors(*fit(table(shift), replace(CONFIG, context=1), steps=120), 0)
    own, off = in_step['error_ratio'], errors['error_ratio']
    assert isinstance(own, list)
    assert isinstance(off, list)
    assert off[0] > 0.3
    assert off[0] > 10.0 * own[0]


def test_the_loss_is_both_parts_and_noise_comes_from_the_generator() -> None:
    torch.manual_seed(0)
    config = WorldModelConfig(context=2, horizon=3, width=16, depth=1, heads=2,
                              rollout_weight=0.5, latent_noise=0.2)
    objective = WorldModel(SHAPE, config)
    source = WindowSource(table(), range(4), history=2, chunk=3, batch_size=8, seed=0, whole=True)
    objective.prepare(source.statistics_rows())
    batch = source.batch(0)
    parts = objective(batch, torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        parts['loss'], parts['teacher_forced'] + 0.5 * parts['rollout'])
    again = objective(batch, torch.Generator().manual_seed(3))['loss']
    other = objective(batch, torch.Generator().manual_seed(4))['loss']
    assert torch.equal(parts['loss'], again)
    assert not torch.equal(parts['loss'], other)


def test_fresh_dynamics_have_the_error_of_copying() -> None:
    objective = WorldModel(SHAPE, CONFIG)
    source = WindowSource(table(), range(8), history=2, chunk=4, batch_size=8, seed=0, whole=True)
    objective.prepare(source.statistics_rows())
    errors = world_model_errors(objective, source, 0)
    assert errors['error_ratio'] == pytest.approx([1.0] * 4)
    assert errors['error_ratio_shuffled'] == pytest.approx([1.0] * 4)
