# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The Wilson score interval of a success rate."""

from __future__ import annotations

import math

#: Two-sided 95 % quantile of the standard normal distribution.
Z_95 = 1.959963984540054


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """
    Interval of the true success rate behind ``successes`` of ``trials`` (Wilson, 1927).

    Unlike the usual p ± z·s it is right for the few rollouts a robot affords, and it never has
    no width: 20 of 20 gives 0.84 … 1.

    Raises
    ------
    ValueError
        If there are no trials, or not between 0 and ``trials`` successes.

    """
    if trials <= 0:
        raise ValueError(f'trials is {trials}, must be at least 1: without any there is no rate')
    if not 0 <= successes <= trials:
        raise ValueError(f'successes is {successes}, must be from 0 to {trials}')
    rate = successes / trials
    square = z * z / trials
    centre = (rate + 0.5 * square) / (1.0 + square)
    half = z * math.sqrt(rate * (1.0 - rate) / trials + square / (4.0 * trials)) / (1.0 + square)
    # The ends are exact there; rounding would leave 1e-17 or 0.9999…
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high
