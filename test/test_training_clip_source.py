# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of clips: each once, each process its part, nothing across the end of an episode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import pytest
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.cache import FrameCache
from ssl_vla_ros.dataset.lerobot_v3 import Dataset, DatasetWriter
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.objectives.base import Needs
from ssl_vla_ros.training.clip_source import ClipSource
from tiny_training import draw, PERIOD_NS, SIZE, toy_contract, walk
from torch import Tensor

LENGTHS = (9, 14, 11, 20, 8, 13, 10)
TASKS = ('push', 'lift', 'push', 'turn', 'lift', 'push', 'turn')
TRAIN = (0, 1, 3, 4, 6)
Batch = dict[str, Tensor]


@dataclass
class Told:
    """A dataset in which state and action of a row are (episode, number in it)."""

    dataset: Dataset
    pictures: FrameCache

    def source(self, needs: Needs | None = None, *, batch_size: int = 5, seed: int = 0,
               rank: int = 0, ranks: int = 1, episodes: Sequence[int] = TRAIN) -> ClipSource:
        wanted = Needs(state=True) if needs is None else needs
        return ClipSource(self.dataset, self.pictures, episodes, wanted, batch_size=batch_size,
                          seed=seed, rank=rank, ranks=ranks)


@pytest.fixture(scope='module')
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    path = tmp_path_factory.mktemp('told')
    contract = toy_contract()
    writer = DatasetWriter(path / 'data', contract, 20)
    for number, (rows, task) in enumerate(zip(LENGTHS, TASKS, strict=True)):
        place = np.stack([np.full(rows, number), np.arange(rows)], axis=1).astype(np.float32)
        writer.add_episode(AlignedEpisode(
            ticks_ns=np.arange(rows, dtype=np.int64) * PERIOD_NS,
            pictures={'front': draw(walk(rows, number)[0])}, state=place, action=place,
            evaluation=np.zeros((rows, 0), np.float32),
            skew_s={label: np.zeros(rows, np.float32) for label, _, _ in stream_labels(contract)},
            flagged=np.zeros(rows, dtype=bool)), task, True, f'number {number}')
    writer.finish()
    dataset = Dataset.open(path / 'data')
    return Told(dataset, FrameCache.build(dataset, SIZE, SIZE, path / 'frames'))


def first_rows(batch: Batch) -> list[tuple[int, int]]:
    """(Episode, row) that each sample begins with."""
    state = batch['state']
    return [(int(episode), int(row)) for episode, row in (
        state if state.ndim == 2 else state[:, 0]).tolist()]


# -- epochs -------------------------------------------------------------------------------


def shows_each_clip_once(batch: Callable[[int], Batch], wanted: set[tuple[int, int]],
                         batch_size: int) -> None:
    """See that of each epoch no clip comes twice, and as many come as fill its batches."""
    each = len(wanted) // batch_size
    for epoch in range(3):
        seen: Counter[tuple[int, int]] = Counter()
        for step in range(epoch * each, (epoch + 1) * each):
            rows = first_rows(batch(step))
            assert len(rows) == len(set(rows)) == batch_size, 'no clip twice in a batch'
            seen.update(rows)
        assert set(seen.values()) == {1} and set(seen) <= wanted
        assert len(seen) == each * batch_size


def clips_of(length: int, stride: int, episodes: Sequence[int] = TRAIN) -> set[tuple[int, int]]:
    return {(episode, row) for episode in episodes
            for row in range(LENGTHS[episode] - (length - 1) * stride)}


@pytest.mark.parametrize(('frames', 'stride', 'batch_size'), [
    (1, 1, 61), (1, 1, 5), (4, 2, 31), (4, 2, 4), (3, 3, 1)])
def test_an_epoch_shows_every_clip_once(
        told: Told, frames: int, stride: int, batch_size: int) -> None:
    wanted = clips_of(frames, stride)
    source = told.source(Needs(frames=frames, stride=stride, state=True), batch_size=batch_size)
    shows_each_clip_once(source.batch, wanted, batch_size)


def test_the_check_of_an_epoch_sees_clips_that_come_again(told: Told) -> None:
    source = told.source(batch_size=30)
    for picks in (lambda step: np.random.default_rng(step).integers(0, 61, 30),
                  lambda step: np.random.default_rng(step).permutation(61)[:30],
                  lambda step: np.arange(30)):
        with pytest.raises(AssertionError):
            shows_each_clip_once(
                lambda step, picks=picks: source._gather(np.sort(picks(step))), clips_of(1, 1),
                30)


