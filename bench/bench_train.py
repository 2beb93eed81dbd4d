# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Steps of ours beside those of the reference implementations, in turns; writes train.json.

    make bench-train [ARGS='--turns 9 --only mae videomae']

Speed is measured in one process that takes steps of both in turn, so what else the machine does
disturbs both; the ratio is the median over the turns. Memory is what a process of its own needs
at most while it steps, less what it needed before with the networks made: pictures, activations,
gradients and the optimiser's state, of ours and of the reference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from train_devices import gpu_figures
from train_steps import pictures, Size, STEPS

ROOT = Path(__file__).parents[1]
OUT = ROOT / 'out' / 'bench' / 'train.json'


def seconds(step: Any, count: int) -> float:
    """Measure the time of one step."""
    begin = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - begin) / count


def speed(objective: str, size: Size, turns: int, steps: int) -> dict[str, dict[str, float]]:
    """Take steps of ours and of each reference in turn; give seconds and ratios."""
    torch.manual_seed(0)
    ours, references = STEPS[objective]
    runs = {'ours': ours(size)} | {name: build(size) for name, build in references.items()}
    for step in runs.values():
        step()
        step()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, step in runs.items():
            times[name].append(seconds(step, steps))
    found = {}
    for name in references:
        ratios = sorted(their / our for their, our in zip(
            times[name], times['ours'], strict=True))
        found[name] = {
            'ratio': statistics.median(ratios), 'lowest': ratios[0], 'highest': ratios[-1],
            'ours_s': statistics.median(times['ours']), 'theirs_s': statistics.median(times[name])}
    return found


def peak(objective: str, who: str, size: Size) -> float:
    """Measure the most memory of a process, less what it had before its first step, MiB."""
    command = [sys.executable, __file__, '--peak', objective, who, '--batch', str(size.batch)]
    # Every tensor in a mapping of its own, which is given back when it is freed: otherwise the
    # holes of the heap are counted, which change from run to run.
    fixed = {'MALLOC_MMAP_THRESHOLD_': '65536', 'MALLOC_MMAP_MAX_': '1000000'}
    done = subprocess.run(command, capture_output=True, text=True, check=True,
                          env={**os.environ, **fixed})
    return float(done.stdout.split()[-1])


def print_peak(objective: str, who: str, size: Size) -> None:
    """Child process: step, and say what it took."""
    ours, references = STEPS[objective]
    step = (ours if who == 'ours' else references[who])(size)
    # From here on. Not getrusage: its maximum is handed down by the process that started this one.
    Path('/proc/self/clear_refs').write_text('5')
    before = most_kib()
    for _ in range(3):
        step()
    print((most_kib() - before) / 2**10)


