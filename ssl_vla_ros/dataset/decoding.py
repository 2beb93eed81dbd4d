# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Videos become files of resized pictures, several at a time.

Threads, not processes: FFmpeg and OpenCV work without Python's lock, which is held for about 35 µs
a picture (8 % of a picture of 128x128, 3 % of 256x256). On two cores both are equally fast, and
threads need no start-up, end with their process, and stop at the next picture when told to.
Other threads wait for the disk: one that others write to took up to 0.4 s for a file of
3 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
import errno
import os
from pathlib import Path
import threading

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.cache_files import CacheFile
from ssl_vla_ros.dataset.video import decode_video
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.preprocess import resize


#: Files that are on their way to the disk at a time.
_COMMITS = 8


@dataclass(frozen=True)
class DecodeJob:
    """A video to be decoded to a file; ``size`` is its height and width."""

    video: Path
    file: CacheFile
    size: tuple[int, int]
    what: str


class _Stopped(Exception):
    """Another job failed, or the user has had enough."""


def default_threads() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def decode_all(jobs: list[DecodeJob], threads: int, where: Path,
               progress: Callable[[int, str], None]) -> None:
    """
    Decode videos to files; memory holds one picture a thread.

    Parameters
    ----------
    jobs
        In any order; no two write the same file.
    threads
        How many are worked on at a time.
    where
        For the message about a full disk.
    progress
        Told after each job: how many are done, and what the last one was.

    Raises
    ------
    DatasetError
        If a video is broken or the disk is full; what was finished before stays.

    """
    stop = threading.Event()
    with (one_thread_each(), ThreadPoolExecutor(_COMMITS, 'commit') as commits,
          ThreadPoolExecutor(threads, 'decode') as pool):
        slots = threading.Semaphore(_COMMITS)
        waiting = {pool.submit(_decode, job, stop, slots, commits): job for job in jobs}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                future.result().result()
                progress(done, waiting[future].what)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DatasetError(
                    f'{where}: the disk is full; free some space and run again (nothing finished '
                    'was lost)') from error
            raise
        finally:
            stop.set()
            for future in waiting:
                future.cancel()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep OpenCV from splitting each small picture among threads of its own."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _decode(job: DecodeJob, stop: threading.Event, slots: threading.Semaphore,
            commits: ThreadPoolExecutor) -> Future[None]:
    """Decode to a file, and give what waits for it to be on the disk."""
    job.file.write(_resized(job, stop))
    slots.acquire()  # not ever more written pictures that no disk has confirmed
    return commits.submit(_commit, job, slots)


def _commit(job: DecodeJob, slots: threading.Semaphore) -> None:
    try:
        job.file.commit()
    finally:
        slots.release()


def _resized(job: DecodeJob, stop: threading.Event) -> Iterator[NDArray[np.uint8]]:
    rows, height, width, _ = job.file.shape
    count = 0
    for _, frame in decode_video(job.video):
        if stop.is_set():
            raise _Stopped
        if frame.shape[:2] != job.size:
            raise DatasetError(
                f'{job.video}: picture {count} is {frame.shape[0]}x{frame.shape[1]}, the dataset '
                f'says {job.size[0]}x{job.size[1]}')
        count += 1
        if count <= rows:
            yield resize(frame, height, width)
    if count != rows:
        raise DatasetError(
            f'{job.video}: the video has {count} pictures, its episode {rows} rows')
