# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure the recorder from outside, while other processes of this machine publish.

    python bench/bench_record.py                 # the load of docs/benchmarks.md, a minute
    python bench/bench_record.py --ceiling       # more and more, until messages are missing

Every publisher keeps the stamp of each message it sent; the bag is read back and compared with
them. Publishers run before, through and after an episode, so start and finish are measured under
the load. What is in an episode for sure was sent between the answer to the start and the call of
the stop.
"""

from __future__ import annotations

import argparse
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import signal
import statistics
import sys
import tempfile
from typing import Any

import rclpy
from rclpy.signals import SignalHandlerOptions
from record_ceiling import ceiling
from record_publishers import CONTENTS
from record_rig import Load, Rig, ROOT, set_environment, Span
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.messages.stamps import header_stamp_ns

TARGETS = {
    'written_fraction': ('>=', 0.999), 'accounted_fraction': ('>=', 1.0),
    'recorder_cores': ('<=', 0.5), 'rss_growth_mb': ('<=', 16.0),
    'start_ms': ('<', 50.0), 'finish_ms': ('<', 1000.0)}
#: Memory is compared from here on: the first seconds fill buffers once and for all.
_SETTLED_S = 10.0
#: Longest episode of a step of --ceiling.
_STEP_S = 15.0


@dataclass
class Topic:
    """One topic's messages in an episode."""

    sent: int
    written: int
    accounted: bool
    lost: int
    dropped: int
    rejected: int
    rate_share: float
    publisher_cores: float


def compare(span: Span, stamps: list[int], bag: list[int], account: Any, rate_hz: float,
            cores: float) -> Topic:
    """
    Compare a topic's messages in the bag with those that its publisher sent.

    The recorder takes the times of start and stop somewhere between call and answer, so the
    messages of those milliseconds may be in the episode or not: those in the bag are.
    """
    first, last = bisect_left(stamps, span.started), bisect_left(stamps, span.asked_stop)
    if bag:
        first = min(first, bisect_left(stamps, bag[0]))
        last = max(last, bisect_right(stamps, bag[-1]))
    earliest = bisect_left(stamps, span.asked_start)
    latest = bisect_right(stamps, span.stopped)
    sent = stamps[first:last]
    exact = len(set(bag)) == len(bag) == account.written and set(bag) <= set(sent)
    accounted = (exact and account.balanced and account.published_exact
                 and len(sent) <= account.published <= latest - earliest)
    return Topic(
        len(sent), len(bag), accounted, account.lost, account.dropped, account.rejected,
        (len(sent) - 1) / (rate_hz * (sent[-1] - sent[0]) / 1e9), cores)


def measure(load: Load, seconds: float, starts: int, parameters: list[str], folder: Path
            ) -> dict[str, Any]:
    """Record one episode of that length, and short ones before it; gives every figure."""
    with Rig(folder, load, parameters) as rig:
        tell(f'{load}: waiting for recorder and publishers')
        rig.wait_ready()
        tell(f'{starts} short episodes, then one of {seconds:g} s')
        short = [rig.episode(0.3) for _ in range(starts)]
        span = rig.episode(seconds)
        stamps = rig.stop_publishers()
        tell('reading the bag back')
        episode = Episode.open(rig.session / span.name)
        size = sum(file.stat().st_size for file in episode.path.glob('*.mcap'))
        bag: dict[str, list[int]] = {topic: [] for topic in load.rates}
        for message in episode.raw():
            bag[message.topic].append(header_stamp_ns(message.data))
    topics = {
        topic: compare(span, stamps[topic], sorted(bag[topic]), episode.accounts[topic], rate,
                       span.publisher_cores[topic]) for topic, rate in load.rates.items()}
    first, last = span.samples[0], span.samples[-1]
    wall = last.at - first.at
    threads: dict[str, float] = {}
    for thread, (name, used) in last.threads.items():
        before = first.threads.get(thread, ('', 0.0))[1]
        what = ('callbacks' if thread == rig.recorder.pid else
                'dds' if name.startswith('dds') else 'writer')
        threads[what] = threads.get(what, 0.0) + (used - before) / wall
    starts_ms = [item.start_ms for item in (*short, span)]
    return {
        'written_fraction': min(item.written / item.sent for item in topics.values()),
        'accounted_fraction': sum(item.sent for item in topics.values() if item.accounted)
        / sum(item.sent for item in topics.values()),
        'recorder_cores': (last.cpu - first.cpu) / wall,
        'rss_growth_mb': growth_mb(span, 'rss'),
        'start_ms': max(starts_ms),
        'finish_ms': span.finish_ms,
        'details': {
            'load': str(load), 'seconds': span.seconds, 'camera_mb_s': load.mb_s,
            'parameters': parameters, 'status': episode.info['status'],
            'anonymous_growth_mb': growth_mb(span, 'anonymous'),
            'rss_mb': span.samples[-1].rss / 1e6,
            'anonymous_mb': [round(item.anonymous / 1e6, 1) for item in span.samples[::10]],
            'cores_by_thread': threads,
            'machine_busy_cores': span.busy_cores,
            'bag_mb_s': size / 1e6 / span.seconds,
            'compression': load.mb_s * span.seconds * 1e6 / size,
            'start_ms_median': statistics.median(starts_ms), 'starts': len(starts_ms),
            'short_finish_ms_median': statistics.median(item.finish_ms for item in short)
            if short else None,
            'short_finish_ms_max': max((item.finish_ms for item in short), default=None),
            'topics': {topic: vars(item) for topic, item in topics.items()}}}


