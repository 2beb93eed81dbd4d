# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The watch over collapse: four collapses that really happen are told, healthy training is not."""

from __future__ import annotations

from collections.abc import Iterator
import copy
import math

import numpy as np
import pytest
from ssl_vla_ros.losses.contrastive import nt_xent
from ssl_vla_ros.losses.distillation import assignment_entropy, centred_assignments
from ssl_vla_ros.training.collapse import CollapseWatch
from ssl_vla_ros.training.probes import probe, ProbeResult, spread_of
from tiny_training import draw
import torch
from torch import nn, Tensor

EPISODES, ROWS, HELD_OUT = 30, 20, 10
STATE = np.random.default_rng(0).uniform(0.0, 1.0, (EPISODES * ROWS, 2)).astype(np.float32)
PICTURES = torch.from_numpy(draw(STATE)).permute(0, 3, 1, 2).float() / 255.0
TRAIN = np.arange((EPISODES - HELD_OUT) * ROWS)
TEST = np.arange(len(TRAIN), EPISODES * ROWS)
BATCH, EVERY, STEPS = 32, 5, 60


def encoder(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 16, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 32))


def two_views(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of pictures under two exposures and noise."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        pictures = PICTURES[torch.randint(len(TRAIN), (BATCH,), generator=generator)]
        first, second = (
            pictures * (0.8 + 0.4 * torch.rand(BATCH, 1, 1, 1, generator=generator))
            + 0.02 * torch.randn(pictures.shape, generator=generator) for _ in range(2))
        yield first, second


@torch.no_grad()
def probed(network: nn.Module) -> ProbeResult:
    features = network(PICTURES).double().numpy()
    return probe(features, STATE.astype(np.float64), TRAIN, TEST, ['x', 'y'])


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_nothing_is_told_of_healthy_training(seed: int) -> None:
    """A contrastive objective with a momentum teacher, on pictures of a square that moves."""
    student = encoder(seed)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    watch = CollapseWatch(warmup=10, patience=4)
    told, losses = [], []
    for step, (first, second) in enumerate(two_views(seed), start=1):
        loss = nt_xent(student(first), student(second), 0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 0.01)
        losses.append(float(loss.detach()))
        if step % EVERY == 0:
            told += watch.observe_parts(step, {
                'loss': losses[-1], 'simclr': losses[-1],
                'simclr_chance': math.log(2 * BATCH - 1)})
            told += watch.observe_teachers(step, {'simclr': (student, teacher)})
            told += watch.observe_probe(step, probed(student))
    assert losses[-1] < 0.8 * losses[0], 'this control must have learned'
    assert told == []


@pytest.mark.parametrize('seed', [0, 1])
def test_an_objective_that_only_draws_together_is_told_as_constant(seed: int) -> None:
    """Other pictures made alike with nothing against it: the classic collapse, for real."""
    student, generator = encoder(seed), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 200)
    watch = CollapseWatch(warmup=10)
    assert watch.observe_probe(0, probed(student)) == []
    for _ in range(200):
        features = student(PICTURES[torch.randint(len(TRAIN), (BATCH,), generator=generator)])
        loss = (features - features.flip(0)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    (told,) = watch.observe_probe(200, probed(student))
    assert 'collapse at step 200: the features are constant: their mean deviation' in told
    assert watch.observe_probe(205, probed(student)) == [], 'once is enough'


def test_features_along_one_line_are_told_as_rank_one() -> None:
    generator = torch.Generator().manual_seed(0)

    def told(features: Tensor) -> list[str]:
        result = probe(features.double().numpy(), STATE.astype(np.float64), TRAIN, TEST,
                       ['x', 'y'])
        return CollapseWatch(warmup=0).observe_probe(7, result)
    state = torch.from_numpy(STATE)
    (sentence,) = told(state[:, :1] @ torch.randn(1, 16, generator=generator) + 0.5)
    assert 'collapse at step 7: the features vary in one direction: their effective rank is ' \
        '1.00 (below 1.5), their width 16' in sentence
    assert told(state @ torch.randn(2, 16, generator=generator) + 0.5) == []


def test_features_of_something_else_are_told_as_unreadable() -> None:
    features = np.random.default_rng(3).normal(size=(len(STATE), 16))
    wanted = STATE.astype(np.float64)
    watch = CollapseWatch(warmup=0)
    (told,) = watch.observe_probe(9, probe(features, wanted, TRAIN, TEST, ['x', 'y']))
    assert 'next to nothing can be read off the features linearly: the median R² to 2' in told
    features[:, 0] += 3.0 * STATE[:, 0]
    features[:, 1] += 3.0 * STATE[:, 1]
    assert CollapseWatch(warmup=0).observe_probe(
        9, probe(features, wanted, TRAIN, TEST, ['x', 'y'])) == []


def test_pairs_that_do_not_belong_together_stay_at_chance_and_are_told_once() -> None:
    student, generator = encoder(0), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    watch, told = CollapseWatch(warmup=20, patience=4), {}
    for step, (first, second) in enumerate(two_views(0), start=1):
        mixed = second[torch.randperm(BATCH, generator=generator)]
        loss = nt_xent(student(first), student(mixed), 0.5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % EVERY == 0:
            told[step] = watch.observe_parts(step, {
                'simclr': float(loss.detach()), 'simclr_chance': math.log(2 * BATCH - 1)})
    assert [step for step, found in told.items() if found] == [40], '4 looks after step 20'
    assert 'simclr stays at chance: 4.1' in told[40][0]
    assert 'over the last 4 looks, and to guess costs ln 63 = 4.143' in told[40][0]


@pytest.mark.parametrize(('temperature', 'collapses'), [(0.1, True), (0.04, False)])
def test_self_distillation_without_sharpening_is_told_as_at_chance_and_with_it_is_not(
        temperature: float, collapses: bool) -> None:
    """Centring alone lets all assignments become uniform: the loss is ln K (Caron et al., 5.3)."""
    prototypes = 32
    student = nn.Sequential(encoder(0), nn.LayerNorm(32), nn.Linear(32, prototypes, bias=False))
    teacher = copy.deepcopy(student).requires_grad_(False)
    centre = torch.zeros(prototypes)
    optimiser = torch.optim.AdamW(student.parameters(), lr=1e-3)
    watch, told = CollapseWatch(warmup=80, patience=4), []
    batches = [views for seed in range(3) for views in two_views(seed)]
    for step, views in enumerate(batches, start=1):
        with torch.no_grad():
            logits = [teacher(view) for view in views]
        loss = torch.stack([
            assignment_entropy(student(view), centred_assignments(other, centre, temperature), 0.1)
            for view, other in zip(views, logits[::-1], strict=True)]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            centre.lerp_(torch.cat(logits).mean(dim=0), 0.1)
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 0.05)
        if step % EVERY == 0:
            told += watch.observe_parts(step, {
                'dino': float(loss.detach()), 'dino_chance': math.log(prototypes)})
            told += watch.observe_teachers(step, {'dino': (student, teacher)})
    assert len(told) == collapses
    assert all('dino stays at chance' in sentence for sentence in told)


def test_a_loss_is_judged_after_the_warm_up_and_only_if_all_looks_are_at_chance() -> None:
    chance = math.log(64)

    def told(losses: list[float], warmup: int = 0) -> list[int]:
        watch = CollapseWatch(warmup=warmup, patience=3)
        return [step for step, loss in enumerate(losses, start=1) if watch.observe_parts(
            step, {'loss': 5.0 + loss, 'moco': loss, 'moco_chance': chance})]
    assert told([chance] * 6) == [3]
    assert told([chance] * 6, warmup=2) == [5]
    assert told([1.019 * chance] * 6) == [3], 'worse than chance is no better'
    assert told([1.05 * chance] * 6) == [], 'healthy self-distillation stays there for long'
    assert told([chance * share for share in (1.02, 1.015, 1.005, 0.995, 0.985, 0.9)]) == [], \
        'a loss on its way down passes by chance'
    assert told([chance * share for share in (0.97, 0.985, 0.995, 1.005, 1.05, 1.1)]) == [], \
        'and so does one on its way up'
    assert told([0.985 * chance] * 6) == [3]
    assert told([0.975 * chance] * 6) == []
    assert told([chance, chance, 0.9 * chance] * 4) == []
    assert told([chance, 0.9 * chance, chance, chance, chance, 0.1]) == [5]
    watch = CollapseWatch(warmup=0, patience=1)
    assert watch.observe_parts(1, {'loss': 4.0, 'koleo': 1.0}) == [], 'no level of chance'
    assert watch.observe_parts(1, {'moco': 0.0, 'moco_chance': 0.0}) == [], 'a single choice'
    first = watch.observe_parts(1, {'a': 4.0, 'a_chance': 4.0, 'b': 4.0, 'b_chance': 4.0})
    assert len(first) == 2, 'each loss is a cause of its own'
    with pytest.raises(ValueError, match='moco_chance is reported, but there is no moco'):
        watch.observe_parts(2, {'loss': 4.0, 'moco_chance': chance})


@pytest.mark.parametrize(('steps', 'first'), [
    (40, 40), (60, 50), (100, 70), (300, 150), (500, 175), (800, 220), (20_000, 3100)])
def test_a_loss_that_stays_at_chance_is_told_in_a_run_of_any_length(steps: int, first: int
                                                                    ) -> None:
    watch, chance, told = CollapseWatch.of_run(steps, warmup_steps=100), math.log(64), []
    for step in range(1, steps + 1):
        if step % watch.every == 0 and watch.observe_parts(
                step, {'moco': chance, 'moco_chance': chance}):
            told.append(step)
    assert told == [first]


@pytest.mark.parametrize('steps', [6, 39, 100, 800])
def test_a_loss_that_leaves_chance_in_the_first_half_of_a_short_run_is_not_told(steps: int
                                                                                ) -> None:
    watch, chance = CollapseWatch.of_run(steps, warmup_steps=2), math.log(64)
    for step in range(1, steps + 1):
        loss = chance if step <= min(100, steps // 2) + 15 else 0.9 * chance
        assert watch.observe_parts(step, {'moco': loss, 'moco_chance': chance}) == []


def test_assignments_that_are_all_the_same_are_told() -> None:
    """Their loss is 0, as if all were learned, and their level of chance may be, too."""
    def told(used: list[float]) -> list[int]:
        watch = CollapseWatch(warmup=1, patience=3)
        return [step for step, value in enumerate(used, start=1) if watch.observe_parts(
            step, {'beit': 0.0, 'beit_chance': math.log(value), 'beit_words_used': value})]
    assert told([1.0] * 6) == [4]
    assert told([1.2] * 6) == [4]
    assert told([1.0, 1.0, 1.0, 1.3, 1.0, 1.0, 1.4]) == []
    assert told([1.3] * 6) == []


@pytest.mark.parametrize(('warmup', 'patience', 'margin', 'every'), [
    (-1, 1, 0.02, 1), (0, 0, 0.02, 1), (0, 1, 1.0, 1), (0, 1, math.nan, 1), (0, 1, 0.02, 0)])
def test_a_watch_that_cannot_work_is_refused(warmup: int, patience: int, margin: float,
                                             every: int) -> None:
    with pytest.raises(ValueError, match='they must be'):
        CollapseWatch(warmup, patience, margin, every)


def test_what_is_trained_is_told_between_probes_once_for_each_cause() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 8))
    watch = CollapseWatch(warmup=0)
    sound, still = spread_of(rows), spread_of(np.ones((40, 8)))
    line = spread_of(rows[:, :1] * np.arange(8.0))
    assert watch.observe_features(1, {'rows': sound, 'class_token': sound}) == []
    (told,) = watch.observe_features(2, {'rows': still, 'class_token': sound})
    assert told.startswith('collapse at step 2: rows: what objectives train is constant')
    (told,) = watch.observe_features(3, {'rows': still, 'class_token': line})
    assert told.startswith('collapse at step 3: class token: what objectives train varies in one')
    assert watch.observe_features(4, {'rows': still, 'class_token': line}) == []
    assert line.metrics('rows') == {'probe.rows_std': line.std,
                                    'probe.rows_effective_rank': pytest.approx(1.0)}
    # Three moments can vary in two directions only: to vary in one tells nothing.
    assert spread_of(rows[:3, :1] * np.arange(8.0)).causes('rows') == {}


def trained(follow: float | None, steps: int = 3) -> list[str]:
    """Train a student whose teacher goes ``follow`` of the way each step; return what is told."""
    student = encoder(0)
    teacher = copy.deepcopy(student) if follow is not None else student
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    watch, told = CollapseWatch(warmup=0), []
    for step in range(steps):
        told += watch.observe_teachers(step, {'moco': (student, teacher)})
        optimiser.zero_grad()
        student(PICTURES[:BATCH]).square().mean().backward()
        optimiser.step()
        if follow:
            with torch.no_grad():
                for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                    slow.lerp_(fast, follow)
    return told


def test_a_teacher_that_never_follows_is_told_as_frozen() -> None:
    (told,) = trained(0.0)
    assert told.startswith('collapse at step 1: the EMA teacher of moco is frozen')


def test_a_teacher_that_is_the_student_is_told() -> None:
    for follow in (None, 1.0):
        (told,) = trained(follow)
        assert told.startswith('collapse at step 1: the teacher of moco is the student itself')


@pytest.mark.parametrize('follow', [0.5, 0.01])
def test_a_teacher_that_follows_however_slowly_is_not_told(follow: float) -> None:
    assert trained(follow) == []


def test_a_student_that_rests_says_nothing_of_its_teacher() -> None:
    student = encoder(0)
    teacher, watch = copy.deepcopy(student), CollapseWatch(warmup=0)
    for step in range(3):
        assert watch.observe_teachers(step, {'moco': (student, teacher)}) == []
    with pytest.raises(ValueError, match='other: student and teacher have no parameter in common'):
        for step in range(2):
            watch.observe_teachers(step, {'other': (student, nn.Sequential(nn.ReLU(), teacher))})
            with torch.no_grad():
                student[0].weight.add_(1.0)
                teacher[0].weight.add_(0.5)


def test_what_is_kept_of_a_network_is_small() -> None:
    student, watch = nn.Linear(2000, 2000), CollapseWatch(warmup=0)
    watch.observe_teachers(0, {'moco': (student, copy.deepcopy(student))})
    assert sum(len(digest) for pair in watch._before.values() for digest in pair) == 64
