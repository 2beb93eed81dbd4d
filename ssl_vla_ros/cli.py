# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla`: one command for every stage. Each subcommand imports what it needs, when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import json
import os
from pathlib import Path
import sys
from typing import Any
import warnings

from ssl_vla_ros.cli_augment import add_augment_commands
from ssl_vla_ros.cli_bundle import add_bundle_commands
from ssl_vla_ros.cli_dataset import add_dataset_commands
from ssl_vla_ros.cli_episodes import add_episode_commands
from ssl_vla_ros.cli_nodes import add_node_commands
from ssl_vla_ros.cli_text import positive
from ssl_vla_ros.cli_training import add_training_commands
from ssl_vla_ros.errors import sentence_of, UserError

#: Exit status after Ctrl-C, as shells have it (128 + SIGINT).
INTERRUPTED = 130


def _demo(options: argparse.Namespace) -> int:
    from ssl_vla_ros.demo.run import run_demo
    return run_demo(options.out, options.quick)


def _rollout(options: argparse.Namespace) -> int:
    from ssl_vla_ros.demo.rollouts import roll_out

    def show(done: int, total: int, lifted: int) -> None:
        print(f'rollouts {done}/{total}, lifted {lifted}', flush=True)

    results: dict[str, Any] = roll_out(
        options.run, options.data, options.out, seed=options.seed,
        first_start=options.first_start, rollouts=options.rollouts, on_rollout=show)
    rollouts = results['rollouts']
    print(json.dumps({'successes': sum(item['success'] for item in rollouts),
                      'rollouts': len(rollouts)}))
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Every subcommand with its options."""
    parser = argparse.ArgumentParser(
        prog='ssl_vla', description='From unlabelled teleoperation to a running policy.')
    groups = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    def command(parent: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
                ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        made.set_defaults(run_command=run)
        return made

    part = command(groups, 'demo', _demo, 'every stage on the simulated arm')
    part.add_argument('--quick', action='store_true', help='small: shows that everything runs')
    part.add_argument('--out', type=Path, default=Path('out/demo'))

    add_episode_commands(command, groups)
    add_dataset_commands(command, groups)
    add_augment_commands(command, groups)
    add_training_commands(command, groups)
    add_bundle_commands(command, groups)
    add_node_commands(command, groups)
    part = command(groups, 'rollout', _rollout, 'lifts of a head on the simulated arm, in process')
    part.add_argument('run', type=Path)
    part.add_argument('--data', type=Path, required=True)
    part.add_argument('--out', type=Path, required=True, help='JSON file for the results')
    part.add_argument('--seed', type=int, default=77)
    part.add_argument('--first-start', type=int, default=0)
    part.add_argument('--rollouts', type=positive, default=25)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one sentence on stderr and exit status 2."""
    options = make_parser().parse_args(arguments)
    # A warning is a sentence for people; the line of code that gave it is not.
    warnings.formatwarning = lambda message, *_, **__: f'warning: {message}\n'
    try:
        return int(options.run_command(options))
    except UserError as error:
        print(f'\nerror: {error}' if sys.stderr.isatty() else f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('\ninterrupted; the same command continues from what is finished', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain at the end that it cannot flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError) as error:
        if not (sentence := sentence_of(error)):
            raise
        print(f'error: {sentence}', file=sys.stderr)
        return 2


if __name__ == '__main__':
    sys.exit(main())
