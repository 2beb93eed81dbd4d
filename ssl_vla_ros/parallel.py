# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The same work for many items, in processes that end with this one, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
import multiprocessing
import os
import signal
import threading
from typing import TypeVar

import cv2
from ssl_vla_ros.errors import WorkerError

Item = TypeVar('Item')
Result = TypeVar('Result')


def default_workers() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable[[Item], Result], items: Sequence[Item], workers: int
         ) -> Iterator[tuple[int, Result]]:
    """
    Do the same with every item, in ``workers`` processes (this one if it is 1).

    Parameters
    ----------
    work
        A function of a module, or a partial of one: it is sent to other processes.
    items
        What it is called with.
    workers
        How many at a time.

    Yields
    ------
    tuple
        The place of an item that is done, and its result, in the order in which they end.

    Raises
    ------
    WorkerError
        If a process was killed, as by the kernel when memory runs out.

    """
    workers = min(workers, len(items))
    if workers <= 1:
        for place, item in enumerate(items):
            yield place, work(item)
        return
    with _pool(workers) as pool:
        waiting = {pool.submit(work, item): place for place, item in enumerate(items)}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise WorkerError(
                'a worker process was killed, perhaps because memory ran out; run the same '
                'command with --workers 1: what was finished is kept') from error


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context('spawn'), initializer=_begin)
    try:
        yield pool
    except BaseException:
        # An interrupted user does not wait for what is half done.
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin() -> None:
    """Set up a worker: one thread, no word on Ctrl-C, and never longer than its parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
