# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla advise`: which objective for which task, and what was measured of each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
import json
import re
import textwrap
from typing import Any

_WIDTH = 98
#: Result of ``make bench-objectives``, shipped with the package.
_MEASURED = 'objectives_measured.json'
_BASELINES = ('random encoder', 'PCA of pixels')


@dataclass(frozen=True)
class Kind:
    """
    A kind of task.

    Attributes
    ----------
    name
        For people.
    words
        Beginnings of words that tell it.
    objectives
        What to try, the first one first.
    why
        The reason, in a sentence.
    look_at
        Figures of the table that say how well an objective does here.

    """

    name: str
    words: tuple[str, ...]
    objectives: tuple[str, ...]
    why: str
    look_at: tuple[str, ...]


KINDS = (
    Kind('following instructions',
         ('instruct', 'languag', 'word', 'told', 'tell', 'say', 'command', 'sentence', 'goal',
          'which', 'text'),
         ('clip', 'simclr', 'moco'),
         'the same picture must lead to different actions for different words, so pictures, '
         'words and actions have to share one space: that is what contrast between them trains',
         ('tau',)),
    Kind('precise assembly',
         ('assembl', 'insert', 'peg', 'precis', 'screw', 'align', 'plug', 'thread', 'place',
          'stack', 'grasp', 'pick', 'lift', 'fine', 'small', 'millimet'),
         ('mae', 'dino', 'keypoints'),
         'where things are must be read off to a fraction of a patch; objectives that draw or '
         'name patches keep it, and those that are told to ignore crops and shifts lose it',
         ('R2_x', 'R2_y', 'R2_yaw')),
    Kind('predicting actions',
         ('action', 'predict', 'imitat', 'reach', 'push', 'motion', 'move', 'dynam', 'video',
          'human', 'demonstrat', 'plan', 'progress', 'order', 'step'),
         ('r3m', 'videomae', 'temporal', 'jepa'),
         'what happens next depends on what moves and on how far the task has got: objectives '
         'over time learn this, and they learn it from videos without actions, too',
         ('tau', 'R2_state')),
)


def matching(task: str) -> list[Kind]:
    """Give the kinds that a task in words speaks of, the one that fits best first."""
    words = re.findall(r'[a-z]+', task.lower())
    hits = [(sum(any(word.startswith(start) for start in kind.words) for word in words), kind)
            for kind in KINDS]
    return [kind for count, kind in sorted(hits, key=lambda hit: -hit[0]) if count]


def measured() -> dict[str, Any]:
    """Read the figures that are shipped with the package; empty if there are none."""
    file = resources.files('ssl_vla_ros.training') / _MEASURED
    found: dict[str, Any] = json.loads(file.read_text(encoding='utf-8')) if file.is_file() else {}
    return found


def advise(task: str) -> str:
    """
    Say which objective to take.

    Parameters
    ----------
    task
        What the robot is to do, in words; '' gives every kind.

    """
    kinds = matching(task) if task else list(KINDS)
    lines = []
    if not kinds:
        lines += [f'Nothing in "{task}" tells what kind of task it is; every kind:', '']
        kinds = list(KINDS)
    for kind in kinds:
        lines.append(f'{kind.name}: {", ".join(kind.objectives)}')
        lines += textwrap.wrap(f'because {kind.why}.', _WIDTH, initial_indent='  ',
                               subsequent_indent='  ')
        lines += _best(kind)
        lines.append('')
    first = kinds[0].objectives[0]
    lines += _table()
    lines += ['', f'Next: ssl_vla train --config config/train/{first}.yaml --data DATASET --out '
              'RUN', '      and judge it on your own data: ssl_vla probe RUN --data DATASET']
    return '\n'.join(lines)


def _best(kind: Kind) -> list[str]:
    """Say what the table says about this kind, also where it contradicts."""
    table: dict[str, dict[str, list[float]]] = measured().get('table', {})
    lines = []
    for figure in kind.look_at:
        known = {name: row[figure][0] for name, row in table.items() if figure in row}
        if known:
            order = sorted(known, key=lambda name: -known[name])[:3]
            said = ', '.join(f'{name} {known[name]:.2f}' for name in order)
            lines.append(f'  measured, {figure}: {said}')
    return lines + _borne_out(kind, table)


def _borne_out(kind: Kind, table: dict[str, dict[str, list[float]]]) -> list[str]:
    """Say in which of the figures the objectives of a kind are above the baselines."""
    said = []
    for name in kind.objectives:
        above = [figure for figure in kind.look_at if figure in table.get(name, {}) and all(
            table[name][figure][0] > table[other][figure][0] for other in _BASELINES
            if figure in table.get(other, {}))]
        if name in table:
            said.append(f'{name} in {", ".join(above) or "none"}')
    return textwrap.wrap(
        f'above a random encoder and the PCA of pixels: {"; ".join(said)}.', _WIDTH,
        initial_indent='  ', subsequent_indent='  ') if said else []


def _table() -> list[str]:
    found = measured()
    if not found:
        return ['No figures are shipped with this version; make bench-objectives measures them.']
    table: dict[str, dict[str, list[float]]] = found['table']
    figures = [name for name in ('R2_state', 'MLP_state', 'R2_x', 'R2_y', 'R2_z', 'R2_yaw', 'tau',
                                 'train_s') if any(name in row for row in table.values())]
    lines = textwrap.wrap(
        f'Measured on the simulated arm: {found["episodes"]} episodes, {found["steps"]} steps of '
        f'{found["pictures_of_a_step"]} pictures, the same small encoder for all, mean of '
        f'{found["seeds"]} seeds (make bench-objectives; docs/benchmarks.md). Other robots, '
        'longer training and larger encoders may turn the order round.', _WIDTH)
    lines.append(f'{"":<16}' + ''.join(f'{name:>11}' for name in figures))
    for name, row in table.items():
        cells = [f'{row[figure][0]:.2f}' if figure in row else '-' for figure in figures]
        lines.append(f'{name:<16}' + ''.join(f'{cell:>11}' for cell in cells))
    return lines
