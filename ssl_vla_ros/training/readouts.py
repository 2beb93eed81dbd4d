# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What can be read off frozen features: a ridge regression and a small MLP, on held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn.functional import gelu

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

#: The MLP's hidden units; one layer is enough to see what is there but not linear.
_HIDDEN = 128
_LEARNING_RATE, _WEIGHT_DECAY, _BATCH = 3e-3, 0.1, 128
#: Looks at the inner split, the steps from one to the next at least, and looks without a gain.
_LOOKS, _STEPS, _PATIENCE = 60, 10, 10
#: Penalties to choose from.
_STRENGTHS = (1.0, 10.0, 100.0, 1e3, 1e4)
#: Wider features are projected to half of this: the time would grow with the width.
_WIDEST = 2048
#: Part of the training episodes that say when to stop, and what counts as better for them.
_INNER, _BETTER = 0.2, 0.99


def explained(predicted: Array, wanted: Array, names: Sequence[str]) -> dict[str, float]:
    """R² (1 − error / spread) of predictions (N, K) of each target that varies."""
    error = np.square(predicted - wanted).sum(axis=0)
    spread = np.square(wanted - wanted.mean(axis=0)).sum(axis=0)
    return {name: float(1.0 - error[place] / spread[place]) for place, name in enumerate(names)
            if spread[place] > 1e-9 * len(wanted)}


def ridge_r2(features: Array, targets: Array, train: Rows, test: Rows, names: Sequence[str],
             strength: float = 1.0) -> dict[str, float]:
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
        Of the penalty, per standardised feature. The intercept is not penalised.

    """
    (predicted,) = _ridge(features, targets, train, test, [strength])
    return explained(predicted, targets[test], names)


def choose_strength(features: Array, targets: Array, train: Rows, episodes: Rows,
                    generator: torch.Generator) -> float:
    """
    Choose the ridge probe's penalty by a fifth of the training episodes.

    With about as many features as rows a weak penalty fits the noise: 1536 features of 1500 rows
    had an R² of 0.47 where 768 of the same kind had 0.86 and 6912 had 0.97.

    Parameters
    ----------
    features, targets, train
        As for ``ridge_r2``; test rows are not looked at.
    episodes
        (N,) episode of each row.
    generator
        On the CPU; draws the inner split.

    Returns
    -------
    float
        One of 1, 10 … 10000: that with the least error of the standardised targets, where a
        target that is worse than its mean counts as its mean.

    Raises
    ------
    ValueError
        If the training rows are of one episode only.

    """
    fit, check = _inner_split(train, episodes, generator)
    spread = np.square(targets[check] - targets[fit].mean(axis=0)).mean(axis=0) + 1e-12
    errors = [np.minimum(np.square(found - targets[check]).mean(axis=0) / spread, 1.0).sum()
              for found in _ridge(features, targets, fit, check, _STRENGTHS)]
    return _STRENGTHS[int(np.argmin(errors))]


def _ridge(features: Array, targets: Array, train: Rows, test: Rows, strengths: Sequence[float]
           ) -> list[Array]:
    """Predictions (test, K) with each strength of the penalty."""
    mean, std = features[train].mean(axis=0), _scale(features[train])
    fitted, centre = (features[train] - mean) / std, targets[train].mean(axis=0)
    asked, wanted = (features[test] - mean) / std, targets[train] - centre
    if fitted.shape[1] <= len(train):
        gram, moments, read = fitted.T @ fitted, fitted.T @ wanted, asked
    else:
        # The same predictions from the smaller system: time grows with the cube of its size.
        gram, moments, read = fitted @ fitted.T, wanted, asked @ fitted.T
    unit = np.eye(len(gram))
    return [read @ np.linalg.solve(gram + strength * unit, moments) + centre
            for strength in strengths]


def mlp_r2(features: Array, targets: Array, train: Rows, test: Rows, names: Sequence[str],
           episodes: Rows, generator: torch.Generator, strength: float = 1.0
           ) -> dict[str, float]:
    """
    R² on ``test`` rows of an MLP with one hidden layer, fitted on ``train`` rows.

    It is trained with AdamW. A fifth of the training episodes is not fitted and says, for each
    target on its own, when to stop; and whether the ridge probe, or just the mean, would have
    done better: that predicts the target then. So a small MLP is asked for no more than it can
    give: without this, few rows of wide features are learned by heart. Features wider than 2048
    are first projected to 1024 random directions, which keeps their distances (Johnson and
    Lindenstrauss, 1984).

    Parameters
    ----------
    features, targets, train, test, names
        As for ``ridge_r2``.
    episodes
        (N,) episode of each row.
    generator
        On the CPU. Draws weights, batches and inner split: the same one gives the same result.
        Torch's own generator is left alone.
    strength
        Of the ridge probe that it competes with.

    Raises
    ------
    ValueError
        If the training rows are of one episode only.

    """
    fit, check = _inner_split(train, episodes, generator)
    inputs, mean = _standardised(features, train), targets[train].mean(axis=0)
    if inputs.shape[1] > _WIDEST:
        width = _WIDEST // 2
        inputs = inputs @ (torch.randn(inputs.shape[1], width, generator=generator) / width**0.5)
    # A caller may have turned gradients off, as one does around an encoder.
    with torch.inference_mode(False), torch.enable_grad(), _one_thread():
        error, hidden = _fit(inputs, _standardised(targets, train), fit, check, test, generator)
    spread = np.square((targets[check] - mean) / _scale(targets[train])).mean(axis=0)
    (linear,) = _ridge(features, targets, fit, check, [strength])
    (predicted,) = _ridge(features, targets, train, test, [strength])
    linear_error = np.square((targets[check] - linear) / _scale(targets[train])).mean(axis=0)
    predicted = np.where(linear_error < _BETTER * spread, predicted, mean)
    wins = error < _BETTER * np.minimum(linear_error, spread)
    predicted[:, wins] = (hidden * _scale(targets[train]) + mean)[:, wins]
    return explained(predicted, targets[test], names)


@contextmanager
def _one_thread() -> Iterator[None]:
    """
    Work in one thread: steps this small cost others more to meet than to take part in.

    On a machine with other work, two threads that wait for each other in every layer took 20
    times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _inner_split(train: Rows, episodes: Rows, generator: torch.Generator) -> tuple[Rows, Rows]:
    """Rows to fit, and rows that say what is best, of different episodes."""
    kinds = np.unique(episodes[train])
    if len(kinds) < 2:
        raise ValueError('an MLP probe needs two training episodes: one says when to stop')
    order = torch.randperm(len(kinds), generator=generator).numpy()
    checking = np.isin(episodes[train], kinds[order[:max(1, round(_INNER * len(kinds)))]])
    return train[~checking], train[checking]


