# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
How fast a session becomes a dataset, beside lerobot's own writer on the same frames.

    make bench-build                   # prints a table, writes out/bench/build.json
    make bench-build ARGS='--height 480 --width 640 --episodes 4'

Ours starts from recorded bags (read, align, encode, decode and compare every picture, hash, sync),
lerobot's from frames in memory, with its default codec and again with H.264. All run one after the
other on the same machine, in turns, so that ratios hold where milliseconds do not.

``decode_fraction`` is how fast the built dataset's videos become a frame cache, beside bare PyAV
on as many cores (``cache_build``); ``proof_share``, what part of a build decoding and comparing
takes.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from cache_build import measure_build
from load_data import CAMERAS, RATE_HZ, Scene
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import get_typestore, Stores
from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.episodes.accounting import TopicAccount
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.parallel import default_workers

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / '.venv-lerobot' / 'bin' / 'lerobot-python'
STORE = get_typestore(Stores.ROS2_JAZZY)
START_NS = 1_700_000_000 * 10**9


def contract(height: int, width: int) -> Contract:
    """Give a robot of six joints under two cameras."""
    names = [f'joint_{number}' for number in range(6)]
    return parse_contract({
        'robot': 'bench', 'rate_hz': RATE_HZ,
        'cameras': {name: {'topic': f'camera/{name}/image_raw', 'type': 'sensor_msgs/Image',
                           'height': height, 'width': width} for name in CAMERAS},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState', 'names': names}],
        'action': [{'topic': 'command', 'type': 'sensor_msgs/JointState', 'names': names}]},
        'bench')


def pictures(options: argparse.Namespace, episode: int, camera: int) -> NDArray[np.uint8]:
    """Draw one camera's pictures of one episode, cut from square ones."""
    side = max(options.height, options.width)
    return np.stack([picture[:options.height, :options.width]
                     for picture in Scene(side, options.rows, 2 * episode + camera)])


def write_frames(folder: Path, options: argparse.Namespace) -> None:
    """Write what lerobot's writer is given."""
    folder.mkdir()
    for episode in range(options.episodes):
        for number, name in enumerate(CAMERAS):
            np.save(folder / f'{name}_{episode:06d}.npy', pictures(options, episode, number))
    rows = np.arange(options.rows)[:, None] / RATE_HZ + np.arange(6)
    np.save(folder / 'numbers.npy', np.stack(
        [np.sin(rows + episode) for episode in range(options.episodes)]).astype(np.float32))


