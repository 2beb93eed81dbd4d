# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What must hold before a demo starts: a directory of its own, room on the disk, sound files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
import fcntl
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

from ssl_vla_ros.errors import UserError

#: Disk that a full demo needs at most, with room to spare.
NEEDED_BYTES = 2 * 1000 ** 3


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """
    Make a demo's directory and hold it; the lock ends with this process, however that ends.

    Raises
    ------
    UserError
        If the directory cannot be written, or another demo runs in it.

    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / '.lock').open('a+')
    except OSError as error:
        raise UserError(
            f'{out}: cannot be written ({error.strerror}); choose another place with --out'
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise UserError(
                f'another demo (process {file.read().strip() or "?"}) is running in {out}; wait '
                'for it, or choose another --out') from error
        # The number is for that message alone; a full disk is told of elsewhere.
        with suppress(OSError):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def check_disk(out: Path, needed: int = NEEDED_BYTES) -> None:
    """Raise ``UserError`` if the disk has too little room."""
    free = shutil.disk_usage(out).free
    if free < needed:
        raise UserError(
            f'{out} has {free / 1e9:.1f} GB free, the demo needs {needed / 1e9:.0f} GB; '
            'free some space, or choose a place on another disk with --out')


def read_json(path: Path, remedy: str = 'delete it, and the same command makes it anew'
              ) -> dict[str, Any]:
    """
    Read a JSON object that a stage has left; ``remedy`` ends the message about a broken one.

    Raises
    ------
    UserError
        If it is broken, as after a power cut.

    """
    try:
        data = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise UserError(
            f'{path}: broken ({error}); {remedy}') from error
    if not isinstance(data, dict):
        raise UserError(f'{path}: holds no JSON object; {remedy}')
    return data


def read_rollouts(path: Path) -> dict[str, Any]:
    """
    Read the results of rollouts.

    Raises
    ------
    UserError
        If they are broken, or hold no list of rollouts.

    """
    data = read_json(path)
    rollouts = data.get('rollouts')
    if not isinstance(rollouts, list) or not all(
            isinstance(item, dict) and isinstance(item.get('success'), bool)
            and isinstance(item.get('start'), int) for item in rollouts):
        raise UserError(f'{path}: rollouts is no list of starts and successes; delete it, and the '
                        'same command makes it anew')
    return data


def check_simulator() -> None:
    """
    Try in a process of its own whether the simulated arm can run; a driver may crash.

    Raises
    ------
    UserError
        If it cannot: known before the first minute, rather than after it.

    """
    found = subprocess.run(
        [sys.executable, '-m', 'ssl_vla_ros.sim.check'], capture_output=True, text=True,
        errors='replace', check=False)
    if not found.returncode:
        return
    for line in found.stderr.splitlines():
        if line.startswith('error: '):
            raise UserError(line.removeprefix('error: '))
    how = (f'was killed by signal {-found.returncode}' if found.returncode < 0
           else f'ended with {found.returncode}')
    last = (found.stderr.strip().splitlines() or ['no output'])[-1]
    raise UserError(
        f'a trial rendering with MUJOCO_GL={os.environ.get("MUJOCO_GL", "egl")} {how} ({last}); '
        'the graphics driver may be at fault: try MUJOCO_GL=osmesa (on Debian and Ubuntu: apt '
        'install libosmesa6), or another driver')
