# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Turn a head that predicts chunks of actions into one action for each tick."""

from __future__ import annotations

import numpy as np
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.bundle import Bundle, Floats, InferenceError
from ssl_vla_ros.runtime.history import TickHistory, Vector


class ChunkRunner:
    """
    Run a bundle's head every ``execute`` ticks and hand out its actions by stamp.

    An action belongs to the tick it was predicted for: after a lost tick the next action is the
    one for the present time. While the history is being filled again after a gap, the rest of
    the old chunk bridges it; past the end of the chunk there is nothing to send, and that is an
    error.

    Parameters
    ----------
    bundle
        With a head.
    period_s
        The control period.
    execute
        Ticks after which a new chunk is predicted; 0 takes the manifest's number.

    """

    def __init__(self, bundle: Bundle, period_s: float, execute: int = 0) -> None:
        head = bundle.manifest.head
        if head is None or not bundle.has('head'):
            raise BundleError(f'{bundle.manifest.path}: the bundle has no head, so no policy can '
                              'run on it; export one with a trained head')
        if execute > head.chunk:
            raise BundleError(f'execute is {execute}, but the head of {bundle.manifest.path} '
                              f'predicts {head.chunk} actions; choose 1 to {head.chunk}')
        self.execute = execute or head.execute
        self._bundle = bundle
        self._length = head.chunk
        self._period_ns = period_s * 1e9
        self._history = TickHistory(head.history, period_s)
        self._chunk: Floats | None = None
        self._chunk_ns = 0
        #: How many chunks were predicted.
        self.chunks = 0

    def clear(self) -> None:
        """Forget history and chunk."""
        self._history.clear()
        self._chunk = None

    def step(self, stamp_ns: int, features: Floats, state: Vector) -> Vector | None:
        """
        Return the action (A,) for a tick, or None while the history is filled for the first time.

        Parameters
        ----------
        stamp_ns
            Of the features.
        features
            (tokens, dim).
        state
            (S,) at the features' stamp.

        Raises
        ------
        InferenceError
            If the head fails or gives NaN, or with the cause ``chunk_over`` when no new chunk
            could be predicted in time.

        """
        self._history.push(stamp_ns, features, state.astype(np.float32))
        index = round((stamp_ns - self._chunk_ns) / self._period_ns)
        if (self._chunk is None or not 0 <= index < self.execute) and self._history.full:
            self._chunk = self._bundle.act(self._history.stack(0), self._history.stack(1))
            self._chunk_ns = stamp_ns
            self.chunks += 1
            index = 0
        if self._chunk is None:
            return None
        if not 0 <= index < self._length:
            raise InferenceError('chunk_over', f'the chunk of {self._length} actions ended before '
                                               'there was a history for the next one')
        return np.asarray(self._chunk[index], np.float64)
