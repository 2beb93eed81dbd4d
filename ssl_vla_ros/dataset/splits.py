# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Splits by whole episodes: windows of one episode on both sides would tell the answer."""

from __future__ import annotations

import numpy as np

from ssl_vla_ros.errors import DatasetError


def split_episodes(
        count: int, held_out_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """
    Divide episodes into training and held-out ones.

    Parameters
    ----------
    count
        Number of episodes.
    held_out_fraction
        Part to hold out, 0 up to (not including) 1; anything above 0 holds out at least one.
    seed
        Which division; the same on every machine.

    Returns
    -------
    tuple
        Sorted training indices, sorted held-out indices; the training side is never empty.

    Raises
    ------
    DatasetError
        If the fraction is out of range or there are too few episodes for both sides.

    """
    if not 0.0 <= held_out_fraction < 1.0:
        raise DatasetError(
            f'held_out_fraction is {held_out_fraction!r}, must be at least 0 and below 1')
    held = 0
    if held_out_fraction > 0.0:
        held = max(1, round(count * held_out_fraction))
    if count - held < 1:
        raise DatasetError(
            f'{count} episodes cannot be split with held_out_fraction {held_out_fraction:g}: '
            'record more episodes, or lower it')
    order = np.random.default_rng(seed).permutation(count).tolist()
    return sorted(order[held:]), sorted(order[:held])
