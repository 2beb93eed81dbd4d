# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Measure inference from outside: latency, deadlines, a slow model, 8 bits, beside a plain node.

    make bench-infer                              # about half an hour
    make bench-infer ARGS='--seconds 600 --only control'    # the ten minutes at 100 Hz

ViT-Ti at 96 pixels on the CPU, one thread, VGA pictures from another process over DDS with the
shipped profile. Writes ``out/bench/infer.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
import itertools
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import cv2
from infer_models import at_rate, bare_session, exported, median_s, slowed, trained
from infer_rig import inference, load, measure, plain
import numpy as np
from record_rig import set_environment
from sim_dataset import sim_dataset
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.training.batches import episode_rows
from ssl_vla_ros.training.probes import probe
from ssl_vla_ros.training.probing import probe_targets

ROOT = Path(__file__).parents[1]
OUT = ROOT / 'out' / 'bench'
#: What is wanted of each figure, on two cores of a server.
TARGETS = {
    'overhead_p50_ms': ('<=', 1.5), 'end_to_end_p50_ms': ('<=', 5.0),
    'runtime_overhead_ms': ('<=', 0.3), 'overhead_runtime_fraction': ('<=', 0.1),
    'missed_unreported': ('==', 0),
    'rate_hz': ('>=', 99.0), 'age_p99_beside_model_ms': ('<', 10.0),
    'age_p99_vs_plain_node': ('<=', 0.2), 'age_p99_vs_plain_node_realtime': ('<=', 0.2),
    'slow_model_age_ratio': ('<', 2.0),
    'int8_speedup_r18': ('>=', 2.0), 'int8_probe_delta': ('<=', 0.02),
    'runtime_rss_mb': ('<', 150.0), 'runtime_import_s': ('<', 1.0)}
RATES_HZ = (10.0, 30.0, 60.0, 100.0)
_OVERHEAD_HZ, _OVERHEAD_TURNS = 30.0, 5
#: Beside the plain node: one that it keeps up with, and two that it does not.
LOADED_HZ = (30.0, 60.0, 100.0)
HEADLINE_HZ = 60.0
#: Of each of these runs, at most.
_LOADED_S = 10.0
SLOW_S = 0.15
#: Real-time priority of ours beside the plain node, as ros2_control's controllers have it.
_PRIORITY = 50
#: Episodes that features are probed on.
_PROBED = 90
SIZE = 96
_SIM = ROOT / 'models' / 'sim_ur5e'

Figures = dict[str, Any]


