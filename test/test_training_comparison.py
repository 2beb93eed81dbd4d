# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Comparing runs: seeds together, nothing hidden, unfair comparisons told, broken files named."""

from __future__ import annotations

from html.parser import HTMLParser
import json
from pathlib import Path
import shutil
import statistics

import pytest
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.report.style import STYLE
from ssl_vla_ros.report.svg import line_plot
from ssl_vla_ros.training.comparison import compare_runs, Comparison
from ssl_vla_ros.training.comparison_page import format_text, write_page
from ssl_vla_ros.training.metrics_file import read_metrics
from ssl_vla_ros.training.runs import open_run
from ssl_vla_ros.training.train import train
from tiny_training import small_config, write_toy

STEPS = 7
#: Runs by name: seed and what else is changed.
RUNS = {'a0': (0, {}), 'a1': (1, {}), 'b0': (0, {'learning_rate': 1e-5})}


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('runs')
    write_toy(root / 'data', episodes=8)
    for name, (seed, changes) in RUNS.items():
        train(small_config('keypoints', steps=STEPS, log_every=2, probe_every=3, seed=seed,
                           **changes), root / 'data', root / name, quiet=True)
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> dict[str, Path]:
    for name in RUNS:
        shutil.copytree(trained / name, tmp_path / name)
    return {name: tmp_path / name for name in RUNS}


def change(run: Path, **values: object) -> None:
    """Change what ``run.json`` says; ``config.key`` by ``config__key``."""
    file = run / 'run.json'
    info = json.loads(file.read_text())
    for key, value in values.items():
        place = info
        *parents, last = key.split('__')
        for parent in parents:
            place = place[parent]
        place[last] = value
    file.write_text(json.dumps(info))


def stop(run: Path, status: str = 'interrupted') -> None:
    """Leave what is left of a run that was stopped, or killed, after step 4: probed once, at 3."""
    change(run, status=status, step=4 if status == 'interrupted' else 0, metrics={})
    file = run / 'metrics.jsonl'
    kept = [line for line in file.read_text().splitlines() if json.loads(line)['step'] <= 4]
    file.write_text('\n'.join(kept) + '\n')
    (run / 'model.safetensors').unlink()


def names(comparison: Comparison) -> list[list[str]]:
    return [[row.name for row in group.runs] for group in comparison.groups]


def test_seeds_are_taken_together_with_their_spread(runs: dict[str, Path]) -> None:
    # In the order given the seeds are not sorted, and the other configuration is between them.
    found = compare_runs([runs['a1'], runs['b0'], runs['a0']])
    stored = {name: open_run(path).info['metrics']['probe.mean_r2']
              for name, path in runs.items()}
    pair = next(group for group in found.groups if len(group.runs) == 2)
    assert [row.name for row in pair.runs] == ['a0', 'a1']
    assert pair.values == (stored['a0'], stored['a1'])
    assert pair.mean == pytest.approx((stored['a0'] + stored['a1']) / 2)
    assert pair.std == pytest.approx(statistics.stdev([stored['a0'], stored['a1']]))
    alone = next(group for group in found.groups if len(group.runs) == 1)
    assert (alone.mean, alone.std) == (stored['b0'], None)
    assert any('Fewer than 3 seeds' in sentence for sentence in found.warnings)
    assert not any('WARNING' in sentence for sentence in found.warnings)


def test_a_row_holds_what_the_run_stored(runs: dict[str, Path]) -> None:
    (row,) = compare_runs([runs['a1']]).rows
    info = open_run(runs['a1']).info
    assert (row.objective, row.encoder, row.seed) == ('keypoints', 'its own', 1)
    assert (row.steps, row.planned, row.finished, row.state) == (STEPS, STEPS, True, 'finished')
    assert row.seconds == info['train_s'] > 0.0
    assert row.parameters == info['parameters'] > 0
    assert row.samples == STEPS * 4
    assert row.figures == info['metrics']
    lines = [json.loads(line) for line in (runs['a1'] / 'metrics.jsonl').read_text().splitlines()]
    losses = [line for line in lines if 'loss' in line]
    assert (row.loss, row.samples_per_s) == (losses[-1]['loss'], losses[-1]['samples_per_s'])
    assert [step for step, _ in row.curves['probe.mean_r2']] == [3, 6, STEPS]
    assert row.curves['probe.mean_r2'][-1][1] == info['metrics']['probe.mean_r2']


@pytest.mark.parametrize(('values', 'ascending', 'order'), [
    ((0.2, 0.9), False, ['b0', 'a0']), ((0.9, 0.2), False, ['a0', 'b0']),
    ((0.2, 0.9), True, ['a0', 'b0'])])
def test_the_best_comes_first_and_the_losing_stays_in(
        values: tuple[float, float], ascending: bool, order: list[str], runs: dict[str, Path]
        ) -> None:
    for name, value in zip(('a0', 'b0'), values, strict=True):
        change(runs[name], metrics={'probe.mean_r2': 0.5, 'probe.r2.scene.x': value})
    found = compare_runs([runs['a0'], runs['b0']], 'probe.r2.scene.x', ascending=ascending)
    assert [name for group in names(found) for name in group] == order
    assert all(name in format_text(found) for name in order)


