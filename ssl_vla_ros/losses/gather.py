# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of every process in one tensor, with gradients that are those of one large batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed, Tensor


def world() -> tuple[int, int]:
    """Rank of this process and how many there are; (0, 1) outside of a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


class _Gather(torch.autograd.Function):

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rank, size = world()
        ctx.first, ctx.count = rank * len(rows), len(rows)
        every = [torch.empty_like(rows) for _ in range(size)]
        distributed.all_gather(every, rows.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        # Every process's loss depends on these rows: what each found is added up.
        # In memory of its own: autograd may hand the same gradient to others.
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.first:ctx.first + ctx.count]


def gather_rows(rows: Tensor) -> Tensor:
    """
    Rows (n, …) of all processes, (processes · n, …), those of rank 0 first.

    Each process must give the same number. Where every process takes the mean loss over its own
    rows and gradients are averaged over processes (as DDP does), parameters get the gradient of
    the mean loss over all rows, exactly.

    Raises
    ------
    ValueError
        If the processes give different numbers of rows.

    """
    _, size = world()
    if size == 1:
        return rows
    counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(size)]
    distributed.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    found = [int(count) for count in counts]
    if len(set(found)) > 1:
        raise ValueError(f'processes hold {found} rows; each must hold as many as the others')
    gathered: Tensor = _Gather.apply(rows)  # type: ignore[no-untyped-call]
    return gathered