def most_kib() -> int:
    """Give the most memory that this process had at once, in KiB."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition('VmHWM:')[2].split()[0])


def augment_fraction(turns: int) -> float:
    """Measure the share of a SimCLR step that augmenting takes: ViT-Ti, 96 px, batch 64."""
    from ssl_vla_ros.augment.views import view, ViewConfig
    from ssl_vla_ros.objectives.simclr import SimCLR, SimCLRConfig
    from train_steps import our_encoder, our_step
    size = Size(batch=64)
    images = pictures(size, size.batch)
    step = our_step(SimCLR(size.shape, SimCLRConfig(), our_encoder(size)), size, size.batch)
    generator = torch.Generator().manual_seed(0)

    def augment() -> None:
        for _ in range(2):
            view(images, ViewConfig(), generator)

    step()
    augment()
    return statistics.median(seconds(augment, 2) / seconds(step, 1) for _ in range(turns))


def process_speedup(folder: Path) -> dict[str, float]:
    """
    Measure what two processes of one thread each do, over what one does.

    Each takes the batch that the one takes, as processes are added in practice; beside it, with
    half of it each, where the exchange of gradients weighs twice as much. And what two processes
    do that know nothing of each other: more than that, this machine does not give two of them.
    """
    from sim_dataset import sim_dataset
    data = sim_dataset(folder / 'data', 12).path
    split = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
             '2']
    alone, = rates_of([[sys.executable]], 64, data, folder)
    together, = rates_of([split], 128, data, folder)
    shared, = rates_of([split], 64, data, folder)
    apart = rates_of([[sys.executable]] * 2, 64, data, folder)
    return {'two_process_speedup': together / alone,
            'two_process_speedup_same_batch': shared / alone,
            'two_strangers_speedup': sum(apart) / alone}


def rates_of(launchers: Sequence[Sequence[str]], batch: int, data: Path, folder: Path
             ) -> list[float]:
    """Train at once by each launcher; samples/s of each."""
    begun = []
    for place, launcher in enumerate(launchers):
        run = folder / f'processes_{place}'
        subprocess.run(['rm', '-rf', str(run)], check=True)
        begun.append((run, subprocess.Popen(
            [*launcher, '-m', 'ssl_vla_ros.cli', 'train', '--config',
             str(ROOT / 'config' / 'train' / 'mae.yaml'), '--data', str(data), '--out', str(run),
             'steps=24', f'batch_size={batch}', 'threads=1', 'probe_every=0', 'log_every=1',
             'precision=32-true', 'warmup_steps=1', 'network.vit.patch=16',
             'network.vit.depth=12', 'checkpoint_every=1000'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
            env={**os.environ, 'OMP_NUM_THREADS': '1'})))
    rates = []
    for run, process in begun:
        if process.wait():
            raise SystemExit(f'{run}: the training ended with {process.returncode}')
        lines = [json.loads(line) for line in (run / 'metrics.jsonl').read_text().splitlines()]
        # From the third step on: the first ones build what is kept.
        ended = [step['samples_per_s'] for step in lines if 'samples_per_s' in step]
        rates.append((len(ended) - 2) / (len(ended) / ended[-1] - 2 / ended[1]))
    return rates


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return '\n'.join('  '.join(cell.ljust(width) for cell, width in zip(
        row, widths, strict=True)) for row in rows)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=7)
    parser.add_argument('--steps', type=int, default=2, help='of each turn')
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--only', nargs='+', choices=list(STEPS), default=list(STEPS))
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--peak', nargs=2, metavar=('OBJECTIVE', 'WHO'), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = Size(batch=options.batch)
    if options.peak:
        print_peak(*options.peak, size)
        return
    result: dict[str, Any] = {
        'step_rate_vs_reference': {}, 'peak_memory_vs_reference': {}, 'detail': {}}
    rows = [('objective', 'reference', 'ours ms', 'theirs ms', 'step rate', 'range', 'memory')]
    for objective in options.only:
        found = speed(objective, size, options.turns, options.steps)
        ours = peak(objective, 'ours', size)
        for name, values in found.items():
            values['ours_mib'], values['theirs_mib'] = ours, peak(objective, name, size)
            values['memory_ratio'] = ours / values['theirs_mib']
            rows.append((objective, name, f'{1e3 * values["ours_s"]:.0f}',
                         f'{1e3 * values["theirs_s"]:.0f}', f'{values["ratio"]:.2f}',
                         f'{values["lowest"]:.2f}-{values["highest"]:.2f}',
                         f'{values["memory_ratio"]:.2f}'))
            print(' '.join(rows[-1]), flush=True)
        # Where there are two references, the one that is harder to beat.
        result['step_rate_vs_reference'][objective] = min(
            values['ratio'] for values in found.values())
        result['peak_memory_vs_reference'][objective] = max(
            values['memory_ratio'] for values in found.values())
        result['detail'][objective] = found
    result['augment_fraction'] = augment_fraction(options.turns)
    result |= process_speedup(OUT.parent)
    result |= gpu_figures()
    print('\n' + table(rows))
    for key in ('augment_fraction', 'two_process_speedup', 'two_process_speedup_same_batch',
                'two_strangers_speedup',
                'mfu_mae_vit_b_224', 'data_wait_fraction'):
        print(f'{key:<30} {result[key]:.3f}' if result.get(key) is not None
              else f'{key:<30} not measured: there is no GPU')
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=1) + '\n')
    print(f'\n{OUT}')


if __name__ == '__main__':
    main()
