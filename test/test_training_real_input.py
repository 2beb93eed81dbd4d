# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The whole path on real data: import, train three times, probe, export, by the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ssl_vla_ros.cli import main
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.runtime.bundle import load_bundle
from tiny_training import CONFIGS


def test_a_real_dataset_goes_all_the_way(
        shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = shared_data / 'lerobot_v20_gr1_pickplace' / 'robot_sim.PickNPlace'
    if not source.is_dir():
        pytest.skip(f'{source} does not exist')
    data = tmp_path / 'data'

    def run(*words: object) -> str:
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out

    def train(objective: str, *words: str) -> Path:
        out = tmp_path / objective
        said = run('train', '--config', CONFIGS / f'{objective}.yaml', '--data', data,
                   '--out', out, 'steps=5', 'threads=1', 'held_out_fraction=0.2', *words)
        assert f'{objective}, 5 steps' in said
        return out
    assert 'camera' in run('dataset', 'import', source, data)
    encoder = train('keypoints', 'height=48', 'width=48', 'batch_size=8', 'model.channels=8',
                    'model.keypoints=8')
    model = train('world_model', f'encoder={encoder}', 'model.width=16', 'model.depth=1',
                  'model.heads=2', 'batch_size=16')
    head = train('behaviour_cloning', f'encoder={encoder}', 'model.width=16', 'model.depth=1',
                 'batch_size=16')
    table = run('probe', encoder, '--data', data)
    assert table.splitlines()[0].split('  ')[-4:] == [
        'keypoints', 'random encoder', 'PCA of pixels', 'proprioception']
    bundle = tmp_path / 'bundle'
    said = run('export', encoder, '--data', data, '--out', bundle, '--world-model', model,
               '--head', head)
    assert said.count(' cpu ') == 5
    assert 'hashes, shapes and contract are right' in run('verify', bundle, '--backend', 'cpu')
    dataset, loaded = Dataset.open(data), load_bundle(bundle, backend='cpu')
    pictures = dataset.frames('ego_view', 0)[:3]
    features = np.stack([loaded.encode(loaded.prepare({'ego_view': item})) for item in pictures])
    state = dataset.column('observation.state')[:3].astype(np.float32)
    assert loaded.act(features, state).shape == (16, len(dataset.contract.action_names))
