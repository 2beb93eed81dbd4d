# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Runs: resumed bit for bit, stopped by real signals, refused when they do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning
from ssl_vla_ros.training import train as training
from ssl_vla_ros.training.batches import StepDataset, WindowSource
from ssl_vla_ros.training.checkpoint import load_nested
from ssl_vla_ros.training.clip_source import ClipSource
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.features import encode_rows, encoder_digest, feature_table
from ssl_vla_ros.training.launched import Launched
from ssl_vla_ros.training.runs import exclusive, open_run, Run
from ssl_vla_ros.training.signals import terminate_as_interrupt
from ssl_vla_ros.training.train import train
from ssl_vla_ros.training.workspace import cache_directory, make_workspace
from tiny_training import CONFIGS, small_config, small_words, write_toy
import torch
from torch.utils.data import DataLoader

STEPS, STOP = 40, 20


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('toy') / 'data'
    write_toy(path)
    return path


@pytest.fixture(scope='module')
def encoder_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(small_config('keypoints'), data, tmp_path_factory.mktemp('run') / 'encoder',
                 quiet=True)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize(('objective', 'number', 'changes'), [
    ('keypoints', signal.SIGTERM, {'precision': 'bf16-mixed'}),
    ('mae', signal.SIGINT, {'accumulate': 2, 'ema': 0.9}),
    *((name, signal.SIGTERM, {}) for name in (
        'simclr', 'moco', 'clip', 'beit', 'videomae', 'temporal', 'r3m', 'dino', 'jepa')),
    ('behaviour_cloning', signal.SIGINT, {'features': 'none'}),
])
def test_a_run_stopped_by_a_signal_goes_on_bit_for_bit(
        objective: str, number: signal.Signals, changes: dict[str, str], data: Path,
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(objective, steps=STEPS, **changes)
    straight = train(config, data, tmp_path / 'straight', quiet=True)
    source = WindowSource if objective == 'behaviour_cloning' else ClipSource
    original: Callable[..., dict[str, torch.Tensor]] = source.batch

    def batch(self: object, step: int) -> dict[str, torch.Tensor]:
        if step == STOP:
            os.kill(os.getpid(), number)
        return original(self, step)
    with monkeypatch.context() as patch:
        patch.setattr(source, 'batch', batch)
        stopped = train(config, data, tmp_path / 'halves', quiet=True)
    assert not stopped.complete
    assert STOP // config.accumulate - 2 <= stopped.info['step'] <= STOP + 1
    assert stopped.info['status'] == 'interrupted'
    with pytest.raises(ConfigError, match=rf'stopped at step {stopped.info["step"]} of {STEPS}'):
        stopped.objective()
    resumed = train(config, data, tmp_path / 'halves', quiet=True)
    assert resumed.complete
    assert resumed.info['step'] == STEPS
    left = load_file(straight.path / 'model.safetensors')
    right = load_file(resumed.path / 'model.safetensors')
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert straight.info['metrics'] == resumed.info['metrics']
    losses = [[(line['step'], line['loss']) for line in map(json.loads, (
        run.path / 'metrics.jsonl').read_text().splitlines()) if 'loss' in line]
        for run in (straight, resumed)]
    assert losses[0] == losses[1]
    assert [step for step, _ in losses[0]] == list(range(1, STEPS + 1))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_with_a_checkpoint_and_0(
        number: signal.Signals, data: Path, tmp_path: Path) -> None:
    out = tmp_path / 'run'
    process = subprocess.Popen(
        [sys.executable, '-m', 'ssl_vla_ros.cli', 'train',
         '--config', str(CONFIGS / 'keypoints.yaml'), '--data', str(data), '--out', str(out),
         *small_words('keypoints', steps=1_000_000, checkpoint_every=1_000_000)],
        cwd=CONFIGS.parents[1], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'OMP_NUM_THREADS': '1'})
    try:
        deadline = time.monotonic() + 120.0
        metrics = out / 'metrics.jsonl'
        while not (metrics.exists() and metrics.stat().st_size):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        said, complained = process.communicate(timeout=60.0)
    finally:
        process.kill()
    assert process.returncode == 0, complained
    run = open_run(out)
    step = run.info['step']
    assert f'stopped at step {step} of 1000000; the same command goes on' in said
    assert 'Traceback' not in complained
    assert step >= 1
    assert run.info['status'] == 'interrupted'
    assert load_nested(out / 'checkpoint.safetensors')['global_step'] == step


