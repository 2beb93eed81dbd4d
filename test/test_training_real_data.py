# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Every objective trains on what other people's robots recorded.

WidowX pictures of three cameras with instructions, GR1 arms with instructions, and human hands
without actions or state; each imported by the command line's own importer.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from ssl_vla_ros import cli
from ssl_vla_ros.bundle.export import export_bundle
from ssl_vla_ros.errors import ConfigError, DatasetError
from ssl_vla_ros.objectives import OBJECTIVES
from ssl_vla_ros.training.config import load_train_config, TrainConfig
from ssl_vla_ros.training.train import train
from tiny_training import CONFIGS

STEPS = 50
PRETRAINING = sorted(name for name, spec in OBJECTIVES.items()
                     if spec.data == 'frames' and not spec.own_encoder)
SMALL = {'dino': ('model.local_size=16', 'model.prototypes=32'), 'beit': ('model.tokens=64',),
         'moco': ('model.queue=64',)}


@pytest.fixture(scope='module')
def imported(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('real')
    for name, source, more in (
            ('bridge', 'rlds_widowx_bridge', ['--rate', '5']),
            ('gr1', 'lerobot_v20_gr1_pickplace/robot_sim.PickNPlace', []),
            ('hands', 'videos_hand_object', ['--task', 'handle an object'])):
        assert cli.main(['dataset', 'import', str(shared_data / source), str(folder / name),
                         *more]) == 0
    return {name: folder / name for name in ('bridge', 'gr1', 'hands')}


def config(objective: str, *more: str) -> TrainConfig:
    clip = 'model.stride=1' if objective in ('videomae', 'temporal', 'r3m', 'jepa') else ''
    frames = f'model.frames={7 if objective == "temporal" else 4}' if clip else ''
    return load_train_config(CONFIGS / f'{objective}.yaml', [
        f'steps={STEPS}', 'batch_size=8', 'height=32', 'width=32', 'probe_every=0', 'log_every=1',
        'warmup_steps=5', 'threads=1', 'precision=32-true', 'held_out_fraction=0.2',
        'checkpoint_every=1000', 'network.vit.channels=24', 'network.vit.depth=1',
        *filter(None, (clip, frames)), *SMALL.get(objective, ()), *more])


def check(settings: TrainConfig, data: Path, out: Path) -> None:
    run = train(settings, data, out, quiet=True)
    assert run.complete
    lines = (out / 'metrics.jsonl').read_text().splitlines()
    told = [json.loads(line) for line in lines]
    losses = [line['loss'] for line in told if 'loss' in line]
    assert len(losses) == STEPS
    assert all(map(math.isfinite, losses))
    assert run.info['metrics']['probe.feature_std'] > 1e-3
    assert run.encoder().tokens > 0


@pytest.mark.parametrize('name', ['bridge', 'gr1'])
@pytest.mark.parametrize('objective', PRETRAINING)
def test_an_objective_trains_on_a_real_robot_s_data(
        objective: str, name: str, imported: dict[str, Path], tmp_path: Path) -> None:
    check(config(objective), imported[name], tmp_path / 'run')
    if name == 'bridge':
        prove(tmp_path / 'run', imported[name], tmp_path)


def prove(run: Path, data: Path, folder: Path) -> None:
    """Export an encoder; what runs on the robot gives what was trained, on real frames."""
    for precision, cosine, error in (('fp32', 0.9999, 1e-4), ('fp16', 0.999, math.inf)):
        done = export_bundle(run, folder / precision, data, precision=precision)
        seen = done.parity['encoder.onnx']['cpu']
        assert seen.samples >= 50
        assert seen.cosine >= cosine
        assert seen.max_abs_error <= error
        # Also of what differs from frame to frame: pictures share most of their features.
        assert seen.centred_cosine is not None and seen.centred_cosine >= 0.99


@pytest.mark.parametrize(('objective', 'more'), [
    ('videomae', ()), ('simclr', ()), ('r3m', ('model.language_weight=0',)),
    ('jepa', ('model.predict=next', 'model.actions=false', 'model.target=gaussian')),
])
def test_human_hands_need_no_actions(objective: str, more: tuple[str, ...],
                                     imported: dict[str, Path], tmp_path: Path) -> None:
    check(config(objective, *more), imported['hands'], tmp_path / 'run')


@pytest.mark.parametrize(('objective', 'more', 'message'), [
    ('clip', (), r'clip needs actions, the dataset has none'),
    ('clip', ('model.modalities=[image, text]',),
     r"needs instructions that differ, the dataset has only 'handle an object'"),
    ('jepa', ('model.predict=next',), r'jepa needs actions, the dataset has none'),
    ('temporal', ('network.proprioception=true',), r'temporal needs a state, the dataset has no'),
    ('world_model', (), r'world_model needs state, the dataset has none'),
    ('simclr', ('batch_size=1',), r'batch_size is 1, but simclr .* at least 2'),
    ('simclr', ('batch_size=100000',), r'batch_size is 100000, but the training split has only'),
    ('mae', ('network={backbone: resnet18, readout: mean}',),
     r'mae hides patches, which network.backbone .resnet18'),
    ('simclr', ('network.proprioception=true',), r'simclr looks at pictures alone'),
])
def test_data_that_lacks_what_an_objective_needs_is_refused(
        objective: str, more: tuple[str, ...], message: str, imported: dict[str, Path],
        tmp_path: Path) -> None:
    settings = (load_train_config(CONFIGS / 'world_model.yaml') if objective == 'world_model'
                else config(objective, *more))
    with pytest.raises((ConfigError, DatasetError), match=message):
        train(settings, imported['hands'], tmp_path / 'run', quiet=True)
    assert not (tmp_path / 'run' / 'run.json').exists()
