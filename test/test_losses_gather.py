# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses over two processes: the same value and gradients as one process with all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ssl_vla_ros.losses.contrastive import nt_xent, paired_nce
from ssl_vla_ros.losses.distillation import sinkhorn_assignments
from ssl_vla_ros.losses.gather import gather_rows, world
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


def losses(first: Tensor, second: Tensor, told: Tensor, gather: bool) -> Tensor:
    return (nt_xent(first, second, 0.1, gather=gather)
            + paired_nce(first, second, 10.0, gather=gather)
            + paired_nce(first, second, 10.0, told, gather=gather))


def work(rank: int, folder: str, gather: bool) -> None:
    distributed.init_process_group(
        'gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    try:
        own = slice(rank * ROWS, (rank + 1) * ROWS)
        model, (first, second) = network(), rows()
        loss = losses(model(first[own]), model(second[own]), TOLD[own], gather)
        loss.backward()
        found: dict[str, Any] = {'rank': world()[0]}
        for name, parameter in model.named_parameters():
            gradient = parameter.grad
            assert gradient is not None
            distributed.all_reduce(gradient)             # as DDP: the mean over processes
            found[name] = gradient / 2
        total = loss.detach().clone()
        distributed.all_reduce(total)
        found['loss'] = total / 2
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
    model, (first, second) = network(), rows()
    whole = losses(model(first), model(second), TOLD, False)
    whole.backward()
    found = of_two_processes(tmp_path, True)
    assert [item['rank'] for item in found] == [0, 1]
    for item in found:
        torch.testing.assert_close(item['loss'], whole.detach(), rtol=1e-12, atol=1e-12)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(item[name], parameter.grad, rtol=1e-10, atol=1e-12)
        assert item['error'] == (
            'processes hold [6, 7] rows; each must hold as many as the others')
    plan = torch.cat([item['plan'] for item in found])
    torch.testing.assert_close(plan, sinkhorn_assignments(first, 0.5), rtol=1e-10, atol=1e-12)


def test_without_gathering_the_comparison_fails(tmp_path: Path) -> None:
    model, (first, second) = network(), rows()
    losses(model(first), model(second), TOLD, False).backward()
    found = of_two_processes(tmp_path, False)
    gradient = model.weight.grad
    assert gradient is not None
    with pytest.raises(AssertionError):
        torch.testing.assert_close(found[0]['weight'], gradient, rtol=1e-3, atol=1e-6)


def test_alone_nothing_is_gathered() -> None:
    first, second = rows()
    assert world() == (0, 1)
    assert gather_rows(first) is first
    assert float(losses(first, second, TOLD, True)) == float(losses(first, second, TOLD, False))
