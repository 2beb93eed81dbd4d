# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Advice: the task's words choose, the figures that were measured stand beside."""

from __future__ import annotations

import pytest
from ssl_vla_ros.objectives import OBJECTIVES
from ssl_vla_ros.training import advice
from ssl_vla_ros.training.advice import advise, KINDS, matching, measured


@pytest.mark.parametrize(('task', 'first'), [
    ('follow language instructions', 'clip'),
    ('insert a peg precisely', 'mae'),
    ('predict the next action from human videos', 'r3m'),
])
def test_the_words_of_a_task_choose_the_objective(task: str, first: str) -> None:
    assert matching(task)[0].objectives[0] == first
    assert f'--config config/train/{first}.yaml' in advise(task)


def test_words_that_say_nothing_give_every_kind_and_say_so() -> None:
    said = advise('xyzzy')
    assert said.startswith('Nothing in "xyzzy" tells')
    assert all(kind.name in said for kind in KINDS)
    assert all(kind.name in advise('') for kind in KINDS)


def test_what_is_advised_exists() -> None:
    for kind in KINDS:
        assert set(kind.objectives) <= OBJECTIVES.keys()


def test_the_shipped_figures_hold_every_objective_and_the_baselines() -> None:
    found = measured()
    assert found['seeds'] >= 3
    pretraining = {name for name, spec in OBJECTIVES.items()
                   if spec.data == 'frames' and not spec.own_encoder}
    assert pretraining | {'random encoder', 'PCA of pixels', 'proprioception'} <= (
        found['table'].keys())
    for name in pretraining:
        assert found['table'][name]['R2_state'][2] >= 3, name


def test_advice_says_where_the_figures_do_not_bear_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {'random encoder': {'R2_x': [0.5, 0.0, 3], 'R2_y': [0.5, 0.0, 3]},
             'PCA of pixels': {'R2_x': [0.6, 0.0, 3]},
             'mae': {'R2_x': [0.7, 0.0, 3], 'R2_y': [0.4, 0.0, 3]},
             'dino': {'R2_x': [0.55, 0.0, 3], 'R2_y': [0.5, 0.0, 3]}}
    monkeypatch.setattr(advice, 'measured', lambda: {
        'table': table, 'episodes': 1, 'steps': 1, 'seeds': 1, 'pictures_of_a_step': 1})
    said = ' '.join(advise('insert a peg').split())
    assert 'above a random encoder and the PCA of pixels: mae in R2_x; dino in none.' in said
