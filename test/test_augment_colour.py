# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Colour jitter and blur, held against torchvision where it does the same."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.colour import colour_jitter, gaussian_blur, grey, JitterConfig
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
import torch

NOTHING = JitterConfig(0.0, 0.0, 0.0, 0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene(*lead: int, low: float = 60.0, high: float = 180.0) -> torch.Tensor:
    return low + (high - low) * torch.rand(*lead, 8, 10, 3, generator=seeded(9))


def test_without_strength_nothing_changes_and_a_seed_repeats_what_does() -> None:
    images = scene(3, 2)
    torch.testing.assert_close(
        colour_jitter(images, NOTHING, seeded()), images, rtol=0, atol=1e-3)
    one, two = (colour_jitter(images, JitterConfig(), seeded(4)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.allclose(one, colour_jitter(images, JitterConfig(), seeded(5)), atol=1.0)
    assert float(colour_jitter(images, JitterConfig(1.0, 1.0, 1.0, 0.5), seeded()).min()) >= 0.0
    assert float(colour_jitter(images, JitterConfig(1.0, 1.0, 1.0, 0.5), seeded()).max()) <= 255.0


@pytest.mark.parametrize(('name', 'theirs'), [
    ('brightness', 'adjust_brightness'), ('contrast', 'adjust_contrast'),
    ('saturation', 'adjust_saturation')])
def test_each_strength_is_torchvision_s(name: str, theirs: str) -> None:
    declare_missing_operators()
    functional = pytest.importorskip('torchvision.transforms.functional')
    images = scene(30)
    found = colour_jitter(images, JitterConfig(**{
        'brightness': 0.0, 'contrast': 0.0, 'saturation': 0.0, 'hue': 0.0, name: 0.3}), seeded())
    factors = []
    for one, other in zip(images, found, strict=True):
        still = grey(one)[..., None] if name == 'saturation' else (
            grey(one).mean() if name == 'contrast' else torch.zeros(()))
        factor = float(((other - still) * (one - still)).sum() / (one - still).square().sum())
        factors.append(factor)
        wanted = getattr(functional, theirs)(one.permute(2, 0, 1) / 255.0, factor)
        torch.testing.assert_close(
            other, 255.0 * wanted.permute(1, 2, 0), rtol=0, atol=0.6)
    assert min(factors) < 0.8 and max(factors) > 1.2
    assert min(factors) >= 0.699 and max(factors) <= 1.301


def test_hue_turns_colours_and_leaves_grey_and_brightness() -> None:
    images = scene(6)
    turned = colour_jitter(images, JitterConfig(0.0, 0.0, 0.0, 0.1), seeded())
    torch.testing.assert_close(grey(turned), grey(images), rtol=0, atol=0.05)
    assert float((turned - images).abs().max()) > 5.0
    plain = grey(images)[..., None].expand_as(images)
    torch.testing.assert_close(
        colour_jitter(plain, JitterConfig(0.0, 0.0, 0.4, 0.5), seeded()), plain, rtol=0, atol=0.05)


@pytest.mark.parametrize(('change', 'words'), [
    ({'contrast': -0.1}, 'contrast is -0.1'), ({'hue': 0.6}, 'hue is 0.6, must lie between 0')])
def test_strengths_that_cannot_be_are_named(change: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        colour_jitter(scene(1), JitterConfig(**change), seeded())


def test_a_blur_is_torchvision_s_each_picture_with_its_own_width() -> None:
    declare_missing_operators()
    functional = pytest.importorskip('torchvision.transforms.functional')
    images = torch.rand(2, 3, 24, 20, 3, generator=seeded(2)) * 255.0
    found = gaussian_blur(images, (0.7, 0.7), seeded())
    for one, other in zip(images.flatten(0, 1), found.flatten(0, 1), strict=True):
        wanted = functional.gaussian_blur(one.permute(2, 0, 1), [5, 5], [0.7, 0.7])
        inner = (slice(3, -3), slice(3, -3))         # torchvision mirrors the edge
        torch.testing.assert_close(
            other[inner], wanted.permute(1, 2, 0)[inner], rtol=0, atol=1.0)
    sharp = gaussian_blur(images, (0.1, 3.0), seeded()).flatten(0, 1).flatten(1).std(dim=1)
    assert len({round(float(value), 3) for value in sharp}) == 6
    assert torch.allclose(gaussian_blur(images, (1.0, 2.0), seeded(), share=0.0), images)
    even = torch.full((1, 8, 8, 3), 77.0)
    torch.testing.assert_close(gaussian_blur(even, (0.5, 2.0), seeded()), even)
    with pytest.raises(ValueError, match='must be above 0 and rising'):
        gaussian_blur(images, (2.0, 1.0), seeded())