class Models:
    """Runs and bundles, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def data(self, episodes: int = 12) -> Dataset:
        """Demonstrations of the simulated arm, seen by one camera."""
        return sim_dataset(self.folder / 'data', episodes, cameras=('front',))

    def run(self, backbone: str, steps: int, episodes: int = 12) -> Path:
        """Train SimCLR for a moment: what is timed does not depend on what was learnt."""
        return trained(
            self.folder, backbone, self.data(episodes).path, f'network.backbone={backbone}',
            'network.readout=mean', f'height={SIZE}', f'width={SIZE}', f'steps={steps}',
            'batch_size=32', 'precision=32-true', 'seed=0')

    def bundle(self, backbone: str = 'vit_tiny_patch16_224', precision: str = 'fp32',
               steps: int = 2, episodes: int = 12) -> Path:
        """Export such a run."""
        return exported(self.run(backbone, steps, episodes), self.data(episodes).path, precision)


def runtime_alone(models: Models, options: argparse.Namespace) -> Figures:
    """Import, memory, and what preparing and checking cost beside the bare call."""
    bundle = load_bundle(models.bundle(), backend='cpu', parts=('encoder',))
    session = bare_session(str(models.bundle() / 'encoder.onnx'))
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    images = bundle.prepare({'front': picture})
    bare, whole, resized = [], [], []
    for _ in range(9):  # in turns: whatever disturbs one disturbs all
        bare.append(median_s(lambda: session.run(None, {'images': images[None]}), 60))
        whole.append(median_s(lambda: bundle.encode(bundle.prepare({'front': picture})), 60))
        resized.append(median_s(lambda: cv2.resize(
            picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA), 60))
    code = (
        'import time; began = time.perf_counter()\n'
        'import onnxruntime\n'
        'from ssl_vla_ros.runtime.bundle import load_bundle\n'
        'took = time.perf_counter() - began\n'
        'import sys\n'
        f'bundle = load_bundle({str(models.bundle())!r}, backend="cpu"); bundle.warm_up()\n'
        'assert "torch" not in sys.modules\n'
        'rss = next(l for l in open("/proc/self/status") if l.startswith("VmRSS"))\n'
        'print(took, int(rss.split()[1]) / 1024)\n')
    found = [list(map(float, subprocess.run(
        [sys.executable, '-c', code], check=True, capture_output=True, text=True,
        cwd=ROOT).stdout.split())) for _ in range(5)]
    bare_s, whole_s = float(np.median(bare)), float(np.median(whole))
    return {
        'bare_p50_ms': 1e3 * bare_s, 'runtime_p50_ms': 1e3 * whole_s,
        'resize_p50_ms': 1e3 * float(np.median(resized)),
        'prepared_overhead_ms': 1e3 * (whole_s - bare_s),
        # Any user has to make the picture smaller, with the same call.
        'runtime_overhead_ms': 1e3 * (whole_s - bare_s - float(np.median(resized))),
        'overhead_runtime_fraction': (
            whole_s - bare_s - float(np.median(resized))) / bare_s,
        'runtime_import_s': float(np.median([row[0] for row in found])),
        'runtime_rss_mb': float(np.median([row[1] for row in found]))}


def rates(models: Models, options: argparse.Namespace) -> Figures:
    """
    Run the node at several rates, and see its overhead over the bare call at 30 Hz.

    There in turns, and the bare call is made between the node's ticks: a processor that is shared
    with others is at times a third slower, and the overhead is a small difference of two large
    times. One more turn at 30 Hz goes without it, to see what it does to the node. At 60 Hz and
    more nothing has room between two ticks.
    """
    session = bare_session(str(models.bundle() / 'encoder.onnx'))
    images = np.zeros((1, 1, SIZE, SIZE, 3), np.uint8)

    def bare() -> None:
        session.run(None, {'images': images})

    rows: list[Figures] = []
    for rate in RATES_HZ:
        turns = _OVERHEAD_TURNS if rate == _OVERHEAD_HZ else 1
        bundle = at_rate(models.bundle(), rate)
        calls = [bare if rate <= _OVERHEAD_HZ else None] * turns
        for call in calls if turns == 1 else [*calls, None]:
            seen = measure(inference(bundle), rate, options.seconds / min(turns, 2),
                           'inference/features', models.folder / 'inference.log', call)
            told = seen.diagnostics
            inside_ms = float(told['overhead_p50_ms']) + float(told['inference_p50_ms'])
            row = {'sent_hz': rate, **seen.figures(), 'throughput_hz': 1e3 / inside_ms}
            if len(seen.between_s):
                bare_ms = 1e3 * float(np.median(seen.between_s))
                row |= {'bare_between_ticks_ms': bare_ms, 'overhead_p50_ms': inside_ms - bare_ms,
                        'end_to_end_p50_ms': row['age_p50_ms'] - bare_ms}
            rows.append(row)
            print(_row(row), flush=True)
    found = [row for row in rows
             if row['sent_hz'] == _OVERHEAD_HZ and 'overhead_p50_ms' in row]
    return {
        **{name: float(np.median([row[name] for row in found]))
           for name in ('bare_between_ticks_ms', 'overhead_p50_ms', 'end_to_end_p50_ms')},
        'overheads_p50_ms': [row['overhead_p50_ms'] for row in found], 'rates': rows}


def control(models: Models, options: argparse.Namespace) -> Figures:
    """100 Hz for long: deadlines, and the worst ages."""
    seen = measure(inference(at_rate(models.bundle(), 100.0)), 100.0, options.seconds,
                   'inference/features', models.folder / 'inference.log')
    row = seen.figures()
    print(_row({'sent_hz': 100.0, **row}), flush=True)
    return {'rate_hz': row['rate_hz'], 'missed_reported': row['missed_deadlines'],
            'missed_unreported': row['unreported'], 'age_p99_ms': row['age_p99_ms'],
            'age_p99_beside_model_ms': row['age_p99_ms'] - float(
                seen.diagnostics['inference_p50_ms']),
            'control_s': options.seconds,
            'control_rss_growth_mb': seen.rss_mb[1] - seen.rss_mb[0]}


def _may_be_real_time() -> bool:
    """Whether this user's processes may have a real-time priority."""
    code = f'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param({_PRIORITY}))'
    return subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0


