# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The watch over collapse as `train` runs it: in runs with a sabotage, and in sound ones."""

from __future__ import annotations

import json
from pathlib import Path
import re
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import pytest
from ssl_vla_ros.losses.contrastive import nt_xent
from ssl_vla_ros.networks.momentum import Momentum
from ssl_vla_ros.networks.trunk import PatchTransformer
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives import dino, simclr
from ssl_vla_ros.training.building import build_objective
from ssl_vla_ros.training.config import load_train_config, TrainConfig
from ssl_vla_ros.training.probing import held_out_images, probe_encoder, trained_spreads
from ssl_vla_ros.training.runs import Run
from ssl_vla_ros.training.train import train
from ssl_vla_ros.training.workspace import make_workspace
import tiny_training
from tiny_training import CONFIGS, small_words, write_toy
import torch
from torch import Tensor

#: Views that leave the square where it is: what differs from moment to moment can be learned.
STILL = ['model.views.crop_smallest=1', 'model.views.jitter_share=0', 'model.views.blur_share=0',
         'model.views.grey_share=0']
HEADS = ['model.hidden=64', 'model.projection=32']
#: Runs that learn: sizes, and the share of chance that a loss must be below in the end.
SOUND: dict[str, tuple[list[str], dict[str, float]]] = {
    'simclr': ([*HEADS, *STILL, 'learning_rate=0.003', 'model.memory=0', 'model.chunk=0'],
               {'simclr': 0.5}),
    'moco': ([*HEADS, 'model.queue=64'], {'moco': 0.97}),
    'clip': ([*HEADS, *STILL, 'batch_size=32'], {'image_action': 0.9}),
    'r3m': (['model.hidden=64'], {'r3m_time': 0.9}),
    'dino': (['model.prototypes=64', 'model.hidden=64', 'model.bottleneck=16'], {'ibot': 0.98}),
    'jepa': ([], {}), 'mae': ([], {}), 'beit': (['model.tokens=16'], {}),
}