@pytest.mark.parametrize(('status', 'state'), [
    ('interrupted', f'stopped at 4 of {STEPS}'), ('started', f'unfinished at 3 of {STEPS}')])
def test_a_run_that_stopped_early_is_marked_and_in_no_mean(
        status: str, state: str, runs: dict[str, Path]) -> None:
    stop(runs['a1'], status)
    stop(runs['b0'], status)
    found = compare_runs(list(runs.values()))
    assert names(found) == [['a0', 'a1'], ['b0']], 'without a finished run it comes last'
    assert found.groups[0].mean == open_run(runs['a0']).info['metrics']['probe.mean_r2']
    assert (found.groups[1].values, found.groups[1].mean) == ((), None)
    row = found.rows[1]
    assert (row.finished, row.state) == (False, state)
    assert row.figures['probe.mean_r2'] == row.curves['probe.mean_r2'][-1][1]
    assert any('Not finished, so in no mean: a1, b0.' in sentence for sentence in found.warnings)
    assert state in format_text(found)


def test_other_data_and_other_splits_are_warned_of(runs: dict[str, Path]) -> None:
    change(runs['b0'], dataset_digest='f00d' * 16)
    change(runs['a1'], config__split_seed=3)
    found = compare_runs(list(runs.values()))
    told = '\n'.join(found.warnings)
    assert 'WARNING: the runs were trained on different datasets' in told
    assert 'f00df00df00d: b0' in told
    assert 'WARNING: the runs hold out different episodes' in told
    assert 'held_out_fraction 0.3, split_seed 3: a1' in told
    assert sorted(names(found)) == [['a0'], ['a1'], ['b0']], 'nothing is taken together'
    assert format_text(found).startswith('WARNING')


def test_the_same_seeds_on_other_data_are_not_taken_together(runs: dict[str, Path]) -> None:
    change(runs['a1'], dataset_digest='f00d' * 16)
    assert len(compare_runs([runs['a0'], runs['a1']]).groups) == 2
    change(runs['a1'], dataset_digest=open_run(runs['a0']).info['dataset_digest'],
           config__threads=7)
    assert len(compare_runs([runs['a0'], runs['a1']]).groups) == 1, 'threads change speed alone'


def test_a_repeated_seed_is_counted_once(runs: dict[str, Path]) -> None:
    shutil.copytree(runs['a0'], runs['a0'].with_name('again'))
    found = compare_runs([runs['a0'], runs['a0'].with_name('again'), runs['a1']])
    assert len(found.groups[0].values) == 2
    assert any('counted once: a0 (seed 0), again (seed 0)' in sentence
               for sentence in found.warnings)


def test_another_budget_is_told(runs: dict[str, Path]) -> None:
    change(runs['b0'], config__batch_size=8)
    found = compare_runs([runs['a0'], runs['b0']])
    assert any('saw different numbers of samples: 28 samples: a0; 56 samples: b0' in sentence
               for sentence in found.warnings)


def test_runs_of_one_name_are_told_apart_by_their_place(runs: dict[str, Path]) -> None:
    other = runs['a0'].parent / 'other' / 'a0'
    shutil.copytree(runs['a1'], other)
    assert {row.name for row in compare_runs([runs['a0'], other]).rows} == {
        str(runs['a0']), str(other)}


def test_what_cannot_be_compared_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='there is no run to compare'):
        compare_runs([])
    with pytest.raises(ConfigError, match='a0: the run is given twice'):
        compare_runs([runs['a0'], runs['a1'] / '..' / 'a0'])
    with pytest.raises(ConfigError, match='no training run here'):
        compare_runs([runs['a0'], tmp_path / 'nothing'])
    with pytest.raises(ConfigError, match=r"figure is 'mean_r3', but no run has it; .*choose one "
                                          r'of .*probe\.mean_r2'):
        compare_runs([runs['a0']], 'mean_r3')
    # As the table heads it.
    assert compare_runs([runs['a0']], 'mean_r2').figure == 'probe.mean_r2'


def lines_of(run: Path) -> list[str]:
    return (run / 'metrics.jsonl').read_text().splitlines()


@pytest.mark.parametrize(('line', 'text', 'complaint'), [
    (2, '{"step": 3, "loss": 0.', 'not valid JSON'),
    (2, '[3, 0.1]', '.*is no mapping'),
    (2, '{"step": 3, "loss": "low"}', "loss is 'low', must be a number"),
    (2, '{"loss": 0.1}', 'step is None, must be a whole number'),
    (2, '{"step": 2.5, "loss": 0.1}', r'step is 2\.5, must be a whole number'),
    (3, '{"step": 1, "loss": 0.1}', 'step is 1, but the line before has 3'),
])
def test_a_broken_line_is_named(line: int, text: str, complaint: str, runs: dict[str, Path]
                                ) -> None:
    found = lines_of(runs['a0'])
    found[line - 1] = text
    (runs['a0'] / 'metrics.jsonl').write_text('\n'.join(found) + '\n')
    with pytest.raises(ConfigError, match=rf'a0/metrics\.jsonl:{line}: {complaint}'):
        compare_runs([runs['a0'], runs['a1']])


