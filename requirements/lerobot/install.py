# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Make .venv-lerobot: the real lerobot, which tests and benchmarks hold ours against.

Nothing of the package uses it. What is there already is kept; two runs at once wait for each
other. Programs are run in it by ``.venv-lerobot/bin/lerobot-python``, which is offline and knows
where FFmpeg lies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
import sys

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENV = ROOT / '.venv-lerobot'
PYTHON = VENV / 'bin' / 'python'
RUNNER = VENV / 'bin' / 'lerobot-python'
#: Written last: it holds the digest of what is installed.
STAMP = VENV / '.installed'
NEEDED_BYTES = 4 * 1000**3
STEPS = (
    ('torch', ['-r', str(HERE.parent / 'torch.txt')]),
    ('lerobot and what it imports', ['--no-deps', '-r', str(HERE / 'pins.txt')]),
)
#: torch on a CPU registers no operators of torchvision's CUDA build; two are looked up at import.
READY = '\n'.join((
    'import torch', '',
    "_library = torch.library.Library('torchvision', 'FRAGMENT')",
    'if torch.version.cuda is None:',
    *(f"    _library.define('{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')"
      for name in ('nms', 'qnms')), ''))
CHECK = ('import lerobot_ready, torchcodec.decoders\n'
         'from lerobot.datasets.lerobot_dataset import LeRobotDataset\n')


class InstallError(Exception):
    """What stops the installation, in one sentence."""


def digest() -> str:
    """Return a digest of everything that decides what is installed."""
    found = hashlib.sha256()
    for path in (HERE.parent / 'torch.txt', HERE / 'pins.txt', Path(__file__)):
        found.update(path.read_bytes() + b'\0')
    return found.hexdigest()


def run(what: str, *command: object) -> None:
    """Run one step; its own messages are shown."""
    print(f'lerobot: {what}', flush=True)
    done = subprocess.run([str(word) for word in command], cwd=HERE, check=False)
    if done.returncode != 0:
        raise InstallError(f'{what}: failed with status {done.returncode} (messages above)')


def link_ffmpeg(packages: Path) -> Path:
    """Give PyAV's FFmpeg libraries the names under which torchcodec looks for them."""
    folder = packages / 'av.libs'
    for name in ('avutil', 'avcodec', 'avformat', 'avdevice', 'avfilter', 'swscale',
                 'swresample'):
        found = sorted(folder.glob(f'lib{name}-*.so.*'))
        if not found:
            raise InstallError(f'{folder}: no lib{name}; this build of PyAV brings no FFmpeg')
        major = found[0].name.split('.so.')[1].split('.')[0]
        link = folder / f'lib{name}.so.{major}'
        link.unlink(missing_ok=True)
        link.symlink_to(found[0].name)
    return folder


def install() -> None:
    """Bring .venv-lerobot to what the pins say."""
    wanted = digest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    free = shutil.disk_usage(ROOT).free
    if free < NEEDED_BYTES:
        raise InstallError(
            f'{ROOT} has {free / 1e9:.1f} GB free, the packages take up to '
            f'{NEEDED_BYTES / 1e9:.0f} GB while they are installed')
    run('making .venv-lerobot', sys.executable, '-m', 'venv', '--clear', VENV)
    (VENV / 'COLCON_IGNORE').touch()
    (VENV / '.gitignore').write_text('*\n')
    for what, arguments in STEPS:
        run(f'installing {what}', PYTHON, '-m', 'pip', 'install', '--quiet',
            '--disable-pip-version-check', *arguments)
    packages = next((VENV / 'lib').glob('python3*')) / 'site-packages'
    libraries = link_ffmpeg(packages)
    (packages / 'lerobot_ready.py').write_text(READY)
    RUNNER.write_text(
        '#!/bin/sh\n'
        f'export LD_LIBRARY_PATH="{libraries}" HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1\n'
        'unset PYTHONPATH PYTHONHOME\n'
        f'exec "{PYTHON}" "$@"\n')
    RUNNER.chmod(0o755)
    run('checking that it loads', RUNNER, '-c', CHECK)
    STAMP.write_text(wanted)


def main() -> int:
    """Install under a lock; return the exit status."""
    lock = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        install()
    except (InstallError, OSError) as error:
        print(f'lerobot: error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('lerobot: interrupted; the same command begins again', file=sys.stderr)
        return 130
    finally:
        os.close(lock)
    print(f'lerobot: {VENV} is ready')
    return 0


if __name__ == '__main__':
    sys.exit(main())
