# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of masked-picture modelling."""

from __future__ import annotations

from collections.abc import Callable

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
    return _normalised(full(patches), -1, lambda variance: (variance + 1e-6).rsqrt())


@without_autocast
def normalised_tubes(tubes: Tensor) -> Tensor:
    """
    Each tube (…, pixels, colours) to zero mean and unit variance, each colour on its own.

    Not as MAE does it: 1e-6 is added after the root ("VideoMAE", Tong et al., 2022, as its
    authors' code has it). The variance is the unbiased one.
    """
    return _normalised(full(tubes), -2, lambda variance: (variance.sqrt() + 1e-6).reciprocal())


def _normalised(rows: Tensor, dim: int, scale: Callable[[Tensor], Tensor]) -> Tensor:
    # Not by Tensor.var, whose single pass takes several times as long on a CPU.
    centred = rows - rows.mean(dim=dim, keepdim=True)
    variance = centred.square().sum(dim=dim, keepdim=True) / (rows.shape[dim] - 1)
    return centred * scale(variance)


@without_autocast
def masked_patch_mse(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Mean squared error over the masked patches alone.

    Parameters
    ----------
    prediction, target
        (batch, patches, values).
    mask
        (batch, patches) bool, true where the patch was hidden; None: only hidden ones are given.

    Raises
    ------
    ValueError
        If the shapes do not fit, or nothing is masked.

    """
    if prediction.shape != target.shape or (
            mask is not None and mask.shape != prediction.shape[:-1]):
        said = '' if mask is None else f' and mask {tuple(mask.shape)}'
        raise ValueError(f'prediction {tuple(prediction.shape)}, target {tuple(target.shape)}'
                         f'{said} do not fit together')
    if mask is None:
        return functional.mse_loss(full(prediction), full(target))
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
