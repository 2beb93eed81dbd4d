# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: nested state comes back as it was, from a file that cannot run code."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
import pickle

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.checkpoint import (
    CHECKPOINT, load_nested, MODEL, read_tensors, SafetensorsIO, save_nested, write_tensors)
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
        header = json.loads(file.metadata()['ssl_vla_ros'])
    assert header['format'] == 'ssl_vla_ros.checkpoint.2'
    assert header['tree']['map']
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
    save_file({'a': torch.zeros(1)}, tmp_path / 'model.safetensors')
    with pytest.raises(ConfigError, match='format is None, expected'):
        load_nested(tmp_path / 'model.safetensors')
    with pytest.raises(ConfigError, match='absent: not a readable checkpoint'):
        load_nested(tmp_path / 'absent')


def flipped(path: Path, offsets: range) -> Iterator[Path]:
    """Leave one file after another with one bit changed, at each of the offsets."""
    whole = path.read_bytes()
    for offset in offsets:
        changed = bytearray(whole)
        changed[offset] ^= 1 << (offset % 8)
        path.write_bytes(changed)
        yield path
    path.write_bytes(whole)


def test_a_flipped_bit_is_a_clear_error_wherever_it_is(tmp_path: Path) -> None:
    path = tmp_path / 'checkpoint.safetensors'
    save_nested(STATE, path)
    size = path.stat().st_size
    begin = 8 + int.from_bytes(path.read_bytes()[:8], 'little')
    for file in flipped(path, range(begin, size)):
        with pytest.raises(ConfigError, match=r'checkpoint\.safetensors: not a readable checkpoin'
                                              r't: its SHA-256 is another .*; delete it to train'):
            load_nested(file)
    accepted = []
    for offset, file in enumerate(flipped(path, range(begin))):
        try:
            state = load_nested(file)
        except ConfigError as error:
            assert 'checkpoint.safetensors: not a readable checkpoint' in str(error)
        else:
            accepted.append(offset)
            assert same(STATE, state)
    # White space, and names of dtypes or keys that mean the same: nothing that is read.
    assert len(accepted) < begin / 20
    assert same(STATE, load_nested(path)), 'the file itself is whole'


def test_json_of_another_shape_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / 'c'
    for text in ('', '{', '[]', '3', 'null', '{"format": "ssl_vla_ros.checkpoint.2"}'):
        save_file({'a': torch.zeros(1)}, path, metadata={'ssl_vla_ros': text})
        with pytest.raises(ConfigError, match='not a readable checkpoint'):
            load_nested(path)
    trees: list[object] = [{'tensor': 'none'}, {'map': 3}, {'list': [1]}, [], {}]
    for tree in trees:
        write_tensors({}, path, CHECKPOINT, {}, tree=tree)
        with pytest.raises(ConfigError, match='not a readable checkpoint'):
            load_nested(path)


def test_the_same_state_is_the_same_bytes(tmp_path: Path) -> None:
    about = {'config': {'seed': 1}, 'dataset_digest': 'ab', 'git_commit': 'cd'}
    found = set()
    for _ in range(8):
        save_nested(STATE, tmp_path / 'c', about)
        found.add((tmp_path / 'c').read_bytes())
    assert len(found) == 1
    assert read_tensors(tmp_path / 'c', CHECKPOINT)[1]['about'] == about


def test_one_kind_of_file_is_not_taken_for_another(tmp_path: Path) -> None:
    write_tensors({'a': torch.zeros(1)}, tmp_path / 'm', MODEL, {})
    with pytest.raises(ConfigError, match=r"format is 'ssl_vla_ros\.model\.1', expected"):
        load_nested(tmp_path / 'm')
    save_nested({}, tmp_path / 'c')
    with pytest.raises(ConfigError, match=r"c: cannot load the weights: format is '.*; train"):
        read_tensors(tmp_path / 'c', MODEL)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    about = {'config_digest': 'a', 'dataset_digest': 'b', 'encoder_digest': ''}
    path = tmp_path / 'c'
    SafetensorsIO(about).save_checkpoint({'step': 1}, path)
    assert SafetensorsIO({**about, 'git_commit': 'x'}).load_checkpoint(path) == {'step': 1}
    for key in about:
        with pytest.raises(ConfigError, match=f'c: {key} is .*, that of this run is other: it'):
            SafetensorsIO({**about, key: 'other'}).load_checkpoint(path)
