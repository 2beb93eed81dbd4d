# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
`ssl_vla compare`: runs beside each other, seeds taken together, losing rows and stopped runs in.

Losses of different objectives have no common scale: runs are ordered by a figure of the frozen
encoder on held-out episodes, of the final weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
import json
import math
from pathlib import Path
import statistics

from ssl_vla_ros.contract import nearest
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.objectives import OBJECTIVES
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.metrics_file import METRICS_FILE, read_metrics
from ssl_vla_ros.training.runs import open_run, Run

FIGURE = 'probe.mean_r2'
#: Shown beside the figure that orders the rows, where runs have them.
_SHOWN = (FIGURE, 'probe.mean_mlp_r2', 'probe.effective_rank', 'probe.retrieval',
          'probe.feature_std')
#: Fewer seeds than these do not tell an objective from its luck.
_SEEDS = 3


@dataclass(frozen=True)
class RunRow:
    """
    One run.

    Attributes
    ----------
    name
        Of its directory; with its parents where several runs have the same.
    objective, encoder
        What was trained: the objectives, and the backbone or the encoder it works on.
    seed, steps, planned
        Steps done, and steps that the configuration asks for.
    state
        'finished', or how far the run came.
    seconds, samples_per_s, parameters
        None where the run did not get to tell.
    loss
        The last that was reported, of one batch.
    figures
        Final figures by name; of an unfinished run, its last probe.
    curves
        (step, value) of each probe figure.
    dataset, split, kind
        What must be equal to compare runs: the dataset's digest, (held_out_fraction, split_seed);
        and all else but the seed, to take seeds together.
    samples
        Samples seen.

    """

    name: str
    objective: str
    encoder: str
    seed: int
    steps: int
    planned: int
    finished: bool
    state: str
    seconds: float | None
    samples_per_s: float | None
    parameters: int | None
    loss: float
    figures: Mapping[str, float]
    curves: Mapping[str, list[tuple[float, float]]]
    dataset: str
    split: tuple[float, int]
    kind: str
    samples: int


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone; figures are of those that finished."""

    runs: tuple[RunRow, ...]
    values: tuple[float, ...]   # of the figure, one for each seed

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation; None for fewer than two seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Comparison:
    """
    Runs in groups, best first.

    Attributes
    ----------
    figure
        What orders the groups.
    groups
        Those without a finished run come last.
    warnings
        Sentences on what makes the comparison unfair or uncertain.

    """

    figure: str
    groups: tuple[Group, ...]
    warnings: tuple[str, ...]

    @property
    def rows(self) -> list[RunRow]:
        """All runs in the order of their groups."""
        return [row for group in self.groups for row in group.runs]

    @property
    def shown(self) -> list[str]:
        """Figures that a table has room for."""
        known = [name for name in _SHOWN if any(name in row.figures for row in self.rows)]
        return list(dict.fromkeys([self.figure, *known]))


def compare_runs(paths: Sequence[str | Path], figure: str = FIGURE, *, ascending: bool = False
                 ) -> Comparison:
    """
    Read runs and put them in order.

    Parameters
    ----------
    paths
        Directories of runs.
    figure
        A figure of ``run.json`` that orders them; ``probe.`` may be left out.
    ascending
        Whether less of it is better, as of an error.

    Raises
    ------
    ConfigError
        If a directory holds no run, files are broken, or no run has the figure.

    """
    places = [Path(path) for path in paths]
    for place in places:
        if sum(other.resolve() == place.resolve() for other in places) > 1:
            raise ConfigError(f'{place}: the run is given twice; name each run once')
    if not places:
        raise ConfigError('there is no run to compare; name the directories of some')
    rows, told = [], []
    for place in places:
        alone = sum(other.name == place.name for other in places) == 1
        row, cut = _read(place, place.name if alone else str(place))
        rows.append(row)
        told += [cut] if cut else []
    known = sorted({name for row in rows for name in row.figures})
    if figure not in known and f'probe.{figure}' in known:
        figure = f'probe.{figure}'  # as the table heads it
    if figure not in known:
        raise ConfigError(
            f'figure is {figure!r}, but no run has it'
            + (f'{nearest(figure, known)}; choose one of {", ".join(known)}' if known
               else '; no run has any: let one finish'))
    kinds: dict[str, list[RunRow]] = {}
    for row in sorted(rows, key=lambda row: row.seed):
        kinds.setdefault(row.kind, []).append(row)
    groups = [_group(members, figure) for members in kinds.values()]
    sign = 1.0 if ascending else -1.0
    groups.sort(key=lambda group: math.inf if group.mean is None else sign * group.mean)
    return Comparison(figure, tuple(groups), (*told, *_doubts(rows, groups)))


def _group(members: Sequence[RunRow], figure: str) -> Group:
    """One value a seed: a run that was repeated is no second sample."""
    values = {row.seed: row.figures[figure] for row in reversed(members)
              if row.finished and figure in row.figures}
    return Group(tuple(members), tuple(values[seed] for seed in sorted(values)))


def _read(path: Path, name: str) -> tuple[RunRow, str]:
    run = open_run(path)
    config = run.config
    lines, cut = read_metrics(path / METRICS_FILE, config.log_every, config.steps, run.complete)
    steps = int(run.info.get('step') or lines[-1]['step'])
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for key, value in line.items():
            if key.startswith('probe.') and math.isfinite(value):
                curves.setdefault(key, []).append((line['step'], value))
    figures = {key: points[-1][1] for key, points in curves.items()}
    if run.complete:
        # The finished run is probed anew, and not into the metrics.
        figures = _numbers(run.info.get('metrics', {}))
        for key, value in figures.items():
            if key.startswith('probe.'):
                curves.setdefault(key, []).append((float(steps), value))
    losses = [line for line in lines if 'loss' in line]
    content = dataclasses.asdict(config)
    for key in ('seed', 'threads', 'pictures'):  # the latter two change the speed alone
        del content[key]
    kind = [content, run.info.get('dataset_digest'), run.info.get('encoder_digest')]
    return RunRow(
        name=name, objective=config.title, encoder=_encoder(config), seed=config.seed,
        steps=steps, planned=config.steps, finished=run.complete, state=_state(run, steps),
        seconds=run.info.get('train_s'), samples_per_s=losses[-1].get('samples_per_s'),
        parameters=run.info.get('parameters'), loss=losses[-1]['loss'], figures=figures,
        curves=curves, dataset=str(run.info.get('dataset_digest', '')),
        split=(config.held_out_fraction, config.split_seed),
        kind=json.dumps(kind, sort_keys=True),
        samples=steps * config.batch_size * config.accumulate), cut


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Leave out lists, such as an error by horizon, and what is no number."""
    return {key: float(value) for key, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value)}


