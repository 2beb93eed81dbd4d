# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Every objective on the same data with the same encoder and budget, beside the baselines.

    make bench-objectives [ARGS='--seeds 3 --steps 300 --episodes 90']

Each run is a process of its own and is gone on with where it was stopped. The budget is the same
number of steps with the same number of pictures in each; what they take differs, and stands
beside. Writes ``out/bench/objectives.json``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import subprocess
import sys
import time
from typing import Any

import numpy as np

from sim_dataset import sim_dataset
from ssl_vla_ros.training.compare import probe_table

ROOT = Path(__file__).parents[1]
OUT = ROOT / 'out' / 'bench'
#: Moments of a step, of each camera; a clip holds several of them.
MOMENTS = 48
FRAMES = {'videomae': 8, 'temporal': 8, 'r3m': 4, 'jepa': 4}
#: The same encoder for all, small enough for minutes on two cores.
NETWORK = ['height=64', 'width=64', 'network.vit.patch=8', 'network.vit.channels=96',
           'network.vit.depth=3', 'network.vit.heads=3']
SMALL = {
    'dino': ['model.local_size=32', 'model.local_crops=2'],
    'moco': ['model.queue=1024'],
    'clip': ['model.modalities=[image, text, action]'],
    # The whole clip, as the others take it. Every fifth row and the order of moments, because in
    # 300 steps of every second row, or without the order, it tells clips apart, not moments.
    'temporal': ['model.frames=8', 'model.crop=1.0', 'model.stride=5', 'model.order_weight=1.0'],
}
#: Figures that are no probe: spread says nothing of what can be read off.
SKIPPED = ('train_s', 'std', 'effective_rank', 'RankMe')
#: Names of the rows that ``probe`` puts beside a run.
BASELINES = ('random encoder', 'PCA of pixels', 'proprioception')
OBJECTIVES = ('simclr', 'moco', 'clip', 'mae', 'beit', 'videomae', 'temporal', 'r3m', 'dino',
              'jepa')


def train_command(objective: str, seed: int, data: Path, run: Path, steps: int) -> list[str]:
    """Give the command that trains one row of the table."""
    batch = MOMENTS // FRAMES.get(objective, 1)
    return [sys.executable, '-m', 'ssl_vla_ros.cli', 'train', '--config',
            str(ROOT / 'config' / 'train' / f'{objective}.yaml'), '--data', str(data), '--out',
            str(run), f'seed={seed}', f'steps={steps}', f'batch_size={batch}', 'threads=1',
            'warmup_steps=50', 'probe_every=0', 'checkpoint_every=100', 'precision=32-true',
            'held_out_fraction=0.2', *NETWORK, *SMALL.get(objective, [])]


def train_all(jobs: list[tuple[str, int]], data: Path, runs: Path, steps: int, at_once: int
              ) -> None:
    """Train every row that is not finished, some at once, each on a core of its own."""
    waiting = list(jobs)
    running: list[tuple[str, subprocess.Popen[bytes], Path]] = []
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    while waiting or running:
        while waiting and len(running) < at_once:
            objective, seed = waiting.pop(0)
            run = runs / f'{objective}_{seed}'
            runs.mkdir(parents=True, exist_ok=True)
            log = runs / f'{run.name}.log'
            with log.open('wb') as file:
                process = subprocess.Popen(
                    train_command(objective, seed, data, run, steps), stdout=file,
                    stderr=subprocess.STDOUT, cwd=ROOT, env=environment)
            running.append((run.name, process, log))
        name, process, log = running.pop(first_to_end([item[1] for item in running]))
        if process.returncode:
            raise SystemExit(f'{name} failed: {log.read_text(errors="replace")[-2000:]}')
        print(f'{name} is trained; {len(waiting) + len(running)} are left', flush=True)


