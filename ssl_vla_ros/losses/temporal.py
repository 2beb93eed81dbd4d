# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses over the order of time."""

from __future__ import annotations

from ssl_vla_ros.losses.gather import gather_rows, world
from ssl_vla_ros.losses.precision import full, unit, without_autocast
import torch
from torch import Tensor
from torch.nn import functional


@without_autocast
def future_nce(predictions: Tensor, futures: Tensor, temperature: float | Tensor, *,
               gather: bool = False) -> Tensor:
    """
    Cross-entropy of predicted features to the right moment, of all moments of the batch.

    Source: "Representation Learning with Contrastive Predictive Coding" (van den Oord et al.,
    2018), equation 4, with cosines. Negatives are the other sequences and, which is what makes it
    hard, the other moments of the same sequence: other sequences alone are told apart by their
    background.

    Parameters
    ----------
    predictions
        (sequences, moments, dim): what is expected k steps after each moment.
    futures
        The same shape: what was there k steps after each moment.
    temperature
        Divides the cosines; above 0.
    gather
        Take wrong answers from all processes of the process group, too.

    Returns
    -------
    Tensor
        Scalar. Where time is shuffled, no better than ln(sequences · moments).

    Raises
    ------
    ValueError
        If the shapes differ, or there is one moment in all.

    """
    if predictions.shape != futures.shape or predictions.ndim != 3:
        raise ValueError(f'predictions {tuple(predictions.shape)} and futures '
                         f'{tuple(futures.shape)} must be (sequences, moments, dim) both')
    one, two = unit(predictions).flatten(0, 1), unit(futures).flatten(0, 1)
    rank = world()[0] if gather else 0
    everyone = gather_rows(two) if gather else two
    if len(everyone) < 2:
        raise ValueError('one moment has no other to be told from; give at least two')
    right = rank * len(one) + torch.arange(len(one), device=one.device)
    return functional.cross_entropy(one @ everyone.T / temperature, right)


@without_autocast
def time_contrast(earlier: Tensor, middle: Tensor, later: Tensor,
                  episode: Tensor | None = None) -> Tensor:
    """
    Have frames that are near in time nearer than frames that are far, and than other videos.

    Source: "R3M: A Universal Visual Representation for Robot Manipulation" (Nair et al., 2022),
    equation 1, with similarity −‖a − b‖₂. For frames i < j < k of each video: i is nearer to j
    than to k, k is nearer to j than to i, and each is nearer to its neighbour than the frame i of
    another video is. It is computed with logsumexp: −ln(1e-8 + exp(…)) has no slope left at
    distances of 18.

    Parameters
    ----------
    earlier, middle, later
        (N, dim): frames i, j and k of N videos.
    episode
        (N,) numbers of the recordings they are cut from. A row whose negative would be of its own
        recording, where it may be the very frame, has none; None: all are different.

    Raises
    ------
    ValueError
        If the shapes differ, or there is a single video.

    """
    if not earlier.shape == middle.shape == later.shape or earlier.ndim != 2:
        raise ValueError(f'{tuple(earlier.shape)}, {tuple(middle.shape)} and '
                         f'{tuple(later.shape)} must be (N, dim), all the same')
    if len(earlier) < 2:
        raise ValueError('time_contrast needs two videos: one has no other to be told from')
    first, second, third = full(earlier), full(middle), full(later)
    # Row i's negative is the first frame of the video before it: never its own.
    other = first.roll(1, dims=0)
    own = None if episode is None else episode == episode.roll(1)
    forward = _choose(_nearness(first, second), _nearness(first, third),
                      _unless(own, _nearness(first, other)))
    backward = _choose(_nearness(third, second), _nearness(third, first),
                       _unless(own, _nearness(third, other)))
    return (forward + backward) / 2


def _nearness(one: Tensor, two: Tensor) -> Tensor:
    # The slope of a root at 0 is infinite, and a frame may equal another.
    return -(one - two).square().sum(dim=1).clamp_min(1e-16).sqrt()


def _unless(own: Tensor | None, scores: Tensor) -> Tensor:
    return scores if own is None else scores.masked_fill(own, -torch.inf)


def _choose(right: Tensor, *wrong: Tensor) -> Tensor:
    """Mean cross-entropy of the first of several scores."""
    scores = torch.stack([right, *wrong], dim=1)
    return (scores.logsumexp(dim=1) - right).mean()


@without_autocast
def sparsity(features: Tensor, l1: float = 1e-5, l2: float = 1e-5) -> Tensor:
    """Mean over rows (N, dim) of ``l1``·‖f‖₁ + ``l2``·‖f‖₂ (R3M, equation 3)."""
    rows = full(features)
    length = rows.square().sum(dim=-1).clamp_min(1e-16).sqrt()
    return (l1 * rows.abs().sum(dim=-1) + l2 * length).mean()