def beside_plain(models: Models, options: argparse.Namespace) -> Figures:
    """
    Compare with the plain node, all cores busy with something else; in turns, at each rate.

    Ours runs as it comes, and with a real-time priority, as its documentation advises whoever has
    a busy machine; the plain node as people start it, and as somebody would who knows that torch's
    threads wait for each other.
    """
    run = models.run('vit_tiny_patch16_224', 2)
    real_time = _may_be_real_time()
    if not real_time:
        print('  no row in real time: this user may not have a priority (ulimit -r)', flush=True)
    rows: list[Figures] = []
    with load(os.cpu_count() or 1):
        for rate in LOADED_HZ:
            bundle = at_rate(models.bundle(), rate)
            sides = {'ours': (inference(bundle), 'inference/features')} | ({
                'realtime': (inference(bundle, thread_priority=_PRIORITY), 'inference/features'),
            } if real_time else {}) | {
                'plain': (plain(run), 'plain/features'),
                'plain_one_thread': (plain(run, threads=1), 'plain/features')}
            seen: dict[str, list[Figures]] = {side: [] for side in sides}
            for _ in range(options.turns):
                for side, (command, topic) in sides.items():
                    seen[side].append(measure(
                        command, rate, min(options.seconds, _LOADED_S), topic,
                        models.folder / f'{side}.log').figures())
                    print(f'  {side:<17}{_row({"sent_hz": rate, **seen[side][-1]})}', flush=True)
            told = ('age_p50_ms', 'age_p99_ms', 'rate_hz', 'missed_deadlines', 'unreported')
            rows.append({'sent_hz': rate, **{
                f'{side}_{key}': [row[key] for row in kept] for side, kept in seen.items()
                # The plain node reports nothing.
                for key in told[:3 if side.startswith('plain') else None]}})
            for ours, theirs in itertools.product(('ours', 'realtime'), sides):
                if ours in sides and theirs.startswith('plain'):
                    rows[-1][f'{ours}_vs_{theirs}'] = float(np.median(np.divide(
                        rows[-1][f'{ours}_age_p99_ms'], rows[-1][f'{theirs}_age_p99_ms'])))
    headline = next(row for row in rows if row['sent_hz'] == HEADLINE_HZ)
    return {'age_p99_vs_plain_node': headline['ours_vs_plain'],
            'age_p99_vs_plain_node_one_thread': headline['ours_vs_plain_one_thread'],
            'age_p99_vs_plain_node_realtime': headline.get('realtime_vs_plain'),
            'beside_plain': rows}


def slow(models: Models, options: argparse.Namespace) -> Figures:
    """Run a model that takes longer than three periods."""
    seen = measure(inference(slowed(at_rate(models.bundle(), 30.0), SLOW_S)), 30.0,
                   options.seconds, 'inference/features', models.folder / 'slow.log')
    row = seen.figures()
    print(_row({'sent_hz': 30.0, **row}), flush=True)
    model_ms = float(seen.diagnostics['inference_p50_ms'])
    return {'slow_model_age_ratio': row['age_p99_ms'] / model_ms, 'slow_model_ms': model_ms,
            'slow_rss_growth_mb': seen.rss_mb[1] - seen.rss_mb[0],
            'slow_unreported': row['unreported'], 'slow_missed_reported': row['missed_deadlines']}


def eight_bits(models: Models, options: argparse.Namespace) -> Figures:
    """Compare ResNet-18 in fp32 and int8: time in turns, and what the features tell."""
    bundles = {precision: load_bundle(
        models.bundle('resnet18', precision, options.steps, _PROBED), backend='cpu',
        parts=('encoder',)) for precision in ('fp32', 'int8')}
    data = models.data(_PROBED)
    pictures = FrameStream(data, SIZE, SIZE).read('front', np.arange(data.num_rows))
    times: dict[str, list[float]] = {precision: [] for precision in bundles}
    for _ in range(9):
        for precision, bundle in bundles.items():
            times[precision].append(median_s(partial(bundle.encode, pictures[:1]), 30))
    targets, names = probe_targets(data)
    train, held = (episode_rows(data.lengths, part)
                   for part in split_episodes(data.num_episodes, 0.2, 0))
    scores = {}
    for precision, bundle in bundles.items():
        features = np.stack([bundle.encode(picture[None]) for picture in pictures])
        found = probe(features.reshape(len(features), -1).astype(np.float64), targets, train,
                      held, names, episodes=data.episode_index)
        scores[precision] = float(np.mean(
            [value for name, value in found.r2.items() if name.startswith('state.')]))
    ratios = np.divide(times['fp32'], times['int8'])
    return {'int8_speedup_r18': float(np.median(ratios)), 'int8_speedups': ratios.tolist(),
            'fp32_r18_ms': 1e3 * float(np.median(times['fp32'])),
            'int8_probe_r2': scores['int8'], 'fp32_probe_r2': scores['fp32'],
            'int8_probe_delta': abs(scores['int8'] - scores['fp32'])}


