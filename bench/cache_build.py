# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
How fast the frame cache is built, beside bare PyAV: what ``bench_build`` and ``bench_load`` share.

Bare PyAV is one thread that opens each video, decodes every picture and converts it to RGB at full
size (``to_ndarray(format='rgb24')``), times the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import multiprocessing
import os
from pathlib import Path
import shutil
import statistics
import time
from typing import Any

import av
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.decoding import default_threads
from ssl_vla_ros.dataset.lerobot_v3 import Dataset

#: Side of the pictures in the cache whose building is timed.
CACHE_SIZE = 96


def spread(values: list[float]) -> dict[str, float]:
    """Give the median of rounds, the lowest and the highest."""
    return {'median': statistics.median(values), 'low': min(values), 'high': max(values)}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that something takes, on the clock and of the processor (children too)."""
    began, before = time.perf_counter(), os.times()
    work()
    seconds, after = time.perf_counter() - began, os.times()
    return seconds, sum(after[:4]) - sum(before[:4])


def decode(path: Path, rgb: bool) -> None:
    """Decode a video with PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for picture in container.decode(stream):
            if rgb:
                picture.to_ndarray(format='rgb24')


def decode_all(paths: list[Path], rgb: bool) -> None:
    """Decode videos one after the other."""
    for path in paths:
        decode(path, rgb)


def decode_in_processes(paths: list[Path], processes: int) -> float:
    """Seconds to decode videos to RGB in several processes, without the time they start in."""
    with multiprocessing.get_context('fork').Pool(processes) as pool:
        pool.map(abs, range(processes))
        return timed(lambda: pool.starmap(decode, [(path, True) for path in paths], 1))[0]


def measure_build(dataset: Dataset, folder: Path, repeats: int) -> dict[str, Any]:
    """Build the cache anew each round, beside bare decoding of the same videos."""
    cameras = dataset.camera_names
    pictures = dataset.num_rows * len(cameras)
    cores = default_threads()
    paths = [dataset.video(camera, episode)
             for camera in cameras for episode in range(dataset.num_episodes)]
    speed: dict[str, list[float]] = {}
    cpu_us: dict[str, list[float]] = {}

    def note(name: str, seconds: float, processor_s: float | None = None) -> None:
        speed.setdefault(name, []).append(pictures / seconds)
        if processor_s is not None:
            cpu_us.setdefault(name, []).append(1e6 * processor_s / pictures)

    place = folder / 'built'
    for _ in range(repeats):
        for name, rgb in (('pyav_rgb', True), ('pyav_decode_only', False)):
            note(name, *timed(partial(decode_all, paths, rgb)))
        note('pyav_rgb_all_cores', decode_in_processes(paths, cores))
        shutil.rmtree(place, ignore_errors=True)
        note('ours', *timed(
            lambda: FrameCache.build(dataset, CACHE_SIZE, CACHE_SIZE, place)))
    shutil.rmtree(place, ignore_errors=True)

    def ratio(other: str, times: int) -> dict[str, float]:
        return spread([ours / (bare * times) for ours, bare in zip(
            speed['ours'], speed[other], strict=True)])

    return {
        'cores': cores, 'pictures': pictures,
        'pictures_per_s': {name: spread(values) for name, values in speed.items()},
        'cpu_us_per_picture': {name: spread(values) for name, values in cpu_us.items()},
        'ratio': ratio('pyav_rgb', cores),
        'ratio_to_all_cores': ratio('pyav_rgb_all_cores', 1),
        'ratio_to_decode_only': ratio('pyav_decode_only', cores),
        'cpu_ratio': spread([bare / ours for ours, bare in zip(
            cpu_us['ours'], cpu_us['pyav_rgb'], strict=True)])}
