# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Several real processes train one network as one process does."""

from __future__ import annotations

import json
import os
from pathlib import Path
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file
from ssl_vla_ros.training.checkpoint import CHECKPOINT, load_nested, read_tensors, save_nested
from tiny_training import CONFIGS, small_words, write_toy
import torch
from train_driver import train_until

#: Without what draws random numbers for each sample: those of another process are others.
STILL = ('model.views={crop_smallest: 1.0, crop_longest_side: 1.0, jitter_share: 0.0, '
         'grey_share: 0.0, blur_share: 0.0}')
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1'}


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('toy') / 'data'
    write_toy(path)
    return path


def settings(*more: str, steps: int = 8) -> list[str]:
    return [*small_words('simclr', steps=steps, batch_size=8, probe_every=4), STILL,
            'model.memory=0', 'model.chunk=0', 'ema=0.9', *more]


def words(data: Path, out: Path, *more: str, steps: int = 8) -> list[str]:
    return ['-m', 'ssl_vla_ros.cli', 'train', '--config', str(CONFIGS / 'simclr.yaml'), '--data',
            str(data), '--out', str(out), *settings(*more, steps=steps)]


def driver(data: Path, *jobs: tuple[Path, str, int | None]) -> list[str]:
    """Give the command that trains each (directory, strategy, batch to stop at) in turn."""
    return [str(Path(__file__).with_name('train_driver.py')), json.dumps([
        {'data': str(data), 'out': str(out), 'stop': stop,
         'words': settings(f'strategy={strategy}')} for out, strategy, stop in jobs])]


def start(processes: int, command: list[str]) -> subprocess.Popen[str]:
    launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node',
                str(processes)]
    return subprocess.Popen(
        [*launcher, *command], env=ENVIRONMENT, cwd=CONFIGS.parents[1], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def run_two(command: list[str]) -> None:
    process = start(2, command)
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
    train_until(str(data), str(out), settings(), None)
    return out


def test_two_processes_with_copies_are_one_with_the_whole_batch(
        alone: Path, data: Path, tmp_path: Path) -> None:
    run_two(words(data, tmp_path / 'two'))
    assert losses(tmp_path / 'two') == pytest.approx(losses(alone), abs=2e-5)
    found, wanted = weights(tmp_path / 'two'), weights(alone)
    assert found.keys() == wanted.keys()
    compare(found, wanted)
    # Negative control: half of the batch on each, without the other's negatives, is another run.
    train_until(str(data), str(tmp_path / 'half'), settings('batch_size=4'), None)
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
    said, _ = process.communicate(timeout=60)
    stopped = json.loads((out / 'run.json').read_text())
    assert 2 <= stopped['step'] < 8, said
    assert (out / 'checkpoint.safetensors').exists()
    train_until(str(data), str(out), settings(), None)
    assert losses(out) == pytest.approx(losses(alone), abs=2e-5)
    compare(weights(out), weights(alone))


def swap_moments(out: Path) -> None:
    """Exchange what a checkpoint holds of two parameters of one shape."""
    path = out / 'checkpoint.safetensors'
    state, about = load_nested(path), read_tensors(path, CHECKPOINT)[1]['about']
    moments = state['optimizer_states'][0]['state']
    shapes = {number: tuple(item['exp_avg'].shape) for number, item in moments.items()}
    first, second = next(
        (one, other) for one in shapes for other in shapes
        if one < other and shapes[one] == shapes[other] and len(shapes[one]) == 2)
    moments[first], moments[second] = moments[second], moments[first]
    save_nested(state, path, about)


def rates(out: Path) -> list[tuple[float, int]]:
    """Learning rate of each group, and steps counted, in a checkpoint."""
    state = load_nested(out / 'checkpoint.safetensors')
    (optimiser,), (schedule,) = state['optimizer_states'], state['lr_schedulers']
    (counted,) = {int(item['step']) for item in optimiser['state'].values()}
    assert counted == schedule['last_epoch'] == state['global_step']
    return [(group['lr'], counted) for group in optimiser['param_groups']]


def test_weights_are_split_in_the_middle_of_a_run(alone: Path, data: Path, tmp_path: Path
                                                  ) -> None:
    """One process, or two with copies, then split weights, stopped and split again."""
    single, swapped, copies = (tmp_path / name for name in ('single', 'swapped', 'copies'))
    train_until(str(data), str(single), settings(), 3)
    (stopped,) = {step for _, step in rates(single)}
    assert 2 <= stopped <= 4
    shutil.copytree(single, swapped)
    swap_moments(swapped)
    run_two(driver(
        data, (single, 'fsdp', 5), (single, 'fsdp', None), (swapped, 'fsdp', None),
        (copies, 'ddp', 3), (copies, 'fsdp', None)))
    for out in (single, copies):
        assert losses(out) == pytest.approx(losses(alone), abs=2e-5)
        compare(weights(out), weights(alone))
        assert rates(out) == pytest.approx(rates(alone))
    assert len(rates(alone)) == 4
    # Negative control: the moments of two parameters exchanged are another run.
    with pytest.raises(AssertionError):
        compare(weights(swapped), weights(alone))


def test_tasks_of_slurm_s_srun_train_together(alone: Path, data: Path, tmp_path: Path) -> None:
    """As ``srun --nodes 2 --ntasks 2`` starts them, which Lightning by itself refuses."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    out = tmp_path / 'run'
    slurm = {
        'SLURM_JOB_ID': '4711', 'SLURM_JOB_NAME': 'pretrain', 'SLURM_NTASKS': '2',
        'SLURM_NNODES': '2', 'SLURM_TASKS_PER_NODE': '1(x2)', 'SLURM_LOCALID': '0',
        'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    tasks = [subprocess.Popen(
        [sys.executable, *words(data, out)], cwd=CONFIGS.parents[1], text=True,
        env={**ENVIRONMENT, **slurm, 'SLURM_PROCID': str(task), 'SLURM_NODEID': str(task)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for task in range(2)]
    try:
        said = [task.communicate(timeout=240)[0] for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    assert [task.returncode for task in tasks] == [0, 0], said
    assert losses(out) == pytest.approx(losses(alone), abs=2e-5)
    compare(weights(out), weights(alone))
