# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Behaviour cloning: padding does not count, and a simple teacher is learned."""

from __future__ import annotations

import pytest
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
import torch
from torch import Tensor

SHAPE = DataShape(1, 32, 32, 2, 3, tokens=2, dim=2)


def make(noise: float = 0.0) -> BehaviourCloning:
    torch.manual_seed(0)
    return BehaviourCloning(SHAPE, BehaviourCloningConfig(
        history=2, chunk=4, execute=2, width=32, depth=1, input_noise=noise))


def batch(count: int = 16) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {'features': torch.randn(count, 2, 2, 2, generator=generator),
            'state': torch.randn(count, 2, 2, generator=generator),
            'actions': torch.randn(count, 4, 3, generator=generator),
            'valid': torch.arange(4).repeat(count, 1) < 3}


def test_padding_does_not_count() -> None:
    objective, rows = make(), batch()
    loss = objective(rows, torch.Generator())['loss']
    loss.backward()
    gradient = [parameter.grad.clone() for parameter in objective.parameters()
                if parameter.grad is not None]
    rows['actions'][:, 3] = 1e6
    objective.zero_grad()
    padded = objective(rows, torch.Generator())['loss']
    padded.backward()
    assert torch.equal(loss, padded)
    again = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradient, again, strict=True))
    rows['actions'][0, 2] += 1.0
    assert not torch.equal(loss, objective(rows, torch.Generator())['loss']), 'valid ones do'


def test_errors_are_in_units_of_each_action_s_deviation() -> None:
    rows = batch()
    losses = []
    for scale in (1.0, 1000.0):
        objective = make()
        actions = scale * rows['actions']
        objective.prepare({'features': rows['features'][:, 0], 'state': rows['state'][:, 0],
                           'actions': actions[:, 0]})
        losses.append(float(objective({**rows, 'actions': actions}, torch.Generator())['loss']
                            .detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_simple_teacher_is_learned() -> None:
    objective = make(noise=0.02)
    rows = batch(128)
    rows['actions'] = torch.stack(
        [rows['state'][:, -1, :1] * torch.tensor([1.0, -2.0, 0.5]) + step for step in range(4)],
        dim=1)
    objective.prepare({'features': rows['features'][:, -1], 'state': rows['state'][:, -1],
                       'actions': rows['actions'][:, 0]})
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    first = float(objective(rows, generator)['loss'].detach())
    for _ in range(150):
        optimiser.zero_grad()
        loss = objective(rows, generator)['loss']
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.1 * first
    with torch.no_grad():
        actions = objective.head(rows['features'], rows['state'])
    error = (actions - rows['actions'])[rows['valid']].abs().mean()
    assert float(error) < 0.25, "the head's answer is in raw units"


@pytest.mark.parametrize('execute', [0, 5])
def test_execute_lies_within_the_chunk(execute: int) -> None:
    with pytest.raises(ValueError, match=rf'execute is {execute}, must lie between 1 and chunk'):
        BehaviourCloning(SHAPE, BehaviourCloningConfig(chunk=4, execute=execute))