def _scale(values: Array) -> Array:
    found: Array = values.std(axis=0) + 1e-8
    return found


def _standardised(values: Array, train: Rows) -> Tensor:
    return torch.from_numpy(
        ((values - values[train].mean(axis=0)) / _scale(values[train])).astype(np.float32))


def _batches(rows: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Batches of one pass over the rows; of few rows, of several passes."""
    for _ in range(max(1, round(_STEPS * _BATCH / len(rows)))):
        yield from rows[torch.randperm(len(rows), generator=generator)].split(_BATCH)


def _fit(inputs: Tensor, wanted: Tensor, fit: Rows, check: Rows, test: Rows,
         generator: torch.Generator) -> tuple[Array, Array]:
    """Errors (K,) on ``check`` and predictions (test, K), of the look that was best for each."""
    width, targets = inputs.shape[1], wanted.shape[1]
    parameters = [
        torch.randn(width, _HIDDEN, generator=generator) * (2.0 / width) ** 0.5,
        torch.zeros(_HIDDEN),
        torch.randn(_HIDDEN, targets, generator=generator) * 0.1 * (2.0 / _HIDDEN) ** 0.5,
        torch.zeros(targets)]
    for parameter in parameters:
        parameter.requires_grad_()
    optimiser = torch.optim.AdamW(parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def output(rows: Tensor) -> Tensor:
        first, first_bias, second, second_bias = parameters
        found: Tensor = gelu(inputs[rows] @ first + first_bias) @ second + second_bias
        return found

    fitted, checked, tested = (torch.from_numpy(rows) for rows in (fit, check, test))
    best, predicted = torch.full((targets,), torch.inf), torch.zeros(len(test), targets)
    waited = 0
    for _ in range(_LOOKS):
        for batch in _batches(fitted, generator):
            optimiser.zero_grad()
            (output(batch) - wanted[batch]).square().mean().backward()
            optimiser.step()
        with torch.no_grad():
            error = (output(checked) - wanted[checked]).square().mean(dim=0)
            better = error < _BETTER * best
            if bool(better.any()):
                best = torch.where(better, error, best)
                predicted[:, better] = output(tested)[:, better]
        waited = 0 if bool(better.any()) else waited + 1
        if waited == _PATIENCE:
            break
    return best.double().numpy(), predicted.double().numpy()
