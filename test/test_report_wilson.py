# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The Wilson interval against its definition."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st
import pytest

from ssl_vla_ros.report.wilson import wilson_interval, Z_95


@pytest.mark.parametrize('successes, trials, low, high', [
    # Values of R's prop.test(correct = FALSE) and of Agresti & Coull (1998).
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (15, 20, 0.5313, 0.8881), (1, 2, 0.0945, 0.9055),
    (50, 100, 0.4038, 0.5962)])
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_ends_solve_the_score_equation(counts: tuple[int, int]) -> None:
    successes, trials = counts
    rate = successes / trials
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= rate <= high <= 1.0
    for end in (low, high):
        # By definition the ends are the rates p with |rate - p| = z sqrt(p (1 - p) / n).
        assert abs(rate - end) == pytest.approx(
            Z_95 * math.sqrt(max(end * (1.0 - end), 0.0) / trials), abs=1e-9)


@pytest.mark.parametrize('successes, trials', [(0, 0), (3, 2), (-1, 5), (0, -1)])
def test_refuses_what_is_no_rate(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match=r'trials is|successes is'):
        wilson_interval(successes, trials)
