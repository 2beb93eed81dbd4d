# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of what only robots have: actions and proprioception."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_noise(values: Tensor, sigma: float, generator: torch.Generator,
                   padding: Tensor | None = None) -> Tensor:
    """
    Add noise in normalised units, never on padding.

    Parameters
    ----------
    values
        (…, D), already normalised to unit variance.
    sigma
        Standard deviation of the noise.
    generator
        Source of the random numbers.
    padding
        (…) bool, true where ``values`` is padding and stays as it is.

    """
    noise = sigma * torch.randn(values.shape, generator=generator, device=values.device)
    if padding is not None:
        noise = noise.masked_fill(padding.unsqueeze(-1), 0.0)
    return values + noise


def action_noise(actions: Tensor, sigma: float, generator: torch.Generator,
                 valid: Tensor | None = None) -> Tensor:
    """
    Add noise to actions, never to steps that are padding.

    Parameters
    ----------
    actions
        (B, T, A), already normalised: each action to unit variance over the training split.
    sigma
        Standard deviation of the noise, in the action's normalised units; 0 draws nothing and
        leaves the actions as they are.
    generator
        Source of the random numbers. The draws do not depend on ``valid``.
    valid
        (B, T) bool, as in every batch: False where a step was repeated past the episode's end.

    Raises
    ------
    ValueError
        If sigma is negative or not finite, or ``valid`` does not fit.

    """
    if not 0.0 <= sigma < math.inf:
        raise ValueError(f'sigma is {sigma}, must be at least 0 and finite')
    if valid is not None and (valid.dtype != torch.bool or valid.shape != actions.shape[:-1]):
        raise ValueError(f'valid is {valid.dtype} {tuple(valid.shape)}, must be bool '
                         f'{tuple(actions.shape[:-1])} for actions {tuple(actions.shape)}')
    if sigma == 0.0:
        return actions
    return gaussian_noise(actions, sigma, generator, None if valid is None else ~valid)


def mirrored(values: Tensor, signs: Tensor, flipped: Tensor) -> Tensor:
    """
    Mirror actions or state of the samples whose pictures were mirrored.

    For values that a mirror plane of the robot leaves or negates: of a position or a velocity in a
    base whose y points to the left, x and z stay and y changes its sign. Two arms, or joints that
    a mirror swaps, need more than signs; then pictures must not be mirrored.

    Parameters
    ----------
    values
        (B, …, D), not normalised, or normalised around 0.
    signs
        (D,) 1 for what stays and -1 for what changes its sign.
    flipped
        (B,) bool, as ``augment.geometry.flip`` told.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a sign is neither 1 nor -1.

    """
    if signs.shape != values.shape[-1:] or flipped.shape != values.shape[:1]:
        raise ValueError(f'values {tuple(values.shape)}, signs {tuple(signs.shape)} and flipped '
                         f'{tuple(flipped.shape)} do not fit together')
    if not bool((signs.abs() == 1).all()):
        raise ValueError(f'signs are {signs.tolist()}, each must be 1 or -1')
    which = flipped.view(-1, *[1] * (values.ndim - 1))
    return torch.where(which, values * signs.to(values), values)
