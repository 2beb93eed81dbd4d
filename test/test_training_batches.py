# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Batches: a function of seed and step, of whole episodes, padded where they end."""

from __future__ import annotations

import numpy as np
import pytest
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.training.batches import (
    episode_rows, StepDataset, Table, WindowSource)
import torch

LENGTHS = (5, 9, 3, 7)
STARTS = (0, 5, 14, 17)


def table() -> Table:
    """Rows whose values are their own numbers."""
    row = np.arange(sum(LENGTHS), dtype=np.float32)
    return Table(row[:, None, None], 100.0 + row[:, None], 200.0 + row[:, None], LENGTHS)


def source(episodes: tuple[int, ...] = (1, 3), *, history: int = 3, chunk: int = 4,
           whole: bool = False, seed: int = 0, batch_size: int = 64) -> WindowSource:
    return WindowSource(table(), episodes, history=history, chunk=chunk, batch_size=batch_size,
                        seed=seed, whole=whole)


def episode_of(row: int) -> int:
    return int(np.searchsorted(np.cumsum(LENGTHS), row, side='right'))


def test_rows_of_episodes() -> None:
    assert episode_rows(LENGTHS, [2, 0]).tolist() == [14, 15, 16, 0, 1, 2, 3, 4]
    assert episode_rows(LENGTHS, []).tolist() == []


def test_windows_repeat_the_first_frame_and_mark_padding() -> None:
    windows = source()
    batch = windows.windows(windows.all_windows())
    assert len(batch['state']) == 9 + 7, 'every row of the split has a window'
    for features, state, actions, valid in zip(
            batch['features'][..., 0, 0], batch['state'][..., 0], batch['actions'][..., 0],
            batch['valid'], strict=True):
        now = int(features[-1])
        start, length = STARTS[episode_of(now)], LENGTHS[episode_of(now)]
        assert features.tolist() == [max(start, now - 2), max(start, now - 1), now]
        assert state.tolist() == [value + 100.0 for value in features.tolist()]
        last = start + length - 1
        assert actions.tolist() == [200.0 + min(now + ahead, last) for ahead in range(4)]
        assert valid.tolist() == [now + ahead <= last for ahead in range(4)]


def test_whole_windows_lie_inside_their_episode_with_actions_between_the_frames() -> None:
    windows = source((0, 1, 2, 3), history=2, chunk=3, whole=True)
    batch = windows.windows(windows.all_windows())
    starts = []
    for features, actions in zip(
            batch['features'][..., 0, 0], batch['actions'][..., 0], strict=True):
        first = int(features[0])
        assert features.tolist() == [first + step for step in range(5)]
        assert actions.tolist() == [200.0 + first + step for step in range(4)]
        assert episode_of(first) == episode_of(int(features[-1]))
        starts.append(first)
    # All of them: the episode of five rows has one window, that of three none.
    assert starts == [0, *range(5, 10), *range(17, 20)]


@pytest.mark.parametrize('whole', [False, True])
def test_drawn_windows_stay_in_the_split(whole: bool) -> None:
    windows = source((1,), whole=whole)
    for step in range(5):
        rows = windows.batch(step)['features'].unique()
        assert rows.min() >= 5
        assert rows.max() <= 13
    assert windows.statistics_rows()['state'].flatten().tolist() == list(range(105, 114))


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, again = source(), source()
    for step in (7, 0, 3):
        first.batch(step)
    left, right = first.batch(5), again.batch(5)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert not torch.equal(left['features'], again.batch(6)['features'])
    assert not torch.equal(left['features'], source(seed=1).batch(5)['features'])


def test_too_short_episodes_are_refused_and_the_split_named() -> None:
    with pytest.raises(DatasetError, match='no episode of the training split .* 7 rows'):
        source((0, 2), whole=True)
    with pytest.raises(DatasetError, match='no episode of the held-out split'):
        WindowSource(table(), (2,), history=3, chunk=4, batch_size=1, seed=0, whole=True,
                     split='held-out')


def test_training_goes_on_where_it_stopped() -> None:
    steps = StepDataset(source(batch_size=3), 6)
    whole = list(steps)
    steps.first = 4
    rest = list(steps)
    assert len(whole) == 6
    assert len(rest) == 2
    assert [number for number, _ in rest] == [4, 5]
    assert torch.equal(whole[4][1]['state'], rest[0][1]['state'])
