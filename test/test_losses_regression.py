# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Regression losses against written-out sums, and shapes that must not broadcast."""

from __future__ import annotations

import pytest
from ssl_vla_ros.losses.regression import masked_l1, weighted_mse
import torch


def test_weighted_mse_is_the_written_out_mean() -> None:
    torch.manual_seed(0)
    prediction, target, weight = torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.rand(2, 3, 1)
    total = 0.0
    for i in range(2):
        for j in range(3):
            for k in range(4):
                total += float(weight[i, j, 0] * (prediction[i, j, k] - target[i, j, k]) ** 2)
    assert float(weighted_mse(prediction, target, weight)) == pytest.approx(total / 24)


def test_weight_one_is_the_plain_error() -> None:
    prediction, target = torch.randn(5, 2), torch.randn(5, 2)
    plain = torch.nn.functional.mse_loss(prediction, target)
    assert torch.equal(weighted_mse(prediction, target, torch.ones(())), plain)


@pytest.mark.parametrize(('prediction', 'target', 'weight', 'reason'), [
    ((2, 3), (2, 1), (1,), 'differ'),
    ((2, 1), (2, 1), (2, 3), 'does not broadcast'),
    ((3,), (3,), (2, 3), 'does not broadcast'),
])
def test_weighted_mse_broadcasts_nothing_in_silence(
        prediction: tuple[int, ...], target: tuple[int, ...], weight: tuple[int, ...],
        reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weighted_mse(torch.zeros(prediction), torch.zeros(target), torch.ones(weight))


def test_losses_are_float32_under_half_precision() -> None:
    prediction = torch.full((4, 1), 1.001, dtype=torch.bfloat16)
    loss = weighted_mse(prediction, torch.zeros(4, 1), torch.ones(()))
    assert loss.dtype == torch.float32
    valid = torch.ones(2, 4, dtype=torch.bool)
    assert masked_l1(torch.zeros(2, 4, 3, dtype=torch.bfloat16), torch.ones(2, 4, 3),
                     valid).dtype == torch.float32


def test_masked_l1_counts_valid_steps_only() -> None:
    prediction = torch.zeros(2, 3, 2, requires_grad=True)
    target = torch.ones(2, 3, 2)
    target[0, 2] = 1e6
    valid = torch.tensor([[True, True, False], [True, False, False]])
    target[1, 1:] = -1e6
    loss = masked_l1(prediction, target, valid)
    assert float(loss.detach()) == 1.0
    loss.backward()
    assert prediction.grad is not None
    assert bool((prediction.grad[~valid] == 0.0).all())
    assert bool((prediction.grad[valid] != 0.0).all())


def test_masked_l1_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match='do not fit'):
        masked_l1(torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match='no step'):
        masked_l1(torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool))
