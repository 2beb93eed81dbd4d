# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Several real processes train one network as one process does."""

from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.launched import Launched
from tiny_training import CONFIGS, small_words, write_toy
import torch

#: Without what draws random numbers for each sample: those of another process are others.
STILL = ('model.views={crop_smallest: 1.0, crop_longest_side: 1.0, jitter_share: 0.0, '
         'grey_share: 0.0, blur_share: 0.0}')
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1'}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('toy') / 'data'
    write_toy(path)
    return path


def words(data: Path, out: Path, *more: str, steps: int = 8) -> list[str]:
    return ['-m', 'ssl_vla_ros.cli', 'train', '--config', str(CONFIGS / 'simclr.yaml'), '--data',
            str(data), '--out', str(out), *small_words('simclr', steps=steps, batch_size=8,
                                                       probe_every=4), STILL,
            'model.memory=0', 'model.chunk=0', 'ema=0.9', *more]


def start(processes: int, command: list[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable]
    if processes > 1:
        launcher += ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
                     str(processes)]
    return subprocess.Popen(
        [*launcher, *command], env=ENVIRONMENT, cwd=CONFIGS.parents[1], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run(processes: int, command: list[str]) -> None:
    process = start(processes, command)
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / 'model.safetensors')


def losses(out: Path) -> list[float]:
    lines = map(json.loads, (out / 'metrics.jsonl').read_text().splitlines())
    return [line['loss'] for line in lines if 'loss' in line]


def compare(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name, value in wanted.items():
        # A softmax over keys does not see their bias: its gradient is rounding alone, which Adam
        # scales up to full steps.
        if not name.endswith('qkv.bias'):
            torch.testing.assert_close(found[name], value, rtol=0.0, atol=1e-4, msg=name)


@pytest.fixture(scope='module')
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('alone') / 'run'
    run(1, words(data, out))
    return out


def test_two_processes_with_copies_are_one_with_the_whole_batch(
        alone: Path, data: Path, tmp_path: Path) -> None:
    run(2, words(data, tmp_path / 'two'))
    assert losses(tmp_path / 'two') == pytest.approx(losses(alone), abs=2e-5)
    found, wanted = weights(tmp_path / 'two'), weights(alone)
    assert found.keys() == wanted.keys()
    compare(found, wanted)
    # Negative control: half of the batch on each, without the other's negatives, is another run.
    run(1, words(data, tmp_path / 'half', 'batch_size=4'))
    assert losses(tmp_path / 'half') != pytest.approx(losses(alone), abs=1e-2)


def test_split_weights_are_stopped_and_gone_on_with_by_a_single_process(
        alone: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / 'split'
    # Slow enough to be stopped in the middle: a checkpoint after each step.
    process = start(2, words(data, out, 'strategy=fsdp', 'checkpoint_every=1'))
    metrics = out / 'metrics.jsonl'
    end = time.monotonic() + 120.0
    while not (metrics.exists() and len(losses(out)) >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)
    # To the launcher, which hands it on: as a cluster does when time is up.
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    stopped = json.loads((out / 'run.json').read_text())
    assert 2 <= stopped['step'] < 8
    assert (out / 'checkpoint.safetensors').exists()
    run(1, words(data, out))
    assert losses(out) == pytest.approx(losses(alone), abs=2e-5)
    compare(weights(out), weights(alone))


@pytest.mark.parametrize(('environment', 'expected'), [
    ({}, Launched()),
    ({'RANK': '3', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'}, Launched(3, 8, 4, 2)),
    ({'SLURM_PROCID': '1', 'SLURM_NTASKS': '2', 'SLURM_NTASKS_PER_NODE': '2',
      'SLURM_JOB_NAME': 'pretrain'}, Launched(1, 2, 2, 1)),
    # A shell on a node of the cluster is no task.
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '2', 'SLURM_JOB_NAME': 'bash'}, Launched()),
    ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '1', 'SLURM_JOB_NAME': 'pretrain'}, Launched()),
])
def test_the_launcher_s_environment_is_read(environment: dict[str, str], expected: Launched
                                            ) -> None:
    assert Launched.found(environment) == expected


@pytest.mark.parametrize(('environment', 'message'), [
    ({'RANK': '8', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'}, 'RANK is 8, WORLD_SIZE is 8'),
    ({'RANK': '0', 'WORLD_SIZE': '6', 'LOCAL_WORLD_SIZE': '4'}, 'as many processes'),
    ({'TORCHELASTIC_RUN_ID': 'x', 'RANK': '0'}, 'start them with torchrun or srun'),
])
def test_a_launcher_that_contradicts_itself_is_refused(
        environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Launched.found(environment)
