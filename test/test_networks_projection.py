# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Projections, prototypes, and a batch computed in parts with the gradients of the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from ssl_vla_ros.networks import projection
from ssl_vla_ros.networks.projection import (
    check_parts, in_parts, mixes_samples, Projection, Prototypes)
import torch
from torch import nn, Tensor

Work = Callable[..., Tensor]


# -- heads --------------------------------------------------------------------------------


@pytest.mark.parametrize('layers', [1, 2, 3])
def test_a_projection_has_as_many_layers_as_asked_and_keeps_samples_apart(layers: int) -> None:
    head = Projection(6, 8, 4, layers)
    assert sum(isinstance(part, nn.Linear) for part in head) == layers
    assert isinstance(head[-1], nn.Linear), 'the last one is bare'
    rows = torch.randn(5, 6)
    assert head(rows).shape == (5, 4)
    torch.testing.assert_close(head(rows)[:2], head(rows[:2]))
    assert not mixes_samples(head)


@pytest.mark.parametrize(('sizes', 'message'), [
    ((4, 0, 2), 'hidden of a projection is 0'), ((4, 2, 0), 'out of a projection is 0'),
    ((4, 2, 2, 0), 'layers of a projection is 0')])
def test_sizes_that_cannot_be_are_refused(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Projection(*sizes)


def are_cosines(head: Prototypes, autocast: bool) -> None:
    rows = torch.randn(7, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        found = head(rows)
        short = head.layers(rows).double()
    assert found.dtype == torch.float32
    one = short / short.norm(dim=1, keepdim=True)
    two = head.prototypes.double() / head.prototypes.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(found.double(), one @ two.T, rtol=0, atol=1e-6)


def test_prototypes_give_cosines_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head = Prototypes(6, 8, 4, 9)
    are_cosines(head, False)
    are_cosines(head, True)

    def bare(self: Prototypes, features: Tensor) -> Tensor:
        rows = nn.functional.normalize(self.layers(features).float(), dim=-1)
        return rows @ nn.functional.normalize(self.prototypes.float(), dim=-1).T

    monkeypatch.setattr(Prototypes, 'forward', bare)
    with pytest.raises(AssertionError):
        are_cosines(head, True)
    with pytest.raises(ValueError, match='prototypes is 1, must be at least 2'):
        Prototypes(6, 8, 4, 1)


# -- parts --------------------------------------------------------------------------------


def network(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), *layers, nn.GELU(), nn.Linear(16, 16), nn.GELU(),
                         nn.Linear(16, 3)).double()


def contrast(rows: Tensor) -> Tensor:
    """Every sample meets every other: no sum over samples, so parts of it are another loss."""
    unit = nn.functional.normalize(rows, dim=1)
    return (unit @ unit.T / 0.1).logsumexp(dim=1).mean()


def gradients(module: nn.Module, work: Work, size: int, rows: Tensor) -> list[Tensor]:
    module.zero_grad()
    given = rows.clone().requires_grad_()
    torch.manual_seed(7)
    contrast(in_parts(work, size, given)).backward()
    found = [given.grad, *(value.grad for value in module.parameters())]
    assert all(value is not None for value in found)
    return [value.clone() for value in found if value is not None]


ROWS = torch.randn(11, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize('size', [1, 4, 10, 11, 50])
def test_gradients_are_those_of_the_whole_batch(size: int) -> None:
    module = network(nn.LayerNorm(16))
    whole = gradients(module, module, 0, ROWS)
    for one, two in zip(gradients(module, module, size, ROWS), whole, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def kept(work: Work, size: int, rows: Tensor) -> int:
    numbers: list[int] = []

    def pack(value: Tensor) -> Tensor:
        numbers.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        in_parts(work, size, rows)
    return sum(numbers)


def test_activations_of_one_part_alone_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    module = network(nn.LayerNorm(16))
    rows = ROWS.repeat(20, 1)
    much = kept(module, 0, rows)
    assert kept(module, 10, rows) < 0.15 * much
    with torch.no_grad():
        torch.testing.assert_close(in_parts(module, 10, rows), module(rows))
        assert kept(module, 10, rows) == 0
    monkeypatch.setattr(projection, 'checkpoint', lambda work, *rows, **settings: work(*rows))
    assert kept(module, 10, rows) > 0.9 * much


def same_numbers_again() -> None:
    """See that what is left out at random is the same when a part is computed again."""
    module = network(nn.Dropout(0.5)).train()
    found = gradients(module, module, 4, ROWS)
    module.zero_grad()
    given = ROWS.clone().requires_grad_()
    torch.manual_seed(7)
    contrast(torch.cat([module(part) for part in given.split(4)])).backward()
    for one, two in zip(found, (given.grad, *(value.grad for value in module.parameters())),
                        strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


def test_a_part_is_computed_again_with_the_same_random_numbers(
        monkeypatch: pytest.MonkeyPatch) -> None:
    same_numbers_again()
    monkeypatch.setattr(projection, 'checkpoint',
                        partial(projection.checkpoint, preserve_rng_state=False))
    with pytest.raises(AssertionError):
        same_numbers_again()


def test_several_inputs_are_cut_alike() -> None:
    other = 2.0 * ROWS
    found = in_parts(lambda one, two: one + two, 3, ROWS, other)
    assert torch.equal(found, 3.0 * ROWS)


def test_in_mixed_precision_parts_are_computed_again_as_they_were() -> None:
    module = network(nn.LayerNorm(16)).float()
    rows = ROWS.float()
    found = []
    for size in (0, 4):
        module.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            loss = contrast(in_parts(module, size, rows).float())
        loss.backward()
        found.append([value.grad.clone() for value in module.parameters()
                      if value.grad is not None])
    for one, two in zip(*found, strict=True):
        # Sums over parts are rounded at other places.
        torch.testing.assert_close(one, two, rtol=0.05, atol=0.02 * float(two.abs().max()))


# -- what cannot be computed in parts -----------------------------------------------------


@pytest.mark.parametrize('layer', [nn.BatchNorm1d(16), nn.SyncBatchNorm(16)])
def test_batch_normalisation_is_refused_in_parts(layer: nn.Module) -> None:
    module = network(layer)
    assert mixes_samples(module)
    with pytest.raises(ValueError, match='chunk is 4, but network.backbone has batch normalis'):
        check_parts(4, module)
    check_parts(0, module)
    check_parts(4)
    check_parts(4, network(nn.LayerNorm(16)))
    check_parts(4, network(nn.GroupNorm(4, 16)))


def test_why_batch_normalisation_is_refused_in_parts() -> None:
    whole, parts = network(nn.BatchNorm1d(16)).train(), network(nn.BatchNorm1d(16)).train()
    wanted = gradients(whole, whole, 0, ROWS)
    found = gradients(parts, parts, 6, ROWS)
    assert not torch.allclose(wanted[1], found[1], rtol=1e-2)
    # Two parts, each of them twice.
    assert [int(module.get_buffer('1.num_batches_tracked')) for module in (whole, parts)] == [1, 4]


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match='chunk is -1, must be at least 0'):
        in_parts(network(), -1, ROWS)
