# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The subcommands around training: train, probe, compare, advise."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ssl_vla_ros.cli_text import AddCommand, progress_bar

#: Figures of a summary that fit on a screen; the others are in ``run.json``.
_SHOWN = 14


def add_training_commands(command: AddCommand, groups: Any) -> None:
    """Add ``train``, ``probe``, ``compare`` and ``advise`` to the command line."""
    part = command(groups, 'train', _train, 'train an encoder, a world model or a head')
    part.add_argument('--config', type=Path, required=True, help='a file of config/train/')
    part.add_argument('--data', type=Path, required=True)
    part.add_argument('--out', type=Path, required=True, help="the run's directory")
    part.add_argument('overrides', nargs='*', metavar='key=value',
                      help='such as steps=1000 network.vit.depth=6 model.mask_ratio=0.6: any key '
                           'of the file, and those of docs/training.md')
    part = command(groups, 'probe', _probe, 'what can be read off an encoder, beside baselines')
    part.add_argument('run', type=Path)
    part.add_argument('--data', type=Path, required=True)
    part.add_argument('--out', type=Path, help='JSON file for the figures, beside the table')
    part = command(groups, 'compare', _compare, 'many runs in one table and one plot')
    part.add_argument('runs', nargs='+', type=Path, metavar='RUN')
    part.add_argument('--out', type=Path, metavar='FILE.html', help='a page with table and plot')
    part.add_argument('--by', default='probe.mean_r2', metavar='FIGURE',
                      help='what orders the runs (default: probe.mean_r2)')
    part.add_argument('--ascending', action='store_true', help='less of it is better')
    part = command(groups, 'advise', _advise, 'which objective for which task, as measured')
    part.add_argument('task', nargs='*', help='what the robot is to do, in words; none: the table')


def _train(options: argparse.Namespace) -> int:
    from ssl_vla_ros.training.config import load_train_config
    from ssl_vla_ros.training.train import train
    config = load_train_config(_find_config(options.config), options.overrides)
    run = train(config, options.data, options.out, where=str(options.config))
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))):
        return 0  # the first of several processes speaks for all
    if not run.complete:
        print(f'stopped at step {run.info["step"]} of {config.steps}; the same command goes on')
        return 0
    seconds = run.info.get('train_s', 0.0)
    samples = config.steps * config.batch_size * config.accumulate
    print(f'{run.path}: {config.title}, {config.steps} steps of '
          f'{config.batch_size * config.accumulate} in {seconds:.0f} s '
          f'({samples / max(seconds, 1e-9):.0f} samples/s)')
    metrics = run.info['metrics']
    for name, value in list(metrics.items())[:_SHOWN]:
        text = (f'{value:.4g}' if isinstance(value, float)
                else ' '.join(f'{item:.3f}' for item in value))
        print(f'  {name:<44} {text}')
    if len(metrics) > _SHOWN:
        print(f'  and {len(metrics) - _SHOWN} more figures in {run.path / "run.json"}')
    print(_after_training(config.title, options))
    return 0


def _find_config(path: Path) -> Path:
    """Find the file, the package's own included; a name alone gets the full one told."""
    from ssl_vla_ros.errors import ConfigError, UserError
    from ssl_vla_ros.places import own_file, share
    found = own_file(path)
    if found.exists():
        return found
    own = f'config/train/{path.stem}.yaml'
    try:
        share(own)
    except UserError:
        return found  # whoever reads it says best that it is not there
    raise ConfigError(f'{path}: no such file; did you mean {own}?')


def _after_training(objective: str, options: argparse.Namespace) -> str:
    if objective in ('world_model', 'behaviour_cloning'):
        part = '--world-model' if objective == 'world_model' else '--head'
        return (f'\nNext: ssl_vla export ENCODER_RUN {part} {options.out} --data {options.data} '
                '--out models/NAME')
    return (f'\nNext: ssl_vla probe {options.out} --data {options.data}\n'
            f'      ssl_vla train --config config/train/behaviour_cloning.yaml --data '
            f'{options.data} --out HEAD_RUN encoder={options.out}')


def _probe(options: argparse.Namespace) -> int:
    from ssl_vla_ros.training.compare import format_table, probe_table
    table = probe_table(options.run, options.data, progress_bar)
    print(format_table(table))
    if options.out:
        from ssl_vla_ros.training.runs import write_json
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(options.out, dict(table))
    return 0


def _compare(options: argparse.Namespace) -> int:
    from ssl_vla_ros.training.comparison import compare_runs
    from ssl_vla_ros.training.comparison_page import format_text, write_page
    comparison = compare_runs(options.runs, options.by, ascending=options.ascending)
    print(format_text(comparison))
    if options.out:
        from ssl_vla_ros.report.style import STYLE
        from ssl_vla_ros.report.svg import line_plot
        print(f'\n{write_page(comparison, options.out, line_plot, STYLE)}')
    return 0


def _advise(options: argparse.Namespace) -> int:
    from ssl_vla_ros.training.advice import advise
    print(advise(' '.join(options.task)))
    return 0
