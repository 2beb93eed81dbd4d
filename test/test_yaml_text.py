# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""YAML by hand: plain values, and nothing that the last of two equal keys would hide."""

from __future__ import annotations

import pytest
from ssl_vla_ros.yaml_text import load_yaml, yaml_problem
import yaml


def test_plain_values_are_read_as_by_the_safe_loader() -> None:
    text = 'a: {b: [1, 2.5, x], c: null}\nd: true\n? 3\n: e\nbase: &b {x: 1}\nover: {<<: *b, y: 2}'
    assert load_yaml(text) == yaml.safe_load(text)
    assert load_yaml('') is None


@pytest.mark.parametrize(('text', 'key', 'line'), [
    ('a: 1\nb: 2\na: 3', 'a', 3),
    ('cameras:\n  front: {topic: x}\n  front: {topic: y}', 'front', 3),
    ('a: [{b: 1, b: 1}]', 'b', 1),
    ('1: x\n1: y', '1', 2)])
def test_a_key_given_twice_is_named_with_its_line(text: str, key: str, line: int) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        load_yaml(text)
    problem = yaml_problem(caught.value)
    shown = key if key == '1' else repr(key)
    assert f'the key {shown} is given twice' in problem and f'line {line}' in problem
    assert '\n' not in problem and '<unicode' not in problem


def test_objects_are_never_made() -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml('!!python/object/apply:os.getcwd []')