def tell(what: str) -> None:
    """Say on stderr what is being done: it takes minutes."""
    print(f'... {what}', file=sys.stderr, flush=True)


def growth_mb(span: Span, what: str) -> float:
    """Memory from ten seconds into the recording to its end, each the median of three seconds."""
    began, end = span.samples[0].at, span.samples[-1].at
    start = min(_SETTLED_S, (end - began) / 2)
    early = [getattr(item, what) for item in span.samples
             if began + start <= item.at <= began + start + 3.0]
    late = [getattr(item, what) for item in span.samples if item.at >= end - 3.0]
    return float(statistics.median(late) - statistics.median(early)) / 1e6


def table(result: dict[str, Any]) -> str:
    """Give the figures as lines."""
    details = result['details']
    lines = [f'{details["load"]}, {details["camera_mb_s"]:.0f} MB/s of pictures, '
             f'{details["seconds"]:.0f} s: {details["status"]}']
    for key, (sign, target) in TARGETS.items():
        met = result[key] >= target if sign == '>=' else result[key] <= target
        lines.append(f'  {key:20} {result[key]:10.4f}   wanted {sign} {target:g}'
                     f'{"" if met else "   MISSED"}')
    threads = ', '.join(f'{name} {cores:.2f}' for name, cores in
                        sorted(details['cores_by_thread'].items()))
    lines += [
        f'  cores of the recorder: {threads}; machine busy {details["machine_busy_cores"]:.2f}',
        f'  to the disk {details["bag_mb_s"]:.0f} MB/s, compressed {details["compression"]:.2f} '
        f'times; memory {details["rss_mb"]:.0f} MB, of its own '
        f'{details["anonymous_growth_mb"]:+.1f} MB',
        f'  {details["starts"]} starts: median {details["start_ms_median"]:.1f} ms, worst '
        f'{result["start_ms"]:.1f} ms',
        f'  {"topic":22}{"sent":>8}{"written":>9}{"lost":>6}{"dropped":>9}{"rejected":>9}'
        f'{"accounted":>11}{"of its rate":>13}{"its cores":>11}']
    for topic, item in details['topics'].items():
        lines.append(
            f'  {topic:22}{item["sent"]:8}{item["written"]:9}{item["lost"]:6}{item["dropped"]:9}'
            f'{item["rejected"]:9}{"yes" if item["accounted"] else "NO":>11}'
            f'{item["rate_share"]:13.3f}{item["publisher_cores"]:11.2f}')
    return '\n'.join(lines)


def run(load: Load, seconds: float, starts: int, parameters: list[str], place: Path
        ) -> dict[str, Any]:
    """``measure`` in a folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix='.bench_record_', dir=place))
    try:
        return measure(load, seconds, starts, parameters, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Measure, print a table and write out/bench/record.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=60.0, help='length of the episode')
    parser.add_argument('--starts', type=int, default=20, help='short episodes before it')
    parser.add_argument('--content', choices=CONTENTS, default='camera')
    parser.add_argument('--cameras', type=int, default=3)
    parser.add_argument('--width', type=int, default=640)
    parser.add_argument('--height', type=int, default=480)
    parser.add_argument('--camera-hz', type=float, default=30.0)
    parser.add_argument('--joints-hz', type=float, default=500.0)
    parser.add_argument('--action-hz', type=float, default=100.0)
    parser.add_argument('--ceiling', action='store_true', help='step up until it is too much')
    parser.add_argument('--parameter', action='append', default=[], metavar='NAME:=VALUE',
                        help='parameter of the recorder')
    parser.add_argument('--place', type=Path, default=ROOT / 'out' / 'bench',
                        help='where to record to: the disk that is measured')
    parser.add_argument('--out', type=Path, default=ROOT / 'out' / 'bench' / 'record.json')
    options = parser.parse_args()
    set_environment()
    # Ended by a signal, it ends its processes and removes its episodes, as after an error.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    load = Load(options.cameras, options.width, options.height, options.camera_hz,
                options.joints_hz, options.action_hz, options.content)
    options.place.mkdir(parents=True, exist_ok=True)
    try:
        result = run(load, options.seconds, options.starts, options.parameter, options.place)
        print(table(result), flush=True)
        if options.ceiling:
            def step(heavier: Load) -> dict[str, Any]:
                found = run(heavier, min(options.seconds, _STEP_S), 0, options.parameter,
                            options.place)
                print(table(found), flush=True)
                return found
            result['details']['ceiling'] = ceiling(load, step, options.place)
    finally:
        rclpy.shutdown()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + '\n')
    print(f'written to {options.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
