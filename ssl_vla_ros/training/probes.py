# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Probes of frozen features: do they vary, how many directions do they use, what can be read off.

A falling loss alone hides collapse, and RankMe alone does not see it either: so deviation,
effective rank and a ridge probe to the robot's state on held-out episodes decide. An MLP probe
tells what is there but not linear; retrieval tells whether the features know how far a task is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math
from statistics import median_high

import numpy as np
from ssl_vla_ros.training.readouts import (
    Array, choose_strength, mlp_r2, ridge_r2, Rows)
from ssl_vla_ros.training.retrieval import temporal_retrieval
import torch

__all__ = ['choose_strength', 'effective_rank', 'mlp_r2', 'probe', 'ProbeResult', 'rank_me',
           'ridge_r2', 'Spread', 'spread_of', 'temporal_retrieval']

#: Mean deviation of the features below which they carry nothing that a head can use.
COLLAPSED_STD = 1e-4
#: Features that use fewer directions than this, of more than two, are called collapsed.
COLLAPSED_RANK = 1.5
#: Fewer held-out episodes than these say too little to call features collapsed by their R².
FEWEST_EPISODES = 3
#: Features that explain less of the state than this, on held-out episodes, are called collapsed.
COLLAPSED_R2 = 0.05
#: Rows that ranks are taken of, at most.
_MOST = 2048


@dataclass(frozen=True)
class Spread:
    """
    How far, and in how many directions, features vary from moment to moment.

    Attributes
    ----------
    std
        Mean deviation of a feature.
    effective_rank
        Directions in use.
    most
        Directions that could be in use: the width, or one less than the moments.

    """

    std: float
    effective_rank: float
    most: int

    def causes(self, name: str) -> dict[str, str]:
        """Return why features of that name are called collapsed, a sentence by cause."""
        words = name.replace('_', ' ')
        if self.std < COLLAPSED_STD:
            return {f'constant {name}': (
                f'{words}: what objectives train is constant: its mean deviation on held-out rows '
                f'is {self.std:.2g} (below {COLLAPSED_STD:g})')}
        if self.most > 2 and self.effective_rank < COLLAPSED_RANK:
            return {f'rank {name}': (
                f'{words}: what objectives train varies in one direction: its effective rank is '
                f'{self.effective_rank:.2f} (below {COLLAPSED_RANK:g}) of {self.most}')}
        return {}

    def metrics(self, name: str) -> dict[str, float]:
        """Return deviation and rank by the names they have in ``metrics.jsonl``."""
        return {f'probe.{name}_std': self.std,
                f'probe.{name}_effective_rank': self.effective_rank}


@dataclass(frozen=True)
class ProbeResult:
    """
    What the probes of one set of features found.

    Attributes
    ----------
    feature_std
        Mean deviation of a feature on held-out rows.
    rank_me, effective_rank
        Directions in use, with and without the mean.
    width
        Features there are.
    r2, mlp_r2
        R² of the ridge probe and of the MLP for each target; the latter is empty if it was not
        fitted.
    retrieval
        Kendall's tau of the alignment in time, 0 for chance; NaN if it was not measured.
    trained
        Spread of what objectives train: the readout may vary although these do not.
    held_out
        Episodes that R² was measured on; 0 where that is unknown.

    """

    feature_std: float
    rank_me: float
    effective_rank: float
    width: int
    r2: Mapping[str, float]
    mlp_r2: Mapping[str, float] = field(default_factory=dict)
    retrieval: float = math.nan
    trained: Mapping[str, Spread] = field(default_factory=dict)
    held_out: int = 0

    @property
    def mean_r2(self) -> float:
        """Mean R² over the targets that vary."""
        return _mean(self.r2)

    @property
    def mean_mlp_r2(self) -> float:
        """Mean R² of the MLP over the targets that vary."""
        return _mean(self.mlp_r2)

    @property
    def median_r2(self) -> float:
        """Median R² (the upper of two): a target that hardly varies does not decide."""
        return median_high(self.r2.values()) if self.r2 else math.nan

    @property
    def collapsed(self) -> bool:
        """Whether deviation, rank or probe says that the encoder has collapsed."""
        return bool(self.causes())

    def causes(self) -> dict[str, str]:
        """Return why the features are called collapsed: a sentence by 'constant', 'rank' …."""
        if self.feature_std < COLLAPSED_STD:
            # The rest follows from it.
            return {'constant': 'the features are constant: their mean deviation on held-out rows '
                                f'is {self.feature_std:.2g} (below {COLLAPSED_STD:g})'}
        found = {cause: sentence for name, spread in self.trained.items()
                 for cause, sentence in spread.causes(name).items()}
        if self.width > 2 and self.effective_rank < COLLAPSED_RANK:
            found['rank'] = (f'the features vary in one direction: their effective rank is '
                             f'{self.effective_rank:.2f} (below {COLLAPSED_RANK:g}), their width '
                             f'{self.width}')
        # Within one episode most targets hardly vary, and R² says nothing.
        if self.median_r2 < COLLAPSED_R2 and not 0 < self.held_out < FEWEST_EPISODES:
            found['unreadable'] = (
                'next to nothing can be read off the features linearly: the median R² to '
                f'{len(self.r2)} targets on held-out episodes is {self.median_r2:.2f} (below '
                f'{COLLAPSED_R2:g})')
            if self.mlp_r2:
                found['unreadable'] += f', that of an MLP {median_high(self.mlp_r2.values()):.2f}'
        return found

    def reasons(self) -> list[str]:
        """Sentences that say why the features are called collapsed; empty if they are not."""
        return list(self.causes().values())

    def metrics(self) -> dict[str, float]:
        """Return all figures by the names they have in ``metrics.jsonl`` and ``run.json``."""
        values = {
            'probe.feature_std': self.feature_std, 'probe.rank_me': self.rank_me,
            'probe.effective_rank': self.effective_rank, 'probe.mean_r2': self.mean_r2,
            'probe.mean_mlp_r2': self.mean_mlp_r2, 'probe.retrieval': self.retrieval}
        values |= {f'probe.r2.{name}': value for name, value in self.r2.items()}
        values |= {f'probe.mlp_r2.{name}': value for name, value in self.mlp_r2.items()}
        for name, spread in self.trained.items():
            values |= spread.metrics(name)
        return {name: value for name, value in values.items() if math.isfinite(value)}


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values()))) if values else math.nan


