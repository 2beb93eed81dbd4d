# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Where TensorRT's engines are kept."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
import shutil
import subprocess

from ssl_vla_ros.errors import BundleError

#: Samples of one call at most: an engine is built for a range of them.
MOST = 16
_ASK_S = 10.0


def gpu_name() -> str:
    """Name of the first GPU, as its driver or the board's firmware tells it; empty if unknown."""
    board = Path('/proc/device-tree/model')
    if board.is_file():
        return board.read_text(errors='replace').strip('\0 \n')
    tool = shutil.which('nvidia-smi')
    if tool is None:
        return ''
    try:
        told = subprocess.run([tool, '--query-gpu=name', '--format=csv,noheader'], check=True,
                              capture_output=True, text=True, timeout=_ASK_S).stdout
    except (OSError, subprocess.SubprocessError):
        return ''
    return told.splitlines()[0].strip() if told.strip() else ''


def engine_directory(file: Path, version: str, precision: str, gpu: str = '') -> Path:
    """
    Where the TensorRT engines of one network are kept; made if need be.

    Engines take minutes to build, and hold for one network, one version of TensorRT, one kind of
    GPU and one precision alone. They lie outside of the bundle, whose files are all hashed.
    ``gpu`` names the one in use, where CUDA was asked; else the first that the driver tells of.

    Raises
    ------
    BundleError
        If the directory cannot be made.

    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    known = gpu or gpu_name()
    card = ''.join(letter if letter.isalnum() else '_' for letter in known) or 'unknown_gpu'
    place = cache / 'ssl_vla_ros' / 'tensorrt' / f'{key}_{version}_{card}_{precision}'
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BundleError(f'{place}: cannot make this directory for engines: {error.strerror}; '
                          'set XDG_CACHE_HOME to a place that can be written') from error
    return place
