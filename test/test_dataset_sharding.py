# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Epochs over ranks and workers: every sample in exactly one place."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from ssl_vla_ros.dataset.sharding import Epochs
from ssl_vla_ros.errors import DatasetError


def read_by(epochs: Epochs, epoch: int, workers: int) -> list[list[list[int]]]:
    """Batches by rank, workers taking turns as a ``DataLoader`` lets them."""
    ranks = []
    for rank in range(epochs.ranks):
        each = [[batch.tolist() for batch in epochs.batches(epoch, rank, worker, workers)]
                for worker in range(workers)]
        turns = max(len(batches) for batches in each)
        ranks.append([batches[turn] for turn in range(turns) for batches in each
                      if turn < len(batches)])
    return ranks


@settings(max_examples=200, deadline=None)
@given(samples=st.integers(1, 120), batch_size=st.integers(1, 17), ranks=st.integers(1, 5),
       workers=st.integers(1, 4), seed=st.integers(0, 2**32), epoch=st.integers(0, 1000),
       shuffle=st.booleans())
def test_every_sample_is_read_exactly_once(
        samples: int, batch_size: int, ranks: int, workers: int, seed: int, epoch: int,
        shuffle: bool) -> None:
    epochs = Epochs(samples, batch_size, seed=seed, ranks=ranks, shuffle=shuffle)
    found = read_by(epochs, epoch, workers)
    assert sorted(sample for batches in found for batch in batches for sample in batch) == list(
        range(samples))
    assert (epochs.dropped, epochs.repeated) == (0, 0)
    sizes = [len(batch) for batches in found for batch in batches]
    assert all(size == batch_size for size in sorted(sizes)[1:])
    counts = [len(batches) for batches in found]
    assert counts == [epochs.num_batches(rank) for rank in range(ranks)]
    assert max(counts) - min(counts) <= 1


@settings(max_examples=100, deadline=None)
@given(samples=st.integers(1, 120), batch_size=st.integers(1, 17), ranks=st.integers(1, 5),
       workers=st.integers(1, 4), uneven=st.sampled_from(['drop', 'repeat']))
def test_equal_ranks_say_what_they_leave_out_or_read_twice(
        samples: int, batch_size: int, ranks: int, workers: int, uneven: str) -> None:
    if uneven == 'drop' and -(-samples // batch_size) < ranks:
        with pytest.raises(DatasetError, match='with uneven drop nothing is left'):
            Epochs(samples, batch_size, ranks=ranks, uneven=uneven)
        return
    epochs = Epochs(samples, batch_size, ranks=ranks, uneven=uneven)
    found = read_by(epochs, 3, workers)
    assert len({len(batches) for batches in found}) == 1
    count = Counter(sample for batches in found for batch in batches for sample in batch)
    assert samples - len(count) == epochs.dropped
    assert sum(count.values()) - len(count) == epochs.repeated
    assert uneven == 'repeat' or epochs.repeated == 0
    assert uneven == 'drop' or epochs.dropped == 0


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 120), batch_size=st.integers(1, 17), ranks=st.integers(1, 5),
       workers=st.integers(2, 5), uneven=st.sampled_from(['keep', 'repeat']))
def test_the_number_of_workers_changes_nothing(
        samples: int, batch_size: int, ranks: int, workers: int, uneven: str) -> None:
    epochs = Epochs(samples, batch_size, seed=1, ranks=ranks, uneven=uneven)
    assert read_by(epochs, 2, workers) == read_by(epochs, 2, 1)


def test_the_order_is_a_function_of_seed_and_epoch_alone() -> None:
    order = Epochs(50, 8, seed=3).order(7)
    np.testing.assert_array_equal(Epochs(50, 5, seed=3, ranks=4).order(7), order)
    assert sorted(order.tolist()) == list(range(50))
    for seed, epoch in ((3, 8), (4, 7), (7, 3)):
        assert not np.array_equal(Epochs(50, 8, seed=seed).order(epoch), order)
    np.testing.assert_array_equal(Epochs(50, 8, shuffle=False).order(7), np.arange(50))


@pytest.mark.parametrize(('change', 'sentence'), [
    ({'samples': 0}, 'samples is 0, must be at least 1'),
    ({'batch_size': 0}, 'batch_size is 0'), ({'ranks': 0}, 'ranks is 0'),
    ({'seed': -1}, 'seed is -1, must be at least 0'),
    ({'uneven': 'dorp'}, "uneven is 'dorp', must be one of keep, drop, repeat.*'drop'"),
    ({'ranks': 4, 'uneven': 'drop'}, '10 samples make 3 batches of 4, fewer than the 4 ranks')])
def test_what_cannot_be_is_said(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence):
        Epochs(**({'samples': 10, 'batch_size': 4} | change))


@pytest.mark.parametrize(('place', 'sentence'), [
    ((0, 2, 0, 1), 'rank is 2, must be 0 to ranks - 1 = 1'),
    ((0, 0, 3, 3), 'worker is 3, must be 0 to workers - 1 = 2'),
    ((0, 0, 0, 0), 'worker is 0, must be 0 to workers - 1 = -1'),
    ((-1, 0, 0, 1), 'epoch is -1, must be at least 0')])
def test_a_place_that_is_not_there_is_said(place: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence):
        list(Epochs(10, 4, ranks=2).batches(*place))
