# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Losses that tell what belongs together from what does not.

All of them compare by cosine and take the mean cross-entropy over anchors, in full precision.
"""

from __future__ import annotations

from ssl_vla_ros.losses.gather import gather_rows, world
from ssl_vla_ros.losses.precision import full, unit, without_autocast
import torch
from torch import Tensor
from torch.nn import functional


@without_autocast
def nt_xent(first: Tensor, second: Tensor, temperature: float | Tensor, *, gather: bool = False,
            bank: Tensor | None = None) -> Tensor:
    """
    Cross-entropy of each view to the other one of its sample, among all others (SimCLR).

    Source: "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al.,
    2020), section 2.1. With N samples there are 2N anchors, each with one positive and 2N − 2
    negatives; an anchor is never compared with itself.

    Parameters
    ----------
    first, second
        (N, dim) embeddings of two views; row i of both is the same sample.
    temperature
        Divides the cosines; above 0.
    gather
        Take negatives from all processes of the process group, too.
    bank
        (K, dim) embeddings of earlier batches: further negatives, without gradient. A sample that
        is in it is a negative of itself, so it wants a dataset much larger than the bank.

    Raises
    ------
    ValueError
        If the shapes differ, or there is a single sample and so no negative.

    """
    _check_pairs(first, second)
    anchors = torch.cat([unit(first), unit(second)])
    rank, count = 0, len(first)
    everyone = anchors
    if gather:
        # All first views of all processes, then all second views.
        everyone = torch.cat([gather_rows(unit(first)), gather_rows(unit(second))])
        rank, _ = world()
    total = len(everyone) // 2
    if total < 2:
        raise ValueError('a batch of one sample has no negatives; use a batch of at least two')
    places = torch.arange(rank * count, rank * count + count, device=first.device)
    own = torch.cat([places, places + total])
    logits = anchors @ everyone.T / temperature
    logits = logits.scatter(1, own[:, None], -torch.inf)
    if bank is not None:
        if bank.ndim != 2 or bank.shape[1] != first.shape[1]:
            raise ValueError(f'bank is {tuple(bank.shape)}, must be (K, {first.shape[1]})')
        logits = torch.cat([logits, anchors @ unit(bank).detach().T / temperature], dim=1)
    return functional.cross_entropy(logits, torch.cat([places + total, places]))


@without_autocast
def queue_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float | Tensor) -> Tensor:
    """
    Cross-entropy of each query to its key, among the keys of a queue (MoCo).

    Source: "Momentum Contrast for Unsupervised Visual Representation Learning" (He et al., 2020),
    section 3.1, algorithm 1. No gradient flows into keys and queue.

    Parameters
    ----------
    queries, keys
        (N, dim); row i of both is the same sample.
    queue
        (K, dim) keys of earlier batches.
    temperature
        Divides the cosines; above 0.

    Raises
    ------
    ValueError
        If shapes do not fit or the queue is empty.

    """
    _check_pairs(queries, keys)
    if queue.ndim != 2 or not len(queue) or queue.shape[1] != keys.shape[1]:
        raise ValueError(f'queue is {tuple(queue.shape)}, must be (K, {keys.shape[1]}) with K > 0')
    anchors = unit(queries)
    positive = (anchors * unit(keys).detach()).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, anchors @ unit(queue).detach().T], dim=1) / temperature
    return functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


@without_autocast
def paired_nce(first: Tensor, second: Tensor, scale: float | Tensor,
               same: Tensor | None = None, *, gather: bool = False) -> Tensor:
    """
    Symmetric cross-entropy between two modalities (CLIP), with several positives where told.

    Source: "Learning Transferable Visual Models From Natural Language Supervision" (Radford et
    al., 2021), figure 3. On robots one instruction stands beside many pictures of a batch: without
    ``same``, each of them would be a negative of the others. With several positives the loss is
    the mean of their cross-entropies ("Supervised Contrastive Learning", Khosla et al., 2020,
    equation 2), which is CLIP's where each row has one.

    Parameters
    ----------
    first, second
        (N, dim) embeddings; row i of both is the same sample.
    scale
        Multiplies the cosines (CLIP's ``exp(logit_scale)``); above 0.
    same
        (N,) numbers: rows with equal ones are positives of each other. None: each row its own.
    gather
        Compare with the rows of all processes, too.

    Raises
    ------
    ValueError
        If shapes do not fit.

    """
    _check_pairs(first, second)
    if same is None:
        rank, _ = world()
        same = torch.arange(len(first), device=first.device)
        same = same + rank * len(first) if gather else same
    if same.shape != first.shape[:1]:
        raise ValueError(f'same is {tuple(same.shape)}, must be ({len(first)},)')
    others = same
    one, two = unit(first), unit(second)
    all_one, all_two = one, two
    if gather:
        all_one, all_two, others = gather_rows(one), gather_rows(two), gather_rows(same)
    positives = same[:, None] == others[None, :]
    return (_several(one @ all_two.T * scale, positives)
            + _several(two @ all_one.T * scale, positives)) / 2


def _several(logits: Tensor, positives: Tensor) -> Tensor:
    """Mean cross-entropy of rows of logits to their positives."""
    found = full(logits).log_softmax(dim=1)
    share = positives.to(found.dtype)
    return -((found * share).sum(dim=1) / share.sum(dim=1)).mean()


def _check_pairs(first: Tensor, second: Tensor) -> None:
    if first.ndim != 2 or first.shape != second.shape or not len(first):
        raise ValueError(f'{tuple(first.shape)} and {tuple(second.shape)} are no pairs of rows; '
                         'both must be (N, dim) with N > 0')
