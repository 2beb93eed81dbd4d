# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Merging and splitting datasets: whole episodes, exact statistics, nothing re-encoded."""

from __future__ import annotations

import json
from pathlib import Path

from dataset_episodes import Recording, small_contract
import numpy as np
import pytest

from ssl_vla_ros.cli import main
from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.build import build_dataset
from ssl_vla_ros.dataset.combine import merge_datasets, split_dataset
from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import ContractError, DatasetError


def built(folder: Path, name: str, lengths: tuple[int, ...], task: str = 'lift') -> Dataset:
    """Build a small dataset."""
    for length in lengths:
        Recording.regular(length).write(folder / f'session_{name}', task=task)
    build_dataset(folder / f'session_{name}', folder / name)
    return Dataset.open(folder / name)


def test_a_merge_is_what_one_build_of_all_would_be(tmp_path: Path) -> None:
    built(tmp_path, 'a', (10, 12))
    built(tmp_path, 'b', (14,), task='push')
    merged = merge_datasets([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'merged')
    merged.verify()
    for length, task in ((10, 'lift'), (12, 'lift'), (14, 'push')):
        Recording.regular(length).write(tmp_path / 'all', task=task)
    build_dataset(tmp_path / 'all', tmp_path / 'straight')
    straight = Dataset.open(tmp_path / 'straight')
    assert merged.digest() == straight.digest()
    assert merged.episode_tasks == ['lift', 'lift', 'push']
    assert read_json(merged.path / layout.STATS) == read_json(straight.path / layout.STATS)
    for name in straight.column_names:
        np.testing.assert_array_equal(merged.column(name), straight.column(name))
    assert [str(entry['source']) for entry in merged.episodes] == [
        'session_a/episode_000000', 'session_a/episode_000001', 'session_b/episode_000000']


def test_parts_of_a_split_have_every_episode_once_and_statistics_of_their_own(
        tmp_path: Path) -> None:
    whole = built(tmp_path, 'a', (10, 12, 14, 16))
    first, second = split_dataset(
        whole.path, {tmp_path / 'parts' / 'one': [0, 3], tmp_path / 'parts' / 'two': [2]})
    assert (first.lengths, second.lengths) == ([10, 16], [14])
    first.verify()
    second.verify()
    assert whole.digest() == Dataset.open(whole.path).digest()
    stats = read_json(second.path / layout.STATS)['observation.state']
    state = second.column('observation.state').astype(np.float64)
    np.testing.assert_allclose(stats['q90'], np.quantile(state, 0.9, axis=0))
    assert second.column('index')[:, 0].tolist() == list(range(14))
    assert second.column('episode_index').max() == 0
    # The pictures are the same files, not encoded anew.
    assert second.video('front', 0).read_bytes() == whole.video('front', 2).read_bytes()


def test_a_part_that_cannot_be_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    whole = built(tmp_path, 'a', (10, 12))
    for parts, words in (({'x': [0, 7]}, 'there is no episode 7; it has 0 to 1'),
                         ({'x': [0], 'y': [0]}, 'episode 0 would be in .*x and in .*y'),
                         ({'x': []}, 'would have no episode')):
        with pytest.raises(DatasetError, match=words):
            split_dataset(whole.path, {tmp_path / name: numbers
                                       for name, numbers in parts.items()})
        assert not (tmp_path / 'x').exists()
    with pytest.raises(DatasetError, match='is a source, too'):
        split_dataset(whole.path, {whole.path: [0]}, overwrite=True)


def test_datasets_that_do_not_fit_are_named(tmp_path: Path) -> None:
    a = built(tmp_path, 'a', (10,))
    data = small_contract().to_dict()
    data['cameras']['front']['height'] = 16
    smaller = parse_contract(data, 'smaller.yaml')
    build_dataset(tmp_path / 'session_a', tmp_path / 'small', smaller)
    with pytest.raises(DatasetError, match='camera front is 16x48, in .* 32x48'):
        merge_datasets([a.path, tmp_path / 'small'], tmp_path / 'out')
    build_dataset(tmp_path / 'session_a', tmp_path / 'slower',
                  parse_contract(small_contract().to_dict() | {'rate_hz': 10}, 'slow.yaml'))
    with pytest.raises(ContractError, match='rate_hz'):
        merge_datasets([a.path, tmp_path / 'slower'], tmp_path / 'out')
    with pytest.raises(DatasetError, match='at least two'):
        merge_datasets([a.path], tmp_path / 'out')
    changed = next((a.path / 'videos').rglob('*.mp4'))
    changed.write_bytes(changed.read_bytes() + b'x')
    with pytest.raises(DatasetError, match='episode 0 was changed after it was written'):
        merge_datasets([a.path, tmp_path / 'small'], tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(tmp_path, 'a', (10, 12, 14))
    a, out = str(tmp_path / 'a'), tmp_path / 'parts'
    assert main(['dataset', 'split', a, str(out), '--held-out', '0.34', '--seed', '3']) == 0
    assert Dataset.open(out / 'train').num_episodes == 2
    assert Dataset.open(out / 'held_out').num_episodes == 1
    assert main(['dataset', 'split', a, str(tmp_path / 'p'), '--episodes', 'first=0-1']) == 0
    assert Dataset.open(tmp_path / 'p' / 'first').lengths == [10, 12]
    assert main(['dataset', 'merge', str(tmp_path / 'm'), str(out / 'train'),
                 str(out / 'held_out')]) == 0
    assert Dataset.open(tmp_path / 'm').num_episodes == 3
    capsys.readouterr()
    assert main(['dataset', 'stats', a, '--json', str(tmp_path / 's.json')]) == 0
    text = capsys.readouterr().out
    assert 'observation.state shoulder' in text
    assert 'observation.images.front red' in text
    assert 'q99' in json.loads((tmp_path / 's.json').read_text())['action']
    assert main(['dataset', 'info', a, '--verify']) == 0
    assert 'session: ' in capsys.readouterr().out
    for wrong, words in ((['--episodes', 'first=9-3'], "'9-3' are no episode numbers"),
                         (['--episodes', '=3'], 'must be NAME=3,5-9'),
                         ([], 'give either --held-out'),
                         (['--held-out', '1.5'], 'held_out_fraction is 1.5')):
        assert main(['dataset', 'split', a, str(tmp_path / 'q'), *wrong]) == 2
        assert words in capsys.readouterr().err
