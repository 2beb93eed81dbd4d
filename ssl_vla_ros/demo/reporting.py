# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The demo's results: report.json, report.html and a table that fits on one screen."""

from __future__ import annotations

from contextlib import suppress
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.demo.guard import read_json, read_rollouts
from ssl_vla_ros.demo.plan import IN_PROCESS
from ssl_vla_ros.demo.stages import Demo
from ssl_vla_ros.episodes.bag import write_durably
from ssl_vla_ros.report.page import FilmStrip, write_report
from ssl_vla_ros.report.table import demo_table
from ssl_vla_ros.report.video import replace_bytes, write_mp4
from ssl_vla_ros.report.wilson import wilson_interval
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.training.runs import open_run


def _curves(runs: Path) -> dict[str, dict[str, list[list[float]]]]:
    """Loss of every run over its steps."""
    curves = {}
    for path in sorted(runs.iterdir()):
        file = path / 'metrics.jsonl'
        if not file.exists():
            continue
        lines = []
        for text in file.read_text(encoding='utf-8').splitlines():
            with suppress(ValueError):  # a power cut may have torn the last line
                lines.append(json.loads(text))
        curves[path.name] = {
            'loss': [[line['step'], line['loss']] for line in lines if 'loss' in line]}
    return curves


def film_strip(demo: Demo) -> FilmStrip:
    """
    Pictures the bundle predicts for a held-out episode, beside those that came.

    Each prediction starts from the same three frames; the actions are the recorded ones.
    """
    bundle = load_bundle(demo.bundle, backend='cpu', robot=load_contract(demo.contract))
    model, decoder = bundle.manifest.world_model, bundle.manifest.decoder
    assert model is not None and decoder is not None
    dataset = Dataset.open(demo.data)
    held_out = split_episodes(dataset.num_episodes, 0.1, 0)[1]
    rows = dataset.rows(held_out[0])
    encoder = bundle.manifest.encoder
    pictures = FrameStream(dataset, encoder.height, encoder.width)
    # From the middle of the approach: there both the arm and what it will do are to be seen.
    first = rows.start + max(0, (rows.stop - rows.start - model.context - model.horizon) // 3)
    span = np.arange(first, first + model.context + model.horizon)
    frames = np.stack(
        [pictures.read(camera, span) for camera in encoder.cameras], axis=1)
    features = np.stack([bundle.encode(frames[i]) for i in range(model.context)])
    actions = dataset.column('action').astype(np.float32)[span[:-1]]
    predicted = bundle.predict(features, actions)
    real, drawn, labels = [], [], []
    for ahead in range(model.horizon):
        real.append(np.concatenate(list(frames[model.context + ahead]), axis=1))
        decoded = bundle.decode(predicted[ahead])
        scale = encoder.height // decoder.height
        drawn.append(np.concatenate(list(
            decoded.repeat(scale, axis=1).repeat(scale, axis=2)), axis=1))
        labels.append(f'+{1000 * (ahead + 1) // dataset.fps} ms')
    return FilmStrip(real, drawn, labels)


def inference_figures(served: dict[str, Any], rate_hz: int) -> dict[str, float]:
    """
    Figures of the inference node over every process that served rollouts.

    Counts are added up; of latencies the worst process's is taken. A deadline is missed by a
    control period whose picture came and that brought no features, or features older than one
    period (``late``). ``rate_hz`` is the control rate times the share of all control periods,
    those in which the camera was silent among them, that brought features.
    """
    processes = [*served.get('earlier', []), *(
        [served['inference']] if 'inference' in served else [])]
    counts = {key: sum(item.get(key, 0.0) for item in processes) for key in (
        'periods', 'missed_deadlines', 'late', 'silent_periods', 'clock_jumps')}
    periods, missed = counts['periods'], counts['missed_deadlines']
    worst = {key: max(item[key] for item in processes if key in item)
             for item in processes for key in item if key.endswith('_ms')}
    every = periods + counts['silent_periods']
    return {'rate_hz': rate_hz * (periods - missed) / every if every else 0.0,
            'missed_fraction': (missed + counts['late']) / periods if periods else 1.0,
            **counts, **worst}


def policy_row(path: Path) -> dict[str, Any]:
    """Successes of one policy with their Wilson interval, and which starts they were."""
    rollouts = read_rollouts(path)['rollouts']
    successes = sum(item['success'] for item in rollouts)
    return {'successes': successes, 'rollouts': len(rollouts),
            'interval': list(wilson_interval(successes, len(rollouts))),
            'starts': [item['start'] for item in rollouts],
            'lifted': [item['success'] for item in rollouts]}


def make_report(demo: Demo, report_s: float) -> dict[str, Any]:
    """Everything measured, as ``report.json`` holds it; making it took ``report_s`` so far."""
    world = open_run(demo.runs / 'world_model').info['metrics']
    served = read_rollouts(demo.results / 'ssl.json')
    seconds = dict(demo.stages.get('seconds', {}))
    if demo.worked:
        seconds['report'] = seconds.get('report', 0.0) + report_s
    return {
        'plan': demo.plan.name,
        'policy': {name: policy_row(demo.results / f'{name}.json')
                   for name in ('ssl', *IN_PROCESS)},
        'film': served.get('film', {}),
        'world_model': {
            'error_ratio_h8': world['error_ratio'][7],
            'error_ratio_h8_shuffled': world['error_ratio_shuffled'][7],
            'error_by_horizon': world['error_ratio'],
            'error_by_horizon_shuffled': world['error_ratio_shuffled']},
        'inference': inference_figures(served, load_contract(demo.contract).rate_hz),
        'recording': demo.accounts(),
        'probes': read_json(demo.probes),
        'curves': _curves(demo.runs),
        'parity': read_json(demo.bundle / 'manifest.json')['parity'],
        'stages': seconds,
        'wall_s': demo.wall_s(),
        'peak_rss_mb': demo.memory.peak_mb,
    }


def write_reports(demo: Demo) -> str:
    """Write report.json, report.html and rollout.mp4; returns the table for the terminal."""
    with demo.stage(8, 'report') as shown:
        if demo.worked:
            demo.work_begins()
        strip = film_strip(demo)
        video: Path | None = None
        if demo.film.exists():
            video = demo.work / 'rollout.mp4'
            frames = np.load(demo.film, allow_pickle=False)
            write_mp4(video, list(frames.repeat(3, axis=1).repeat(3, axis=2)), 20)
        report = make_report(demo, shown.seconds)
        write_report(demo.work / 'report.html', report, title=f'ssl_vla demo ({demo.plan.name})',
                     film_strip=strip, video=video)
        write_durably(demo.work / 'report.json', json.dumps(report, indent=1))
        # Each plan keeps its own; the newest lies on top, where it is looked for.
        for path in (demo.work / 'report.html', demo.work / 'report.json', video):
            if path is not None:
                replace_bytes(demo.out / path.name, path.read_bytes())
        shown.done(f'{demo.out / "report.html"}')
    small = ('' if demo.plan.name == 'full' else
             'This small demo shows that everything runs; its figures say nothing more.\n')
    record = ('ros2 launch ssl_vla_ros recorder.launch.py contract:=NAME.yaml session_dir:=SESSION'
              if shutil.which('ros2') else
              'ssl_vla record --contract NAME.yaml --session SESSION --task TEXT')
    return (f'{demo_table(report)}\n\n{small}'
            f'Report: {demo.out / "report.html"} (figures: {demo.out / "report.json"})\n'
            f'Next, with a robot of your own: write a contract NAME.yaml, then\n  {record}')
