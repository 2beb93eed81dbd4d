# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Masked-picture losses against written-out loops, the known mistakes as negative controls."""

from __future__ import annotations

import math

import pytest
from ssl_vla_ros.losses.masked import masked_patch_mse, normalised_patches
import torch


def test_normalisation_is_the_unbiased_one_over_all_pixels_and_colours() -> None:
    torch.manual_seed(0)
    patches = torch.randn(2, 3, 12, dtype=torch.float64).float()
    found = normalised_patches(patches)
    for sample in range(2):
        for number in range(3):
            values = patches[sample, number].tolist()
            mean = sum(values) / 12
            variance = sum((v - mean) ** 2 for v in values) / 11
            expected = [(v - mean) / math.sqrt(variance + 1e-6) for v in values]
            torch.testing.assert_close(
                found[sample, number], torch.tensor(expected), rtol=1e-5, atol=1e-6)
            # Negative control: with the biased variance, the values are 4 % larger.
            wrong = (values[0] - mean) / math.sqrt(variance * 11 / 12 + 1e-6)
            assert abs(wrong - expected[0]) > 0.03 * abs(expected[0])


def test_predicting_zero_costs_n_minus_1_over_n() -> None:
    torch.manual_seed(0)
    target = normalised_patches(torch.randn(4, 9, 12))
    mask = torch.rand(4, 9) < 0.75
    assert float(masked_patch_mse(torch.zeros_like(target), target, mask)) == pytest.approx(
        11 / 12, abs=1e-5)


def test_a_flat_patch_is_finite() -> None:
    assert normalised_patches(torch.full((1, 1, 12), 0.3)).abs().max() < 1e-2


def test_only_masked_patches_count() -> None:
    torch.manual_seed(0)
    prediction, target = torch.randn(2, 5, 6), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, False, True, False, False], [False] * 4 + [True]])
    total = count = 0.0
    for sample in range(2):
        for number in range(5):
            if mask[sample, number]:
                for value in range(6):
                    total += float(prediction[sample, number, value]
                                   - target[sample, number, value]) ** 2
                count += 6
    found = masked_patch_mse(prediction, target, mask)
    assert float(found) == pytest.approx(total / count, rel=1e-6)
    changed = prediction.clone()
    changed[~mask] += 5.0
    assert torch.equal(masked_patch_mse(changed, target, mask), found)
    # Negative control: over all patches it is another number.
    assert float((prediction - target).square().mean()) != pytest.approx(float(found), rel=1e-3)


def test_shapes_that_do_not_fit_and_an_empty_mask_are_refused() -> None:
    patches = torch.zeros(2, 5, 6)
    with pytest.raises(ValueError, match='do not fit together'):
        masked_patch_mse(patches, patches, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match='no patch is masked'):
        masked_patch_mse(patches, patches, torch.zeros(2, 5, dtype=torch.bool))


def test_the_loss_is_float32_under_half_precision() -> None:
    half = torch.zeros(1, 2, 3, dtype=torch.bfloat16)
    loss = masked_patch_mse(half, half + 0.1, torch.ones(1, 2, dtype=torch.bool))
    assert loss.dtype == torch.float32


def test_without_a_mask_all_that_is_given_counts() -> None:
    torch.manual_seed(0)
    drawn, target = torch.randn(2, 5, 12), torch.randn(2, 5, 12)
    every = masked_patch_mse(drawn, target, torch.ones(2, 5, dtype=torch.bool))
    assert float(masked_patch_mse(drawn, target)) == pytest.approx(float(every), abs=1e-6)
    with pytest.raises(ValueError, match='do not fit together'):
        masked_patch_mse(drawn, target[:, 1:])
    half = masked_patch_mse(drawn.bfloat16(), target.bfloat16())
    assert half.dtype == torch.float32
