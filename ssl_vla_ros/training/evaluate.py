# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Honest figures of a world model: its error beside that of copying the last frame."""

from __future__ import annotations

import numpy as np
from ssl_vla_ros.objectives.world_model import WorldModel
from ssl_vla_ros.training.batches import WindowSource
import torch


@torch.no_grad()
def world_model_errors(objective: WorldModel, source: WindowSource, seed: int
                       ) -> dict[str, float | list[float]]:
    """
    Error at each horizon divided by the error of copying the last context frame.

    Errors are squared, in units of each latent's deviation, over every window of ``source``;
    ``shuffled`` gives each window the actions of another one, which must be clearly worse: a model
    that ignores actions would not notice.

    Returns
    -------
    dict
        ``error_ratio`` and ``error_ratio_shuffled`` lists over the horizon, and their last
        entries as ``error_ratio_last`` and ``error_ratio_shuffled_last``.

    """
    dynamics, context = objective.dynamics, objective.config.context
    numbers = source.all_windows()
    order = np.random.default_rng(seed).permutation(len(numbers))
    # A fixed point of the permutation would keep its own actions: move every window on by one.
    other = np.empty_like(order)
    other[order] = np.roll(order, 1)
    sums = {name: torch.zeros(objective.config.horizon, dtype=torch.float64)
            for name in ('model', 'shuffled', 'copy')}
    for start in range(0, len(numbers), 512):
        batch = source.windows(numbers[start:start + 512])
        strange = source.windows(numbers[other[start:start + 512]])
        latents = dynamics.latents(batch['features'].flatten(2))
        past, future = latents[:, :context], latents[:, context:]
        for name, actions in (('model', batch['actions']), ('shuffled', strange['actions'])):
            predicted = dynamics.rollout(past, dynamics.actions(actions), future.shape[1])
            sums[name] += (predicted - future).double().square().mean(-1).sum(0)
        sums['copy'] += (past[:, -1:] - future).double().square().mean(-1).sum(0)
    ratio = (sums['model'] / sums['copy']).tolist()
    shuffled = (sums['shuffled'] / sums['copy']).tolist()
    return {'error_ratio': ratio, 'error_ratio_shuffled': shuffled,
            'error_ratio_last': ratio[-1], 'error_ratio_shuffled_last': shuffled[-1]}
