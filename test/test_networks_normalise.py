# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Standardisation and policy heads: units in, units out."""

from __future__ import annotations

import pytest
from ssl_vla_ros.networks.heads import ChunkHead
from ssl_vla_ros.networks.normalise import Standardise
import torch


def test_standardise_gives_unit_variance_and_comes_back() -> None:
    torch.manual_seed(0)
    scale, offset = torch.tensor([0.01, 1.0, 300.0]), torch.tensor([9.0, 0.0, -5.0])
    values = torch.randn(500, 3) * scale + offset
    standardise = Standardise(3)
    standardise.fit(values)
    normalised = standardise(values)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(normalised.std(0), torch.ones(3), rtol=1e-3, atol=0)
    torch.testing.assert_close(standardise.invert(normalised), values, rtol=1e-4, atol=1e-4)


def test_what_never_moves_is_not_blown_up() -> None:
    standardise = Standardise(2, floor=1e-3)
    standardise.fit(torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    assert standardise.get_buffer('std').tolist() == pytest.approx([1.0, 1e-3])
    assert float(standardise(torch.tensor([2.0, 5.0]))[1]) == 0.0
    assert standardise.get_buffer('mean').tolist() == [2.0, 5.0]


def test_fit_refuses_rows_that_say_nothing() -> None:
    with pytest.raises(ValueError, match='at least two rows'):
        Standardise(2).fit(torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r'rows are \(1,\), this standardises \(2,\)'):
        Standardise(2).fit(torch.zeros(5, 1))


def test_statistics_travel_with_the_weights() -> None:
    first, second = Standardise(1), Standardise(1)
    first.fit(torch.tensor([[1.0], [3.0]]))
    second.load_state_dict(first.state_dict())
    assert float(second(torch.tensor([2.0]))) == 0.0


@torch.no_grad()
def test_a_head_gives_actions_in_the_robot_s_units() -> None:
    torch.manual_seed(0)
    head = ChunkHead(4, 3, 2, history=2, chunk=5, width=8, depth=1)
    head.actions.fit(torch.tensor([[10.0, -1.0], [30.0, 1.0]]))
    actions = head(torch.randn(7, 2, 2, 2), torch.randn(7, 2, 3))
    assert actions.shape == (7, 5, 2)
    normalised = head.actions(actions)
    assert float(normalised.abs().max()) < 3.0
    assert float(actions[..., 0].min()) > -30.0


def test_a_head_without_pictures_sees_the_state_alone() -> None:
    head = ChunkHead(0, 3, 2, history=2, chunk=1, width=8, depth=1)
    state = torch.randn(4, 2, 3)
    assert torch.equal(head.inputs(torch.zeros(4, 2, 0, 0), state), head.state(state))
    with pytest.raises(ValueError, match='history is 0'):
        ChunkHead(0, 3, 2, history=0)
