# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Splits by episode."""

from __future__ import annotations

from hypothesis import given, strategies
import pytest

from ssl_vla_ros.dataset.splits import split_episodes
from ssl_vla_ros.errors import DatasetError


@given(strategies.integers(2, 300), strategies.floats(0.0, 0.5), strategies.integers(0, 99))
def test_every_episode_is_on_exactly_one_side(count: int, fraction: float, seed: int) -> None:
    train, held = split_episodes(count, fraction, seed)
    assert sorted([*train, *held]) == list(range(count))
    assert train == sorted(train)
    assert len(held) == (max(1, round(count * fraction)) if fraction else 0)
    assert (train, held) == split_episodes(count, fraction, seed)


def test_the_seed_matters() -> None:
    assert split_episodes(50, 0.2, 0) != split_episodes(50, 0.2, 1)


@pytest.mark.parametrize(('count', 'fraction'), [
    (1, 0.1), (0, 0.0), (4, 0.9), (10, 1.0), (10, -0.1)])
def test_impossible_splits_say_why(count: int, fraction: float) -> None:
    with pytest.raises(DatasetError, match='held_out_fraction'):
        split_episodes(count, fraction, 0)
