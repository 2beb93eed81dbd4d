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


def _set(thread: int, priority: int) -> None:
    policy = os.SCHED_FIFO if priority else os.SCHED_OTHER
    with contextlib.suppress(ProcessLookupError):    # it has ended in the meantime
        os.sched_setscheduler(thread, policy, os.sched_param(priority))


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
    done: set[int] = set()
    try:
        # Again, until there is none that was started by one whose turn had not come.
        while fresh := _threads() - done:
            for thread in fresh:
                with contextlib.suppress(ProcessLookupError):
                    if _held(thread) < priority:
                        _set(thread, priority)
            done |= fresh
    except PermissionError as error:
        raise ConfigError(
            f'parameter thread_priority is {priority}, {_why_not(priority)}; or set '
            'thread_priority to 0') from error


def _why_not(priority: int) -> str:
    allowed = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    if allowed in range(priority):
        return (f'but this user may have a real-time priority of {allowed} at most (ulimit -r): '
                f'write "@realtime - rtprio {HIGHEST}" to /etc/security/limits.d/realtime.conf, '
                'join the group realtime and log in again')
    return ('but the kernel refuses it though the limit of this user (ulimit -r) allows it: give '
            "the container the capability SYS_NICE, or its cgroup a share of real-time's time")


def step_back() -> None:
    """Let the calling thread go behind those that a controller waits for, if it has a priority."""
    if _held(0) > _BEHIND:
        _set(0, _BEHIND)


@contextlib.contextmanager
def as_usual() -> Iterator[None]:
    """
    Let the calling thread do something long without a priority, so that it starves nobody.

    Threads that libraries start meanwhile, such as those of a network, get the former priority at
    the end, as the calling one does.
    """
    held, before = _held(0), _threads()
    if held:
        _set(0, 0)
    try:
        yield
    finally:
        if held:
            # Python's own have been given their places by whoever started them.
            own = {thread.native_id for thread in threading.enumerate()}
            for thread in (_threads() - before - own) | {threading.get_native_id()}:
                _set(thread, held)
