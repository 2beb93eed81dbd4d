# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A run's files tell whose they are, notice a changed bit, and outlast being killed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.training.checkpoint import CHECKPOINT, load_nested, read_tensors, save_nested
from ssl_vla_ros.training.config import parse_dataclass, TrainConfig
from ssl_vla_ros.training.runs import (
    begin_run, CHECKPOINT_FILE, config_digest, git_commit, MODEL_FILE, open_run, Run)
from ssl_vla_ros.training.train import train
from tiny_training import CONFIGS, small_config, small_words, toy_contract, write_toy
import torch

SHAPE = DataShape(1, 24, 24, 2, 2)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('toy') / 'data'
    write_toy(path)
    return path


@pytest.fixture(scope='module')
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(small_config('keypoints'), data, tmp_path_factory.mktemp('run') / 'encoder',
                 quiet=True)


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Path:
    shutil.copytree(finished.path, tmp_path / 'run')
    return tmp_path / 'run'


@pytest.mark.parametrize('name', [MODEL_FILE, CHECKPOINT_FILE])
def test_weights_tell_their_configuration_contract_dataset_and_code(
        name: str, finished: Run, data: Path) -> None:
    with safe_open(finished.path / name, framework='pt') as file:
        header = json.loads(file.metadata()['ssl_vla_ros'])
    about = header['about']
    config = parse_dataclass(TrainConfig, about['config'], name)
    assert config_digest(config) == about['config_digest'] == config_digest(finished.config)
    assert parse_contract(about['contract'], 'toy_contract') == toy_contract()
    assert about['dataset_digest'] == Dataset.open(data).digest()
    assert about['git_commit'] == git_commit()
    assert about['software'] == {'torch': torch.__version__}
    assert len(header['sha256']) == 64
    # What changes no weight would make two files of one.
    assert 'threads' not in about['config']


def test_a_flipped_bit_in_the_weights_is_a_clear_error(copy: Path) -> None:
    path = copy / MODEL_FILE
    assert open_run(copy).encoder()
    content = bytearray(path.read_bytes())
    content[-500] ^= 4
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r'model\.safetensors: cannot load the weights: its SHA-'
                                          r'256 is another .*; train again into a new directory'):
        open_run(copy).encoder()


def test_weights_of_another_run_or_of_nobody_are_refused(copy: Path, data: Path, tmp_path: Path
                                                         ) -> None:
    other = train(small_config('keypoints', seed=7), data, tmp_path / 'other', quiet=True)
    shutil.copy(other.path / MODEL_FILE, copy / MODEL_FILE)
    with pytest.raises(ConfigError, match=r'config_digest is .* it belongs to another run'):
        open_run(copy).objective()
    save_file(load_file(other.path / MODEL_FILE), copy / MODEL_FILE)
    with pytest.raises(ConfigError, match='format is None, expected .*; train again'):
        open_run(copy).objective()


def test_a_broken_checkpoint_is_named_and_not_gone_on_from(
        copy: Path, finished: Run, data: Path) -> None:
    (copy / MODEL_FILE).unlink()
    info = json.loads((copy / 'run.json').read_text())
    (copy / 'run.json').write_text(json.dumps({**info, 'status': 'interrupted', 'step': 6}))
    path = copy / CHECKPOINT_FILE
    content = bytearray(path.read_bytes())
    content[-500] ^= 4
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r'checkpoint\.safetensors: not a readable checkpoint: '
                                          'its SHA-256 .*; delete it to train anew'):
        train(finished.config, data, copy, quiet=True)
    path.unlink()
    assert train(finished.config, data, copy, quiet=True).complete, 'as it says'


def test_weights_are_on_the_disk_before_the_run_says_it_is_complete(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / 'run'
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f'/proc/self/fd/{descriptor}').readlink().name)
        real(descriptor)
    monkeypatch.setattr(os, 'fsync', fsync)
    train(small_config('keypoints'), data, out, quiet=True)
    assert [name for name in synced if name == 'run' or name.endswith('.part')][-4:] == [
        f'.{MODEL_FILE}.part', 'run', '.run.json.part', 'run']


