# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of masked-picture modelling."""

from __future__ import annotations

from ssl_vla_ros.losses.precision import full, without_autocast
from ssl_vla_ros.losses.regression import masked_mean
from torch import Tensor
from torch.nn import functional


@without_autocast
def normalised_patches(patches: Tensor) -> Tensor:
    """
    Each patch (…, values) to zero mean and unit variance over all its pixels and colours.

    The variance is the unbiased one, and 1e-6 is added before the root ("Masked Autoencoders", He
    et al., 2022, section 3, as its authors' code has it).
    """
    rows = full(patches)
    mean = rows.mean(dim=-1, keepdim=True)
    return (rows - mean) / (rows.var(dim=-1, keepdim=True) + 1e-6).sqrt()


@without_autocast
def normalised_tubes(tubes: Tensor) -> Tensor:
    """
    Each tube (…, pixels, colours) to zero mean and unit variance, each colour on its own.

    Not as MAE does it: 1e-6 is added after the root ("VideoMAE", Tong et al., 2022, as its
    authors' code has it). The variance is the unbiased one.
    """
    rows = full(tubes)
    mean = rows.mean(dim=-2, keepdim=True)
    return (rows - mean) / (rows.var(dim=-2, keepdim=True).sqrt() + 1e-6)


@without_autocast
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
    error = (full(prediction) - full(target)).square().mean(-1)
    return masked_mean(error, mask, 'patch is masked')


@without_autocast
def masked_token_entropy(logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """
    Cross-entropy to the visual token of each masked patch (BEiT).

    Source: "BEiT: BERT Pre-Training of Image Transformers" (Bao et al., 2022), equation 3.

    Parameters
    ----------
    logits
        (batch, patches, tokens).
    tokens
        (batch, patches) long: what the tokenizer said.
    mask
        (batch, patches) bool, true where the patch was hidden.

    Raises
    ------
    ValueError
        If the shapes do not fit, or nothing is masked.

    """
    if not logits.shape[:-1] == tokens.shape == mask.shape:
        raise ValueError(f'logits {tuple(logits.shape)}, tokens {tuple(tokens.shape)} and mask '
                         f'{tuple(mask.shape)} do not fit together')
    error = functional.cross_entropy(full(logits).transpose(1, 2), tokens, reduction='none')
    return masked_mean(error, mask, 'patch is masked')
