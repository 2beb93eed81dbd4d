# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Slow copies: exactly (1 − m) of the way, statistics too, and nothing back to the student."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ssl_vla_ros.networks.momentum import cosine_between, Momentum
import torch
from torch import nn, Tensor


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 3))


def trained(student: nn.Sequential, steps: int = 3) -> None:
    optimiser = torch.optim.SGD(student.parameters(), lr=0.5)
    for step in range(steps):
        rows = 3.0 + torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        student(rows).square().sum().backward()
        optimiser.step()


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def follows(step: Callable[[Momentum, nn.Module, float], None], momentum: float) -> None:
    """See that each weight and statistic went (1 − m) of the way, and counters all of it."""
    student = network()
    teacher = Momentum(student)
    trained(student)
    before, aim = state_of(teacher.copies[0]), state_of(student)
    step(teacher, student, momentum)
    for name, value in teacher.copies[0].state_dict().items():
        if value.is_floating_point():
            wanted = momentum * before[name].double() + (1 - momentum) * aim[name].double()
            torch.testing.assert_close(value.double(), wanted, rtol=1e-6, atol=1e-7)
            assert not torch.equal(before[name], aim[name]), name
        else:
            assert int(value) == int(aim[name]) == 3
    assert all(torch.equal(value, aim[name]) for name, value in student.state_dict().items())


@pytest.mark.parametrize('momentum', [0.0, 0.5, 0.99, 0.9999])
def test_every_weight_and_statistic_goes_1_minus_m_of_the_way(momentum: float) -> None:
    follows(lambda teacher, student, m: teacher.follow([student], m), momentum)


def of_parameters_alone(teacher: Momentum, student: nn.Module, momentum: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - momentum)


@pytest.mark.parametrize('trap', [
    lambda teacher, student, m: teacher.follow([student], 1.0 - m),
    lambda teacher, student, m: [teacher.follow([student], m) for _ in range(2)],
    lambda teacher, student, m: teacher.copies[0].load_state_dict(student.state_dict()),
    of_parameters_alone,
], ids=['the other way round', 'twice', 'a plain copy', 'statistics are left behind'])
def test_the_check_sees_the_traps(trap: Callable[[Momentum, nn.Module, float], None]) -> None:
    with pytest.raises(AssertionError):
        follows(trap, 0.9)


def test_copies_are_copies_without_gradients() -> None:
    student = network()
    teacher = Momentum(student, nn.Linear(3, 2))
    rows = torch.randn(5, 4)
    assert not any(value.requires_grad for value in teacher.parameters())
    assert all(value.requires_grad for value in student.parameters())
    shared = {value.data_ptr() for value in student.state_dict().values()}
    assert not shared & {value.data_ptr() for value in teacher.state_dict().values()}
    found = teacher.copies[1](teacher.copies[0](rows))
    assert not found.requires_grad


def test_samples_are_kept_apart_whatever_mode_the_objective_is_in() -> None:
    student = network()
    owner = nn.ModuleDict({'student': student, 'teacher': Momentum(student)}).train()
    teacher = owner['teacher']
    assert isinstance(teacher, Momentum)
    assert student.training and not any(part.training for part in teacher.modules())
    trained(student)
    teacher.follow([student], 0.5)
    rows = torch.randn(6, 4)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    slow = teacher.copies[0]
    torch.testing.assert_close(slow(rows)[order], slow(rows[order]))
    torch.testing.assert_close(slow(rows)[:2], slow(rows[:2]))
    # Negative control: the student, with the same layers, reads the others off the batch.
    assert not torch.allclose(student(rows)[:2], student(rows[:2]), atol=1e-3)
    # Statistics come by following alone, never from what the teacher sees.
    before = state_of(slow)
    slow(100.0 * rows)
    assert all(torch.equal(value, before[name]) for name, value in slow.state_dict().items())


def test_several_modules_follow_in_their_order() -> None:
    one, two = network(0), nn.Linear(2, 2)
    teacher = Momentum(one, two)
    with torch.no_grad():
        for value in (*one.parameters(), *two.parameters()):
            value.add_(1.0)
    before = state_of(teacher)
    teacher.follow([one, two], 0.75)
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value, before[name] + 0.25)
    with pytest.raises(ValueError):
        teacher.follow([one], 0.75)


@pytest.mark.parametrize('momentum', [1.0, -0.1, 1.5, float('nan')])
def test_a_momentum_that_cannot_be_is_refused(momentum: float) -> None:
    student = network()
    with pytest.raises(ValueError, match='must be at least 0 and below 1'):
        Momentum(student).follow([student], momentum)


def test_a_schedule_goes_along_half_a_cosine() -> None:
    assert cosine_between(0.9, 1.0, 0.0) == pytest.approx(0.9)
    assert cosine_between(0.9, 1.0, 0.5) == pytest.approx(0.95)
    assert cosine_between(0.9, 1.0, 1.0) == pytest.approx(1.0)
    assert cosine_between(0.9, 1.0, 7.0) == pytest.approx(1.0)
    rising = [cosine_between(0.9, 1.0, step / 20) for step in range(21)]
    assert rising == sorted(rising)
