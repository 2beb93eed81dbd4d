# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of masked-picture modelling."""

from __future__ import annotations

from ssl_vla_ros.losses.regression import masked_mean
from torch import Tensor


def normalised_patches(patches: Tensor) -> Tensor:
    """
    Each patch (…, values) to zero mean and unit variance over all its pixels and colours.

    The variance is the unbiased one, and 1e-6 is added before the root ("Masked Autoencoders", He
    et al., 2022, section 3, as its authors' code has it).
    """
    rows = patches.float()
    mean = rows.mean(dim=-1, keepdim=True)
    return (rows - mean) / (rows.var(dim=-1, keepdim=True) + 1e-6).sqrt()


def masked_patch_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """
    Mean squared error over the masked patches alone.

    Parameters
    ----------
    prediction, target
        (batch, patches, values).
    mask
        (batch, patches) bool, true where the patch was hidden.

    Raises
    ------
    ValueError
        If the shapes do not fit, or nothing is masked.

    """
    if prediction.shape != target.shape or mask.shape != prediction.shape[:-1]:
        raise ValueError(
            f'prediction {tuple(prediction.shape)}, target {tuple(target.shape)} and mask '
            f'{tuple(mask.shape)} do not fit together')
    error = (prediction.float() - target.float()).square().mean(-1)
    return masked_mean(error, mask, 'patch is masked')
