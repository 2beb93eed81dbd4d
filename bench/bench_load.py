# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure the frame cache: how fast it is built, and how fast clips are read at random.

    python bench/bench_load.py                    # prints a table, writes out/bench/load.json
    python bench/bench_load.py --size 256 --repeats 7

What is compared takes turns, round by round, in one run; a ratio is the median of the rounds'
ratios, with the lowest and highest beside it. The baselines:

- bare PyAV: one thread opens each video, decodes every picture and converts it to RGB at full size
  (``to_ndarray(format='rgb24')``); times the number of cores. Ours decodes, converts, resizes to
  96 pixels, sums and writes durable files, on all cores. Where other programs run beside it, one
  thread still gets a whole core and all threads do not get all: then compare with bare PyAV in as
  many processes as there are cores, or processor time a picture, which are shown, too.
- memory map: ``map[rows]`` of one (N, H, W, 3) file a camera that holds all episodes, one after
  the other, nothing else.
- lerobot: ``__getitem__`` of LeRobotDataset with ``delta_timestamps`` on both cameras and the
  action, torchcodec, one process, in .venv-lerobot; other random clips of the same dataset.

Clips are read at the size of the videos, so that everybody delivers the same pixels, and from
files that the system has in memory: what a disk does besides is no property of a loader.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

from cache_build import CACHE_SIZE, measure_build, spread
from load_data import bench_dataset, CAMERAS
import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.clips import Clips
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream

ROOT = Path(__file__).resolve().parents[1]
LEROBOT = ROOT / '.venv-lerobot' / 'bin' / 'lerobot-python'
TARGETS = {'clips_vs_lerobot': 20.0, 'clips_vs_memmap': 0.5, 'cache_build_vs_pyav_cores': 0.8}
#: Clips of a batch, fewer of large pictures: a batch takes 64 MB at most.
_BATCH, _BATCH_BYTES = 64, 64 << 20
#: Seconds that one turn lasts at least, after a batch that does not count.
_TURN_S = 1.0

Pick = NDArray[np.int64]


