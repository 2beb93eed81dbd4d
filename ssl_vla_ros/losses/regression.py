# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Regression losses with weights and padding masks."""

from __future__ import annotations

from ssl_vla_ros.losses.precision import without_autocast
from torch import Tensor


@without_autocast
def weighted_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """
    Mean of ``weight · (prediction − target)²``.

    Parameters
    ----------
    prediction, target
        Any shape, the same.
    weight
        Broadcast to that shape; not normalised, so that a weight of 1 is the plain error.

    Raises
    ------
    ValueError
        If the shapes differ, or the weight's is larger: broadcasting them would be silent.

    """
    if prediction.shape != target.shape:
        raise ValueError(
            f'prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ')
    # Aligned from the right, as broadcasting does.
    sizes = zip(reversed(weight.shape), reversed(prediction.shape), strict=False)
    if weight.ndim > prediction.ndim or any(have not in (1, want) for have, want in sizes):
        raise ValueError(
            f'weight {tuple(weight.shape)} does not broadcast to {tuple(prediction.shape)}')
    return (weight * (prediction.float() - target.float()).square()).mean()


@without_autocast
def masked_mean(error: Tensor, mask: Tensor, what: str) -> Tensor:
    """
    Mean of ``error`` (batch, items) where ``mask`` (batch, items) is true.

    Raises
    ------
    ValueError
        If nothing is: ``what`` says of which items.

    """
    count = mask.sum()
    if int(count) == 0:
        raise ValueError(f'no {what}')
    return (error * mask).sum() / count


@without_autocast
def masked_l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """
    Mean absolute error over the valid steps of action chunks.

    Parameters
    ----------
    prediction, target
        (batch, chunk, action).
    valid
        (batch, chunk) bool; false marks steps past the end of an episode.

    Raises
    ------
    ValueError
        If the shapes do not fit, or nothing is valid.

    """
    if prediction.shape != target.shape or valid.shape != prediction.shape[:-1]:
        raise ValueError(
            f'prediction {tuple(prediction.shape)}, target {tuple(target.shape)} and valid '
            f'{tuple(valid.shape)} do not fit together')
    error = (prediction.float() - target.float()).abs().mean(-1)
    return masked_mean(error, valid, 'step of the batch is valid')