def _state(run: Run, steps: int) -> str:
    if run.complete:
        return 'finished'
    what = 'stopped' if run.info.get('status') == 'interrupted' else 'unfinished'
    return f'{what} at {steps} of {run.config.steps}'


def _encoder(config: TrainConfig) -> str:
    """Backbone of an encoder that is trained, or name of the frozen one that is used."""
    specs = [OBJECTIVES[name] for name in config.weights if name in OBJECTIVES]
    if any(spec.data == 'windows' for spec in specs):
        return Path(config.encoder).name if config.features == 'encoder' else config.features
    if any(spec.own_encoder for spec in specs):
        return 'its own'
    begun = {'none': '', 'pretrained': ', pretrained'}.get(
        config.network.init, f', from {Path(config.network.init).name}')
    return config.network.backbone + begun


def _doubts(rows: Sequence[RunRow], groups: Sequence[Group]) -> Iterator[str]:
    """Sentences on what is not the same, or not enough."""
    yield from _differing(
        rows, lambda row: row.dataset[:12],
        'WARNING: the runs were trained on different datasets, so their figures cannot be '
        'compared')
    yield from _differing(
        rows, lambda row: f'held_out_fraction {row.split[0]:g}, split_seed {row.split[1]}',
        'WARNING: the runs hold out different episodes, so their figures cannot be compared')
    yield from _differing(
        [row for row in rows if row.finished], lambda row: f'{row.samples} samples',
        'The finished runs saw different numbers of samples')
    stopped = [row.name for row in rows if not row.finished]
    if stopped:
        yield (f'Not finished, so in no mean: {", ".join(stopped)}. Their figures, if any, are '
               'of their last probe.')
    for group in groups:
        seeds = [row.seed for row in group.runs]
        again = [f'{row.name} (seed {row.seed})' for row in group.runs
                 if seeds.count(row.seed) > 1]
        if again:
            yield f'The same configuration and seed, counted once: {", ".join(again)}.'
    few = [group.runs[0].name for group in groups if 0 < len(group.values) < _SEEDS]
    if few:
        yield (f'Fewer than {_SEEDS} seeds, so their place may be luck: the groups of '
               f'{", ".join(few)}.')


def _differing(rows: Sequence[RunRow], what: Callable[[RunRow], str], sentence: str
               ) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(what(row), []).append(row.name)
    if len(found) > 1:
        yield f'{sentence}: ' + '; '.join(
            f'{key}: {", ".join(names)}' for key, names in found.items()) + '.'
