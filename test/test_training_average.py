# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The average of weights keeps the statistics that belong to them, and nobody else's."""

from __future__ import annotations

from ssl_vla_ros.training.average import WeightAverage
import torch
from torch import nn, Tensor


class Moving(nn.Module):
    """A network whose weights grow at each step, and with them what its norm sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        nn.init.constant_(self.layer.weight, 0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.norm(self.layer(inputs))
        return found

    def grow(self, average: WeightAverage, steps: int = 300) -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            with torch.no_grad():
                self.layer.weight.mul_(1.05)
            self(torch.randn(64, 3, generator=generator) + 1.0)
            average.follow(self)

    def variance(self) -> Tensor:
        """Give a copy of what the norm divides by."""
        assert self.norm.running_var is not None
        return self.norm.running_var.clone()

    def spread(self) -> Tensor:
        """Give the deviation (4,) of what comes out; 1 is what the norm is for."""
        inputs = torch.randn(4096, 3, generator=torch.Generator().manual_seed(1)) + 1.0
        with torch.no_grad():
            return self.eval().forward(inputs).std(0)


def values(average: WeightAverage) -> dict[str, Tensor]:
    found = average.state()['values']
    assert isinstance(found, dict)
    return found


def test_an_average_normalises_what_its_own_weights_give() -> None:
    average, network = WeightAverage(0.99), Moving()
    network.grow(average)
    latest = network.variance()
    average.put_into(network)
    # The mean of squares is not the square of the mean: not 1, but near.
    assert ((network.spread() > 0.8) & (network.spread() < 1.2)).all()
    assert network.norm.num_batches_tracked == 300
    # Negative control: the averaged weights with the latest statistics.
    assert network.norm.running_var is not None
    network.norm.running_var.copy_(latest)
    assert (network.spread() < 0.6).all()


def test_statistics_come_back_from_a_checkpoint() -> None:
    average, again, network = WeightAverage(0.99), WeightAverage(0.99), Moving()
    network.grow(average)
    assert values(average).keys() == {
        'layer.weight', 'norm.weight', 'norm.bias', 'norm.running_mean', 'norm.running_var'}
    again.load(average.state())
    before = values(again)['norm.running_var'].clone()
    network.norm.reset_running_stats()
    average.follow(network)
    again.follow(network)
    assert average.state()['steps'] == again.state()['steps'] == 301
    for name, value in values(average).items():
        assert torch.equal(value, values(again)[name])
    assert not torch.equal(before, values(again)['norm.running_var'])


def test_frozen_layers_and_other_buffers_are_left_alone() -> None:
    network = nn.ModuleDict({
        'student': nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)),
        'teacher': nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)),
        'old': nn.BatchNorm1d(2)})
    network['teacher'].requires_grad_(False)
    network['old'].requires_grad_(False)
    network.register_buffer('queue', torch.zeros(5))
    average = WeightAverage(0.5)
    average.follow(network)
    assert values(average).keys() == {
        'student.0.weight', 'student.0.bias', 'student.1.running_mean', 'student.1.running_var'}


def test_a_lone_norm_has_statistics_too() -> None:
    layer = nn.BatchNorm1d(2, affine=False)
    average = WeightAverage(0.5)
    average.follow(layer)
    assert not values(average), 'nothing of it is trained'
    layer = nn.BatchNorm1d(2)
    average.follow(layer)
    assert values(average).keys() == {
        'weight', 'bias', 'running_mean', 'running_var'}
