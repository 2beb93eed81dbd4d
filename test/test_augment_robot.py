# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Noise on what only robots have: from a seed, of the asked size, and never on padding."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.robot import gaussian_noise
import torch


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_padding_stays_as_it_is() -> None:
    values = torch.randn(4, 6, 3, generator=generator(0))
    padding = torch.zeros(4, 6, dtype=torch.bool)
    padding[1, 4:] = True
    padding[3] = True
    noisy = gaussian_noise(values, 0.5, generator(1), padding)
    assert torch.equal(noisy[padding], values[padding])
    assert bool((noisy[~padding] != values[~padding]).all())


def test_padding_changes_nothing_elsewhere() -> None:
    values, padding = torch.zeros(2, 3, 2), torch.zeros(2, 3, dtype=torch.bool)
    padding[0, 0] = True
    plain = gaussian_noise(values, 1.0, generator(1))
    padded = gaussian_noise(values, 1.0, generator(1), padding)
    assert torch.equal(plain[~padding], padded[~padding])


def test_size_seed_and_independence() -> None:
    values = torch.zeros(200, 10, 5)
    noisy = gaussian_noise(values, 0.3, generator(2))
    assert float(noisy.std()) == pytest.approx(0.3, rel=0.02)
    assert torch.equal(noisy, gaussian_noise(values, 0.3, generator(2)))
    assert not torch.equal(noisy, gaussian_noise(values, 0.3, generator(3)))
    assert len(noisy.flatten().unique()) > 9900, 'each sample has noise of its own'
    assert torch.equal(values, torch.zeros(200, 10, 5)), 'the input is left alone'
    assert torch.equal(gaussian_noise(values, 0.0, generator(2)), values)