def test_each_epoch_has_an_order_of_its_own(told: Told) -> None:
    source = told.source(batch_size=61)
    orders = [tuple(source._order[1]) for step in range(3) if source.batch(step)]
    assert len(set(orders)) == 3
    small = told.source(batch_size=6)
    assert first_rows(small.batch(0)) != first_rows(small.batch(10))


def depends_on_seed_and_step_alone(make: Callable[[int], Callable[[int], Batch]]) -> None:
    straight = make(3)
    wanted = [first_rows(straight(step)) for step in range(25)]
    assert len({tuple(rows) for rows in wanted}) == 25
    other = make(3)
    for step in (24, 3, 17, 3, 0, 24):
        assert first_rows(other(step)) == wanted[step]
    assert first_rows(make(4)(0)) != wanted[0]


def test_a_batch_is_a_function_of_seed_and_step(told: Told) -> None:
    depends_on_seed_and_step_alone(lambda seed: told.source(seed=seed).batch)

    def in_turn(seed: int) -> Callable[[int], Batch]:
        source, rng = told.source(seed=seed), np.random.default_rng(seed)
        return lambda step: source._gather(np.sort(rng.permutation(61)[:5]))

    with pytest.raises(AssertionError):
        depends_on_seed_and_step_alone(in_turn)


