# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Chunks are handed out by stamp: a lost tick skips an action, it does not delay the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.bundle import Bundle, InferenceError, load_bundle
from ssl_vla_ros.runtime.chunks import ChunkRunner
from tiny_bundle import CHUNK, EXECUTE, HISTORY, make_bundle, tiny_contract, write_manifest

BEGIN = 100 * 10**9
FEATURES = np.full((2, 3), 0.6, np.float32)
STATE = np.zeros(2)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Load the tiny bundle, its chunks numbered: action k of chunk c is 100 c + k."""
    loaded = load_bundle(make_bundle(tmp_path / 'tiny'), parts=('head',))
    real, count = loaded.act, [0]

    def numbered(features: np.ndarray, state: np.ndarray) -> np.ndarray:
        assert features.shape == (HISTORY, 2, 3) and state.shape == (HISTORY, 2)
        base = 100 * count[0]
        count[0] += 1
        return 0.0 * real(features, state) + base + np.arange(CHUNK)[:, None].astype(np.float32)

    monkeypatch.setattr(loaded, 'act', numbered)
    return loaded


def run(runner: ChunkRunner, ticks: list[int]) -> list[float | None]:
    found = [runner.step(BEGIN + tick * 50_000_000, FEATURES, STATE) for tick in ticks]
    return [None if action is None else float(action[0]) for action in found]


def test_a_new_chunk_every_execute_ticks_after_a_whole_history(bundle: Bundle) -> None:
    assert EXECUTE == 3
    assert run(ChunkRunner(bundle, 0.05), list(range(8))) == [None, 0, 1, 2, 100, 101, 102, 200]


def test_execute_can_be_changed_within_the_chunk(bundle: Bundle) -> None:
    assert run(ChunkRunner(bundle, 0.05, 1), list(range(4))) == [None, 0, 100, 200]
    with pytest.raises(BundleError, match=f'execute is {CHUNK + 1}'):
        ChunkRunner(bundle, 0.05, CHUNK + 1)


def test_a_lost_tick_skips_its_action_and_the_old_chunk_bridges_the_new_history(
        bundle: Bundle) -> None:
    # Tick 4 is lost: 5 finds no whole history (only itself) and takes action 4 of the old chunk.
    assert run(ChunkRunner(bundle, 0.05), [0, 1, 2, 3, 5, 6, 7]) == [None, 0, 1, 2, 4, 100, 101]


def test_past_the_end_of_a_chunk_is_an_error_not_an_old_action(bundle: Bundle) -> None:
    runner = ChunkRunner(bundle, 0.05)
    run(runner, [0, 1])
    with pytest.raises(InferenceError) as caught:
        run(runner, [1 + CHUNK])
    assert caught.value.cause == 'chunk_over'


def test_clearing_begins_anew(bundle: Bundle) -> None:
    runner = ChunkRunner(bundle, 0.05)
    run(runner, [0, 1, 2])
    runner.clear()
    assert run(runner, [3, 4]) == [None, 100]


def test_a_bundle_without_a_head_is_refused(tmp_path: Path) -> None:
    directory = make_bundle(tmp_path / 'tiny')
    write_manifest(directory, tiny_contract(), head=None)
    with pytest.raises(BundleError, match='has no head'):
        ChunkRunner(load_bundle(directory), 0.05)
