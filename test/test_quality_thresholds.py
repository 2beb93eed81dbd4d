# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Thresholds: overridable, checked, and all of them in docs/quality.md with their defaults."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
import re

import pytest

from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.quality.thresholds import parse_thresholds, Thresholds

ROOT = Path(__file__).parents[1]


def test_a_file_moves_what_it_names_and_nothing_else() -> None:
    found = parse_thresholds(
        'gap_doubtful_s: 0.5\nmin_rows: 40\nexpected_hz: {image.front: 30}\nidle_edge_s: .inf\n',
        'mine.yaml')
    assert found == dataclasses.replace(
        Thresholds(), gap_doubtful_s=0.5, min_rows=40, expected_hz={'image.front': 30.0},
        idle_edge_s=math.inf)
    assert parse_thresholds('', 'empty.yaml') == Thresholds()


@pytest.mark.parametrize(('text', 'sentence'), [
    ('frozen_dubtful_s: 1', "f.yaml: unknown threshold 'frozen_dubtful_s' (value 1); did you mean "
     "'frozen_doubtful_s'?"),
    ('short_s: long', "f.yaml: short_s is 'long', must be a number, 0 or more (.inf for never)"),
    ('short_s: -1', 'f.yaml: short_s is -1, must be a number, 0 or more (.inf for never)'),
    ('short_s: .nan', 'f.yaml: short_s is nan, must be a number, 0 or more (.inf for never)'),
    ('short_s: true', 'f.yaml: short_s is True, must be a number, 0 or more (.inf for never)'),
    ('min_rows: 1.5', 'f.yaml: min_rows is 1.5, must be a whole number, 0 or more'),
    ('expected_hz: 30', 'f.yaml: expected_hz is 30, must be a mapping from stream to Hz, such as '
     '{image.front: 30}'),
    ('expected_hz: {image.front: fast}', "f.yaml: expected_hz.image.front is 'fast', must be a "
     'number, 0 or more (.inf for never)'),
    ('gap_refused_s: 0.1', 'f.yaml: gap_doubtful_s is 0.25, must not be over gap_refused_s, which '
     'is 0.1'),
    ('rate_refused: 0.95', 'f.yaml: rate_refused is 0.95, must not be over rate_doubtful, which '
     'is 0.9'),
    ('- 1', 'f.yaml: must be a mapping from threshold to number, not [1]'),
])
def test_a_mistake_is_named(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_thresholds(text, 'f.yaml')
    assert str(error.value) == sentence


@pytest.mark.parametrize('text', ['short_s: 1\nshort_s: 2', 'a: [', '!!python/object:os.system x'])
def test_what_is_no_plain_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match='f.yaml: not valid YAML'):
        parse_thresholds(text, 'f.yaml')


def test_infinite_bounds_are_json() -> None:
    data = Thresholds(idle_edge_s=math.inf).to_dict()
    assert json.loads(json.dumps(data, allow_nan=False))['idle_edge_s'] == 'inf'


def test_the_table_has_every_threshold_with_its_default() -> None:
    """Docs and code that disagree on a default are worse than no docs."""
    text = (ROOT / 'docs' / 'quality.md').read_text(encoding='utf-8')
    table = text.partition('## Thresholds')[2].partition('## Editing')[0]
    rows = dict(re.findall(r'^\| `(\w+)` \| ([^|]*) \|', table, re.MULTILINE))
    wanted = {item.name: '–' if item.name == 'expected_hz' else f'{item.default:g}'
              for item in dataclasses.fields(Thresholds)}
    assert rows == wanted


def test_the_table_has_every_check() -> None:
    """Keys in the code, and keys in the first table: neither more than the other."""
    text = (ROOT / 'docs' / 'quality.md').read_text(encoding='utf-8')
    table = text.partition('## Checks')[2].partition('## Thresholds')[0]
    told = {key for line in table.splitlines() if line.startswith('| `')
            for key in re.findall(r'`(\w+)`', line.split('|')[1])}
    sources = [*(ROOT / 'ssl_vla_ros' / 'quality').glob('*.py'),
               ROOT / 'ssl_vla_ros' / 'episodes' / 'check.py',
               ROOT / 'ssl_vla_ros' / 'dataset' / 'check.py']
    code = '\n'.join(path.read_text(encoding='utf-8') for path in sources)
    keys = set(re.findall(r"Reason\(\s*'(\w+)'", code))
    # One check with two keys names them apart.
    assert keys | {'idle_start', 'idle_end'} == told
