# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses of a student that learns a teacher's assignments (DINO, iBOT, DINOv2)."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_vla_ros.losses.gather import gather_rows, world
from ssl_vla_ros.losses.precision import full, unit, without_autocast
import torch
from torch import distributed, Tensor


@without_autocast
def assignment_entropy(student: Tensor, teacher: Tensor, temperature: float,
                       weight: Tensor | None = None) -> Tensor:
    """
    Cross-entropy of a student's logits to a teacher's probabilities.

    Source: "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021),
    equation 2. A collapse to the uniform assignment shows as a loss of ln K.

    Parameters
    ----------
    student
        (N, K) logits.
    teacher
        (N, K) probabilities; no gradient flows into them.
    temperature
        Divides the student's logits (0.1 in the paper).
    weight
        (N,) weights of the rows, such as 1 / (masked patches of the picture) for iBOT; None
        weighs all rows alike. The result is the weighted sum over the sum of weights.

    Raises
    ------
    ValueError
        If the shapes differ.

    """
    if student.shape != teacher.shape or student.ndim != 2:
        raise ValueError(f'student {tuple(student.shape)} and teacher {tuple(teacher.shape)} must '
                         'be (N, K) both')
    found = -(full(teacher).detach() * (full(student) / temperature).log_softmax(dim=1)).sum(dim=1)
    if weight is None:
        return found.mean()
    return (found * weight).sum() / weight.sum()


def across_crops(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float
                 ) -> Tensor:
    """
    Mean over all pairs of a teacher's crop and another crop of the student (DINO, equation 3).

    Parameters
    ----------
    student
        (N, K) logits of every crop, those that the teacher sees first, in its order.
    teacher
        (N, K) probabilities of each crop that the teacher sees.
    temperature
        Divides the student's logits.

    Raises
    ------
    ValueError
        If there is no such pair.

    """
    pairs = [assignment_entropy(seen, wanted, temperature)
             for place, wanted in enumerate(teacher) for other, seen in enumerate(student)
             if other != place]
    if not pairs:
        raise ValueError('a student that sees the crop of the teacher alone has nothing to learn')
    return torch.stack(pairs).mean()


@without_autocast
def centred_assignments(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """
    Probabilities (N, K) of a teacher whose mean output (K,) is taken off (DINO, section 3.1).

    Raises
    ------
    ValueError
        If the temperature is not above 0.

    """
    _check_temperature(temperature)
    return ((full(logits) - full(centre)) / temperature).softmax(dim=1).detach()


@without_autocast
def sinkhorn_assignments(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """
    Probabilities (N, K) of a teacher, made so that all K are used equally often.

    Source: "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et
    al., 2020), appendix A; used by DINOv2. Rows of all processes are balanced together. Worked out
    on logarithms: exp(logits / 0.04) has no room in float32.

    Raises
    ------
    ValueError
        If the temperature is not above 0, or there is no iteration.

    """
    _check_temperature(temperature)
    if iterations < 1:
        raise ValueError(f'iterations is {iterations}, must be at least 1')
    with torch.no_grad():
        plan = full(logits) / temperature
        for _ in range(iterations):
            plan = plan - _log_sum_over_rows(plan)
            plan = plan - plan.logsumexp(dim=1, keepdim=True)
        return plan.exp()


def _log_sum_over_rows(plan: Tensor) -> Tensor:
    """Logarithm of the column sums over the rows of all processes, (1, K)."""
    found = plan.logsumexp(dim=0, keepdim=True)
    if world()[1] == 1:
        return found
    highest = found.clone()
    distributed.all_reduce(highest, op=distributed.ReduceOp.MAX)
    total = (found - highest).exp()
    distributed.all_reduce(total)
    return total.log() + highest


@without_autocast
def koleo(features: Tensor, *, gather: bool = False) -> Tensor:
    """
    Spread features (N, dim) over the sphere: −mean ln of the distance to the nearest other one.

    Source: "Spreading vectors for similarity search" (Sablayrolles et al., 2019), equation 3; used
    by DINOv2 with weight 0.1. Rows that are all but equal make it large without bound: give it
    pictures that are apart in time, not neighbours of one clip. With ``gather`` a neighbour may be
    a row of any process of the process group.

    Raises
    ------
    ValueError
        If there are fewer than two rows.

    """
    rows = unit(features)
    everyone = gather_rows(rows) if gather else rows
    if len(everyone) < 2:
        raise ValueError('koleo needs at least two rows: a single one has no neighbour')
    first = world()[0] * len(rows) if gather else 0
    with torch.no_grad():
        near = rows @ everyone.T
        near[:, first:].fill_diagonal_(-2.0)
        nearest = near.argmax(dim=1)
    # The root's slope is infinite at 0.
    apart = (rows - everyone[nearest]).square().sum(dim=1).clamp_min(1e-16).sqrt()
    return -(apart + 1e-8).log().mean()


def _check_temperature(temperature: float) -> None:
    if not temperature > 0.0:
        raise ValueError(f'temperature is {temperature}, must be above 0')
