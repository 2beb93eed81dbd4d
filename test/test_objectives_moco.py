# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""MoCo as a whole: the queue, the slow key encoder, and what must not leak between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.losses.contrastive import queue_nce
from ssl_vla_ros.losses.precision import unit
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import moco
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.moco import MoCo, MoCoConfig
from tiny_training import draw, SIZE
import torch
from torch import nn, Tensor
from torch.nn import functional

# What the references import needs torchvision.
declare_missing_operators()

NETWORK = VisionConfig(vit=VitConfig(patch=8, channels=16, depth=1, heads=2))


def small(kind: type[MoCo] = MoCo, network: VisionConfig = NETWORK, size: int = SIZE,
          **changes: Any) -> MoCo:
    torch.manual_seed(0)
    encoder = VisionEncoder(1, size, size, 2, network)
    settings = {'hidden': 16, 'projection': 8, 'queue': 24, 'momentum': 0.9, **changes}
    return kind(DataShape(1, size, size, 2, 2), MoCoConfig(**settings), encoder)


def scene(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2)).astype(np.float32)
    return torch.from_numpy(draw(positions, size))[:, None]


def spied(objective: MoCo, images: Tensor, seed: int = 0) -> tuple[dict[str, Tensor], Tensor,
                                                                   Tensor]:
    """One forward pass, its queries and its keys: all first views, then all second ones."""
    queries: list[Tensor] = []
    keys: list[Tensor] = []
    copied = objective.teacher.copies[1]
    hooks = [module.register_forward_hook(lambda module, given, rows, into=into: into.append(rows))
             for module, into in ((objective.projection, queries), (copied, keys))]
    try:
        parts = objective({'images': images}, torch.Generator().manual_seed(seed))
    finally:
        for hook in hooks:
            hook.remove()
    assert len(queries) == len(keys) == 1
    return parts, queries[0], keys[0]