class Lerobot:
    """The other side, in its own environment."""

    def __init__(self, dataset: Dataset, length: int) -> None:
        self._process = subprocess.Popen(
            [LEROBOT, ROOT / 'bench' / 'load_lerobot.py', dataset.path, str(length)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit('bench_load: lerobot ended; run it by hand to see why')
        return line

    def seconds(self, rows: list[int]) -> float:
        """Read clips that begin at ``rows``, one after the other."""
        assert self._process.stdin is not None
        print(*rows, file=self._process.stdin, flush=True)
        return float(self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30.0)


def one_file_each(dataset: Dataset, cache: FrameCache, folder: Path) -> list[Any]:
    """Write all pictures of each camera to one file, and map it: the limit."""
    maps = []
    for camera in CAMERAS:
        path = folder / f'{camera}.u8'
        with path.open('wb') as file:
            for episode in range(dataset.num_episodes):
                rows = dataset.rows(episode)
                file.write(cache.frames(camera)[rows].data)
        maps.append(np.memmap(path, np.uint8, 'r', shape=cache.shape))
    return maps


def rate_of(read: Callable[[Pick], object], picks: Callable[[int], Pick]) -> float:
    """Clips a second of one turn."""
    read(picks(0))
    count, began, turn = 0, time.perf_counter(), 1
    while (passed := time.perf_counter() - began) < _TURN_S:
        pick = picks(turn)
        read(pick)
        count += len(pick)
        turn += 1
    return count / passed


def measure_clips(dataset: Dataset, cache: FrameCache, maps: list[Any], length: int,
                  repeats: int) -> dict[str, Any]:
    """Read clips of ``length`` rows at random, everybody in turn."""
    clips = Clips(cache, length=length, columns={'action': dataset.column('action')})
    stream = FrameStream(dataset, *cache.shape[1:3])
    streamed = Clips(stream, length=length, columns={'action': dataset.column('action')})
    rng = np.random.default_rng(0)
    clip_bytes = length * len(CAMERAS) * int(np.prod(cache.shape[1:]))
    batch = max(1, min(_BATCH, _BATCH_BYTES // clip_bytes))

    def picks(turn: int) -> Pick:
        return rng.integers(0, len(clips), batch)

    def gather(pick: Pick) -> list[Any]:
        rows, _ = clips.rows(pick)
        return [mapped[rows] for mapped in maps]

    lerobot = Lerobot(dataset, length) if LEROBOT.exists() else None
    for read in (clips.read, gather, streamed.read):
        rate_of(read, picks)
    if lerobot is not None:  # it keeps every video open: one clip of each, before it is timed
        lerobot.seconds([dataset.rows(episode).start for episode in range(dataset.num_episodes)])
    found: dict[str, list[float]] = {'ours': [], 'memmap': [], 'stream': [], 'lerobot': []}
    for _ in range(repeats):
        if lerobot is not None:
            rows, _ = clips.rows(rng.integers(0, len(clips), _BATCH))
            found['lerobot'].append(_BATCH / lerobot.seconds(rows[:, 0].tolist()))
        found['ours'].append(rate_of(clips.read, picks))
        found['memmap'].append(rate_of(gather, picks))
        found['stream'].append(rate_of(streamed.read, picks))
    stream.close()
    if lerobot is not None:
        lerobot.close()
    result: dict[str, Any] = {
        'clip_rows': length, 'cameras': len(CAMERAS), 'batch': batch,
        'clips_per_s': {name: spread(values) for name, values in found.items() if values}}
    for name in ('memmap', 'lerobot'):
        if found[name]:
            result[f'vs_{name}'] = spread([
                ours / other for ours, other in zip(found['ours'], found[name], strict=True)])
    if found['lerobot']:
        result['stream_vs_lerobot'] = spread([
            ours / other for ours, other in zip(found['stream'], found['lerobot'], strict=True)])
    return result


def text(values: dict[str, float], digits: int = 2) -> str:
    """Write a median with its spread."""
    return (f'{values["median"]:,.{digits}f} '
            f'({values["low"]:,.{digits}f} to {values["high"]:,.{digits}f})')


def table(result: dict[str, Any]) -> str:
    """Write what people read."""
    build = result['build']
    lines = [f'{result["dataset"]}, {build["cores"]} cores; median (lowest to highest) of '
             f'{result["repeats"]} rounds', '', 'building the cache          pictures/s']
    names = {'ours': f'ours, to {CACHE_SIZE}x{CACHE_SIZE}', 'pyav_rgb': 'PyAV to RGB, 1 thread',
             'pyav_rgb_all_cores': f'the same, {build["cores"]} processes',
             'pyav_decode_only': 'PyAV, no RGB, 1 thread'}
    lines += [f'  {label:<24}  {text(build["pictures_per_s"][name], 0)}'
              for name, label in names.items()]
    ratios = {'ratio': '(PyAV x cores)', 'ratio_to_all_cores': 'PyAV on all cores',
              'ratio_to_decode_only': '(PyAV, no RGB, x cores)'}
    lines += [f'  ours / {label:<24} {text(build[name])}' for name, label in ratios.items()]
    cpu_us = {name: values['median'] for name, values in build['cpu_us_per_picture'].items()}
    lines += [f'  processor time a picture: ours {cpu_us["ours"]:.0f} us, PyAV to RGB '
              f'{cpu_us["pyav_rgb"]:.0f} us; PyAV / ours {text(build["cpu_ratio"])}']
    for clips in result['clips']:
        lines += ['', f'random clips of {clips["clip_rows"]} rows x {clips["cameras"]} cameras'
                      f'     clips/s']
        labels = {'ours': 'ours, cache', 'memmap': 'one memory map', 'stream': 'ours, stream',
                  'lerobot': 'lerobot __getitem__'}
        lines += [f'  {labels[name]:<24}  {text(values, 0)}'
                  for name, values in clips['clips_per_s'].items()]
        lines += [f'  cache / {name.removeprefix("vs_"):<16}  {text(clips[name])}'
                  for name in ('vs_memmap', 'vs_lerobot') if name in clips]
    lines.append('')
    for key, target in TARGETS.items():
        value = result[key]
        lines.append(f'{key:<28} ' + ('not measured: run `make test-conformance` first'
                                      if value is None else
                                      f'{value:.2f} (wanted: at least {target:g})'
                                      f'{"" if value >= target else "  MISSED"}'))
    return '\n'.join(lines)


def main() -> int:
    """Measure, print a table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--size', type=int, default=128, help='side of the pictures, pixels')
    parser.add_argument('--episodes', type=int, default=50)
    parser.add_argument('--rows', type=int, default=100, help='of each episode')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--out', type=Path, default=ROOT / 'out' / 'bench' / 'load.json')
    options = parser.parse_args()
    folder = options.out.parent / 'load'
    folder.mkdir(parents=True, exist_ok=True)
    dataset = bench_dataset(folder, options.size, options.episodes, options.rows)
    result: dict[str, Any] = {
        'dataset': f'{options.episodes} episodes of {options.rows} rows, {len(CAMERAS)} cameras '
                   f'of {options.size}x{options.size}',
        'repeats': options.repeats, 'load_average': os.getloadavg()[0],
        'build': measure_build(dataset, folder, options.repeats)}
    cache = FrameCache.build(dataset, options.size, options.size, folder / 'cache')
    maps = one_file_each(dataset, cache, folder)
    for camera, mapped in zip(CAMERAS, maps, strict=True):  # into memory, before anybody is timed
        for first in range(0, dataset.num_rows, 256):
            cache.frames(camera)[first:first + 256]
            mapped[first:first + 256].max()
    result['clips'] = [measure_clips(dataset, cache, maps, length, options.repeats)
                       for length in (8, 1)]
    long = result['clips'][0]
    result['clips_vs_lerobot'] = long['vs_lerobot']['median'] if 'vs_lerobot' in long else None
    result['clips_vs_memmap'] = long['vs_memmap']['median']
    result['cache_build_vs_pyav_cores'] = result['build']['ratio']['median']
    options.out.write_text(json.dumps(result, indent=2) + '\n')
    print(table(result))
    print(f'\nwritten to {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
