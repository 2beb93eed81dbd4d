# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``ssl_vla augment``: preview."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ssl_vla_ros.cli_text import AddCommand, positive


def add_augment_commands(command: AddCommand, groups: Any) -> None:
    """Add the group ``augment`` to the command line."""
    augment = groups.add_parser('augment', help='augmentations of pictures').add_subparsers(
        dest='action', required=True, metavar='ACTION')
    part = command(augment, 'preview', _preview, 'a contact sheet: what each augmentation makes '
                   'of pictures of a dataset')
    part.add_argument('data', type=Path, metavar='DATA', help='a dataset')
    part.add_argument('--out', type=Path, required=True, metavar='FILE.png')
    part.add_argument('--rows', type=positive, default=6,
                      help='rows of the dataset to show, beside each other (default: 6)')
    part.add_argument('--seed', type=int, default=0, help='of every draw (default: 0)')
    part.add_argument('--height', type=positive, default=96, help='of a picture (default: 96)')
    part.add_argument('--width', type=positive, default=96, help='of a picture (default: 96)')
    part.add_argument('--camera', default='', help="whose pictures; default: the first camera's")


def _preview(options: argparse.Namespace) -> int:
    from ssl_vla_ros.training.preview import preview
    done = preview(options.data, options.out, rows=options.rows, seed=options.seed,
                   height=options.height, width=options.width, camera=options.camera)
    print(f'{done.path}: {len(done.strips)} lines of {options.rows} pictures of camera '
          f'{done.camera}, {options.height}x{options.width}, seed {options.seed}')
    print('\nNext: ssl_vla train --config config/train/simclr.yaml '
          f'--data {options.data} --out RUN')
    return 0
