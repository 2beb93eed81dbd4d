# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A trained head on the real simulator, in process: what is kept, and what is never mixed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mujoco', reason='MuJoCo is not installed')

from ssl_vla_ros.contract import load_contract  # noqa: E402, I100
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels  # noqa: E402
from ssl_vla_ros.dataset.lerobot_v3 import DatasetWriter  # noqa: E402
from ssl_vla_ros.demo.rollouts import roll_out  # noqa: E402
from ssl_vla_ros.errors import ConfigError  # noqa: E402
from ssl_vla_ros.training.train import train  # noqa: E402
from tiny_training import PERIOD_NS, small_config, write_toy  # noqa: E402

ROOT = Path(__file__).parents[1]
ROWS = 12


def write_arm(out: Path) -> Path:
    """Write a dataset with the simulated arm's contract and values without meaning."""
    contract = load_contract(ROOT / 'config' / 'robots' / 'sim_ur5e.yaml')
    rng = np.random.default_rng(0)
    writer = DatasetWriter(out, contract, 20)
    for _ in range(4):
        writer.add_episode(AlignedEpisode(
            ticks_ns=np.arange(ROWS, dtype=np.int64) * PERIOD_NS,
            pictures={camera.name: np.zeros((ROWS, camera.height, camera.width, 3), np.uint8)
                      for camera in contract.cameras},
            state=rng.normal(size=(ROWS, len(contract.state_names))).astype(np.float32),
            action=0.02 * rng.normal(size=(ROWS, len(contract.action_names))).astype(np.float32),
            evaluation=np.ones((ROWS, len(contract.evaluation_names)), np.float32),
            skew_s={label: np.zeros(ROWS, np.float32)
                    for label, _, _ in stream_labels(contract)},
            flagged=np.zeros(ROWS, dtype=bool)), 'lift', True, '')
    writer.finish()
    return out


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_arm(tmp_path_factory.mktemp('arm') / 'dataset')


@pytest.fixture(scope='module')
def head(data: Path) -> Path:
    run = data.with_name('head')
    train(small_config('behaviour_cloning', features='none'), data, run, quiet=True)
    return run


def test_rollouts_go_on_where_they_ended_and_are_the_same_again(
        data: Path, head: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    out = tmp_path / 'deep' / 'result.json'

    def tell(done: int, wanted: int, lifted: int) -> None:
        told.append((done, wanted, lifted))

    roll_out(head, data, out, seed=77, first_start=3, rollouts=1, on_rollout=tell)
    first = json.loads(out.read_text())['rollouts']
    found = roll_out(head, data, out, seed=77, first_start=3, rollouts=3, on_rollout=tell)
    assert [item['start'] for item in found['rollouts']] == [3, 4, 5]
    assert found['rollouts'][:1] == first
    assert [(done, wanted) for done, wanted, _ in told] == [(1, 1), (2, 3), (3, 3)]
    assert json.loads(out.read_text()) == found
    # A head that has learnt nothing lifts nothing.
    assert not any(item['success'] for item in found['rollouts'])
    again = roll_out(head, data, tmp_path / 'again.json', seed=77, first_start=3, rollouts=3)
    assert again == found


def test_results_of_another_head_or_other_starts_are_never_mixed(
        data: Path, head: Path, tmp_path: Path) -> None:
    out = tmp_path / 'result.json'
    roll_out(head, data, out, seed=77, first_start=0, rollouts=1)
    kept = out.read_bytes()
    with pytest.raises(ConfigError, match='seed is 77, now 78: these are other rollouts'):
        roll_out(head, data, out, seed=78, first_start=0, rollouts=2)
    with pytest.raises(ConfigError, match='first_start is 0, now 1'):
        roll_out(head, data, out, seed=77, first_start=1, rollouts=2)
    other = tmp_path / 'other'
    train(small_config('behaviour_cloning', features='none', seed=1), data, other, quiet=True)
    with pytest.raises(ConfigError, match=r'head is \w{12}, now \w{12}'):
        roll_out(other, data, out, seed=77, first_start=0, rollouts=2)
    assert out.read_bytes() == kept


def test_a_head_of_another_robot_is_refused(tmp_path: Path) -> None:
    toy = write_toy(tmp_path / 'toy').path
    run = tmp_path / 'head'
    train(small_config('behaviour_cloning', features='none'), toy, run, quiet=True)
    with pytest.raises(ConfigError, match="robot 'toy' is not the simulated arm"):
        roll_out(run, toy, tmp_path / 'result.json', seed=0, first_start=0, rollouts=1)
    assert not (tmp_path / 'result.json').exists()