def test_sigterm_outside_the_steps_ends_as_ctrl_c_does() -> None:
    with pytest.raises(KeyboardInterrupt), terminate_as_interrupt():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5.0)


def test_a_signal_that_comes_after_another_has_stopped_the_run_takes_nothing_from_it(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two processes: the signal of the second comes when the first has stopped both."""
    config = small_config('behaviour_cloning', features='none', steps=10)
    original, whole = WindowSource.batch, training._whole_objective
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def batch(self: WindowSource, step: int) -> dict[str, torch.Tensor]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step)

    def late(*given: Any) -> Any:
        for number in handlers:
            os.kill(os.getpid(), number)
        return whole(*given)

    monkeypatch.setattr(WindowSource, 'batch', batch)
    monkeypatch.setattr(training, '_whole_objective', late)
    run = train(config, data, tmp_path / 'run', quiet=True)
    assert run.info['status'] == 'interrupted' and 3 <= run.info['step'] < 10
    assert open_run(tmp_path / 'run').info['step'] == run.info['step']
    assert handlers == {number: signal.getsignal(number) for number in handlers}


def test_metrics_of_steps_that_come_again_are_dropped(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed (no signal handler runs) after step 8, with a checkpoint at 6."""
    config = small_config('behaviour_cloning', features='none', steps=10, checkpoint_every=6)
    original = WindowSource.batch

    def batch(self: WindowSource, step: int) -> dict[str, torch.Tensor]:
        if step == 9:
            raise RuntimeError('killed')
        return original(self, step)
    with monkeypatch.context() as patch:
        patch.setattr(WindowSource, 'batch', batch)
        with pytest.raises(RuntimeError, match='killed'):
            train(config, data, tmp_path / 'run', quiet=True)
    with (tmp_path / 'run' / 'metrics.jsonl').open('a') as file:
        file.write('{"step": 9, "lo')
    assert open_run(tmp_path / 'run').info['status'] == 'started'
    assert train(config, data, tmp_path / 'run', quiet=True).complete
    lines = (tmp_path / 'run' / 'metrics.jsonl').read_text().splitlines()
    assert [json.loads(line)['step'] for line in lines] == list(range(1, 11))


def test_a_finished_run_is_returned_and_its_files_stay(data: Path, encoder_run: Run) -> None:
    before = files(encoder_run.path)
    again = train(small_config('keypoints'), data, encoder_run.path, quiet=True)
    assert again.info == encoder_run.info
    assert files(encoder_run.path) == before


def test_another_configuration_or_dataset_is_refused_untouched(
        data: Path, encoder_run: Run, tmp_path: Path) -> None:
    before = files(encoder_run.path)
    with pytest.raises(ConfigError, match=r'run\.json: .* another config .seed was 0, is 1'):
        train(small_config('keypoints', seed=1), data, encoder_run.path, quiet=True)
    write_toy(tmp_path / 'other', first_seed=50)
    with pytest.raises(ConfigError, match='another dataset .dataset_digest was'):
        train(small_config('keypoints'), tmp_path / 'other', encoder_run.path, quiet=True)
    assert files(encoder_run.path) == before


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(ConfigError, match='another process is training'):
        with exclusive(tmp_path):
            pass


def test_a_loss_that_is_no_number_stops_the_run(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = BehaviourCloning.forward

    def forward(self: BehaviourCloning, batch: dict[str, torch.Tensor],
                generator: torch.Generator) -> dict[str, torch.Tensor]:
        loss = original(self, batch, generator)['loss']
        forward.calls += 1  # type: ignore[attr-defined]
        return {'loss': loss * float('nan') if forward.calls > 3 else loss}  # type: ignore
    forward.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(BehaviourCloning, 'forward', forward)
    config = small_config('behaviour_cloning', features='none')
    with pytest.raises(ConfigError, match=r'nan at step 3; the batch is in .*broken_batch_3\.'
                                          r'safetensors; lower learning_rate \(now'):
        train(config, data, tmp_path / 'run', quiet=True)
    assert not open_run(tmp_path / 'run').complete
    assert not (tmp_path / 'run' / 'model.safetensors').exists()
    kept = load_file(tmp_path / 'run' / 'broken_batch_3.safetensors')
    wanted = make_workspace(config, data, 'here').source.batch(3)
    assert kept.keys() == wanted.keys()
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize('clip', [0.0, 1.0])
def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_are_lost(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: float) -> None:
    """A finite loss with a gradient that is not, on the last step: no loss is left to tell."""
    original = BehaviourCloning.forward

    def forward(self: BehaviourCloning, batch: dict[str, torch.Tensor],
                generator: torch.Generator) -> dict[str, torch.Tensor]:
        loss = original(self, batch, generator)['loss']
        return {'loss': loss + (0.0 * loss).sqrt()}  # the root's slope at 0 is infinite
    monkeypatch.setattr(BehaviourCloning, 'forward', forward)
    config = small_config('behaviour_cloning', features='none', steps=1, gradient_clip=clip)
    with pytest.raises(ConfigError, match=r'gradient of head\S* became no number at step 0, '
                                          r'.*broken_batch_0\.safetensors; lower learning_rate'):
        train(config, data, tmp_path / 'run', quiet=True)
    assert (tmp_path / 'run' / 'broken_batch_0.safetensors').exists()
    assert not (tmp_path / 'run' / 'checkpoint.safetensors').exists()
    assert not open_run(tmp_path / 'run').complete


def test_weights_that_are_no_numbers_reach_no_checkpoint(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no gradient tells: an average of batches, say, or a step that overflows."""
    original = BehaviourCloning.end_step

    def end_step(self: BehaviourCloning) -> None:
        original(self)
        next(iter(self.head.parameters())).data[:] = float('inf')
    monkeypatch.setattr(BehaviourCloning, 'end_step', end_step)
    config = small_config('behaviour_cloning', features='none', steps=1)
    with pytest.raises(ConfigError, match='head.* is no longer finite after step 1'):
        train(config, data, tmp_path / 'run', quiet=True)
    assert not (tmp_path / 'run' / 'checkpoint.safetensors').exists()
    assert not open_run(tmp_path / 'run').complete


def test_the_split_is_by_episode_and_statistics_are_of_the_training_side(data: Path) -> None:
    config = small_config('behaviour_cloning', features='none')
    work = make_workspace(config, data, 'here')
    assert sorted(work.train + work.held_out) == list(range(6))
    assert len(work.held_out) == 2
    index = work.dataset.episode_index
    state = work.dataset.column('observation.state')
    rows = work.source.statistics_rows()['state'].numpy()
    np.testing.assert_array_equal(rows, state[np.isin(index, work.train)])
    assert work.held_out_source is not None
    held = work.held_out_source.statistics_rows()['state'].numpy()
    np.testing.assert_array_equal(held, state[np.isin(index, work.held_out)])


def test_the_feature_table_belongs_to_the_encoder_s_weights(
        data: Path, encoder_run: Run, tmp_path: Path) -> None:
    dataset, encoder = Dataset.open(data), encoder_run.encoder()
    cache = FrameCache.build(dataset, 32, 32, cache_directory(data) / 'frames')
    told: list[int] = []

    def make() -> np.ndarray:
        return feature_table(encoder, dataset, cache, tmp_path,
                             lambda done, total, what: told.append(done))
    first, digest = make(), encoder_digest(encoder)
    np.testing.assert_array_equal(first, encode_rows(encoder, [cache.frames('front')]))
    calls = len(told)
    np.testing.assert_array_equal(make(), first)
    assert len(told) == calls, 'the same encoder is not run again'
    (stored,) = tmp_path.glob('*.npy')
    stored.write_bytes(stored.read_bytes()[:-100])
    np.testing.assert_array_equal(make(), first)
    assert len(told) > calls, 'a table that was cut off is made again'
    with torch.no_grad():
        next(encoder.parameters()).flatten()[0] += 1.0
    assert encoder_digest(encoder) != digest
    assert not np.array_equal(make(), first)
    assert len(list(tmp_path.glob('*.npy'))) == 2


def test_a_world_model_needs_an_encoder_of_the_same_robot(
        data: Path, encoder_run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='here: encoder is empty'):
        train(small_config('world_model'), data, tmp_path / 'a', where='here', quiet=True)
    with pytest.raises(ConfigError, match='nowhere: no training run here'):
        train(small_config('world_model', encoder=tmp_path / 'nowhere'), data, tmp_path / 'b',
              quiet=True)
    with pytest.raises(DatasetError, match='training split holds a window of 42 rows'):
        train(small_config('world_model', encoder=encoder_run.path, model={
            'context': 2, 'horizon': 40, 'width': 16, 'heads': 2}), data, tmp_path / 'c',
            quiet=True)
    with pytest.raises(ConfigError, match='model: context is 0, must be at least 1'):
        train(small_config('world_model', encoder=encoder_run.path, model={'context': 0}), data,
              tmp_path / 'd', quiet=True)


def test_held_out_episodes_that_the_encoder_saw_are_told(
        data: Path, encoder_run: Run, recwarn: pytest.WarningsRecorder) -> None:
    make_workspace(small_config('world_model', encoder=encoder_run.path), data, 'here')
    assert not [item for item in recwarn if 'trained on by' in str(item.message)]
    with pytest.warns(UserWarning, match='held-out episodes .* were trained on by the encoder'):
        make_workspace(small_config('world_model', encoder=encoder_run.path, split_seed=1,
                                    held_out_fraction=0.5), data, 'here')


def test_broken_files_of_a_run_are_named(encoder_run: Run, tmp_path: Path) -> None:
    run = tmp_path / 'run'
    run.mkdir()
    for path in encoder_run.path.iterdir():
        (run / path.name).write_bytes(path.read_bytes())
    (run / 'model.safetensors').write_bytes((run / 'model.safetensors').read_bytes()[:-10])
    with pytest.raises(ConfigError, match=r'model\.safetensors: cannot load the weights'):
        open_run(run).objective()
    (run / 'run.json').write_text('{"config": ')
    with pytest.raises(ConfigError, match=r'run\.json: broken'):
        open_run(run)


def test_a_head_imitates_successes_alone_and_says_what_it_is_not_judged_on(tmp_path: Path) -> None:
    config = small_config('behaviour_cloning', features='none')
    train_split, held_out = split_episodes(6, config.held_out_fraction, config.split_seed)
    data = tmp_path / 'data'
    write_toy(data, failures=[*held_out, train_split[0]])
    with pytest.warns(UserWarning, match='none of 2 held-out episodes is marked as a success'):
        work = make_workspace(config, data, 'here')
    assert work.train == train_split[1:]
    with pytest.warns(UserWarning, match='not judged'):
        run = train(config, data, tmp_path / 'head', quiet=True)
    assert run.complete and run.info['metrics'] == {}
    nothing = tmp_path / 'nothing'
    write_toy(nothing, failures=train_split)
    with pytest.raises(DatasetError, match='none of 4 episodes of the training split is marked'):
        train(config, nothing, tmp_path / 'other', quiet=True)


def test_batches_that_other_processes_make_ahead_are_the_same(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config('simclr')
    here = train(config, data, tmp_path / 'here', quiet=True)
    asked: list[int] = []

    def ahead(steps: StepDataset, _: TrainConfig, __: Launched) -> DataLoader[Any]:
        asked.append(2)
        return DataLoader(steps, batch_size=None, num_workers=2, prefetch_factor=4)
    monkeypatch.setattr(training, '_loader', ahead)
    there = train(config, data, tmp_path / 'there', quiet=True)
    assert asked == [2]
    assert (here.path / 'model.safetensors').read_bytes() == (
        there.path / 'model.safetensors').read_bytes()


def test_settings_that_do_little_are_told(data: Path, tmp_path: Path) -> None:
    config = small_config('keypoints', warmup_steps=100, held_out_fraction=0.1)
    with pytest.warns(UserWarning) as told:
        train(config, data, tmp_path / 'run')
    said = '\n'.join(str(warning.message) for warning in told)
    assert f'warmup_steps is 100 and steps is {config.steps}: the learning rate never' in said
    assert '1 of 6 episodes are held out' in said
    assert 'R²' not in said.replace('what the probes', ''), 'one episode calls nothing collapsed'


def test_random_weights_that_are_frozen_are_told(data: Path, tmp_path: Path) -> None:
    config = small_config('simclr')
    config = replace(config, network=replace(config.network, frozen=True))
    with pytest.warns(UserWarning, match='the encoder keeps its random weights'):
        train(config, data, tmp_path / 'run')


def test_a_dataset_is_no_directory_for_a_run(data: Path) -> None:
    before = sorted(data.rglob('*'))
    with pytest.raises(ConfigError, match='and no run; give a new or an empty directory as --out'):
        train(small_config('keypoints'), data, data, quiet=True)
    assert sorted(data.rglob('*')) == before
