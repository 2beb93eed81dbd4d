# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Colour jitter and blur, held against torchvision where it does the same."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.colour import (
    colour_jitter, gaussian_blur, grey, JitterConfig, random_grey)
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
import torch
from torch.nn import functional

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


def plain_jitter(images: torch.Tensor, config: JitterConfig, generator: torch.Generator
                 ) -> torch.Tensor:
    """Do one property after the other, as the definition has it, with the same four draws."""
    brightness, contrast, saturation, hue = (
        1.0 + strength * (2.0 * torch.rand(*images.shape[:-3], 1, 1, 1, generator=generator) - 1.0)
        for strength in (config.brightness, config.contrast, config.saturation, config.hue))
    found = images * brightness
    mean = grey(found).mean(dim=(-2, -1), keepdim=True)[..., None]
    found = mean + (found - mean) * contrast
    to_yiq = torch.tensor([(0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    to_yiq[1:] -= to_yiq[1:].mean(dim=1, keepdim=True)
    y, i, q = (found @ to_yiq.T).split(1, dim=-1)
    turn = (hue - 1.0) * 2.0 * torch.pi
    i, q = turn.cos() * i - turn.sin() * q, turn.sin() * i + turn.cos() * q
    mixed = torch.cat([y, saturation * i, saturation * q], dim=-1)
    return (mixed @ torch.linalg.inv(to_yiq).T).clamp(0.0, 255.0)


def plain_blur(images: torch.Tensor, sigmas: tuple[float, float], share: float,
               generator: torch.Generator) -> torch.Tensor:
    """Convolve each picture with its own square of weights, with the same two draws."""
    flat = images.flatten(0, -4)
    width, which = torch.rand(2, len(flat), generator=generator)
    reach = round(3.0 * sigmas[1])
    place = torch.arange(-reach, reach + 1.0)
    found = flat.clone()
    for number in (which < share).nonzero()[:, 0].tolist():
        sigma = sigmas[0] + (sigmas[1] - sigmas[0]) * width[number]
        line = (-place.square() / (2.0 * sigma.square())).exp()
        square = torch.outer(line, line) / line.sum().square()
        edged = functional.pad(
            flat[number].permute(2, 0, 1)[None], (reach,) * 4, mode='replicate')
        found[number] = functional.conv2d(
            edged, square.expand(3, 1, -1, -1), groups=3)[0].permute(1, 2, 0)
    return found.view(images.shape)


def test_jitter_and_blur_are_what_their_definitions_give() -> None:
    images = 255.0 * torch.rand(4, 3, 2, 21, 16, 3, generator=seeded(3))
    config = JitterConfig(0.6, 0.5, 0.7, 0.3)
    wanted = plain_jitter(images, config, seeded(1))
    torch.testing.assert_close(
        colour_jitter(images, config, seeded(1)), wanted, rtol=0, atol=1e-3)
    assert float((colour_jitter(images, config, seeded(2)) - wanted).abs().max()) > 50.0
    blurred = plain_blur(images, (0.1, 2.0), 0.5, seeded(1))
    torch.testing.assert_close(
        gaussian_blur(images, (0.1, 2.0), seeded(1), 0.5), blurred, rtol=0, atol=1e-3)
    assert float((gaussian_blur(images, (0.1, 2.0), seeded(2), 0.5) - blurred).abs().max()) > 20.0


def test_a_share_of_the_pictures_is_varied_and_the_others_keep_every_value() -> None:
    images = scene(40, 2)
    for change in (lambda share: colour_jitter(images, JitterConfig(), seeded(), share),
                   lambda share: random_grey(images, share, seeded()),
                   lambda share: gaussian_blur(images, (0.8, 2.0), seeded(), share)):
        same = (change(0.5) == images).flatten(2).all(dim=2)
        assert 20 < int(same.sum()) < 60, 'each picture is chosen for itself'
        assert bool((change(0.0) == images).all())
        assert not bool((change(1.0) == images).flatten(2).all(dim=2).any())


def test_a_grey_picture_has_its_brightness_in_every_colour() -> None:
    images = scene(3)
    found = random_grey(images, 1.0, seeded())
    torch.testing.assert_close(found, grey(images)[..., None].expand_as(images))
    with pytest.raises(ValueError, match='share is -0.1, must lie between 0 and 1'):
        random_grey(images, -0.1, seeded())


def test_pictures_along_an_axis_can_share_what_is_drawn() -> None:
    """(batch, T, cameras): with axis 1 shared, no frame differs from the next, cameras do."""
    frame = scene(6, 1, 2)
    still = frame.expand(-1, 4, -1, -1, -1, -1)
    for change in (lambda alike: colour_jitter(still, JitterConfig(), seeded(), 0.5, alike),
                   lambda alike: random_grey(still, 0.5, seeded(), alike),
                   lambda alike: gaussian_blur(still, (0.5, 2.0), seeded(), 0.5, alike)):
        shared, alone = change((1,)), change(())
        torch.testing.assert_close(shared, shared[:, :1].expand_as(shared), rtol=0, atol=1e-3)
        assert float((alone - alone[:, :1]).abs().max()) > 5.0, 'frames flicker without it'
        varied = (shared != still).flatten(3).any(dim=3)[:, 0]
        assert bool((varied[:, 0] != varied[:, 1]).any()), 'cameras are chosen apart'
    with pytest.raises(ValueError, match='alike is .3,., must name axes 0 to 2'):
        colour_jitter(still, JitterConfig(), seeded(), alike=(3,))


def test_contrast_that_is_shared_maps_a_colour_alike_whatever_else_a_frame_shows() -> None:
    """Something bright that comes into the picture must not make the table darker."""
    clip = scene(5, 2)
    clip[:, 1, 4:] = 255.0
    clip[:, 1, :4] = clip[:, 0, :4]
    config = JitterConfig(0.0, 0.6, 0.0, 0.0)
    shared = colour_jitter(clip, config, seeded(), alike=(1,))
    torch.testing.assert_close(shared[:, 0, :4], shared[:, 1, :4], rtol=0, atol=1e-3)
    alone = torch.stack([colour_jitter(clip[:, step], config, seeded()) for step in range(2)], 1)
    assert float((alone[:, 0, :4] - alone[:, 1, :4]).abs().max()) > 5.0


def test_mixed_precision_rounds_nothing() -> None:
    images = scene(4)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = [colour_jitter(images, JitterConfig(), seeded()),
                 gaussian_blur(images, (0.5, 2.0), seeded())]
        assert (images.flatten(1) @ images.flatten(1).T).dtype == torch.bfloat16
    plain = [colour_jitter(images, JitterConfig(), seeded()),
             gaussian_blur(images, (0.5, 2.0), seeded())]
    for one, other in zip(mixed, plain, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)
