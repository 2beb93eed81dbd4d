# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation of time: frames, actions and state of a sample are cut together, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def temporal_crop(batch: Mapping[str, Tensor], ratio: float, generator: torch.Generator,
                  keys: Sequence[str] = ('images', 'actions', 'state', 'valid')
                  ) -> dict[str, Tensor]:
    """
    Keep a random part of each clip: round(ratio · T) consecutive steps.

    Parameters
    ----------
    batch
        Tensors by name.
    ratio
        Share of the steps that is kept; 0.8 is usual, 1 keeps all and draws nothing.
    generator
        Source of the first steps, one a sample.
    keys
        Which entries of ``batch`` have time, (B, T, …) with the same B and T each. All of them are
        cut at the same steps; entries that are not named stay as they are.

    Returns
    -------
    dict
        As ``batch``; the entries ``keys`` are (B, round(ratio · T), …).

    Raises
    ------
    ValueError
        If the ratio does not lie above 0 and up to 1 or leaves no step, if an entry is not there,
        or if two of them disagree about batch and time.

    """
    if not 0.0 < ratio <= 1.0:
        raise ValueError(f'ratio is {ratio}, must be above 0 and up to 1')
    samples, steps = _samples_and_steps(batch, keys)
    kept = round(ratio * steps)
    if kept < 1:
        raise ValueError(f'ratio is {ratio}: of {steps} steps none would be kept')
    if kept == steps:
        return dict(batch)
    device = batch[keys[0]].device
    start = torch.randint(0, steps - kept + 1, (samples,), generator=generator, device=device)
    first = torch.arange(samples, device=device) * steps + start
    places = (first[:, None] + torch.arange(kept, device=device)).flatten()
    cut = {key: batch[key].flatten(0, 1).index_select(0, places).unflatten(0, (samples, kept))
           for key in keys}
    return {**batch, **cut}


def _samples_and_steps(batch: Mapping[str, Tensor], keys: Sequence[str]) -> tuple[int, int]:
    if not keys:
        raise ValueError('keys is empty; name the entries that have time')
    sizes = {}
    for key in keys:
        if key not in batch:
            raise ValueError(f'there is no {key!r} in the batch; it has {", ".join(batch)}')
        if batch[key].ndim < 2:
            raise ValueError(f'{key} is {tuple(batch[key].shape)}, must be (B, T, …)')
        sizes[key] = batch[key].shape[0], batch[key].shape[1]
    if len(set(sizes.values())) > 1:
        told = ', '.join(f'{key} {size[0]} and {size[1]}' for key, size in sizes.items())
        raise ValueError(f'samples and steps differ: {told}')
    return next(iter(sizes.values()))
