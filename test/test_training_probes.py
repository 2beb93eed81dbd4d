# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Probes: known ranks and fits, collapse flagged, and only training rows fitted."""

from __future__ import annotations

import numpy as np
import pytest

from ssl_vla_ros.training.compare import pixel_components
from ssl_vla_ros.training.probes import probe, rank_me, ridge_r2

TRAIN, TEST = np.arange(200), np.arange(200, 300)


def targets() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 2))


def test_rank_me_of_known_matrices() -> None:
    assert rank_me(np.eye(8)) == pytest.approx(8.0, rel=1e-4)
    assert rank_me(np.outer(np.arange(1.0, 9.0), np.ones(5))) == pytest.approx(1.0, rel=1e-4)
    assert rank_me(np.zeros((4, 3))) == 0.0
    # Singular values 3 and 1: shares 3/4 and 1/4.
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))
    assert rank_me(np.diag([3.0, 1.0])) == pytest.approx(np.exp(entropy), rel=1e-4)


def test_informative_features_are_not_called_collapsed() -> None:
    wanted = targets()
    features = np.c_[wanted @ [[1.0, 2.0], [0.5, -1.0]],
                     np.random.default_rng(1).normal(size=(300, 3))]
    result = probe(features, wanted, TRAIN, TEST, ['a', 'b'])
    assert result.r2['a'] > 0.99
    assert result.r2['b'] > 0.99
    assert not result.collapsed


@pytest.mark.parametrize('features', [
    np.full((300, 4), 0.3),
    1e-7 * targets() + 0.5,
    np.random.default_rng(2).normal(size=(300, 4)),
])
def test_constant_and_uninformative_features_are_called_collapsed(features: np.ndarray) -> None:
    assert probe(features, targets(), TRAIN, TEST, ['a', 'b']).collapsed


def test_the_fit_sees_training_rows_alone() -> None:
    wanted = targets()
    features = wanted + 0.01
    before = ridge_r2(features, wanted, TRAIN, TEST, ['a', 'b'])
    changed = wanted.copy()
    changed[TEST] = -changed[TEST]
    after = ridge_r2(features, changed, TRAIN, TEST, ['a', 'b'])
    assert before['a'] > 0.99
    assert after['a'] < -2.0, 'what the test rows say must not have been fitted'


def test_a_target_that_rests_has_no_figure() -> None:
    wanted = np.c_[targets(), np.full(300, 7.0)]
    assert set(ridge_r2(wanted, wanted, TRAIN, TEST, ['a', 'b', 'still'])) == {'a', 'b'}


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    features = targets()
    features[3, 0] = value
    with pytest.raises(ValueError, match='must be finite'):
        probe(features, targets(), TRAIN, TEST, ['a', 'b'])


def test_pixel_components_hold_the_variance_of_the_training_rows() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.0, 1.0, (60, 2))
    patterns = rng.uniform(0.0, 120.0, (2, 1, 8, 8, 3))
    images = np.tensordot(amounts, patterns, 1).round().astype(np.uint8)
    found = pixel_components(images, np.arange(40), 3)
    assert found.shape == (60, 3)
    result = ridge_r2(found, amounts, np.arange(40), np.arange(40, 60), ['a', 'b'], 1e-3)
    assert min(result.values()) > 0.99
    assert found[:40, 0].std() > 20.0 * found[:40, 2].std(), 'two directions, then noise'
