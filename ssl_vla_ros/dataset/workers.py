# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Jobs become staged episodes, in several processes.

Every episode is a unit: a job that fails refuses its episode and no other, a build that is killed
finds what was staged when it is run again, and the order in which processes end changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import as_completed, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
import multiprocessing
import os
from pathlib import Path
import shutil
import signal
import threading
import time

import cv2
from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.check import judge_aligned
from ssl_vla_ros.dataset.jobs import EpisodeJob, LoadedEpisode
from ssl_vla_ros.dataset.staging import stage_episode
from ssl_vla_ros.errors import DatasetError, UserError
from ssl_vla_ros.quality.verdict import REFUSED


@dataclass(frozen=True)
class Task:
    """One job to be staged: what, as which directory, with what."""

    job: EpisodeJob
    contract: Contract
    place: Path
    key: str
    encoder: str
    keep_constant: bool = False


def default_workers() -> int:
    """Give the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else (
        os.cpu_count() or 1)


def stage_all(tasks: list[Task], workers: int) -> Iterator[tuple[Task, str]]:
    """
    Stage episodes in ``workers`` processes (this one if it is 1).

    Yields
    ------
    tuple
        Each task as it ends, and why its episode was refused ('' if it is staged).

    Raises
    ------
    DatasetError
        If a worker process was killed.
    OSError
        If the disk is full or gone.

    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        for task in tasks:
            yield task, stage(task)
        return
    with _pool(workers) as pool:
        waiting: Mapping[Future[str], Task] = {pool.submit(stage, task): task for task in tasks}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BrokenProcessPool as error:
            raise DatasetError(
                'a worker process was killed, perhaps because memory ran out; run the same '
                'command with --workers 1: finished episodes are kept') from error


def stage(task: Task) -> str:
    """Stage one episode; says why it is refused, '' if it is not."""
    part = task.place.with_name(f'.{task.place.name}.{os.getpid()}')
    shutil.rmtree(part, ignore_errors=True)
    try:
        began = time.monotonic()
        found = task.job.load(task.contract)
        load_s = time.monotonic() - began
        parts = [found] if isinstance(found, LoadedEpisode) else list(found)
        for number, loaded in enumerate(parts):
            name = task.job.name + (f' part {number + 1} of {len(parts)}'
                                    if len(parts) > 1 else '')
            if not task.keep_constant:
                _refuse_dead(loaded, task.contract, name)
            stage_episode(part / f'{number:06d}', loaded, task.contract, key=task.key,
                          source=name, encoder=task.encoder, load_s=load_s / len(parts))
        part.rename(task.place)
    except UserError as error:
        return str(error)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return ''


def _refuse_dead(loaded: LoadedEpisode, contract: Contract, name: str) -> None:
    """Refuse an episode whose state or action never changes: nothing was recorded there."""
    verdict = judge_aligned(loaded.aligned, contract, name=name)
    dead = [reason.text for reason in verdict.reasons
            if reason.key == 'constant' and reason.severity == REFUSED]
    if dead:
        raise DatasetError(f'{name}: {"; ".join(dead)} (--keep-constant takes it all the same)')


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Give processes that end with this one, however it ends."""
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context('spawn'), initializer=_begin)
    try:
        yield pool
    except BaseException:
        # An interrupted user does not wait for the episodes that are half done.
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
