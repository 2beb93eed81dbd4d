# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""SimCLR as a whole: its loss is lightly's, its bank is a queue, its parts are the whole batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.losses.contrastive import nt_xent
from ssl_vla_ros.networks import projection
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.trunk import patchify, PatchTransformer
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import simclr
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.simclr import SimCLR, SimCLRConfig
from ssl_vla_ros.training.train import train
from tiny_training import draw, SIZE, small_config, write_toy
import torch
from torch import nn, Tensor
from torch.nn import functional

# What the references import needs torchvision.
declare_missing_operators()

SHAPE = DataShape(1, SIZE, SIZE, 2, 2)
NETWORK = VisionConfig(vit=VitConfig(patch=8, channels=16, depth=1, heads=2))


def small(network: VisionConfig = NETWORK, **changes: Any) -> SimCLR:
    torch.manual_seed(0)
    encoder = VisionEncoder(1, SIZE, SIZE, 2, network)
    return SimCLR(SHAPE, SimCLRConfig(**{'hidden': 16, 'projection': 8, **changes}), encoder)


def scene(count: int, seed: int = 0) -> Tensor:
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2)).astype(np.float32)
    return torch.from_numpy(draw(positions))[:, None]


def once(objective: SimCLR, images: Tensor, seed: int = 1) -> tuple[dict[str, Tensor], Tensor]:
    """One forward pass, and what the projection gave: all first views, then all second ones."""
    found: list[Tensor] = []
    hook = objective.projection.register_forward_hook(
        lambda module, given, rows: found.append(rows))
    try:
        parts = objective({'images': images}, torch.Generator().manual_seed(seed))
    finally:
        hook.remove()
    return parts, found[0]


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures as float64, so that a network in double takes them."""
    monkeypatch.setattr(
        PatchTransformer, 'patches',
        lambda self, pictures: patchify(pictures.double() / 127.5 - 1.0, self.patch))


# -- the loss -----------------------------------------------------------------------------


def agrees_with_lightly(objective: SimCLR, images: Tensor) -> None:
    """See that loss and gradients are those of lightly on the projections of two views."""
    lightly = pytest.importorskip('lightly.loss')
    theirs = lightly.NTXentLoss(temperature=objective.config.temperature)
    parts, rows = once(objective, images)
    first, second = rows.chunk(2)
    assert not torch.allclose(first, second, atol=1e-3), 'two views, not one twice'
    reference = theirs(first, second)
    torch.testing.assert_close(parts['loss'], reference, rtol=1e-6, atol=1e-6)
    ours, others = (torch.autograd.grad(loss, rows, retain_graph=True)[0]
                    for loss in (parts['loss'], reference))
    torch.testing.assert_close(ours, others, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('temperature', [0.07, 0.5])
@pytest.mark.usefixtures('in_double')
def test_the_loss_is_lightly_s_on_the_projections_of_both_views(temperature: float) -> None:
    for count in (2, 9, 33):
        agrees_with_lightly(small(temperature=temperature).double(), scene(count))


def with_itself(first: Tensor, second: Tensor, temperature: float, **more: Any) -> Tensor:
    every = functional.normalize(torch.cat([first, second]), dim=1)
    return functional.cross_entropy(
        every @ every.T / temperature, torch.arange(len(every)).roll(len(first)))


@pytest.mark.parametrize('trap', [
    with_itself,
    lambda first, second, temperature, **more: nt_xent(first, second.roll(1, 0), temperature),
    lambda first, second, temperature, **more: nt_xent(first, first, temperature),
    lambda first, second, temperature, **more: nt_xent(
        *torch.cat([first, second]).unflatten(0, (-1, 2)).unbind(1), temperature),
], ids=['the pair of itself is left in', 'the label is one off', 'both views are one',
        'views are taken for samples'])
@pytest.mark.usefixtures('in_double')
def test_the_comparison_with_lightly_sees_the_traps(
        trap: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simclr, 'nt_xent', trap)
    with pytest.raises(AssertionError):
        agrees_with_lightly(small().double(), scene(8))


def is_exact_under_autocast(objective: SimCLR) -> None:
    with torch.autocast('cpu', torch.bfloat16):
        parts, rows = once(objective, scene(24))
    assert rows.dtype == torch.bfloat16, 'the network itself is in half precision'
    assert parts['loss'].dtype == torch.float32
    exact = nt_xent(*rows.double().chunk(2), objective.config.temperature)
    assert float((parts['loss'] - exact).detach().abs()) < 1e-5


def test_under_mixed_precision_the_loss_is_in_full_precision(
        monkeypatch: pytest.MonkeyPatch) -> None:
    is_exact_under_autocast(small(temperature=0.07))
    bare: Any = nt_xent
    monkeypatch.setattr(simclr, 'nt_xent', bare.__wrapped__)
    with pytest.raises(AssertionError):
        is_exact_under_autocast(small(temperature=0.07))


# -- what leaves training -----------------------------------------------------------------


@pytest.mark.filterwarnings('ignore:the encoder looks collapsed')
def test_what_is_probed_and_exported_is_the_encoder_not_the_projection(tmp_path: Path) -> None:
    write_toy(tmp_path / 'data')
    run = train(small_config('simclr', steps=2), tmp_path / 'data', tmp_path / 'run', quiet=True)
    encoder, objective = run.encoder(), run.objective()
    assert isinstance(encoder, VisionEncoder) and isinstance(objective, SimCLR)
    images = scene(3)
    with torch.no_grad():
        features = encoder(images)
        assert features.shape == (3, encoder.tokens, encoder.dim)
        assert torch.equal(features, objective.encoder(images))
        before = objective.projection(objective.encoder.rows(images))
        for parameter in objective.projection.parameters():
            parameter.add_(1.0)
        assert torch.equal(features, objective.encoder(images))
        # Negative control: what was probed after the projection would have moved.
        assert not torch.allclose(
            before, objective.projection(objective.encoder.rows(images)), atol=1e-2)


# -- gradient caching ---------------------------------------------------------------------


def gradients(objective: SimCLR, images: Tensor) -> list[Tensor]:
    objective.zero_grad()
    once(objective, images)[0]['loss'].backward()
    return [value.grad for value in objective.parameters() if value.grad is not None]


def kept(objective: SimCLR, images: Tensor) -> int:
    """Count the numbers that a forward pass keeps for the backward pass."""
    sizes: list[int] = []

    def pack(value: Tensor) -> Tensor:
        sizes.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        once(objective, images)
    return sum(sizes)


@pytest.mark.usefixtures('in_double')
def test_computed_in_parts_the_gradients_are_those_of_the_whole_and_less_is_kept(
        monkeypatch: pytest.MonkeyPatch) -> None:
    images = scene(9)
    whole = small().double()
    wanted, much = gradients(whole, images), kept(whole, images)
    for chunk in (1, 4, 18, 100):
        parts = small(chunk=chunk).double()
        found = gradients(parts, images)
        assert len(found) == len(wanted) > 10
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6 * float(two.abs().max()))
        assert (kept(parts, images) < 0.4 * much) == (chunk < 18)
    # Negative controls: parts that are not computed again keep as much, and a part on its own
    # is another loss.
    monkeypatch.setattr(projection, 'checkpoint',
                        lambda work, *rows, **settings: work(*rows))
    assert kept(small(chunk=4).double(), images) > 0.8 * much
    other = gradients(small().double(), images[:4])
    assert any(not torch.allclose(one, two, rtol=1e-3) for one, two in zip(
        other, wanted, strict=True))


def test_parts_are_refused_where_samples_see_each_other() -> None:
    backbone = VisionConfig(backbone='test_resnet', readout='mean')
    with pytest.raises(ValueError, match='chunk is 2, but network.backbone has batch normalisat'):
        small(backbone, chunk=2)
    small(backbone)
    small(VisionConfig(backbone='test_resnet', readout='mean', frozen=True), chunk=2)
    small(VisionConfig(backbone='test_convnext', readout='mean'), chunk=2)


# -- the memory bank ----------------------------------------------------------------------


def bank_is_a_queue(objective: SimCLR, batches: list[int]) -> None:
    """Compare the bank and the loss with a list that drops its oldest row."""
    size = objective.config.memory
    oldest_first: deque[Tensor] = deque(maxlen=size)
    for step, count in enumerate(batches):
        parts, rows = once(objective, scene(count, step), step)
        first, second = (functional.normalize(half, dim=1) for half in rows.detach().chunk(2))
        every = torch.cat([first, second, *(row[None] for row in oldest_first)])
        scores = torch.cat([first, second]) @ every.T / objective.config.temperature
        scores[range(2 * count), range(2 * count)] = -torch.inf
        expected = functional.cross_entropy(scores, torch.arange(2 * count).roll(count))
        torch.testing.assert_close(parts['loss'].detach(), expected, rtol=1e-5, atol=1e-5)
        choices = 2 * count - 1 + len(oldest_first)
        assert float(parts['simclr_chance']) == pytest.approx(np.log(choices))
        oldest_first.extend(first)
        known = functional.normalize(objective.get_buffer('memory'), dim=1)
        for row in oldest_first:
            assert bool(((known - row).abs().amax(dim=1) < 1e-6).any())


@pytest.mark.parametrize('batches', [[4, 4, 4, 4, 4], [2, 3, 6, 2, 7, 3], [9, 9, 2]])
def test_the_bank_holds_the_latest_embeddings_as_negatives(batches: list[int]) -> None:
    bank_is_a_queue(small(memory=7), batches)


def test_the_check_of_the_bank_sees_the_traps(monkeypatch: pytest.MonkeyPatch) -> None:
    def always_at_the_start(self: SimCLR, rows: Tensor) -> None:
        self.get_buffer('memory')[:len(rows)] = rows
        self.get_buffer('remembered').add_(len(rows))

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, '_remember', always_at_the_start)
        with pytest.raises(AssertionError):
            bank_is_a_queue(small(memory=7), [4, 4, 4])
    with monkeypatch.context() as patch:
        patch.setattr(simclr, 'nt_xent', lambda *given, bank, **more: nt_xent(*given, **more))
        with pytest.raises(AssertionError):
            bank_is_a_queue(small(memory=7), [4, 4, 4])
    untrained = small(memory=7).eval()
    once(untrained, scene(4))
    assert int(untrained.get_buffer('remembered')) == 0
    with pytest.raises(AssertionError):
        bank_is_a_queue(untrained, [4, 4, 4])


def test_no_gradient_flows_into_the_bank() -> None:
    objective = small(memory=6)
    for step in range(3):
        once(objective, scene(4, step))[0]['loss'].backward()
    assert not objective.get_buffer('memory').requires_grad
    assert objective.get_buffer('memory').grad_fn is None


# -- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(('changes', 'message'), [
    ({'temperature': 0.0}, 'temperature is 0.0, must be above 0'),
    ({'temperature': float('nan')}, 'temperature is nan, must be above 0'),
    ({'memory': -1}, 'memory is -1, must be at least 0'),
    ({'chunk': -1}, 'chunk is -1, must be at least 0'),
    ({'projection': 0}, 'out of a projection is 0, must be at least 1'),
])
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_the_projection_keeps_samples_apart() -> None:
    objective = small()
    assert not projection.mixes_samples(objective)
    rows = torch.randn(6, objective.encoder.row_width)
    alone = torch.cat([objective.projection(row[None]) for row in rows])
    torch.testing.assert_close(objective.projection(rows), alone, rtol=1e-5, atol=1e-6)
    # Negative control: with the papers' batch normalisation it would not.
    mixing = nn.Sequential(nn.Linear(rows.shape[1], 8), nn.BatchNorm1d(8))
    assert projection.mixes_samples(mixing)
    halves = torch.cat([mixing(half) for half in rows.chunk(2)])
    assert not torch.allclose(mixing(rows), halves, atol=1e-3)