def forget_a_moment(path: Path) -> None:
    """Set to zero what a checkpoint holds of one parameter's gradients."""
    state, about = load_nested(path), read_tensors(path, CHECKPOINT)[1]['about']
    next(iter(state['optimizer_states'][0]['state'].values()))['exp_avg'].zero_()
    save_nested(state, path, about)


def test_a_killed_run_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    """SIGKILL, at a moment of chance: no handler runs, and a file may be half written."""
    steps, every, out = 50, 3, tmp_path / 'killed'
    wanted = {'steps': steps, 'checkpoint_every': every, 'ema': 0.9}
    rng = np.random.default_rng(5)
    after, pause_s = int(rng.integers(every + 1, 15)), float(rng.uniform(0.0, 0.05))
    process = subprocess.Popen(
        [sys.executable, '-m', 'ssl_vla_ros.cli', 'train', '--config',
         str(CONFIGS / 'moco.yaml'), '--data', str(data), '--out', str(out),
         *small_words('moco', **wanted)],
        cwd=CONFIGS.parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        deadline, metrics = time.monotonic() + 120.0, out / 'metrics.jsonl'
        while not metrics.exists() or metrics.read_bytes().count(b'\n') < after:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(pause_s)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL, 'killed, not finished'
    assert open_run(out).info['status'] == 'started'
    checkpoint = out / CHECKPOINT_FILE
    assert every <= load_nested(checkpoint)['global_step'] < steps
    other = tmp_path / 'other'
    shutil.copytree(out, other)
    config = small_config('moco', **wanted)
    straight = train(config, data, tmp_path / 'straight', quiet=True)
    resumed = train(config, data, out, quiet=True)
    left, right = (load_file(run.path / MODEL_FILE) for run in (straight, resumed))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert (straight.path / MODEL_FILE).read_bytes() == (out / MODEL_FILE).read_bytes()
    assert straight.info['metrics'] == resumed.info['metrics']
    # Negative control: what the optimiser knows of one parameter lost on the way.
    forget_a_moment(other / CHECKPOINT_FILE)
    wrong = load_file(train(config, data, other, quiet=True).path / MODEL_FILE)
    assert not all(torch.equal(left[name], wrong[name]) for name in left)


def test_another_configuration_is_told_by_its_keys(data: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(data)
    config = small_config('mae')
    begin_run(tmp_path / 'run', config, dataset, SHAPE, '')
    before = (tmp_path / 'run' / 'run.json').read_bytes()
    other = dataclasses.replace(
        config, log_every=config.log_every + 1, model={**config.model, 'mask_ratio': 0.5})
    with pytest.raises(ConfigError, match=(
            rf'another config \(log_every was {config.log_every}, is {other.log_every}, '
            r'model\.mask_ratio was .*, is 0\.5\); choose another --out')):
        begin_run(tmp_path / 'run', other, dataset, SHAPE, '')
    assert (tmp_path / 'run' / 'run.json').read_bytes() == before
    with pytest.raises(ConfigError, match=r'another encoder \(encoder_digest was , is abc\)'):
        begin_run(tmp_path / 'run', config, dataset, SHAPE, 'abc')


def test_a_directory_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(data)
    with pytest.raises(ConfigError, match=r'data: holds .*, and no run; give a new or an empty'):
        begin_run(dataset.path, small_config('mae'), dataset, SHAPE, '')
    assert not (dataset.path / 'run.json').exists()
    # What an interrupted beginning left is no obstacle.
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / '.lock').touch()
    (tmp_path / 'run' / '.run.json.part').touch()
    begin_run(tmp_path / 'run', small_config('mae'), dataset, SHAPE, '')
