# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Parity: the same inputs through torch and through every backend that is to be had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.backend import BACKENDS, open_session
from ssl_vla_ros.runtime.parity import Arrays, compare, Limits, limits_on, Parity
import torch
from torch import nn

#: Samples that are run together, besides each alone: a batch that was baked in would show.
_TOGETHER = 4


@torch.no_grad()
def run_torch(network: nn.Module, inputs: Arrays) -> NDArray[Any]:
    """Output of a network for numpy inputs, in the order of its arguments."""
    output = network.eval()(*(torch.from_numpy(np.ascontiguousarray(value))
                              for value in inputs.values()))
    found: NDArray[Any] = output.numpy()
    return found


def run_alone(session: Any, inputs: Arrays) -> NDArray[Any]:
    """Output of a session, one sample at a time, as on the robot."""
    count = len(next(iter(inputs.values())))
    return np.concatenate([
        session.run(None, {name: value[i:i + 1] for name, value in inputs.items()})[0]
        for i in range(count)])


def check_parity(path: Path, expected: NDArray[Any], inputs: Arrays, precision: str,
                 limits: Limits) -> tuple[dict[str, Parity], dict[str, str]]:
    """
    Compare an ONNX file with what torch gave, on the CPU and on every other backend.

    Returns
    -------
    dict, dict
        Parity by backend, and why the others were left out.

    Raises
    ------
    BundleError
        If one of them is outside of the limits.

    """
    found: dict[str, Parity] = {}
    passed_over: dict[str, str] = {}
    for backend in BACKENDS:
        try:
            session = open_session(path, backend, 1, precision).session
        except BundleError as error:
            if backend == 'cpu':
                raise
            passed_over[backend] = str(error)
            continue
        allowed = limits_on(backend, limits, precision)
        batch = {name: value[:_TOGETHER] for name, value in inputs.items()}
        try:
            alone, few = run_alone(session, inputs), session.run(None, dict(batch))[0]
        except Exception as error:  # each runtime has its own
            if backend == 'cpu':
                raise BundleError(f'{path.name}: does not run on the CPU: {error}') from error
            passed_over[backend] = f'does not run: {" ".join(str(error).split())}'
            continue
        parity = compare(expected, alone, allowed)
        # So few say little of how they differ from each other.
        together = compare(expected[:_TOGETHER], few, replace(allowed, min_centred=None))
        for seen in (parity, together):
            if not seen.holds:
                raise BundleError(f'{path.name}: {backend} differs from torch in {precision}: '
                                  f'{seen}: no bundle is written{_remedy(precision)}')
        found[backend] = parity
    return found, passed_over


def _remedy(precision: str) -> str:
    return '' if precision == 'fp32' else '; export with a higher --precision'


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def picked(arrays: Mapping[str, NDArray[Any]], places: NDArray[np.int64]
           ) -> dict[str, NDArray[Any]]:
    """Give some samples of every array."""
    return {name: np.ascontiguousarray(value[places]) for name, value in arrays.items()}