def first_to_end(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until one of them has ended; give its place."""
    while True:
        for place, process in enumerate(processes):
            if process.poll() is not None:
                return place
        time.sleep(0.2)


def code_of(commit: str) -> str:
    """Name what trains, as it was at a commit: another bench or test changes no run."""
    try:
        return subprocess.run(
            ['git', 'rev-parse', *(f'{commit}:{part}' for part in ('ssl_vla_ros', 'config'))],
            cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except subprocess.CalledProcessError as error:
        raise SystemExit(f'a run was trained by the code of {commit}, which this repository does '
                         f'not have: {error.stderr.strip()}') from error


def measure(jobs: list[tuple[str, int]], data: Path, runs: Path) -> list[dict[str, Any]]:
    """Probe every row, and the baselines beside it."""
    rows = []
    commits: dict[str, str] = {}
    for objective, seed in jobs:
        run = runs / f'{objective}_{seed}'
        info = json.loads((run / 'run.json').read_text())
        commits[code_of(info['git_commit'])] = info['git_commit']
        probed = run / 'probes.json'
        if not probed.exists():
            probed.write_text(json.dumps(probe_table(run, data, None)))
        for name, values in json.loads(probed.read_text()).items():
            rows.append({'objective': name, 'seed': seed, 'beside': objective,
                         'train_s': info['train_s'] if name == objective else None, **values})
    if len(commits) > 1:
        raise SystemExit(
            f'the runs in {runs} were trained by the code of {len(commits)} commits '
            f'({", ".join(commits.values())}): remove those of the older ones and start again')
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float, int]]]:
    """Give mean, deviation and number of seeds by objective and figure."""
    table: dict[str, dict[str, tuple[float, float, int]]] = {}
    for name in dict.fromkeys(row['objective'] for row in rows):
        seen: dict[int, dict[str, Any]] = {}
        for row in rows:
            if row['objective'] == name:
                seen.setdefault(row['seed'], row)
        table[name] = {}
        for key in ('train_s', *(key for key in rows[0] if key not in (
                'objective', 'seed', 'beside', 'train_s'))):
            values = [row[key] for row in seen.values() if row.get(key) is not None]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
                table[name][key] = (float(np.mean(values)), spread, len(values))
    return table


def against_baselines(table: dict[str, dict[str, tuple[float, float, int]]]) -> list[str]:
    """Say of every objective in which figures its mean beats a random encoder and pixels' PCA."""
    lines = []
    for name, row in table.items():
        if name in BASELINES:
            continue
        better = [key for key, (mean, _, _) in row.items() if key not in SKIPPED and all(
            key not in table.get(other, {}) or mean > table[other][key][0]
            for other in BASELINES[:2])]
        lines.append(f'{name:<16} {", ".join(better) or "beats them nowhere"}')
    return lines


def main() -> None:
    """Train, probe, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--episodes', type=int, default=90)
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--at-once', type=int, default=os.cpu_count() or 1)
    parser.add_argument('--only', nargs='+', choices=OBJECTIVES, default=list(OBJECTIVES))
    options = parser.parse_args()
    data = sim_dataset(OUT / 'data', options.episodes).path
    runs = OUT / f'objectives_{options.episodes}x{options.steps}'
    jobs = [(name, seed) for seed in range(options.seeds) for name in options.only]
    train_all(jobs, data, runs, options.steps, options.at_once)
    rows = measure(jobs, data, runs)
    table = summarise(rows)
    order = sorted(table, key=lambda name: -table[name].get('R2_state', (0.0, 0.0, 0))[0])
    figures = list(dict.fromkeys(key for name in order for key in table[name]))
    print(f'{"":<16}' + ''.join(f'{key:>18}' for key in figures))
    for name in order:
        cells = [f'{table[name][key][0]:.3f} ± {table[name][key][1]:.3f}'
                 if key in table[name] else '-' for key in figures]
        print(f'{name:<16}' + ''.join(f'{cell:>18}' for cell in cells))
    (OUT / 'objectives.json').write_text(json.dumps({
        'episodes': options.episodes, 'steps': options.steps, 'seeds': options.seeds,
        'pictures_of_a_step': MOMENTS, 'network': NETWORK, 'rows': rows, 'table': table},
        indent=1) + '\n')
    print('\nBetter than a random encoder and the PCA of pixels in:')
    print('\n'.join(against_baselines(table)))
    print(f'\n{OUT / "objectives.json"}')


if __name__ == '__main__':
    main()
