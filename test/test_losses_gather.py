# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses over two processes: the same value and gradients as one process with all rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ssl_vla_ros.losses.contrastive import nt_xent, paired_nce
from ssl_vla_ros.losses.distillation import koleo, sinkhorn_assignments
from ssl_vla_ros.losses.gather import gather_rows, world
from ssl_vla_ros.losses.joint_embedding import sketched_gaussian
from ssl_vla_ros.losses.temporal import future_nce
import torch
from torch import distributed, multiprocessing, nn, Tensor

ROWS, SIZE = 6, 8


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(SIZE, SIZE).double()


def rows() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, 2 * ROWS, SIZE, generator=generator, dtype=torch.float64)
    return first, second


TOLD = torch.arange(2 * ROWS) % 5     # instructions that repeat across processes


#: Directions differ between processes, as each draws its own; the first one's count.
DIRECTIONS = torch.randn(2, SIZE, 5, generator=torch.Generator().manual_seed(7),
                         dtype=torch.float64)
LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor, bool], Tensor]] = {
    'nt_xent': lambda one, two, told, gather: nt_xent(one, two, 0.1, gather=gather),
    'pairs': lambda one, two, told, gather: paired_nce(one, two, 10.0, gather=gather),
    'same': lambda one, two, told, gather: paired_nce(one, two, 10.0, told, gather=gather),
    'future': lambda one, two, told, gather: future_nce(
        one.unflatten(0, (-1, 3)), two.unflatten(0, (-1, 3)), 0.1, gather=gather),
    'koleo': lambda one, two, told, gather: koleo(one, gather=gather),
    'gaussian': lambda one, two, told, gather: sketched_gaussian(
        one, DIRECTIONS[world()[0]], gather=gather),
}


def work(rank: int, folder: str, gather: bool) -> None:
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    try:
        own = slice(rank * ROWS, (rank + 1) * ROWS)
        first, second = rows()
        found: dict[str, Any] = {'rank': world()[0]}
        for which, loss_of in LOSSES.items():
            model = network()
            loss = loss_of(model(first[own]), model(second[own]), TOLD[own], gather)
            loss.backward()
            for name, parameter in model.named_parameters():
                # A shift of all rows leaves some losses as they are.
                gradient = (torch.zeros_like(parameter) if parameter.grad is None
                            else parameter.grad)
                distributed.all_reduce(gradient)         # as DDP: the mean over processes
                found[f'{which} {name}'] = gradient / 2
            total = loss.detach().clone()
            distributed.all_reduce(total)
            found[which] = total / 2
        # Autograd hands both terms of a sum the very same gradient.
        lent = torch.zeros(4, requires_grad=True)
        other = torch.zeros(2, requires_grad=True)
        (lent * 1.0 + gather_rows(other)).backward(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        found['lent'] = lent.grad
        found['plan'] = sinkhorn_assignments(first[own], 0.5)
        try:
            gather_rows(first[:ROWS + rank])
        except ValueError as error:
            found['error'] = str(error)
        torch.save(found, f'{folder}/{rank}.pt')
    finally:
        distributed.destroy_process_group()


def of_two_processes(folder: Path, gather: bool) -> list[dict[str, Any]]:
    multiprocessing.spawn(work, (str(folder), gather), nprocs=2)
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(2)]


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    first, second = rows()
    found = of_two_processes(tmp_path, True)
    assert [item['rank'] for item in found] == [0, 1]
    for which, loss_of in LOSSES.items():
        model = network()
        whole = loss_of(model(first), model(second), TOLD, False)
        whole.backward()
        for item in found:
            torch.testing.assert_close(item[which], whole.detach(), rtol=1e-12, atol=1e-12)
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(
                    item[f'{which} {name}'], parameter.grad, rtol=1e-9, atol=1e-11)
    for item in found:
        assert item['error'] == (
            'processes hold [6, 7] rows; each must hold as many as the others')
        # The gradient that others hold, too, is left as it was.
        assert item['lent'].tolist() == [1.0, 2.0, 3.0, 4.0]
    plan = torch.cat([item['plan'] for item in found])
    torch.testing.assert_close(plan, sinkhorn_assignments(first, 0.5), rtol=1e-10, atol=1e-12)


def test_without_gathering_the_comparison_fails(tmp_path: Path) -> None:
    first, second = rows()
    found = of_two_processes(tmp_path, False)
    for which, loss_of in LOSSES.items():
        model = network()
        loss_of(model(first), model(second), TOLD, False).backward()
        gradient = model.weight.grad
        assert gradient is not None
        with pytest.raises(AssertionError):
            torch.testing.assert_close(
                found[0][f'{which} weight'], gradient, rtol=1e-3, atol=1e-6)


def test_alone_nothing_is_gathered() -> None:
    first, second = rows()
    assert world() == (0, 1)
    assert gather_rows(first) is first
    for loss_of in LOSSES.values():
        assert float(loss_of(first, second, TOLD, True)) == float(
            loss_of(first, second, TOLD, False))
