# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of predicting in the space of features (JEPA)."""

from __future__ import annotations

from ssl_vla_ros.losses.gather import gather_rows
from ssl_vla_ros.losses.precision import full, without_autocast
import torch
from torch import Tensor
from torch.nn import functional


@without_autocast
def normalised_l1(prediction: Tensor, target: Tensor) -> Tensor:
    """
    Mean absolute error to a target (…, dim) that is normalised over its features.

    Source: "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning"
    (Assran et al., 2025), equation 1. Prediction and target are normalised alike (LayerNorm
    without weights); the target, from an EMA encoder, is detached.

    Raises
    ------
    ValueError
        If the shapes differ.

    """
    if prediction.shape != target.shape:
        raise ValueError(
            f'prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ')
    size = prediction.shape[-1:]
    return functional.l1_loss(
        functional.layer_norm(full(prediction), size),
        functional.layer_norm(full(target), size).detach())


@without_autocast
def sketched_gaussian(features: Tensor, directions: Tensor, points: int = 33,
                      largest: float = 3.0, *, gather: bool = False) -> Tensor:
    """
    Distance of the distribution of features from a standard normal one, along some directions.

    Source: "LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics"
    (Balestriero and LeCun, 2025), section 4 (SIGReg with the Epps–Pulley statistic): for each
    direction, N · ∫ |φ(t) − exp(−t²/2)|² exp(−t²/2) dt, φ the empirical characteristic function
    of the projections, by the trapezoidal rule on [−largest, largest]. It is what keeps an encoder
    without an EMA teacher from collapsing. The 33 points are the 17 that the authors put on
    [0, 3]: the integrand is even.

    Parameters
    ----------
    features
        (N, dim).
    directions
        (dim, count), of any length; drawn anew in each step.
    points
        Of the rule; odd, so that 0 is one of them.
    largest
        Where the integral ends.
    gather
        Take the features of all processes of the process group together, along the directions of
        the first one.

    Raises
    ------
    ValueError
        If shapes do not fit, or ``points`` is even or below 3.

    """
    if features.ndim != 2 or directions.ndim != 2 or len(directions) != features.shape[1]:
        raise ValueError(f'features {tuple(features.shape)} and directions '
                         f'{tuple(directions.shape)} must be (N, dim) and (dim, count)')
    if points < 3 or points % 2 == 0:
        raise ValueError(f'points is {points}, must be odd and at least 3')
    rows = full(features)
    along = functional.normalize(directions.to(rows.dtype), dim=0)
    if gather:
        rows, along = gather_rows(rows), gather_rows(along)[:len(along)]
    places = torch.linspace(-largest, largest, points, dtype=rows.dtype, device=rows.device)
    angles = (rows @ along)[..., None] * places             # (N, count, points)
    normal = (-places.square() / 2).exp()
    distance = (angles.cos().mean(dim=0) - normal).square() + angles.sin().mean(dim=0).square()
    return len(rows) * torch.trapezoid(distance * normal, places, dim=-1).mean()
