# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
How far a bundle's networks are from what was trained: measured, and held against limits.

A bundle carries real inputs and what torch made of them (``reference.npz``), so that the
comparison can be repeated on any machine and backend, without torch and without the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
import zipfile

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.errors import BundleError

REFERENCE_NAME = 'reference.npz'
PRECISIONS = ('fp32', 'fp16', 'int8')

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """
    What a network may be away from torch.

    Attributes
    ----------
    max_abs_error
        Largest difference of any number; None for a precision that is not about that.
    min_cosine
        Of each sample.
    min_centred
        Of the centred cosine of all samples; None for none.

    """

    max_abs_error: float | None
    min_cosine: float
    min_centred: float | None = None


#: By precision. A large mean that samples share flatters the cosine, so that the centred one has
#: a limit, too, where numbers are rounded.
ALLOWED = {'fp32': Limits(1e-4, 0.9999), 'fp16': Limits(None, 0.999, 0.99),
           'int8': Limits(None, 0.99, 0.95)}
#: float32 through ONNX Runtime's TensorRT, which may multiply with 10 bits of mantissa (TF32).
TF32_LIMITS = Limits(None, 0.999, 0.99)


def limits_on(backend: str, limits: Limits, precision: str) -> Limits:
    """Give the limits of a precision on a backend."""
    return TF32_LIMITS if backend == 'tensorrt' and precision == 'fp32' else limits


@dataclass(frozen=True)
class Parity:
    """
    How far one network on one backend is from torch.

    Attributes
    ----------
    samples
        How many were compared, each alone.
    max_abs_error
        Largest difference of any number.
    cosine
        The smallest of a sample.
    centred_cosine
        Over all samples, after the mean of each number is taken off: what samples have in common
        flatters a cosine. None where samples do not differ.
    tolerance, min_cosine, min_centred
        What was allowed; no tolerance where only the direction counts.

    """

    samples: int
    max_abs_error: float
    cosine: float
    centred_cosine: float | None
    tolerance: float | None
    min_cosine: float
    min_centred: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for the manifest."""
        return asdict(self)

    @property
    def holds(self) -> bool:
        """Whether it is within the limits; written so that NaN is not."""
        return self.cosine >= self.min_cosine and (
            self.tolerance is None or self.max_abs_error <= self.tolerance) and (
            self.min_centred is None or self.centred_cosine is None
            or self.centred_cosine >= self.min_centred)

    def __str__(self) -> str:
        allowed = '' if self.tolerance is None else f' (allowed {self.tolerance:g})'
        centred = '' if self.min_centred is None or self.centred_cosine is None else (
            f', centred {self.centred_cosine:.4f} (at least {self.min_centred:g})')
        return (f'max error {self.max_abs_error:.2g}{allowed}, cosine {self.cosine:.6f} '
                f'(at least {self.min_cosine:g}){centred}')


def compare(expected: NDArray[Any], found: NDArray[Any], limits: Limits) -> Parity:
    """
    Compare outputs (samples, …) of a network with those of torch.

    Raises
    ------
    ValueError
        If the shapes differ.

    """
    if expected.shape != found.shape:
        raise ValueError(f'outputs are {found.shape}, must be {expected.shape}')
    one = expected.reshape(len(expected), -1).astype(np.float64)
    two = found.reshape(len(found), -1).astype(np.float64)
    centred = None
    if len(one) > 1 and float(one.std(axis=0).max()) > 0.0:
        centred = _cosine((one - one.mean(axis=0)).reshape(1, -1),
                          (two - one.mean(axis=0)).reshape(1, -1))
    return Parity(len(one), float(np.abs(one - two).max()), _cosine(one, two), centred,
                  limits.max_abs_error, limits.min_cosine, limits.min_centred)


def _cosine(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Smallest cosine of a row; two rows of zeros are the same."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    alike = (one == two).all(axis=1)
    with np.errstate(invalid='ignore', divide='ignore'):
        cosines = np.where(alike, 1.0, (one * two).sum(axis=1) / norms)
    return float(cosines.min())


def write_reference(path: Path, parts: Mapping[str, tuple[Arrays, NDArray[Any]]]) -> None:
    """Write inputs and torch's output of each network to one file without pickle."""
    arrays: dict[str, NDArray[Any]] = {}
    for part, (inputs, output) in parts.items():
        arrays |= {f'{part}/{name}': value for name, value in inputs.items()}
        arrays[f'{part}//'] = output
    with path.open('wb') as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def read_reference(path: Path) -> dict[str, tuple[dict[str, NDArray[Any]], NDArray[Any]]]:
    """
    Read what ``write_reference`` wrote: inputs and output by network.

    Raises
    ------
    BundleError
        If the file is not there or cannot be read.

    """
    parts: dict[str, tuple[dict[str, NDArray[Any]], NDArray[Any]]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                part, _, name = key.partition('/')
                if name == '/':
                    inputs = {other.partition('/')[2]: file[other] for other in file.files
                              if other.startswith(f'{part}/') and other != key}
                    parts[part] = inputs, file[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f'{path}: cannot read the frames that parity is checked on: {error}; '
                          'copy the bundle again, or export it again') from error
    return parts
