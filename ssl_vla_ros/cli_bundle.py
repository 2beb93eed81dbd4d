# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla export` and `ssl_vla verify`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ssl_vla_ros.cli_text import positive

_BACKENDS = ('auto', 'cpu', 'cuda', 'tensorrt', 'tensorrt_native')


def _export(options: argparse.Namespace) -> int:
    from ssl_vla_ros.bundle.export import export_bundle
    done = export_bundle(
        options.run, options.out, options.data, world_model_run=options.world_model,
        head_run=options.head, name=options.name, precision=options.precision,
        min_cosine=options.min_cosine, licence=options.licence,
        progress=lambda what: print(f'  {what} …', flush=True))
    print(f'\n{done.path}: compared with torch on real frames')
    print(_HEADER)
    for name, seen in done.parity.items():
        for backend, parity in seen.items():
            print(_row(name.removesuffix('.onnx'), backend, parity))
    _print_passed_over(done.passed_over)
    size = sum(path.stat().st_size for path in done.path.iterdir())
    print(f'{size / 1e6:.1f} MB in all')
    print(f'\nNext: ros2 launch ssl_vla_ros inference.launch.py bundle:={done.path.resolve()}')
    return 0


def _verify(options: argparse.Namespace) -> int:
    from ssl_vla_ros.contract import load_contract
    from ssl_vla_ros.places import own_file
    from ssl_vla_ros.runtime.verify import verify_bundle
    robot = load_contract(own_file(options.contract)) if options.contract else None
    done = verify_bundle(options.bundle, options.backend or (), options.threads, robot)
    print(f'{options.bundle}: hashes, shapes and contract are right; '
          'compared with torch on the frames that came with it')
    print(f'{_HEADER}  ms a sample')
    for row in done.rows:
        verdict = '' if row.parity.holds else '  OUTSIDE OF THE LIMITS'
        print(f'{_row(row.part, row.backend, row.parity)}  {1e3 * row.seconds:11.2f}{verdict}')
    _print_passed_over(done.passed_over)
    if not done.holds:
        print('\nThis machine computes something else than what was trained: do not run it here. '
              'Try another --backend, or export with a higher --precision.')
        return 1
    print('\nNext: ros2 launch ssl_vla_ros inference.launch.py '
          f'bundle:={options.bundle.resolve()}')
    return 0


_HEADER = f'  {"":<12} {"backend":<9} samples  max error    allowed  smallest cosine  allowed'


def _row(part: str, backend: str, parity: Any) -> str:
    tolerance = '-' if parity.tolerance is None else f'{parity.tolerance:.0e}'
    return (f'  {part:<12} {backend:<9} {parity.samples:7}  {parity.max_abs_error:9.1e}  '
            f'{tolerance:>9}  {parity.cosine:15.6f}  {parity.min_cosine:7g}')


def _print_passed_over(reasons: Mapping[str, str]) -> None:
    for reason in reasons.values():
        print(f'  not compared: {reason}')


def add_bundle_commands(command: Callable[..., argparse.ArgumentParser], groups: Any) -> None:
    """Add both commands."""
    part = command(groups, 'export', _export, 'export runs to one bundle, with proof of parity')
    part.add_argument('run', type=Path, help='the pretraining run')
    part.add_argument('--out', type=Path, required=True)
    part.add_argument('--data', type=Path, required=True,
                      help='real frames for the proof, and for the ranges of int8')
    part.add_argument('--world-model', type=Path, help='run trained on this encoder')
    part.add_argument('--head', type=Path, help='run trained on this encoder')
    part.add_argument('--name', default='')
    part.add_argument('--precision', default='fp32', choices=['fp32', 'fp16', 'int8'],
                      help='fp16 for GPUs, int8 for CPUs and Jetsons; the head stays fp32 in int8')
    part.add_argument('--min-cosine', type=float,
                      help='to what torch gives, of each sample; no bundle below it (default: '
                           '0.9999 for fp32, 0.999 for fp16, 0.99 for int8)')
    part.add_argument('--licence', default='', help='of the weights, for the manifest')
    part = command(groups, 'verify', _verify,
                   'check a bundle here: hashes, shapes, contract, and parity on every backend')
    part.add_argument('bundle', type=Path)
    part.add_argument('--contract', type=Path, help='robot it is to run on')
    part.add_argument('--backend', action='append', choices=_BACKENDS,
                      help='one to check (may be given again); default: all that are to be had')
    part.add_argument('--threads', type=positive, default=1)
