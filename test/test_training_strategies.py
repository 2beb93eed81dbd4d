# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What an optimiser knows finds its parameter, whoever numbered it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.strategies import numbered_state, placed_state
import torch
from torch import nn

FILE = Path('checkpoint.safetensors')


def network() -> nn.Sequential:
    """Give a frozen layer before the trained ones: numbers of parameters and of groups differ."""
    found = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    found[0].requires_grad_(False)
    return found


def make_optimiser(module: nn.Module) -> torch.optim.AdamW:
    trained = [value for value in module.parameters() if value.requires_grad]
    return torch.optim.AdamW([
        {'params': [value for value in trained if value.ndim == 1], 'weight_decay': 0.0},
        {'params': [value for value in trained if value.ndim > 1], 'lr': 0.02}], lr=0.01)


def step(module: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    optimiser.zero_grad()
    inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(seed))
    module(inputs).pow(2).sum().backward()
    optimiser.step()


def names(module: nn.Module) -> dict[int, str]:
    return {id(value): name for name, value in module.named_parameters()}


def by_name(module: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Give the state by names, as it is gathered from split weights."""
    known = names(module)
    groups = optimiser.param_groups
    return {
        'state': {known[id(value)]: item for value, item in optimiser.state.items()},
        'param_groups': [{**group, 'params': [known[id(value)] for value in group['params']]}
                         for group in groups]}


def started() -> tuple[nn.Sequential, torch.optim.AdamW]:
    module = network()
    optimiser = make_optimiser(module)
    for seed in range(3):
        step(module, optimiser, seed)
    return module, optimiser


def gone_on(module: nn.Sequential, state: dict[str, Any]) -> nn.Sequential:
    """Give a copy of a network, trained a step further by an optimiser that was loaded."""
    again = network()
    again.load_state_dict(module.state_dict())
    optimiser = make_optimiser(again)
    optimiser.load_state_dict(
        placed_state(copy.deepcopy(state), optimiser, names(again), FILE))
    step(again, optimiser, 9)
    return again


def equal(left: nn.Module, right: nn.Module) -> bool:
    return all(torch.equal(one, other) for one, other in zip(
        left.parameters(), right.parameters(), strict=True))


def test_a_gathered_state_is_numbered_as_one_process_numbers_it() -> None:
    module, optimiser = started()
    wanted, found = optimiser.state_dict(), numbered_state(by_name(module, optimiser))
    assert found['param_groups'] == wanted['param_groups']
    assert found['state'].keys() == wanted['state'].keys()
    for number, item in wanted['state'].items():
        assert all(torch.equal(value, found['state'][number][key]) for key, value in item.items())


def test_the_place_in_the_groups_counts_and_not_the_number() -> None:
    module, optimiser = started()
    state = optimiser.state_dict()
    # Numbered by the module's parameters, frozen ones too, as others number them.
    order = {name: number for number, (name, _) in enumerate(module.named_parameters())}
    named = by_name(module, optimiser)
    other: dict[str, Any] = {
        'state': {order[name]: item for name, item in named['state'].items()},
        'param_groups': [{**group, 'params': [order[name] for name in group['params']]}
                         for group in named['param_groups']]}
    assert other['param_groups'][0]['params'] != state['param_groups'][0]['params']
    found = [gone_on(module, values) for values in (state, other)]
    # Negative control: the moments of two weights of one shape exchanged.
    moments = dict(state['state'])
    *_, first, second = state['param_groups'][1]['params']
    moments[first], moments[second] = moments[second], moments[first]
    swapped = gone_on(module, {**state, 'state': moments})
    step(module, optimiser, 9)
    assert equal(found[0], module)
    assert equal(found[1], module)
    assert not equal(swapped, module)


def test_a_parameter_that_no_loss_has_reached_has_no_state() -> None:
    module, optimiser = started()
    state = optimiser.state_dict()
    left_out = state['param_groups'][0]['params'][1]
    moments = {number: item for number, item in state['state'].items() if number != left_out}
    again = make_optimiser(module)
    again.load_state_dict(placed_state({**state, 'state': moments}, again, names(module), FILE))
    assert len(again.state) == len(optimiser.state) - 1


def test_a_state_that_does_not_fit_is_refused_by_name() -> None:
    module, optimiser = started()
    state = optimiser.state_dict()
    groups = state['param_groups']
    fewer = [{**groups[0], 'params': groups[0]['params'][:-1]}, groups[1]]
    for wrong, sizes in ((fewer, r'\[2, 3\]'), (groups[:1], r'\[3\]')):
        with pytest.raises(ConfigError, match=rf'checkpoint\.safetensors: .* groups of {sizes} par'
                                              r'ameters, now they are \[3, 3\].*; delete it'):
            placed_state({**state, 'param_groups': wrong}, optimiser, names(module), FILE)
    swapped = [groups[0], {**groups[1], 'params': groups[1]['params'][::-1]}]
    with pytest.raises(ConfigError, match=r'exp_avg of 1\.weight has shape \(4, 4\), the paramet'
                                          r'er \(4, 3\): it belongs to another network'):
        placed_state({**state, 'param_groups': swapped}, optimiser, names(module), FILE)
