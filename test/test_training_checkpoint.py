# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: nested state comes back as it was, from a file that cannot run code."""

from __future__ import annotations

import json
from pathlib import Path
import pickle

import pytest
from safetensors import safe_open
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.checkpoint import load_nested, SafetensorsIO, save_nested
import torch

STATE = {
    'state_dict': {'a': torch.arange(6.0).view(2, 3), 'b': torch.tensor([], dtype=torch.int64)},
    'optimizer_states': [{'state': {0: {'step': torch.tensor(3.0)}, 1: {}},
                          'param_groups': [{'betas': (0.9, 0.999), 'params': [0, 1]}]}],
    'half': torch.tensor([1.5], dtype=torch.bfloat16), 'flag': torch.tensor([True, False]),
    'global_step': 20, 'name': 'Übung', 'none': None, 'yes': True, 'rate': 1e-3,
    'empty': {}, 'mixed': ({'x': (1, [2.5, 'z'])},)}


def same(left: object, right: object) -> bool:
    if isinstance(left, torch.Tensor):
        return (isinstance(right, torch.Tensor) and left.dtype == right.dtype
                and left.shape == right.shape and torch.equal(left, right))
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        assert isinstance(right, dict)
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        assert isinstance(right, list | tuple)
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def test_nested_state_comes_back(tmp_path: Path) -> None:
    path = tmp_path / 'deep' / 'checkpoint.safetensors'
    save_nested(STATE, path)
    assert same(STATE, load_nested(path))
    assert [item.name for item in path.parent.iterdir()] == [path.name], 'nothing is left over'


def test_lightning_s_plugin_uses_it(tmp_path: Path) -> None:
    path = tmp_path / 'c.safetensors'
    plugin = SafetensorsIO()
    plugin.save_checkpoint(STATE, path)
    assert same(STATE, plugin.load_checkpoint(path, map_location='cpu'))
    plugin.remove_checkpoint(path)
    plugin.remove_checkpoint(path)
    assert not path.exists()


def test_shared_storage_is_stored_as_separate_tensors(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    save_nested({'a': whole[:5], 'b': whole[3:], 'c': whole[::2]}, tmp_path / 'c')
    found = load_nested(tmp_path / 'c')
    assert same({'a': whole[:5].clone(), 'b': whole[3:].clone(), 'c': whole[::2].clone()}, found)


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    save_nested(STATE, tmp_path / 'c')
    with safe_open(tmp_path / 'c', framework='pt') as file:
        assert json.loads(file.metadata()['tree'])
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads((tmp_path / 'c').read_bytes())  # noqa: S301


@pytest.mark.parametrize('value', [object(), {1, 2}, b'bytes', lambda: None])
def test_what_is_no_data_is_refused_by_name_and_leaves_the_old_file(
        tmp_path: Path, value: object) -> None:
    save_nested({'step': 1}, tmp_path / 'c')
    with pytest.raises(TypeError, match=r'callbacks\.probe: a .* cannot be stored'):
        save_nested({'step': 2, 'callbacks': {'probe': value}}, tmp_path / 'c')
    assert load_nested(tmp_path / 'c') == {'step': 1}


@pytest.mark.parametrize('keep', [0, 4, 100, -1])
def test_a_truncated_file_is_a_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / 'checkpoint.safetensors'
    save_nested(STATE, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=r'checkpoint\.safetensors: not a readable checkpoint'):
        load_nested(path)


def test_another_file_is_a_clear_error(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    save_file({'a': torch.zeros(1)}, tmp_path / 'model.safetensors')
    with pytest.raises(ConfigError, match='format is None, expected'):
        load_nested(tmp_path / 'model.safetensors')
    with pytest.raises(ConfigError, match='absent: not a readable checkpoint'):
        load_nested(tmp_path / 'absent')
