# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Judging many episodes at once, in processes that end with this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
import multiprocessing
import os
import signal
from typing import TypeVar

import cv2
from ssl_vla_ros.errors import EpisodeError

Item = TypeVar('Item')
Result = TypeVar('Result')


def default_workers() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable[[Item], Result], items: Sequence[Item], workers: int,
         told: Callable[[int, Result], None]) -> list[Result]:
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
    told
        Called with how many are done and the latest result, in the order in which they end.

    Returns
    -------
    list
        The results in the order of the items.

    Raises
    ------
    EpisodeError
        If a process was killed, as by the kernel when memory runs out.

    """
    workers = min(workers, len(items))
    found: dict[int, Result] = {}
    if workers <= 1:
        for place, item in enumerate(items):
            found[place] = work(item)
            told(len(found), found[place])
        return [found[place] for place in range(len(items))]
    with _pool(workers) as pool:
        waiting = {pool.submit(work, item): place for place, item in enumerate(items)}
        try:
            for future in as_completed(waiting):
                found[waiting[future]] = future.result()
                told(len(found), future.result())
        except BrokenProcessPool as error:
            raise EpisodeError(
                'a worker process was killed, perhaps because memory ran out; run the same '
                'command with --workers 1') from error
    return [found[place] for place in range(len(items))]


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context('spawn'), initializer=_begin)
    try:
        yield pool
    except BaseException:
        # Ctrl-C does not wait for the episodes that are half read.
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _begin() -> None:
    """Set up a worker: one thread, and no word on Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    cv2.setNumThreads(1)