def whole(models: Models, options: argparse.Namespace) -> Figures:
    """Two cameras, world model and head of the bundle that ships, at 30 Hz."""
    if not (_SIM / 'manifest.json').is_file():
        raise SystemExit(f'{_SIM} is not there')
    copy = models.folder / 'sim_ur5e'
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(_SIM, copy)
    told = subprocess.run(
        [sys.executable, str(ROOT / 'bench' / 'bench_nodes.py'), '--bundle',
         str(at_rate(copy, 30.0)), '--seconds', str(options.seconds), '--foresight'],
        check=True, capture_output=True, text=True, cwd=ROOT).stdout
    nodes = json.loads(told[told.index('{'):])
    kept = ('rate_hz', 'age_p50_ms', 'age_p99_ms', 'missed_deadlines', 'foresight_p50_ms',
            'cpu_percent_of_a_core')
    row = {name: float(nodes['inference'][name]) for name in kept}
    policy = {name: float(nodes['policy'][name]) for name in (
        'latency_p50_ms', 'latency_p99_ms', 'cpu_percent_of_a_core')}
    print(f'two cameras, world model and head at 30 Hz: {row} {policy}', flush=True)
    return {'whole_30hz': row | {f'policy_{name}': value for name, value in policy.items()}}


PARTS: dict[str, Callable[[Models, argparse.Namespace], Figures]] = {
    'runtime': runtime_alone, 'rates': rates, 'control': control, 'plain': beside_plain,
    'slow': slow, 'int8': eight_bits, 'whole': whole}


def _row(row: Figures) -> str:
    return (f'  {row["sent_hz"]:5.0f} Hz sent: {row["rate_hz"]:6.1f} Hz, age p50 '
            f'{row["age_p50_ms"]:.1f} p99 {row["age_p99_ms"]:.1f} max {row["age_max_ms"]:.1f} ms, '
            f'jitter {row["jitter_ms"]:.2f} ms, missed {row["missed_deadlines"]}, not reported '
            f'{row["unreported"]}, {row["cores"]:.2f} cores, {row["rss_mb"]:.0f} MB')


def main() -> None:
    """Measure, print and write down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--seconds', type=float, default=20.0, help='of each run')
    parser.add_argument('--turns', type=int, default=2, help='beside the plain node')
    parser.add_argument('--steps', type=int, default=300, help="of ResNet-18's training")
    parser.add_argument('--only', nargs='+', choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    set_environment()
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / 'infer.json'
    commit = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True,
                            cwd=ROOT).stdout.strip()
    figures: Figures = json.loads(path.read_text()) if path.is_file() else {}
    with tempfile.TemporaryDirectory(prefix='bench_infer_') as folder:
        models = Models(Path(folder))
        for name in options.only:
            began = time.monotonic()
            print(f'{name} …', flush=True)
            figures |= PARTS[name](models, options)
            # Of which code and when: parts may be measured one by one.
            figures.setdefault('measured', {})[name] = {
                'commit': commit, 'at': time.strftime('%Y-%m-%d %H:%M'),
                'seconds': options.seconds}
            path.write_text(json.dumps(figures, indent=1, default=float))
            print(f'  {time.monotonic() - began:.0f} s', flush=True)
    for name, (sign, wanted) in TARGETS.items():
        if figures.get(name) is not None:
            print(f'{name:<28}{figures[name]:>10.4g}   wanted {sign} {wanted:g}')
    print(f'\nAll of it: {path}')


if __name__ == '__main__':
    main()
