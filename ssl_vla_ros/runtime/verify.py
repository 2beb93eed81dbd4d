# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Repeat a bundle's proof of parity on this machine: no torch, no dataset, no robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
import time

import numpy as np
from ssl_vla_ros.contract import Contract
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.backend import BACKENDS
from ssl_vla_ros.runtime.bundle import Bundle, InferenceError, load_bundle
from ssl_vla_ros.runtime.manifest import read_manifest
from ssl_vla_ros.runtime.parity import (
    compare, Limits, limits_on, Parity, read_reference, REFERENCE_NAME)

#: Runs of each sample; the first of a network builds what is kept.
_RUNS = 3


@dataclass(frozen=True)
class Verified:
    """One network on one backend: how far it is from torch, and the median time of a sample."""

    part: str
    backend: str
    parity: Parity
    seconds: float


@dataclass(frozen=True)
class Verification:
    """What was found, and why backends were left out."""

    rows: tuple[Verified, ...]
    passed_over: dict[str, str]

    @property
    def holds(self) -> bool:
        """Whether every network is within its limits on every backend."""
        return all(row.parity.holds for row in self.rows)


def verify_bundle(path: str | Path, backends: Sequence[str] = (), threads: int = 1,
                  robot: Contract | None = None) -> Verification:
    """
    Compare every network of a bundle with what torch gave for the real inputs that came with it.

    Parameters
    ----------
    path
        The bundle.
    backends
        Which to try; none: all that are to be had here.
    threads
        Threads of one network on the CPU.
    robot
        A contract that the bundle must fit, too.

    Raises
    ------
    BundleError
        If the bundle is broken, or a backend asked for is not to be had.

    """
    directory = Path(path)
    manifest = read_manifest(directory)
    if REFERENCE_NAME not in manifest.files:
        raise BundleError(f'{manifest.path}: files has no {REFERENCE_NAME}, so nothing says what '
                          'torch gave; export the bundle again')
    rows: list[Verified] = []
    passed_over: dict[str, str] = {}
    for backend in backends or BACKENDS:
        try:
            bundle = load_bundle(directory, backend=backend, threads=threads, robot=robot)
        except BundleError as error:
            # The CPU is everywhere: there the bundle itself is at fault.
            if backends or backend == 'cpu':
                raise
            passed_over[backend] = str(error)
            continue
        try:
            rows += _measure(bundle)
        except BundleError as error:
            if backends or backend == 'cpu':
                raise
            passed_over[backend] = str(error)
    return Verification(tuple(rows), passed_over)


def _measure(bundle: Bundle) -> list[Verified]:
    manifest = bundle.manifest
    found = []
    reference = read_reference(manifest.path.parent / REFERENCE_NAME)
    if set(reference) != set(bundle.parts):
        raise BundleError(
            f'{manifest.path.parent / REFERENCE_NAME}: has samples of '
            f'{", ".join(sorted(reference)) or "nothing"}, the networks of manifest.json are '
            f'{", ".join(sorted(bundle.parts))}: each must be proven; export the bundle again')
    for part, (inputs, expected) in reference.items():
        file = getattr(manifest, part).file
        limits = _limits(bundle, part, file)
        outputs, times = [], []
        try:
            for index in range(len(expected)):
                sample = {name: value[index:index + 1] for name, value in inputs.items()}
                for _ in range(_RUNS):
                    began = time.perf_counter()
                    output = bundle.run(part, sample)
                    times.append(time.perf_counter() - began)
                outputs.append(output)
            parity = compare(expected, np.concatenate(outputs), limits)
        except (InferenceError, KeyError, ValueError) as error:
            raise BundleError(f'{manifest.path.parent / file}: does not run on the inputs of '
                              f'{REFERENCE_NAME}: {error}; export the bundle again') from error
        found.append(Verified(part, bundle.backend, parity, float(np.median(times))))
    return found


def _limits(bundle: Bundle, part: str, file: str) -> Limits:
    """Those under which the bundle was made; a GPU that was not there then has its own."""
    manifest = bundle.manifest
    told = manifest.data.get('parity', {}).get(file, {})
    precision = manifest.precisions[part]
    row = told.get(bundle.backend) or told.get('cpu')
    try:
        limits = Limits(None if row['tolerance'] is None else float(row['tolerance']),
                        float(row['min_cosine']), row.get('min_centred'))
        return limits if bundle.backend in told else limits_on(bundle.backend, limits, precision)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f'{manifest.path}: parity of {file} is {row!r}, must have tolerance '
                          'and min_cosine; export the bundle again') from error
