# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Faults for the recorder's tests: small and frozen disks, slow ones, other clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import contextlib
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

import pytest
from recorder_rig import Rig
from ssl_vla_ros.episodes.reader import list_episodes

#: A recorder on a disk whose every sync takes as many seconds as the first argument says.
SLOW_SYNC = """
import os, sys, time
seconds, real = float(sys.argv.pop(1)), os.fsync
def fsync(descriptor):
    time.sleep(seconds)
    real(descriptor)
os.fsync = fsync
from ssl_vla_ros.nodes.recorder import main
sys.exit(main())
"""
#: A recorder whose system clock jumps when it gets SIGUSR1, each time by the next of the seconds
#: in the first argument. Setting the real clock would set it for the whole machine.
JUMPING_CLOCK = """
import signal, sys, time
jumps, real, off = [float(word) for word in sys.argv.pop(1).split(',')], time.time_ns, [0]
time.time_ns = lambda: real() + off[0]
def jump(number, frame):
    off[0] += round(jumps.pop(0) * 1e9)
signal.signal(signal.SIGUSR1, jump)
from ssl_vla_ros.nodes.recorder import main
sys.exit(main())
"""


def mounted(kind: str, source: str, place: Path, options: str) -> None:
    """Mount, or skip the test where that is not allowed."""
    place.mkdir(exist_ok=True)
    command = ['mount', '-t', kind, '-o', options, source, str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip('there is no mount command here')
    if done.returncode:
        pytest.skip(f'a file system of its own cannot be mounted here: {done.stderr.strip()}')


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[Path]:
    """Give a file system of so many bytes."""
    mounted('tmpfs', 'tmpfs', place, f'size={size}')
    try:
        yield place
    finally:
        # Lazily: a process of a failed test may still be in it.
        subprocess.run(['umount', '-l', str(place)], check=True)


@contextlib.contextmanager
def freezing_disk(place: Path) -> Iterator[Path]:
    """Give an ext4 of 128 MiB in a file, which ``frozen`` can freeze: writes hang meanwhile."""
    if not shutil.which('mkfs.ext4') or not shutil.which('fsfreeze'):
        pytest.skip('mkfs.ext4 and fsfreeze are not installed')
    file = place.with_suffix('.ext4')
    with file.open('wb') as stream:
        stream.truncate(128 * 2**20)
    subprocess.run(['mkfs.ext4', '-q', str(file)], check=True)
    mounted('ext4', str(file), place, 'loop')
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', str(place)], check=True)


@contextlib.contextmanager
def frozen(place: Path) -> Iterator[None]:
    """Let every write to a ``freezing_disk`` hang."""
    subprocess.run(['fsfreeze', '--freeze', str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(['fsfreeze', '--unfreeze', str(place)], check=True)


def fingerprints(session: Path) -> dict[str, str]:
    """Hash every file of every finished episode."""
    return {f'{path.name}/{file.name}': hashlib.sha256(file.read_bytes()).hexdigest()
            for path in list_episodes(session) for file in sorted(path.iterdir())}


def resident_bytes(pid: int) -> int:
    """Memory of a process that is its own: without files and what it shares with others."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('RssAnon:'):
            return int(line.split()[1]) * 1024
    raise AssertionError(f'no RssAnon in the status of {pid}')


@contextlib.contextmanager
def crashing() -> Iterator[Callable[[subprocess.Popen[str]], None]]:
    """Give what kills a process; in the end, removes the shared memory that such a one leaves."""
    left: set[str] = set()

    def crash(process: subprocess.Popen[str]) -> None:
        maps = Path(f'/proc/{process.pid}/maps').read_text()
        left.update(line.split()[5] for line in maps.splitlines() if ' /dev/shm/' in line)
        process.kill()
        process.wait()
    yield crash
    for name in left:
        for path in (Path(name), Path(f'{name}_el')):
            path.unlink(missing_ok=True)


def ask(rig: Rig, name: str) -> Any:
    """Call a service of the recorder and do not wait; gives the future."""
    from std_srvs.srv import Trigger
    client = rig.client(name)
    rig.until(client.service_is_ready)
    return client.call_async(Trigger.Request())


def seeds(few: int) -> range:
    """Give the seeds of a test: ``few``, or as many as FAULT_SEEDS says (make test-faults)."""
    return range(int(os.environ.get('FAULT_SEEDS') or few))