def step(objective: MoCo, optimiser: torch.optim.Optimizer, images: Tensor, seed: int
         ) -> dict[str, Tensor]:
    parts = objective({'images': images}, torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    parts['loss'].backward()
    optimiser.step()
    objective.end_step()
    return parts


# -- the queue ----------------------------------------------------------------------------


def agrees_with_lightly(objective: MoCo, steps: int = 7) -> None:
    """Hold losses and queue against lightly's, whose bank takes the keys when a step is over."""
    lightly = pytest.importorskip('lightly.loss')
    size = tuple(objective.get_buffer('queue').shape)
    theirs = lightly.NTXentLoss(objective.config.temperature, memory_bank_size=size)
    bank = theirs.memory_bank
    bank.bank = objective.get_buffer('queue').clone()
    for number in range(steps):
        parts, queries, keys = spied(objective, scene(4, number), number)
        halves, found = queries.chunk(2), keys.chunk(2)
        with torch.no_grad():     # without a gradient, lightly only looks into its bank
            expected = [theirs(halves[one].detach(), found[1 - one]) for one in range(2)]
        torch.testing.assert_close(
            parts['loss'].detach(), sum(expected) / 2, rtol=1e-6, atol=1e-6)
        bank(functional.normalize(keys, dim=1), update=True)
        torch.testing.assert_close(objective.get_buffer('queue'), bank.bank, rtol=0, atol=1e-6)


def test_queue_and_loss_are_lightly_s_over_several_steps() -> None:
    agrees_with_lightly(small())
    agrees_with_lightly(small(queue=8))


class Between(MoCo):
    """Takes the keys of the first half before the second half is compared."""

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        config = self.config
        views = torch.cat([
            moco.view(batch['images'], config.views, generator) for _ in range(2)])
        queries = self.projection(self.encoder.rows(views)).chunk(2)
        keys = self._keys(views).chunk(2)
        losses = []
        for one in range(2):
            queue = self.get_buffer('queue').clone()
            losses.append(queue_nce(queries[one], keys[1 - one], queue, config.temperature))
            self._enqueue(keys[1 - one])
        return {'loss': sum(losses[1:], losses[0]) / 2}


class Stuck(MoCo):
    """Puts every step's keys in the same place."""

    def _enqueue(self, keys: Tensor) -> None:
        super()._enqueue(keys)
        self.get_buffer('place').zero_()


class Backwards(MoCo):
    """Takes the keys in another order, so that the latest of a step leave first."""

    def _enqueue(self, keys: Tensor) -> None:
        super()._enqueue(keys.flip(0))


@pytest.mark.parametrize('trap', [Between, Stuck, Backwards])
def test_the_comparison_with_lightly_sees_the_traps(trap: type[MoCo]) -> None:
    with pytest.raises(AssertionError):
        agrees_with_lightly(small(trap))


def test_between_the_halves_the_second_one_meets_its_own_positives() -> None:
    images = scene(4)
    with torch.no_grad():
        losses = [float(small(kind, queue=256, temperature=0.02)(
            {'images': images}, torch.Generator().manual_seed(0))['loss'])
            for kind in (MoCo, Between)]
    assert losses[1] > losses[0] + 0.1


@pytest.mark.parametrize(('queue', 'batches'), [
    (10, [4, 4, 4, 4]), (5, [4, 4, 1, 3]), (7, [1, 2, 3, 4, 5, 6])])
def test_a_queue_that_batches_do_not_fill_evenly_drops_the_oldest(
        queue: int, batches: list[int]) -> None:
    # Lightly's drops the newest keys there, which do not fit behind the others.
    objective = small(queue=queue)
    oldest_first: deque[Tensor] = deque(objective.get_buffer('queue').clone(), maxlen=queue)
    for number, count in enumerate(batches):
        before = torch.stack(list(oldest_first))
        parts, queries, keys = spied(objective, scene(count, number), number)
        halves, found = queries.chunk(2), keys.chunk(2)
        expected = sum(queue_nce(halves[one], found[1 - one], before, 0.1) for one in range(2)) / 2
        torch.testing.assert_close(parts['loss'], expected, rtol=1e-5, atol=1e-5)
        oldest_first.extend(functional.normalize(keys, dim=1))
        known = objective.get_buffer('queue')
        for row in oldest_first:
            assert bool(((known - row).abs().amax(dim=1) < 1e-6).any())


def test_in_evaluation_the_queue_takes_nothing() -> None:
    objective = small().eval()
    before = objective.get_buffer('queue').clone()
    spied(objective, scene(4))
    assert torch.equal(objective.get_buffer('queue'), before)


def as_it_is(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Take rows of the queue for unit rows, which they are not."""
    anchors = unit(queries)
    positive = (anchors * unit(keys).detach()).sum(dim=1, keepdim=True)
    logits = torch.cat([positive, anchors @ queue.T], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def test_the_queue_begins_with_unit_rows_and_a_loss_near_ln_k() -> None:
    objective = small(queue=2048, projection=64)
    queue = objective.get_buffer('queue')
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(2048))
    # Before anything was learned, key and query have no more in common than with the queue.
    drawn = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    level = math.log(2049)
    assert abs(float(queue_nce(*drawn, queue, 0.1)) - level) < 1.0
    assert abs(float(queue_nce(*drawn, queue, 1.0)) - level) < 0.05
    loud = torch.randn(queue.shape, generator=torch.Generator().manual_seed(1))
    assert float(as_it_is(*drawn, loud, 0.1)) > 2 * level
    # Ours takes the length off, too: a queue that came from elsewhere does no harm.
    torch.testing.assert_close(
        queue_nce(*drawn, loud, 0.1), queue_nce(*drawn, unit(loud), 0.1), rtol=1e-6, atol=1e-6)


def losses_of(objective: MoCo) -> list[float]:
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    return [float(step(objective, optimiser, scene(8, number), number)['loss'].detach())
            for number in range(24)]


def test_a_queue_that_is_not_normalised_sticks_above_ln_k(
        monkeypatch: pytest.MonkeyPatch) -> None:
    level = math.log(4097)
    assert max(losses_of(small(queue=4096, projection=32))) < 0.7 * level
    stuck = small(queue=4096, projection=32)
    stuck.get_buffer('queue').normal_(generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(moco, 'queue_nce', as_it_is)
    assert min(losses_of(stuck)) > level


# -- the key encoder ----------------------------------------------------------------------


def teacher_follows(objective: MoCo, follow: Callable[[MoCo], None] = MoCo.end_step) -> None:
    """See that each weight moved by (1 − m) of the way to where the optimiser put it."""
    optimiser = torch.optim.SGD(objective.parameters(), lr=0.5)
    before = {name: value.clone() for name, value in objective.teacher.state_dict().items()}
    objective({'images': scene(4)}, torch.Generator().manual_seed(0))['loss'].backward()
    optimiser.step()
    follow(objective)
    students = nn.ModuleList([objective.encoder, objective.projection]).state_dict()
    moved = 0
    for name, value in objective.teacher.state_dict().items():
        student = students[name.removeprefix('copies.')].double()
        wanted = 0.9 * before[name].double() + 0.1 * student
        torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-7)
        moved += int(not torch.equal(value, before[name]))
    assert moved > 10


def test_the_teacher_moves_by_exactly_one_minus_the_momentum() -> None:
    teacher_follows(small())


@pytest.mark.parametrize('trap', [
    lambda objective: None,
    lambda objective: [objective.end_step() for _ in range(2)],
    lambda objective: objective.teacher.follow(
        [objective.encoder, objective.projection], 1 - objective.config.momentum),
    lambda objective: objective.teacher.copies[0].load_state_dict(
        objective.encoder.state_dict()),
], ids=['it stands still', 'twice', 'the momentum is the other way round', 'it is the student'])
def test_the_check_of_the_teacher_sees_the_traps(trap: Callable[[MoCo], None]) -> None:
    with pytest.raises(AssertionError):
        teacher_follows(small(), trap)


def leaves_keys_alone(objective: MoCo) -> None:
    """See that weights get the gradient that the queries give them, and no other."""
    parts, queries, keys = spied(objective, scene(4))
    assert not keys.requires_grad
    parameters = [*objective.encoder.parameters(), *objective.projection.parameters()]
    found = torch.autograd.grad(parts['loss'], parameters, retain_graph=True, allow_unused=True)
    slope, = torch.autograd.grad(parts['loss'], queries, retain_graph=True)
    wanted = torch.autograd.grad(
        queries, parameters, slope, retain_graph=True, allow_unused=True)
    for one, two in zip(found, wanted, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)
    parts['loss'].backward()
    teacher = list(objective.teacher.parameters())
    assert len(teacher) > 10
    assert all(value.grad is None and not value.requires_grad for value in teacher)


def test_no_gradient_flows_into_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves_keys_alone(small())

    def with_slope(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
        logits = torch.cat([(unit(queries) * unit(keys)).sum(dim=1, keepdim=True),
                            unit(queries) @ queue.T], dim=1) / temperature
        return functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))

    objective = small()
    objective.teacher.requires_grad_(True)
    bare: Any = MoCo._keys
    monkeypatch.setattr(MoCo, '_keys', bare.__wrapped__)
    monkeypatch.setattr(moco, 'queue_nce', with_slope)
    with pytest.raises(AssertionError):
        leaves_keys_alone(objective)


def others_do_not_matter(objective: MoCo, leaky: bool = False) -> None:
    """See that a sample's key is the same among other samples, in any order."""
    objective.train()
    if leaky:
        objective.teacher.copies.train()
    images = scene(6, size=64).float()
    order = torch.tensor([0, 4, 2, 5, 1, 3])
    with torch.no_grad():
        keys = objective._keys(images)
        torch.testing.assert_close(objective._keys(images[order]), keys[order],
                                   rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(objective._keys(images[:2]), keys[:2], rtol=1e-4, atol=1e-5)
        among = torch.cat([images[:1], 255.0 - scene(3, 9, size=64)])
        torch.testing.assert_close(objective._keys(among)[:1], keys[:1], rtol=1e-4, atol=1e-5)


def test_batch_normalisation_does_not_leak_through_the_teacher() -> None:
    backbone = VisionConfig(backbone='resnet18', readout='mean')
    objective = small(network=backbone, size=64)
    optimiser = torch.optim.SGD(objective.parameters(), lr=0.01)
    # So that statistics are not those of a network that has seen nothing.
    for number in range(2):
        step(objective, optimiser, scene(6, number, size=64), number)
    others_do_not_matter(objective)
    # Negative control: with statistics of the batch, the others can be read off a key.
    with pytest.raises(AssertionError):
        others_do_not_matter(objective, leaky=True)
    mean = 'copies.0.trunks.0.model.bn1.running_mean'
    assert bool((objective.teacher.state_dict()[mean] != 0).any()), 'statistics are followed'


def test_under_mixed_precision_the_loss_is_in_full_precision(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(objective: MoCo) -> None:
        queue = objective.get_buffer('queue').double()
        with torch.autocast('cpu', torch.bfloat16):
            parts, queries, keys = spied(objective, scene(16))
        assert parts['loss'].dtype == torch.float32
        halves, found = queries.double().chunk(2), keys.double().chunk(2)
        wanted = sum(queue_nce(halves[one], found[1 - one], queue, 0.1) for one in range(2)) / 2
        assert abs(float((parts['loss'] - wanted).detach())) < 1e-5

    exact(small())
    bare: Any = queue_nce
    monkeypatch.setattr(moco, 'queue_nce', bare.__wrapped__)
    with pytest.raises(AssertionError):
        exact(small())


@pytest.mark.parametrize(('changes', 'message'), [
    ({'queue': 0}, 'queue is 0, must be at least 1'),
    ({'temperature': float('nan')}, 'temperature is nan, must be above 0'),
    ({'momentum': 1.0}, 'momentum is 1.0, must be at least 0 and below 1'),
    ({'momentum': -0.1}, 'momentum is -0.1, must be at least 0'),
])
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