def test_missing_lines_are_named(runs: dict[str, Path]) -> None:
    found = lines_of(runs['a0'])
    assert [json.loads(line)['step'] for line in found] == [1, 3, 3, 5, 6, 7]
    file = runs['a0'] / 'metrics.jsonl'

    def refused(kept: list[str], complaint: str) -> None:
        file.write_text(''.join(line + '\n' for line in kept))
        with pytest.raises(ConfigError, match=complaint):
            compare_runs([runs['a0']])
    refused(found[1:], r'metrics\.jsonl:1: step is 3, but the loss is due at step 1')
    refused(found[:3] + found[4:], r'metrics\.jsonl:5: step is 7, .* due at step 5 \(log_every is')
    refused(found[:-1], r'metrics\.jsonl:5: the last loss is of step 5, but the run took 7')
    refused([], r'metrics\.jsonl:1: no loss was ever reported')
    file.unlink()
    with pytest.raises(ConfigError, match=r'metrics\.jsonl: cannot read it'):
        compare_runs([runs['a0']])


def test_a_cut_last_line_of_a_running_run_is_told_and_of_a_finished_one_refused(
        runs: dict[str, Path]) -> None:
    for name in ('a0', 'a1'):
        if name == 'a1':
            stop(runs[name], 'started')
        with (runs[name] / 'metrics.jsonl').open('a') as file:
            file.write('{"step": 9, "lo')
    found = compare_runs([runs['a1'], runs['b0']])
    assert any('metrics.jsonl:4: the last line is cut off' in sentence
               for sentence in found.warnings)
    with pytest.raises(ConfigError, match=r'a0/metrics\.jsonl:7: not valid JSON'):
        compare_runs([runs['a0'], runs['b0']])


def test_metrics_of_a_real_run_are_read_whole(runs: dict[str, Path]) -> None:
    found, cut = read_metrics(runs['a0'] / 'metrics.jsonl', 2, STEPS, True)
    assert found == [json.loads(line) for line in lines_of(runs['a0'])]
    assert cut == ''


class Reader(HTMLParser):
    """Texts, tags and what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != 'meta':
            self.open.append(tag)
        self.loads += [value or '' for key, value in attrs if key in ('src', 'href')]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding='utf-8'))
    assert reader.open == []
    return reader


def test_the_page_is_one_file_with_every_run_and_one_plot(
        runs: dict[str, Path], tmp_path: Path) -> None:
    stop(runs['b0'])
    change(runs['a1'], config__split_seed=3)
    odd = runs['a0'].rename(runs['a0'].with_name('a<0>&'))
    found = compare_runs([odd, runs['a1'], runs['b0']])
    path = write_page(found, tmp_path / 'new' / 'compare.html', line_plot, STYLE)
    page = read_page(path)
    assert [file.name for file in path.parent.iterdir()] == ['compare.html']
    assert page.tags.count('svg') == 1
    assert page.loads == []
    assert 'script' not in page.tags
    text = ' '.join(page.text)
    for part in ('a<0>&', 'a1', 'b0', f'stopped at 4 of {STEPS}', 'no common scale',
                 'WARNING: the runs hold out different episodes', 'probe.mean_r2'):
        assert part in text
    assert page.tags.count('tr') == 2 + 3 + 3, 'two heads, three groups, three runs'
    assert page.tags.count('path') >= 3


def test_a_page_of_runs_that_were_never_probed_says_so(runs: dict[str, Path], tmp_path: Path
                                                       ) -> None:
    change(runs['a0'], metrics={'held_out.loss': 0.25, 'error_by_horizon': [1.0, 2.0]})
    found = compare_runs([runs['a0']], 'held_out.loss', ascending=True)
    assert found.rows[0].figures == {'held_out.loss': 0.25}
    page = read_page(write_page(found, tmp_path / 'page.html', line_plot))
    assert 'svg' not in page.tags
    assert 'no run was probed for held_out.loss' in ' '.join(page.text)


def test_the_text_is_aligned(runs: dict[str, Path]) -> None:
    text = format_text(compare_runs(list(runs.values())))
    *_, groups, every = [block.splitlines() for block in text.split('\n\n')]
    assert groups[0].split() == ['objective', 'encoder', 'runs', 'n', 'mean_r2', '±', 'std']
    assert len(groups) == 3
    assert len({len(line) for line in groups}) == 1
    assert {line.split()[0] for line in every[1:]} == set(RUNS)
    assert len({len(line) for line in every}) == 1
