# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Probes of frozen features: do they vary, how many directions do they use, what can be read off.

A falling loss alone hides collapse, and RankMe alone does not see it either: so the deviation of
the features and a ridge probe to the robot's state on held-out episodes decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Mean deviation of the features below which they carry nothing that a head can use.
COLLAPSED_STD = 1e-4
#: Features that explain less of the state than this, on held-out episodes, are called collapsed.
COLLAPSED_R2 = 0.05


@dataclass(frozen=True)
class ProbeResult:
    """Deviation, RankMe and the ridge probe's R² for each target."""

    feature_std: float
    rank_me: float
    r2: dict[str, float]

    @property
    def mean_r2(self) -> float:
        """Mean R² over the targets that vary."""
        return float(np.mean(list(self.r2.values()))) if self.r2 else float('nan')

    @property
    def median_r2(self) -> float:
        """Median R²: one target that hardly varies on the held-out rows does not decide."""
        return float(np.median(list(self.r2.values()))) if self.r2 else float('nan')

    @property
    def collapsed(self) -> bool:
        """Whether deviation or probe says that the encoder has collapsed."""
        return self.feature_std < COLLAPSED_STD or self.median_r2 < COLLAPSED_R2


def rank_me(features: Array) -> float:
    """
    Effective rank: the exponential of the entropy of the normalised singular values.

    RankMe (Garrido et al., 2023, equation 1).

    Parameters
    ----------
    features
        (N, D), not centred, as in the paper.

    """
    values = np.linalg.svd(features, compute_uv=False)
    total = values.sum()
    if total == 0.0:
        return 0.0
    share = values / total + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def ridge_r2(features: Array, targets: Array, train: NDArray[np.int64],
             test: NDArray[np.int64], names: Sequence[str], strength: float = 1.0
             ) -> dict[str, float]:
    """
    R² on ``test`` rows of a ridge regression fitted on ``train`` rows.

    Parameters
    ----------
    features, targets
        (N, D) and (N, K); standardised here by the training rows alone.
    train, test
        Row numbers of the two splits, by episode.
    names
        (K) names of the targets. A target that does not vary on the test rows has no R² and is
        left out.
    strength
        Of the penalty, per standardised feature.

    """
    mean, std = features[train].mean(axis=0), features[train].std(axis=0) + 1e-8
    design = np.c_[(features - mean) / std, np.ones(len(features))]
    penalty = strength * np.eye(design.shape[1])
    penalty[-1, -1] = 0.0
    fitted = design[train]
    weights = np.linalg.solve(fitted.T @ fitted + penalty, fitted.T @ targets[train])
    error = np.square(design[test] @ weights - targets[test]).sum(axis=0)
    spread = np.square(targets[test] - targets[test].mean(axis=0)).sum(axis=0)
    return {name: float(1.0 - error[i] / spread[i]) for i, name in enumerate(names)
            if spread[i] > 1e-9 * len(test)}


def probe(features: Array, targets: Array, train: NDArray[np.int64], test: NDArray[np.int64],
          names: Sequence[str]) -> ProbeResult:
    """
    All three probes of ``features`` (N, D) against ``targets`` (N, K).

    Raises
    ------
    ValueError
        If features or targets are not finite: a probe of NaN would say nothing.

    """
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise ValueError('features and targets must be finite')
    features = features.astype(np.float64)
    sample = test[:2048]
    return ProbeResult(
        feature_std=float(features[test].std(axis=0).mean()),
        rank_me=rank_me(features[sample]),
        r2=ridge_r2(features, targets.astype(np.float64), train, test, names))
