# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Noise on what only robots have: from a seed, of the asked size, and never on padding."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.robot import action_noise, gaussian_noise, mirrored
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


def test_actions_get_noise_where_they_are_valid_alone() -> None:
    actions = torch.randn(5, 8, 7, generator=generator(0))
    valid = torch.arange(8) < torch.tensor([8, 5, 1, 0, 7])[:, None]
    noisy = action_noise(actions, 0.1, generator(1), valid)
    assert torch.equal(noisy[~valid], actions[~valid])
    assert bool((noisy[valid] != actions[valid]).all())
    # Without the mask padding does get noise: the two checks above can fail.
    careless = action_noise(actions, 0.1, generator(1))
    assert bool((careless[~valid] != actions[~valid]).all())
    assert torch.equal(careless[valid], noisy[valid]), 'the mask changes no draw'


def test_noise_has_the_asked_size_and_none_draws_nothing() -> None:
    actions = torch.zeros(100, 20, 7)
    noisy = action_noise(actions, 0.25, generator(1))
    assert float(noisy.std()) == pytest.approx(0.25, rel=0.02)
    untouched = generator(3)
    assert action_noise(actions, 0.0, untouched) is actions
    assert torch.equal(untouched.get_state(), generator(3).get_state())


@pytest.mark.parametrize(('sigma', 'valid', 'words'), [
    (-0.1, None, 'sigma is -0.1, must be at least 0'),
    (float('nan'), None, 'sigma is nan'),
    (float('inf'), None, 'sigma is inf'),
    (0.1, torch.ones(2, 4, dtype=torch.bool), r'must be bool \(2, 3\)'),
    (0.1, torch.ones(2, 3), 'valid is torch.float32')])
def test_noise_that_cannot_be_is_refused(
        sigma: float, valid: torch.Tensor | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        action_noise(torch.zeros(2, 3, 4), sigma, generator(0), valid)


def test_values_of_mirrored_samples_change_the_signs_that_a_mirror_changes() -> None:
    values = torch.randn(3, 4, 2, generator=generator(0))
    flipped = torch.tensor([True, False, True])
    signs = torch.tensor([1.0, -1.0])
    found = mirrored(values, signs, flipped)
    assert torch.equal(found[1], values[1])
    assert torch.equal(found[..., 0], values[..., 0])
    assert torch.equal(found[flipped][..., 1], -values[flipped][..., 1])
    assert torch.equal(mirrored(found, signs, flipped), values), 'twice is not at all'
    assert mirrored(values[:, 0], signs.int(), flipped).shape == (3, 2)


@pytest.mark.parametrize(('signs', 'flipped', 'words'), [
    (torch.ones(3), torch.ones(3, dtype=torch.bool), 'do not fit together'),
    (torch.ones(2), torch.ones(2, dtype=torch.bool), 'do not fit together'),
    (torch.tensor([1.0, 0.5]), torch.ones(3, dtype=torch.bool), 'each must be 1 or -1')])
def test_signs_that_cannot_be_are_refused(
        signs: torch.Tensor, flipped: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mirrored(torch.zeros(3, 4, 2), signs, flipped)
