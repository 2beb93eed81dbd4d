# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Latent dynamics: causal in frames and actions, and strict about how many there are."""

from __future__ import annotations

import pytest
from ssl_vla_ros.networks.dynamics import LatentDynamics
import torch
from torch import Tensor

CONTEXT, HORIZON = 3, 4


@pytest.fixture
def dynamics() -> LatentDynamics:
    torch.manual_seed(0)
    made = LatentDynamics(
        2, 2, 3, context=CONTEXT, horizon=HORIZON, width=16, depth=2, heads=2)
    # It starts as "nothing changes", which would hide every influence.
    torch.nn.init.normal_(made.change.weight)
    return made.eval()


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(2, CONTEXT, 2, 2), torch.randn(2, CONTEXT - 1 + HORIZON, 3)


def test_fresh_dynamics_copy_the_last_frame() -> None:
    fresh = LatentDynamics(2, 2, 3, context=CONTEXT, horizon=HORIZON, width=16, depth=1, heads=2)
    features, actions = inputs()
    expected = features[:, -1:].expand(-1, HORIZON, -1, -1)
    torch.testing.assert_close(fresh(features, actions), expected)


@torch.no_grad()
def test_an_action_changes_the_frame_it_leads_to_and_none_before(dynamics: LatentDynamics
                                                                 ) -> None:
    features, actions = inputs()
    before = dynamics(features, actions)
    for ahead in range(HORIZON):
        changed = actions.clone()
        changed[:, CONTEXT - 1 + ahead] += 1.0  # from the frame before to frame ``ahead``
        after = dynamics(features, changed)
        assert torch.equal(after[:, :ahead], before[:, :ahead])
        assert float((after[:, ahead] - before[:, ahead]).abs().min()) > 1e-4


@torch.no_grad()
def test_each_context_action_and_frame_has_a_say(dynamics: LatentDynamics) -> None:
    features, actions = inputs()
    before = dynamics(features, actions)
    for index in range(CONTEXT - 1):
        changed = actions.clone()
        changed[:, index] += 1.0
        assert not torch.equal(dynamics(features, changed)[:, 0], before[:, 0])
    for index in range(CONTEXT):
        other = features.clone()
        other[:, index] += 1.0
        assert not torch.equal(dynamics(other, actions)[:, 0], before[:, 0])


@torch.no_grad()
def test_a_step_is_causal(dynamics: LatentDynamics) -> None:
    torch.manual_seed(2)
    latents, actions = torch.randn(2, CONTEXT, 4), torch.randn(2, CONTEXT, 3)
    before = dynamics.step(latents, actions)
    for index in range(CONTEXT):
        for which in (0, 1):
            changed = [latents.clone(), actions.clone()]
            changed[which][:, index] += 1.0
            after = dynamics.step(*changed)
            torch.testing.assert_close(after[:, :index], before[:, :index], rtol=0, atol=1e-6)
            assert float((after[:, index] - before[:, index]).abs().max()) > 1e-3


@torch.no_grad()
def test_a_rollout_is_steps_fed_back(dynamics: LatentDynamics) -> None:
    torch.manual_seed(3)
    latents, actions = torch.randn(1, CONTEXT, 4), torch.randn(1, CONTEXT + 1, 3)
    window = latents
    for ahead in range(2):
        following = dynamics.step(window, actions[:, ahead:ahead + CONTEXT])[:, -1:]
        torch.testing.assert_close(
            dynamics.rollout(latents, actions, 2)[:, ahead], following[:, 0])
        window = torch.cat([window[:, 1:], following], dim=1)


@torch.no_grad()
def test_statistics_stand_between_raw_units_and_the_network(dynamics: LatentDynamics) -> None:
    features, actions = inputs()
    raw = dynamics(features, actions)
    dynamics.latents.get_buffer('mean').fill_(5.0)
    dynamics.latents.get_buffer('std').fill_(2.0)
    dynamics.actions.get_buffer('mean').fill_(-1.0)
    scaled = dynamics(2.0 * features + 5.0, actions - 1.0)
    torch.testing.assert_close(scaled, 2.0 * raw + 5.0, rtol=1e-4, atol=1e-4)


def test_missing_frames_and_actions_are_refused(dynamics: LatentDynamics) -> None:
    features, actions = inputs()
    with pytest.raises(ValueError, match='need 3 context frames, got 2'):
        dynamics(features[:, 1:], actions)
    with pytest.raises(ValueError, match='need 6 actions, got 5'):
        dynamics(features, actions[:, 1:])
    with pytest.raises(ValueError, match='got 4 frames, the context holds 3'):
        dynamics.step(torch.zeros(1, 4, 4), torch.zeros(1, 4, 3))


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'context': 0}, 'context is 0'), ({'horizon': 0}, 'horizon is 0'),
    ({'heads': 3}, r'width is 16, must be a multiple of heads \(3\)')])
def test_impossible_sizes_are_refused(changes: dict[str, int], reason: str) -> None:
    sizes = {'context': 2, 'horizon': 2, 'width': 16, 'depth': 1, 'heads': 2} | changes
    with pytest.raises(ValueError, match=reason):
        LatentDynamics(1, 2, 2, **sizes)
    with pytest.raises(ValueError, match='tokens x dim is 0'):
        LatentDynamics(0, 0, 2)
