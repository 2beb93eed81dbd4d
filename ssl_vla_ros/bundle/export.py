# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla export`: trained runs to one bundle, or no bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
import shutil

from ssl_vla_ros.bundle.writer import BundleWriter
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.manifest import MANIFEST_NAME
from ssl_vla_ros.runtime.parity import Parity, PRECISIONS
from ssl_vla_ros.training.runs import open_run


@dataclass(frozen=True)
class Exported:
    """What an export wrote: parity by file and backend, and why backends were left out."""

    path: Path
    parity: dict[str, dict[str, Parity]]
    passed_over: dict[str, str]


def export_bundle(encoder_run: Path, out: Path, data: Path, *, world_model_run: Path | None = None,
                  head_run: Path | None = None, name: str = '', precision: str = 'fp32',
                  min_cosine: float | None = None, licence: str = '',
                  progress: Callable[[str], None] = lambda _: None) -> Exported:
    """
    Export an encoder, and what was trained on its features, to one directory.

    Parameters
    ----------
    encoder_run, world_model_run, head_run
        Finished runs; the last two are optional.
    out
        The bundle's directory; replaced as a whole when all is well, untouched otherwise.
    data
        Dataset whose real frames the proof is made on, and 8-bit ranges are found on.
    name
        Of the bundle; ``out``'s name by default.
    precision
        ``fp32``, ``fp16`` or ``int8``. The head commands an arm and costs next to nothing: it
        stays in fp32 where the others have 8 bits.
    min_cosine
        Smallest cosine of a sample to what torch gives; None: as ``ALLOWED`` has it.
    licence
        Of the weights, as the manifest tells it.
    progress
        Called with what is being done.

    Raises
    ------
    BundleError
        If a graph cannot be exported, parity fails, or the runs do not belong together.

    """
    if precision not in PRECISIONS:
        raise BundleError(f'precision is {precision!r}, must be one of {", ".join(PRECISIONS)}')
    if min_cosine is not None and not 0.0 < min_cosine <= 1.0:
        raise BundleError(f'min_cosine is {min_cosine}, must lie above 0 and be at most 1')
    place = Path(os.path.abspath(out))  # '.' has no name to write beside
    _require_bundle_or_nothing(place)
    part = place.with_name(f'.{place.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        writer = BundleWriter(part, encoder_run, data, precision, min_cosine, progress)
        if world_model_run is not None:
            writer.add_world_model(open_run(world_model_run))
        if head_run is not None:
            writer.add_head(open_run(head_run))
        writer.finish(name or place.name, licence)
        _replace(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(out, writer.found, writer.passed_over)


def _replace(part: Path, out: Path) -> None:
    """Put a finished directory in place of an older one, which stays if that fails."""
    old = _old(out)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.replace(old)
    try:
        part.replace(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f'.{out.name}.old')


def _require_bundle_or_nothing(out: Path) -> None:
    """Refuse to replace what is no bundle; put back one that a killed export had moved aside."""
    if not out.exists():
        if (_old(out) / MANIFEST_NAME).is_file():
            _old(out).replace(out)
        return
    if not out.is_dir() or (
            not (out / MANIFEST_NAME).is_file() and any(out.iterdir())):
        raise BundleError(f'{out} exists and is no bundle; choose another --out')