def circling(rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions that go round the centre: each action can be told from its picture."""
    position = np.random.default_rng(seed).uniform(0.0, 1.0, 2)
    positions, actions = [], []
    for _ in range(rows):
        away = position - 0.5
        step = np.clip(position + 0.35 * np.array([-away[1], away[0]]), 0.0, 1.0) - position
        positions.append(position)
        actions.append(step)
        position = position + step
    return np.asarray(positions, np.float32), np.asarray(actions, np.float32)


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('wiring') / 'data'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_training, 'walk', circling)
        write_toy(out, episodes=12, rows=14)
    return out


def config(objective: str, words: list[str], **changes: Any) -> TrainConfig:
    """Make a small run that logs every 20 steps and is probed at its end alone."""
    return load_train_config(CONFIGS / f'{objective}.yaml', [
        *small_words(objective, batch_size=16, **({'log_every': 20} | changes)),
        'network.vit.channels=48', 'network.vit.heads=3', *words])


def told(wanted: TrainConfig, data: Path, out: Path) -> tuple[dict[str, int], Run]:
    """Train, and return what the watch told, without its numbers, with the step."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        run = train(wanted, data, out, quiet=True)
    found = [re.match(r'collapse at step (\d+): ([^:]*)(: [^:]*)?', str(item.message))
             for item in caught]
    return {f'{item[2]}{item[3] or ""}': int(item[1]) for item in found if item}, run


def lines(run: Run) -> list[dict[str, float]]:
    return [json.loads(line)
            for line in (run.path / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()]


def sabotage_tokens(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Make class token and mean of the grid constant, or all tokens multiples of one vector."""
    attend = PatchTransformer.attend

    def level(self: PatchTransformer, tokens: Tensor) -> Tensor:
        found = attend(self, tokens)
        grid = found[:, 1:]
        return torch.cat([torch.ones_like(found[:, :1]),
                          grid - grid.mean(dim=1, keepdim=True) + 1.0], dim=1)

    def line(self: PatchTransformer, tokens: Tensor) -> Tensor:
        found = attend(self, tokens)
        return found[..., :1] * torch.linspace(0.5, 1.5, found.shape[-1])

    monkeypatch.setattr(PatchTransformer, 'attend', {'level': level, 'line': line}[kind])


@pytest.mark.parametrize('objective', list(SOUND))
def test_nothing_is_told_of_runs_that_learn(objective: str, data: Path, tmp_path: Path) -> None:
    words, below = SOUND[objective]
    # In 60 steps, one seed of clip in three has not left chance, and is rightly told.
    steps = 100 if objective == 'clip' else 60
    found, run = told(config(objective, words, steps=steps, log_every=1), data, tmp_path / 'run')
    assert found == {}
    last = [line for line in lines(run) if 'loss' in line][-10:]
    for name, share in below.items():
        mean = np.mean([line[name] / line[f'{name}_chance'] for line in last])
        assert mean < share, 'this control must have learned'


def test_a_constant_class_token_and_constant_rows_are_told_although_keypoints_vary(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage_tokens(monkeypatch, 'level')
    found, run = told(config('mae', [], steps=12), data, tmp_path / 'run')
    (rows, step), (token, other) = sorted(found.items(), reverse=True)
    assert rows.startswith('rows: what objectives train is constant')
    assert token.startswith('class token: what objectives train is constant')
    assert step == other == 1, 'such an encoder is told at the first look'
    looks = [line for line in lines(run) if 'probe.rows_std' in line]
    assert [line['step'] for line in looks] == list(range(1, 12))
    assert all(line['probe.rows_std'] < 1e-6 for line in looks)
    assert all(line['probe.class_token_std'] == 0.0 for line in looks)
    assert run.info['metrics']['probe.rows_std'] < 1e-6, 'the finished run tells it, too'
    assert run.info['metrics']['probe.feature_std'] > 1e-3, 'the readout alone looks sound'


def test_a_finished_run_that_is_constant_where_it_was_trained_looks_collapsed(
        data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = make_workspace(config('dino', SOUND['dino'][0], steps=1), data, 'here')
    encoder = build_objective(work.config, work.shape, 'here').get_submodule('encoder')
    assert isinstance(encoder, VisionEncoder)
    assert {'constant rows', 'constant class_token'}.isdisjoint(
        probe_encoder(encoder, work, whole=False).causes())
    sabotage_tokens(monkeypatch, 'level')
    assert {'constant rows', 'constant class_token'} <= set(
        probe_encoder(encoder, work, whole=False).causes())


def test_tokens_along_one_line_are_told_as_rank_one(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage_tokens(monkeypatch, 'line')
    found, _ = told(config('mae', [], steps=12), data, tmp_path / 'run')
    assert len(found) == 2 and set(found.values()) == {1}
    for name in ('rows', 'class token'):
        assert any(cause.startswith(f'{name}: what objectives train varies in one direction')
                   for cause in found)


@pytest.mark.parametrize('steps', [50, 100])
def test_pairs_that_do_not_belong_together_are_told_before_the_run_ends(
        steps: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the length of a run, and although it reports every 20th step alone."""
    def mixed(first: Tensor, second: Tensor, *rest: Any, **more: Any) -> Tensor:
        return nt_xent(first, second[torch.randperm(len(second))], *rest, **more)

    monkeypatch.setattr(simclr, 'nt_xent', mixed)
    words = [word for word in SOUND['simclr'][0] if 'learning_rate' not in word]
    found, _ = told(config('simclr', words, steps=steps), data, tmp_path / 'run')
    ((cause, step),) = found.items()
    assert cause.startswith('simclr stays at chance')
    assert steps // 2 + 20 <= step < steps


def test_all_pictures_on_one_prototype_are_told(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a centre nothing keeps one prototype from taking all; the loss falls to zero.
    monkeypatch.setattr(dino, 'centred_assignments', lambda logits, centre, temperature: (
        logits / temperature).softmax(dim=1).detach())
    words = [*SOUND['dino'][0], 'model.ibot_weight=0', 'model.koleo_weight=0',
             'model.momentum=0.9']
    found, run = told(config('dino', words, steps=80, log_every=1), data, tmp_path / 'run')
    assert any('dino_prototypes_used' in sentence for sentence in found), found
    last = [line for line in lines(run) if 'loss' in line][-1]
    assert last['dino_prototypes_used'] < 1.25
    assert last['dino'] < 0.3 * last['dino_chance']


@pytest.mark.parametrize('objective', ['moco', 'dino', 'jepa'])
def test_a_teacher_that_does_not_follow_is_told_after_the_first_step(
        objective: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Momentum, 'follow', lambda self, modules, momentum: None)
    found, _ = told(config(objective, SOUND[objective][0], steps=8), data, tmp_path / 'run')
    ((cause, step),) = found.items()
    assert cause.startswith(f'the EMA teacher of {objective} is frozen') and step == 1


def test_a_teacher_that_stops_following_late_is_told_by_the_end(
        data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow, calls = Momentum.follow, []

    def until_half(self: Momentum, modules: list[torch.nn.Module], momentum: float) -> None:
        calls.append(momentum)
        if len(calls) <= 20:
            follow(self, modules, momentum)

    monkeypatch.setattr(Momentum, 'follow', until_half)
    found, _ = told(config('moco', SOUND['moco'][0], steps=43), data, tmp_path / 'run')
    (step,) = (step for cause, step in found.items()
               if cause.startswith('the EMA teacher of moco is frozen'))
    assert step == 22, 'looks are two steps apart'


def test_a_teacher_without_momentum_is_told_as_the_student(data: Path, tmp_path: Path) -> None:
    words = [*SOUND['moco'][0], 'model.momentum=0']
    found, _ = told(config('moco', words, steps=6), data, tmp_path / 'run')
    ((cause, step),) = found.items()
    assert cause.startswith('the teacher of moco is the student itself') and step == 1


def test_looks_leave_an_encoder_as_it_was(data: Path) -> None:
    work = make_workspace(config('moco', SOUND['moco'][0], steps=1), data, 'here')
    encoder = build_objective(work.config, work.shape, 'here').get_submodule('encoder')
    assert isinstance(encoder, VisionEncoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.train()
    random = torch.get_rng_state()
    images = held_out_images(work)
    found = trained_spreads(encoder, images)
    assert encoder.training and torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value)
               for name, value in encoder.state_dict().items())
    # Of the pictures of held-out episodes, over all of which they are spread.
    with torch.no_grad():
        rows = encoder.rows(images).double().numpy()
    assert found['rows'].std == pytest.approx(rows.std(axis=0).mean(), rel=1e-4)
    assert found['rows'].most == min(len(images) - 1, encoder.row_width)
