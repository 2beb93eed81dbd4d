# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Training configuration: mistakes are named with file, key and value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.objectives import OBJECTIVES
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.training.building import read_members
from ssl_vla_ros.training.config import load_train_config
from ssl_vla_ros.training.runs import build_objective, config_digest
from tiny_training import CONFIGS, small_config

KEYPOINTS = CONFIGS / 'keypoints.yaml'
SHAPE = DataShape(1, 96, 96, 2, 2, tokens=2, dim=2, tasks=('lift it', 'push it'))


@pytest.mark.parametrize('objective', sorted(OBJECTIVES))
def test_the_shipped_configurations_build(objective: str) -> None:
    config = load_train_config(CONFIGS / f'{objective}.yaml')
    assert config.objective == objective
    build_objective(config, SHAPE, 'here')


def test_the_shipped_mix_builds() -> None:
    config = load_train_config(CONFIGS / 'mix.yaml')
    assert config.weights == {'mae': 1.0, 'r3m': 0.5}
    build_objective(config, SHAPE, 'here')


def test_overrides_are_yaml_and_reach_into_nests() -> None:
    config = load_train_config(KEYPOINTS, [
        'steps=7', 'learning_rate=1e-3', 'encoder=some/run', 'model.keypoints=5',
        'model.photometric.exposure=0'])
    assert (config.steps, config.learning_rate, config.encoder) == (7, 1e-3, 'some/run')
    assert config.model['keypoints'] == 5
    assert config.model['photometric'] == {
        'exposure': 0, 'white_balance': 0.1, 'sensor_noise': 4.0}
    assert config.model['channels'] == 48, 'the rest stays'


@pytest.mark.parametrize(('word', 'reason'), [
    ('stepps=7', r"keypoints\.yaml: unknown key 'stepps' \(value 7\).*steps"),
    ('steps=many', r"keypoints\.yaml: steps is 'many', must be of type int"),
    ('steps=7.5', 'steps is 7.5, must be of type int'),
    ('steps=true', 'steps is True, must be of type int'),
    ('learning_rate=true', 'learning_rate is True, must be of type float'),
    ('encoder=3', 'encoder is 3, must be of type str'),
    ('model=3', 'model is 3, must be of type'),
    ('steps=0', 'steps is 0, must be at least 1'),
    ('learning_rate=0', 'learning_rate is 0.0, must be above 0'),
    ('learning_rate=.nan', 'learning_rate is nan, must be above 0'),
    ('weight_decay=.inf', 'weight_decay is inf'),
    ('gradient_clip=-1', r'gradient_clip is -1\.0, must be at least 0'),
    ('seed=-1', 'seed is -1, must be at least 0'),
    ('split_seed=-1', 'split_seed is -1'),
    ('accumulate=0', 'accumulate is 0, must be at least 1'),
    ('ema=1', r'ema is 1\.0, must be at least 0 and below 1'),
    ('strategy=dpp', "strategy is 'dpp', must be one of .*did you mean 'ddp'"),
    ('objective={mae: 0}', 'the weight of mae is 0, must be above 0'),
    ('objective={}', 'objective is empty'),
    ('held_out_fraction=0', r'held_out_fraction is 0\.0, must lie between'),
    ('features=imagnet', "features is 'imagnet', must be one of .*imagenet"),
    ('precision=8', 'precision is 8, must be of type str'),
    ('precision=bf16', "precision is 'bf16', must be"),
    ('steps', "'steps' is no override; write key=value"),
    ('=7', 'is no override'),
    ('steps=[1', r"'steps=\[1': the value is not valid YAML"),
    ('steps.deep=1', r'steps is \d+, no mapping'),
])
def test_a_wrong_override_is_named(word: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_train_config(KEYPOINTS, [word])


@pytest.mark.parametrize(('word', 'reason'), [
    ('model.keypoint=5', "model: unknown key 'keypoint' .*keypoints"),
    ('model.keypoints=5.5', 'model: keypoints is 5.5, must be of type int'),
    ('model.keypoints=0', 'model: keypoints is 0, must be at least 1'),
    ('model.photometric.exposure=bright', "model: photometric: exposure is 'bright'"),
    ('objective=keypoint', "objective is 'keypoint', must be one of .*keypoints"),
])
def test_wrong_settings_of_the_objective_are_named(word: str, reason: str) -> None:
    config = load_train_config(KEYPOINTS, [word])
    with pytest.raises(ConfigError, match=f'there: {reason}'):
        build_objective(config, SHAPE, 'there')


@pytest.mark.parametrize(('objective', 'words', 'beside'), [
    ('clip', ['model.modalities=[image, action]'], 'actions'),
    ('r3m', [], 'instructions'),
    ('temporal', ['network.proprioception=true'], 'state'),
])
def test_pictures_are_not_mirrored_beside_what_is_not(
        objective: str, words: list[str], beside: str) -> None:
    config = load_train_config(
        CONFIGS / f'{objective}.yaml', [*words, 'model.views.flip_share=0.5'])
    with pytest.raises(ConfigError, match=rf'model\.views\.flip_share is 0\.5: .*{beside}'):
        read_members(config, 'there')
    read_members(load_train_config(CONFIGS / f'{objective}.yaml', words), 'there')
    # Pictures alone may be.
    read_members(load_train_config(
        CONFIGS / 'simclr.yaml', ['model.views.flip_share=0.5']), 'there')


@pytest.mark.parametrize(('text', 'reason'), [
    ('steps: 5', 'objective is missing'), ('- 1', 'must hold a mapping'),
    ('a: [', 'not valid YAML'), ('', 'must hold a mapping, not None'),
])
def test_a_broken_file_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / 'run.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf'run\.yaml: .*{reason}'):
        load_train_config(path)
    with pytest.raises(ConfigError, match=r'absent\.yaml: cannot read it'):
        load_train_config(tmp_path / 'absent.yaml')


def test_the_digest_follows_the_content() -> None:
    config = small_config('keypoints')
    assert config_digest(config) == config_digest(small_config('keypoints'))
    assert config_digest(config) != config_digest(small_config('keypoints', seed=1))
    assert math.isclose(config.learning_rate, 2e-3)
