# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How much ``bench_record.py`` can load the recorder with, and what gives way first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import os
from pathlib import Path
import random
import time
from typing import Any

from record_rig import Load

#: Share of what there is from which on something counts as busy.
_FULL = 0.85
#: A later finish says that messages were queueing: a longer episode would overflow the queue.
_BACKLOG_MS = 1000.0
_RATE = 0.99
_WRITTEN = 0.999
#: A disk takes more at first than it can keep up: measured is what comes after that.
_BURST_S, _DISK_S = 3.0, 12.0


def heavier(base: Load) -> dict[str, list[Load]]:
    """Give the loads to try, by what grows."""
    return {
        'cameras of 640x480': [replace(base, cameras=count) for count in (4, 5, 6, 7, 8, 10, 12)],
        'cameras of 1920x1080': [
            replace(base, cameras=count, width=1920, height=1080, camera_hz=rate)
            for count, rate in ((1, 15.0), (1, 20.0), (1, 30.0), (2, 20.0), (2, 30.0), (3, 30.0))],
        'joint states': [replace(base, joints_hz=rate)
                         for rate in (1000.0, 1500.0, 2000.0, 3000.0, 4000.0)]}


def ceiling(base: Load, measure: Callable[[Load], dict[str, Any]], place: Path) -> dict[str, Any]:
    """
    Step up on each way until less than 99.9 % is written, or the publishers cannot send more.

    Parameters
    ----------
    base
        The load that all begin from.
    measure
        Gives the figures of a load, as ``bench_record.measure`` does.
    place
        Where is recorded to; how fast that disk is, is measured first.

    Returns
    -------
    dict
        By what grew: ``last_good``, ``limit`` in words and the figures of each of its ``steps``.

    """
    disk = disk_mb_s(place)
    print(f'the disk takes {disk:.0f} MB/s of 1 MiB writes with a sync every second', flush=True)
    found: dict[str, Any] = {'disk_mb_s': disk}
    for way, loads in heavier(base).items():
        steps: list[dict[str, Any]] = []
        good = 'nothing'
        for load in loads:
            steps.append(measure(load))
            if not sent(steps[-1]):
                # Perhaps the machine was busy with something else.
                steps.append(measure(load))
            if not sustained(steps[-1]):
                break
            good = str(load)
        reason = 'the steps end' if sustained(steps[-1]) else limit(steps[-1], disk)
        found[way] = {'last_good': good, 'limit': reason, 'steps': steps}
        print(f'== {way}: good up to {good}; then {reason}\n', flush=True)
    return found


def sent(result: dict[str, Any]) -> bool:
    """Whether every publisher reached its own rate."""
    return all(item['rate_share'] >= _RATE for item in result['details']['topics'].values())


def sustained(result: dict[str, Any]) -> bool:
    """Whether the load was reached, and written as fast as it came."""
    return (sent(result) and result['written_fraction'] >= _WRITTEN
            and result['finish_ms'] <= _BACKLOG_MS)


def limit(result: dict[str, Any], disk: float) -> str:
    """Say what the figures of an overload point at."""
    details = result['details']
    topics, threads = details['topics'].values(), details['cores_by_thread']
    cores = os.cpu_count() or 1
    words = []
    if not sent(result):
        words.append('publishers that do not reach their own rate')
    if details['machine_busy_cores'] > _FULL * cores:
        words.append(f'CPU ({details["machine_busy_cores"]:.2f} of {cores} cores are busy)')
    if threads.get('callbacks', 0.0) > _FULL:
        words.append('the thread of the recorder that takes messages')
    if threads.get('writer', 0.0) > _FULL:
        words.append('the thread of the recorder that compresses and writes')
    if any(item['lost'] for item in topics) and not words:
        words.append('DDS (messages were lost though nobody was busy)')
    if not words or details['bag_mb_s'] > _FULL * disk:
        # What the writer waited for where no thread was busy.
        words.append(f'the disk ({details["bag_mb_s"]:.0f} of {disk:.0f} MB/s)')
    return ', '.join(words)


def disk_mb_s(place: Path) -> float:
    """Measure how fast a disk takes what nothing compresses, synced every second."""
    block = random.Random(0).randbytes(2**20)
    path = place / '.disk_speed'
    try:
        with path.open('wb', buffering=0) as file:
            began = synced = time.monotonic()
            counted, settled = 0, began
            while synced - began < _DISK_S:
                file.write(block)
                if time.monotonic() - synced >= 1.0:
                    os.fsync(file.fileno())
                    synced = time.monotonic()
                    if not counted and synced - began >= _BURST_S:
                        counted, settled = file.tell(), synced
            return (file.tell() - counted) / 1e6 / (synced - settled)
    finally:
        path.unlink(missing_ok=True)
