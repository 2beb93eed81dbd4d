# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Parity: the same inputs through torch and through ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnxruntime
from ssl_vla_ros.errors import BundleError
import torch
from torch import nn

#: Largest absolute difference, and smallest cosine, of fp32 graphs on real data.
MAX_ABS_ERROR = 1e-4
MIN_COSINE = 0.9999


@dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime is from torch for one graph."""

    samples: int
    max_abs_error: float
    cosine: float
    tolerance: float

    def to_dict(self) -> dict[str, float]:
        """Plain values for the manifest."""
        return asdict(self)


def run_onnx(path: Path, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """Output of an ONNX file on the CPU provider, one thread."""
    output: NDArray[np.generic] = _session(path).run(None, inputs)[0]
    return output


def run_alone(path: Path, inputs: dict[str, NDArray[np.generic]]) -> NDArray[np.generic]:
    """Output of an ONNX file, one sample at a time, as on the robot."""
    session = _session(path)
    count = len(next(iter(inputs.values())))
    return np.concatenate([
        session.run(None, {name: value[i:i + 1] for name, value in inputs.items()})[0]
        for i in range(count)])


def _session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])


@torch.no_grad()
def check_parity(network: nn.Module, path: Path, inputs: dict[str, NDArray[np.generic]],
                 tolerance: float = MAX_ABS_ERROR) -> Parity:
    """
    Compare a network with its ONNX file, each sample of ``inputs`` alone and all together.

    Raises
    ------
    BundleError
        If they differ by more than ``tolerance`` or point in different directions.

    """
    tensors = [torch.from_numpy(np.ascontiguousarray(value)) for value in inputs.values()]
    expected = network(*tensors).numpy().astype(np.float64)
    together = run_onnx(path, inputs).astype(np.float64)
    alone = run_alone(path, inputs).astype(np.float64)
    error = max(float(np.abs(expected - together).max()), float(np.abs(expected - alone).max()))
    norm = np.linalg.norm(expected) * np.linalg.norm(together)
    cosine = float((expected * together).sum() / norm) if norm > 0.0 else 1.0
    # Written so that NaN, which compares false with everything, fails.
    if not (np.isfinite(together).all() and error <= tolerance and cosine >= MIN_COSINE):
        raise BundleError(
            f'{path.name}: ONNX Runtime differs from torch by {error:.2g} (allowed '
            f'{tolerance:g}), cosine {cosine:.6f} (at least {MIN_COSINE}): no bundle is written')
    return Parity(len(expected), error, cosine, tolerance)