def splits_a_batch(part: Callable[[int, int, int], Batch], whole: Callable[[int], Batch]) -> None:
    for ranks in (2, 3, 4):
        for step in (0, 1, 7):
            parts = [first_rows(part(step, rank, ranks)) for rank in range(ranks)]
            assert {len(rows) for rows in parts} == {12 // ranks}, 'losses that gather want that'
            assert sorted(sum(parts, [])) == sorted(first_rows(whole(step)))


def test_processes_split_a_batch_without_loss_or_doubling(told: Told) -> None:
    whole = told.source(batch_size=12).batch
    splits_a_batch(lambda step, rank, ranks: told.source(
        batch_size=12, rank=rank, ranks=ranks).batch(step), whole)
    for trap in (lambda step, rank, ranks: told.source(batch_size=12).batch(step),
                 lambda step, rank, ranks: told.source(
                     batch_size=12, rank=0, ranks=ranks).batch(step),
                 lambda step, rank, ranks: told.source(
                     batch_size=12, rank=rank, ranks=ranks, seed=rank).batch(step)):
        with pytest.raises(AssertionError):
            splits_a_batch(trap, whole)


# -- clips --------------------------------------------------------------------------------


def stay_in_their_episode(source: ClipSource, frames: int, stride: int) -> None:
    for step in range(20):
        state = source.batch(step)['state'].long()
        assert state.shape[1] == frames
        assert bool((state[..., 0] == state[:, :1, 0]).all())
        assert bool((state[:, 1:, 1] - state[:, :-1, 1] == stride).all())
        assert {int(episode) for episode in state[:, 0, 0]} <= set(TRAIN)


def test_clips_never_cross_the_end_of_an_episode(
        told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(frames=4, stride=2, state=True)
    stay_in_their_episode(told.source(needs, batch_size=20), 4, 2)
    whole = told.source(needs, batch_size=20)
    rows: NDArray[np.int64] = np.arange(sum(LENGTHS) - 6)
    clips = whole._clips
    # As if the dataset were one long episode.
    monkeypatch.setattr(clips, '_own', rows)
    monkeypatch.setattr(clips, '_first', np.zeros_like(rows))
    monkeypatch.setattr(clips, '_last', np.full_like(rows, sum(LENGTHS) - 1))
    with pytest.raises(AssertionError):
        stay_in_their_episode(whole, 4, 2)


def test_pictures_are_those_of_their_rows(told: Told) -> None:
    starts = np.concatenate([[0], np.cumsum(LENGTHS)])
    for needs, shape in ((Needs(state=True), (5, 1, SIZE, SIZE, 3)),
                         (Needs(frames=3, stride=2, state=True), (5, 3, 1, SIZE, SIZE, 3))):
        batch = told.source(needs).batch(2)
        state = batch['state'].long().numpy()
        rows = starts[state[..., 0]] + state[..., 1]
        assert tuple(batch['images'].shape) == shape
        assert np.array_equal(batch['images'].numpy(), told.pictures.gather(rows))
        others = told.pictures.gather(np.roll(rows, 1, axis=0))
        assert not np.array_equal(batch['images'].numpy(), others)


def test_a_batch_holds_what_was_asked_for_and_no_more(told: Told) -> None:
    assert set(told.source(Needs()).batch(0)) == {'images'}
    assert set(told.source(Needs(actions=2)).batch(0)) == {'images', 'actions', 'valid'}
    assert set(told.source(Needs(text=True)).batch(0)) == {'images', 'instruction'}


# -- actions and instructions -------------------------------------------------------------


def actions_line_up(source: ClipSource, steps: int) -> None:
    """See that actions are those of the rows from the first frame on, one after the other."""
    past = 0
    for step in range(12):
        batch = source.batch(step)
        for (episode, row), actions, valid in zip(
                first_rows(batch), batch['actions'].long(), batch['valid'], strict=True):
            assert actions.shape == (steps, 2)
            assert bool(valid[0])
            for ahead in range(steps):
                last = LENGTHS[episode] - 1
                assert bool(valid[ahead]) == (row + ahead <= last)
                assert actions[ahead].tolist() == [episode, min(row + ahead, last)]
                past += int(not valid[ahead])
    assert past > 0, 'some chunks reach over the end'


@pytest.mark.parametrize(('frames', 'stride'), [(1, 1), (3, 1), (3, 3)])
def test_actions_begin_at_the_first_frame_and_stop_at_the_end(
        told: Told, frames: int, stride: int) -> None:
    needs = Needs(frames=frames, stride=stride, actions=8, state=True)
    actions_line_up(told.source(needs, batch_size=20), 8)


def test_the_check_of_actions_sees_the_traps(
        told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = Needs(frames=3, stride=3, actions=8, state=True)
    source = told.source(needs, batch_size=20)
    last = sum(LENGTHS) - 1
    with monkeypatch.context() as patch:
        # Into the next episode.
        patch.setattr(source, '_ends', np.full_like(source._ends, last))
        with pytest.raises(AssertionError):
            actions_line_up(source, 8)
    for shift in (-1, 1):
        with monkeypatch.context() as patch:
            # One row off.
            patch.setattr(source, '_known', {
                'observation.state': source._column('observation.state'),
                'action': np.roll(source._column('action'), shift, axis=0)})
            with pytest.raises(AssertionError):
                actions_line_up(source, 8)
    actions_line_up(source, 8)


def instructions_belong(source: ClipSource, dataset: Dataset) -> None:
    seen = set()
    for step in range(12):
        batch = source.batch(step)
        for (episode, _), number in zip(
                first_rows(batch), batch['instruction'].tolist(), strict=True):
            assert dataset.tasks[number] == TASKS[episode]
            seen.add(number)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize('frames', [1, 3])
def test_instructions_are_those_of_the_episode(
        told: Told, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(told.dataset.tasks) == ['lift', 'push', 'turn']
    source = told.source(Needs(frames=frames, state=True, text=True))
    instructions_belong(source, told.dataset)
    monkeypatch.setattr(source, '_instruction', np.roll(source._instruction, 1))
    with pytest.raises(AssertionError):
        instructions_belong(source, told.dataset)


# -- statistics and refusals --------------------------------------------------------------


def test_statistics_are_of_the_training_split_alone(told: Told) -> None:
    rows = told.source(Needs(frames=3)).statistics_rows()
    wanted = [(episode, row) for episode in TRAIN for row in range(LENGTHS[episode])]
    assert rows['state'].long().tolist() == [list(pair) for pair in wanted]
    assert rows['actions'].long().tolist() == [list(pair) for pair in wanted]
    assert rows['images'].shape == (len(clips_of(3, 1)), 1, SIZE, SIZE, 3)


def test_too_few_clips_are_refused_and_told(told: Told) -> None:
    with pytest.raises(DatasetError, match='batch_size is 62, but the training split has only 61'):
        told.source(batch_size=62)
    with pytest.raises(DatasetError, match=(
            r'a clip of 9 frames with stride 3 spans 25 rows, .* lower model\.frames')):
        told.source(Needs(frames=9, stride=3), batch_size=1)


def test_the_toy_says_where_its_rows_are(told: Told, tmp_path: Path) -> None:
    column = told.dataset.column('action')
    assert [tuple(row) for row in column[:10].tolist()] == [
        *((0.0, float(row)) for row in range(9)), (1.0, 0.0)]