def write_session(session: Path, frames: Path, robot: Contract, options: argparse.Namespace
                  ) -> None:
    """Record the same frames as bags: pictures at the rate of the rows, joints at 100 Hz."""
    numbers = np.load(frames / 'numbers.npy')
    for episode in range(options.episodes):
        writer = EpisodeWriter(session, robot, task='bench', topics=robot.topics())
        counts = dict.fromkeys(robot.topics(), 0)
        found = {name: np.load(frames / f'{name}_{episode:06d}.npy', mmap_mode='r')
                 for name in CAMERAS}
        for row in range(options.rows):
            now = START_NS + row * 10**9 // RATE_HZ
            for name in CAMERAS:
                put(writer, counts, f'camera/{name}/image_raw', now, image(now, found[name][row]))
            for step in range(100 // RATE_HZ):
                put(writer, counts, 'joint_states', now + step * 10**7,
                    joints(now + step * 10**7, numbers[episode, row], robot))
            put(writer, counts, 'command', now, joints(now, numbers[episode, row], robot))
        writer.close({topic: TopicAccount(published=count, written=count)
                      for topic, count in counts.items()}, success=True)


def put(writer: EpisodeWriter, counts: dict[str, int], topic: str, now: int, cdr: bytes) -> None:
    """Write one message, and count it."""
    writer.write(topic, cdr, now + 10**6, now)
    counts[topic] += 1


def header(stamp: int) -> Any:
    """Make a std_msgs/Header."""
    return STORE.types['std_msgs/msg/Header'](
        stamp=STORE.types['builtin_interfaces/msg/Time'](
            sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id='')


def image(stamp: int, pixels: NDArray[np.uint8]) -> bytes:
    """Serialize an rgb8 picture."""
    height, width, _ = pixels.shape
    kind = 'sensor_msgs/msg/Image'
    return bytes(STORE.serialize_cdr(STORE.types[kind](
        header=header(stamp), height=height, width=width, encoding='rgb8', is_bigendian=0,
        step=3 * width, data=np.ascontiguousarray(pixels).reshape(-1)), kind))


def joints(stamp: int, values: NDArray[np.float32], robot: Contract) -> bytes:
    """Serialize joint states."""
    kind = 'sensor_msgs/msg/JointState'
    return bytes(STORE.serialize_cdr(STORE.types[kind](
        header=header(stamp), name=list(robot.state_names), position=values.astype(np.float64),
        velocity=np.empty(0), effort=np.empty(0)), kind))


def ours(session: Path, out: Path, workers: int) -> tuple[float, float]:
    """Build from the bags; gives the seconds, and what part of them the proof took."""
    began = time.perf_counter()
    report = build_dataset(session, out, workers=workers, encoder='libx264')
    took = time.perf_counter() - began
    if report.refused:
        raise SystemExit(report.text())
    seconds = [result.seconds for result in report.kept]
    return took, (sum(item['check'] for item in seconds) / sum(item['all'] for item in seconds))


def ours_from_arrays(frames: Path, out: Path, robot: Contract, options: argparse.Namespace
                     ) -> float:
    """Write from frames in memory, in one process, as lerobot's writer does."""
    numbers = np.load(frames / 'numbers.npy')
    began = time.perf_counter()
    writer = DatasetWriter(out, robot, RATE_HZ)
    ticks = START_NS + np.arange(options.rows, dtype=np.int64) * (10**9 // RATE_HZ)
    zeros = np.zeros(options.rows, dtype=np.float32)
    for episode in range(options.episodes):
        writer.add_episode(AlignedEpisode(
            ticks_ns=ticks, pictures={
                name: np.load(frames / f'{name}_{episode:06d}.npy', mmap_mode='r')
                for name in CAMERAS},
            state=numbers[episode], action=numbers[episode],
            evaluation=np.empty((options.rows, 0), np.float32),
            skew_s={label: zeros for label, _, _ in stream_labels(robot)},
            flagged=np.zeros(options.rows, dtype=bool)), 'bench', True, f'episode {episode}')
    writer.finish()
    return time.perf_counter() - began


def theirs(frames: Path, out: Path, codec: str) -> float:
    """Run lerobot's writer; gives its seconds."""
    done = subprocess.run(
        [str(RUNNER), str(Path(__file__).with_name('build_lerobot.py')), str(frames), str(out),
         codec, str(RATE_HZ)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f'lerobot failed:\n{done.stderr[-2000:]}')
    return float(done.stdout.split()[-1])


def size_mb(path: Path) -> float:
    """Megabytes of a directory's videos."""
    return sum(file.stat().st_size for file in path.rglob('*.mp4')) / 1e6


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Take turns, and give every figure."""
    robot = contract(options.height, options.width)
    frames, session = folder / 'frames', folder / 'session'
    print(f'drawing {options.episodes} episodes of {options.rows} rows, two cameras of '
          f'{options.height}x{options.width}', flush=True)
    write_frames(frames, options)
    write_session(session, frames, robot, options)
    cores = default_workers()
    runs: dict[str, list[float]] = {}
    shares, sizes = [], {}
    caches: dict[str, Any] = {}
    for turn in range(options.turns):
        for name in ('ours', 'ours_one_process', 'ours_from_arrays', 'lerobot_default',
                     'lerobot_h264'):
            out = folder / f'{name}_{turn}'
            if name.startswith('lerobot'):
                codec = 'h264' if name.endswith('h264') else 'libsvtav1'
                took = theirs(frames, out, codec)
            elif name == 'ours_from_arrays':
                took = ours_from_arrays(frames, out, robot, options)
            else:
                took, share = ours(session, out, cores if name == 'ours' else 1)
                shares.append(share)
                if not turn and name == 'ours':
                    dataset = Dataset.open(out)
                    dataset.verify()
                    caches = measure_build(dataset, folder, options.turns)
            runs.setdefault(name, []).append(took)
            sizes[name] = size_mb(out)
            shutil.rmtree(out)
            print(f'turn {turn + 1} of {options.turns}: {name} {took:.1f} s', flush=True)
    seconds = {name: statistics.median(found) for name, found in runs.items()}
    return {
        'speed_vs_lerobot': seconds['lerobot_default'] / seconds['ours'],
        'decode_fraction': caches['ratio']['median'],
        'proof_share': statistics.median(shares),
        'speed_vs_lerobot_h264': seconds['lerobot_h264'] / seconds['ours'],
        'one_process_vs_lerobot': seconds['lerobot_default'] / seconds['ours_one_process'],
        'from_arrays_vs_lerobot': seconds['lerobot_default'] / seconds['ours_from_arrays'],
        'from_arrays_vs_lerobot_h264': seconds['lerobot_h264'] / seconds['ours_from_arrays'],
        'frames': options.episodes * options.rows * len(CAMERAS), 'cores': cores,
        'height': options.height, 'width': options.width, 'seconds': runs, 'video_mb': sizes,
        'cache': caches}


def table(result: dict[str, Any]) -> str:
    """Lay the figures out for people."""
    lines = [f'{"":<22}{"seconds":>10}{"frames/s":>10}{"video MB":>10}']
    for name, found in result['seconds'].items():
        seconds = statistics.median(found)
        lines.append(f'{name:<22}{seconds:>10.1f}{result["frames"] / seconds:>10.0f}'
                     f'{result["video_mb"][name]:>10.1f}')
    for key in ('speed_vs_lerobot', 'speed_vs_lerobot_h264', 'one_process_vs_lerobot',
                'from_arrays_vs_lerobot', 'from_arrays_vs_lerobot_h264', 'decode_fraction',
                'proof_share'):
        lines.append(f'{key:<32}{result[key]:>10.2f}')
    return '\n'.join(lines)


def main() -> int:
    """Measure, print a table and write out/bench/build.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[1])
    parser.add_argument('--episodes', type=int, default=8)
    parser.add_argument('--rows', type=int, default=200)
    parser.add_argument('--height', type=int, default=256)
    parser.add_argument('--width', type=int, default=256)
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--out', type=Path, default=ROOT / 'out' / 'bench' / 'build.json')
    options = parser.parse_args()
    if min(options.episodes, options.rows, options.turns) < 1 or math.gcd(
            options.height, options.width, 2) != 2:
        parser.error('counts must be at least 1, height and width even')
    if not RUNNER.is_file():
        parser.error(f'{RUNNER} is not there: make bench-build installs lerobot first')
    with tempfile.TemporaryDirectory(prefix='bench_build_', dir=ROOT / 'out') as folder:
        try:
            result = measure(Path(folder), options)
        except UserError as error:
            print(f'error: {error}', file=sys.stderr)
            return 2
    print(table(result))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + '\n')
    print(f'written to {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
