# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the world model foresees at each tick, and how far the last tick was from it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ssl_vla_ros.runtime.bundle import Bundle, Floats
from ssl_vla_ros.runtime.history import commanded, latest, StreamLog, TickHistory

#: Share of the features' mean square under which a change is called no change at all: keeps the
#: surprise finite in front of a picture that stands perfectly still.
_STILL = 1e-6
_TINY = 1e-30


@dataclass(frozen=True)
class Foresight:
    """
    What one tick brought.

    Attributes
    ----------
    prediction
        (horizon, tokens, dim) features to come while the last command is held, or None.
    surprise
        Mean squared error of the one-step prediction of this tick's features, made from the
        ticks before it and the actions really commanded, divided by the mean squared change from
        one tick to the next over the last ticks; 1 is as good as copying the last frame. Or None.
    cause
        Why something wanted is None: ``short_history`` or ``no_action``; '' otherwise.

    """

    prediction: Floats | None
    surprise: float | None
    cause: str


class WorldTracker:
    """
    Keep the context of a bundle's world model and run it tick by tick.

    Parameters
    ----------
    bundle
        With a world model. The contract embedded in it says how commands are paired with ticks:
        that is how the model was trained, whatever the robot's own contract says.
    actions
        Logs of the contract's action streams, in the contract's order.
    period_s
        The control period.
    window
        How many changes from tick to tick the surprise's denominator averages.

    """

    def __init__(self, bundle: Bundle, actions: Sequence[StreamLog], period_s: float,
                 window: int = 20) -> None:
        model = bundle.manifest.world_model
        if model is None:
            raise ValueError('the bundle has no world model')
        self._bundle = bundle
        self._actions = actions
        self._pairing = bundle.manifest.contract.sync.action
        self._context, self._horizon = model.context, model.horizon
        self._ticks = TickHistory(model.context + 1, period_s)
        self._changes: deque[float] = deque(maxlen=window)

    def clear(self) -> None:
        """Forget every tick."""
        self._ticks.clear()
        self._changes.clear()

    def step(self, stamp_ns: int, features: Floats, want_prediction: bool,
             want_surprise: bool) -> Foresight:
        """
        Take the features (tokens, dim) of the next tick, and foresee what is wanted.

        Raises
        ------
        InferenceError
            If the world model gives NaN, another shape, or fails.

        """
        before = self._ticks.stack()[-1] if len(self._ticks) else None
        verdict = self._ticks.push(stamp_ns, features)
        if verdict == 'late':
            return Foresight(None, None, 'late')
        if verdict in ('gap', 'jump'):
            self._changes.clear()
        elif before is not None:
            self._changes.append(float(np.mean(np.square(features - before))))
        if not (want_prediction or want_surprise):
            return Foresight(None, None, '')
        frames: list[Floats] = []
        actions: list[Floats] = []
        cause = ''
        ready = len(self._ticks)
        surprising = want_surprise and ready > self._context
        foreseeing = want_prediction and ready >= self._context
        if (want_surprise and not surprising) or (want_prediction and not foreseeing):
            cause = 'short_history'
        for wanted, last in ((surprising, ready - 2), (foreseeing, ready - 1)):
            if wanted:
                sequence = self._sequence(last)
                if sequence is None:
                    return Foresight(None, None, 'no_action')
                first = last - self._context + 1
                frames.append(self._ticks.stack()[first:last + 1])
                actions.append(sequence)
        if not frames:
            return Foresight(None, None, cause)
        # One call for both: the network's overhead is paid once.
        results = list(self._bundle.predict_batch(np.stack(frames), np.stack(actions)))
        surprise = None
        if surprising:
            error = float(np.mean(np.square(results.pop(0)[0] - features)))
            still = _STILL * float(np.mean(np.square(features))) + _TINY
            surprise = error / max(float(np.mean(self._changes)), still)
        return Foresight(results.pop(0) if foreseeing else None, surprise, cause)

    def _sequence(self, last: int) -> Floats | None:
        """Actions (context - 1 + horizon, A) for the context that ends at tick ``last``."""
        stamps = self._ticks.stamps
        rows = []
        for index in range(last - self._context + 1, len(stamps) - 1):
            row = commanded(self._actions, stamps[index], stamps[index + 1], self._pairing)
            if row is None:
                return None
            rows.append(row)
        held = latest(self._actions)
        if held is None:
            return None
        rows = rows[:self._context - 1 + self._horizon]
        rows += [held] * (self._context - 1 + self._horizon - len(rows))
        return np.stack(rows).astype(np.float32)
