# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Real-time priority of a process, as ros2_control gives it to its controllers: ``SCHED_FIFO``.

Between the camera and the features there are four threads, of the middleware and of the node. On
a machine whose cores are all busy each of them waits for its turn; with a priority none does.
"""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import resource
import threading

from ssl_vla_ros.errors import ConfigError

#: What may wait, but must not be cut off while it holds the interpreter: above all that is not
#: real-time, below all that is.
_BEHIND = 1
HIGHEST = 98   # 99 is the kernel's own


def _held(thread: int) -> int:
    """Real-time priority of a thread; 0 if it has none."""
    if os.sched_getscheduler(thread) not in (os.SCHED_FIFO, os.SCHED_RR):
        return 0
    return os.sched_getparam(thread).sched_priority


def _threads() -> set[int]:
    return {int(task.name) for task in Path('/proc/self/task').iterdir()}


def _prefer(threads: set[int], priority: int) -> None:
    for thread in threads:
        with contextlib.suppress(ProcessLookupError):    # it has ended in the meantime
            if _held(thread) < priority:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))


def prefer_process(priority: int) -> None:
    """
    Give every thread of this process, and those they start, at least this real-time priority.

    Parameters
    ----------
    priority
        Of ``SCHED_FIFO``, 1 … 98; 0 leaves everything as it is.

    Raises
    ------
    ConfigError
        If this user may not have it.

    """
    if priority <= 0:
        return
    try:
        _prefer(_threads(), priority)
    except PermissionError as error:
        allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        raise ConfigError(
            f'parameter thread_priority is {priority}, but this user may have a real-time '
            f'priority of {allowed} at most (ulimit -r): write "@realtime - rtprio {HIGHEST}" to '
            '/etc/security/limits.d/realtime.conf, join the group realtime and log in again; or '
            'set thread_priority to 0') from error


def step_back() -> None:
    """Let the calling thread go behind those that a controller waits for, if it has a priority."""
    if _held(0) > _BEHIND:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_BEHIND))


@contextlib.contextmanager
def stepped_back() -> Iterator[None]:
    """Step back for a while; threads that start meanwhile get the former priority at its end."""
    held, before = _held(0), _threads()
    step_back()
    try:
        yield
    finally:
        if held > _BEHIND:
            _prefer(_threads() - before | {threading.get_native_id()}, held)
