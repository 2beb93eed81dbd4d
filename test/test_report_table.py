# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The terminal table: one screen, the figures given, and nothing that was not run."""

from __future__ import annotations

import copy

import pytest
from report_example import example_report

from ssl_vla_ros.report.table import demo_table


def _line(text: str, start: str) -> str:
    (found,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return found


def test_fits_one_screen_and_shows_every_figure() -> None:
    text = demo_table(example_report())
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    ours = _line(text, 'SSL, through')
    assert '17 of 20' in ours and '64% to  95%' in ours
    assert '18 of 20' in _line(text, 'SSL, in')
    assert '20 of 20' in _line(text, 'true pose') and '84% to 100%' in _line(text, 'true pose')
    assert '0 of 20' in _line(text, 'proprioception')
    assert '0.62 x' in text and '1.31 x' in text
    assert all(figure in _line(text, 'inference') for figure in ('20.0 Hz', '31.5 ms', '0.04%'))
    assert _line(text, 'joint_states').split()[1:] == ['7123', '7120', '1', '0', '2']
    assert '13 min 23 s' in text and '2.3 GB' in text
    assert 'not run' not in text and 'UNACCOUNTED' not in text


def test_empty_report_has_no_figure_at_all() -> None:
    text = demo_table({})
    rows = text.splitlines()[1:]
    assert all('not run' in row for row in rows)
    assert not any(character.isdigit() for row in rows for character in row.replace('8 ticks', ''))


@pytest.mark.parametrize('path', [
    ('policy', 'random'), ('policy', 'ssl', 'rollouts'), ('world_model',),
    ('world_model', 'error_ratio_h8_shuffled'), ('inference',), ('inference', 'missed_fraction'),
    ('recording',), ('recording', 'lost'), ('recording', 'lost', 'joint_states'), ('wall_s',),
    ('peak_rss_mb',)])
@pytest.mark.parametrize('how', ['absent', 'none'])
def test_each_missing_part_reads_not_run(path: tuple[str, ...], how: str) -> None:
    report = copy.deepcopy(example_report())
    place = report
    for key in path[:-1]:
        place = place[key]
    if how == 'none':
        place[path[-1]] = None
    else:
        del place[path[-1]]
    assert 'not run' in demo_table(report)


def test_no_rollouts_are_not_run_rather_than_zero() -> None:
    report = example_report()
    report['policy']['imagenet'] = {'successes': 0, 'rollouts': 0}
    assert _line(demo_table(report), 'ImageNet').split()[2:] == ['not', 'run']


def test_counts_that_do_not_add_up_are_marked() -> None:
    report = example_report()
    report['recording']['written']['joint_states'] -= 5
    assert 'UNACCOUNTED: 5' in _line(demo_table(report), 'joint_states')
    assert demo_table(report).count('UNACCOUNTED') == 1
