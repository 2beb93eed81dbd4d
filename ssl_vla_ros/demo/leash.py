# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Run a command that is asked to end (SIGTERM) when the process that started it has ended.

A demo that is killed outright can stop nothing any more: without this its nodes would run on, and
an arm with them. The kernel keeps the wish over ``exec``, so the command itself knows nothing of
it. It is a program of its own, without the package and site packages, because it starts before
each process: that takes 15 ms, and code between fork and exec would be unsafe beside threads.
"""

from __future__ import annotations

from collections.abc import Sequence
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leashed(command: Sequence[str]) -> list[str]:
    """Command line that runs ``command`` for as long as this process lives."""
    return [sys.executable, '-I', '-S', __file__, str(os.getpid()), *command]


def main() -> None:
    """Become the command that follows the starter's process number on the command line."""
    starter, *command = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), 'prctl(PR_SET_PDEATHSIG) failed')
    # It may have ended before the wish was made.
    if os.getppid() == int(starter):
        os.execv(command[0], command)


if __name__ == '__main__':
    main()