def _singular_values(rows: Array) -> Array:
    """From the smaller Gram matrix: half the time, and small values change no entropy."""
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    found: Array = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    return found


def rank_me(features: Array) -> float:
    """
    Effective rank: the exponential of the entropy of the normalised singular values.

    RankMe (Garrido et al., 2023, equation 1).

    Parameters
    ----------
    features
        (N, D), not centred, as in the paper.

    """
    values = _singular_values(features)
    total = values.sum()
    if total == 0.0:
        return 0.0
    share = values / total + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def effective_rank(features: Array) -> float:
    """
    Effective rank of features less their mean.

    The exponential of the entropy of the normalised singular values: "The effective rank: a
    measure of effective dimensionality" (Roy and Vetterli, 2007), section 2. A constant offset,
    which RankMe counts as a direction of its own, is taken off first.

    Parameters
    ----------
    features
        (N, D).

    Returns
    -------
    float
        From 1 to min(N − 1, D); 0 for features that do not vary beyond float32's rounding.

    """
    centred = features - features.mean(axis=0)
    if np.linalg.norm(centred) <= 1e-6 * np.linalg.norm(features):
        return 0.0
    values = _singular_values(centred)
    share = values[values > 0.0] / values.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def spread_of(features: Array) -> Spread:
    """Deviation and effective rank of features (N, D) of N moments."""
    return Spread(float(features.std(axis=0).mean()), effective_rank(features),
                  min(len(features) - 1, features.shape[1]))


def probe(features: Array, targets: Array, train: Rows, test: Rows, names: Sequence[str], *,
          episodes: Rows | None = None, tasks: Sequence[str] | None = None, seed: int = 0,
          whole: bool = True, trained: Mapping[str, Spread] | None = None) -> ProbeResult:
    """
    All probes of ``features`` (N, D) against ``targets`` (N, K).

    Parameters
    ----------
    features, targets
        One row for each row of ``train`` and ``test``.
    train, test
        Row numbers of the two splits, by episode and in the order of time.
    names
        (K) names of the targets.
    episodes
        (N,) episode of each row. Without it, the ridge probe's penalty is 1 and not chosen by
        episodes, and neither MLP nor retrieval can be had. One training episode alone leaves out
        the choice and the MLP, one held-out episode of each task retrieval.
    tasks
        (N,) task of each row; None if there is one only.
    seed
        Of the choice of the penalty and of the MLP.
    whole
        Also fit the MLP and measure retrieval, which take most of the time.
    trained
        Spread of what objectives train, by name.

    Raises
    ------
    ValueError
        If features or targets are not finite: a probe of NaN would say nothing.

    """
    if not (np.isfinite(features).all() and np.isfinite(targets).all()):
        raise ValueError('features and targets must be finite')
    features, targets = features.astype(np.float64), targets.astype(np.float64)
    sample = features[test[np.linspace(0, len(test) - 1, min(_MOST, len(test))).astype(int)]]
    strength, mlp, retrieval = 1.0, dict[str, float](), math.nan
    if episodes is not None:
        generator = torch.Generator().manual_seed(seed)
        if len(names) and len(np.unique(episodes[train])) > 1:
            strength = choose_strength(features, targets, train, episodes, generator)
            if whole:
                mlp = mlp_r2(features, targets, train, test, names, episodes, generator, strength)
        if whole:
            retrieval = temporal_retrieval(features, episodes, test, tasks)
    return ProbeResult(
        feature_std=float(features[test].std(axis=0).mean()), rank_me=rank_me(sample),
        effective_rank=effective_rank(sample), width=features.shape[1],
        r2=ridge_r2(features, targets, train, test, names, strength), mlp_r2=mlp,
        retrieval=retrieval, trained=trained or {},
        held_out=0 if episodes is None else len(np.unique(episodes[test])))
