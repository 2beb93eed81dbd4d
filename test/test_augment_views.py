# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Views: the single augmentations one after the other, each sample its own, clips as one."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from ssl_vla_ros.augment import planes
from ssl_vla_ros.augment.colour import colour_jitter, gaussian_blur, JitterConfig, random_grey
from ssl_vla_ros.augment.geometry import camera_shift, flip, random_resized_crop
from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.augment.views import resized_crops, view, ViewConfig
from ssl_vla_ros.errors import ConfigError
import torch

#: Nothing is done; tests switch single steps on.
OFF: dict[str, Any] = {
    'crop_smallest': 1.0, 'jitter_share': 0.0, 'grey_share': 0.0, 'blur_share': 0.0}
#: Everything is done, to every picture where a share says so.
ALL = ViewConfig(crop_smallest=0.5, flip_share=0.5, camera_shift=3, jitter_share=0.5,
                 grey_share=0.5, photometric_share=0.5)
HEIGHT, WIDTH = 18, 24


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*lead: int) -> torch.Tensor:
    return torch.randint(0, 256, (*lead, HEIGHT, WIDTH, 3), dtype=torch.uint8,
                         generator=seeded(9))


def still(samples: int, frames: int, cameras: int) -> torch.Tensor:
    """Give clips in which nothing moves."""
    return noise(samples, 1, cameras).expand(-1, frames, -1, -1, -1, -1).contiguous()


def test_a_view_is_the_single_steps_in_order() -> None:
    images, generator = noise(9, 3, 2), seeded(5)
    found = view(images, ALL, seeded(5))
    # Crop, mirror and shift are one pass there, and three here: mixing pixels comes first.
    wanted = random_resized_crop(images, 0.5, generator)
    wanted, flipped = flip(wanted, 0.5, generator)
    wanted = camera_shift(wanted, 3, generator)
    wanted = colour_jitter(wanted, JitterConfig(), generator, 0.5, alike=(1,))
    wanted = random_grey(wanted, 0.5, generator, alike=(1,))
    wanted = gaussian_blur(wanted, (0.1, 2.0), generator, 0.5, alike=(1,))
    wanted = photometric(wanted, PhotometricConfig(), generator, 0.5, alike=(1,))
    assert found.dtype == torch.float32 and found.shape == images.shape
    assert found.is_contiguous()
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)
    assert 0 < int(flipped.sum()) < 9
    assert not torch.allclose(found, view(images, ALL, seeded(6)), atol=1.0)


@pytest.mark.parametrize('lead', [(4,), (4, 2), (4, 3, 2)])
def test_a_seed_repeats_a_view_and_the_type_of_the_pictures_makes_no_difference(
        lead: tuple[int, ...]) -> None:
    images = noise(*lead)
    first = view(images, ALL, seeded(1))
    torch.manual_seed(123)  # the global generator plays no part
    assert torch.equal(first, view(images, ALL, seeded(1)))
    assert torch.equal(first, view(images.float(), ALL, seeded(1)))
    assert not torch.equal(first, view(images, ALL, seeded(2)))
    assert 0.0 <= float(first.min()) and float(first.max()) <= 255.0


def test_pictures_that_were_given_stay_as_they_were() -> None:
    images = noise(4).float()
    before = images.clone()
    view(images, ALL, seeded())
    view(images, ViewConfig(**{**OFF, 'blur_share': 1.0}), seeded())
    # Planes in memory, seen as pictures: nothing need be copied to work on them, but must be.
    strange = images.movedim(-1, -3).contiguous().movedim(-3, -1)
    view(strange, ViewConfig(**{**OFF, 'grey_share': 1.0}), seeded())
    gaussian_blur(strange, (1.0, 2.0), seeded())
    assert torch.equal(images, before)
    assert torch.equal(strange, before)


def test_with_everything_off_nothing_is_drawn_and_no_value_changes() -> None:
    images, generator = noise(3, 2), seeded(4)
    found = view(images, ViewConfig(**OFF), generator)
    assert torch.equal(found, images.float())
    assert torch.equal(generator.get_state(), seeded(4).get_state())
    real = images.float()
    assert view(real, ViewConfig(**OFF), generator).data_ptr() == real.data_ptr()
    weak = ViewConfig(**{**OFF, 'jitter_share': 1.0, 'jitter': JitterConfig(0, 0, 0, 0),
                         'photometric_share': 1.0, 'photometric': PhotometricConfig(0, 0, 0)})
    assert torch.equal(view(images, weak, generator), images.float())
    assert torch.equal(generator.get_state(), seeded(4).get_state())


@pytest.mark.parametrize(('change', 'moves'), [
    ({'crop_smallest': 0.5}, True), ({'flip_share': 1.0}, True), ({'camera_shift': 3}, True),
    ({'jitter_share': 1.0}, False), ({'grey_share': 1.0}, False), ({'blur_share': 1.0}, False),
    ({'photometric_share': 1.0}, False)])
def test_each_step_alone_changes_pictures_and_the_default_has_no_mirror(
        change: dict[str, Any], moves: bool) -> None:
    images = noise(6)
    found = view(images, ViewConfig(**{**OFF, **change}), seeded(2))
    assert not bool((found == images).flatten(1).all(dim=1).all())
    flat = torch.full_like(images, 90)
    flat[..., 2] = 140
    moved = view(flat, ViewConfig(**{**OFF, **change}), seeded(2))
    assert torch.allclose(moved, flat.float(), atol=1e-3) == (moves or 'blur_share' in change)
    assert ViewConfig().flip_share == 0.0 and ViewConfig().camera_shift == 0


@pytest.mark.parametrize('change', [
    {'crop_smallest': 0.5, 'camera_shift': 3, 'flip_share': 0.5}, {'jitter_share': 0.5},
    {'grey_share': 0.5}, {'blur_share': 0.5}])
def test_frames_of_a_clip_share_geometry_and_colour(change: dict[str, Any]) -> None:
    images, config = still(8, 4, 2), ViewConfig(**{**OFF, **change})
    clip = view(images, config, seeded())
    torch.testing.assert_close(clip, clip[:, :1].expand_as(clip), rtol=0, atol=1e-3)
    # The check can fail: taken as samples of their own, the same frames flicker and jump.
    alone = view(images.flatten(0, 1), config, seeded()).unflatten(0, (8, 4))
    assert float((alone - alone[:, :1]).abs().max()) > 20.0


def test_cameras_share_geometry_but_expose_on_their_own() -> None:
    images = noise(8, 1).expand(-1, 2, -1, -1, -1)
    moved = view(images, ViewConfig(**{**OFF, 'crop_smallest': 0.5}), seeded())
    assert torch.equal(moved[:, 0], moved[:, 1])
    assert float((moved - images).abs().max()) > 20.0
    for change in ({'jitter_share': 1.0}, {'blur_share': 1.0}, {'photometric_share': 1.0}):
        for seen in (view(images, ViewConfig(**{**OFF, **change}), seeded()),
                     view(images[:, None], ViewConfig(**{**OFF, **change}), seeded())[:, 0]):
            assert bool((seen[:, 0] != seen[:, 1]).flatten(1).any(dim=1).all())


def test_a_sample_s_view_does_not_depend_on_the_other_samples() -> None:
    images = noise(6, 2)
    other = images.clone()
    other[[0, 1, 2, 4, 5]] = 17
    config = dataclasses.replace(ALL, photometric_share=1.0)
    torch.testing.assert_close(view(images, config, seeded())[3], view(other, config, seeded())[3],
                               rtol=0, atol=1e-3)
    same = images[:1].expand(6, -1, -1, -1, -1)
    seen = view(same, ALL, seeded())
    assert all(not torch.allclose(seen[0], one, atol=1.0) for one in seen[1:])


def test_frames_in_another_order_give_the_same_views_in_that_order() -> None:
    images, config = noise(3, 5, 2), dataclasses.replace(ALL, photometric_share=0.0)
    order = [3, 0, 4, 2, 1]
    torch.testing.assert_close(
        view(images[:, order], config, seeded()), view(images, config, seeded())[:, order],
        rtol=0, atol=1e-3)


def test_how_many_samples_are_worked_on_at_a_time_changes_nothing(
        monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(7, 2)
    found = []
    for size in (1, 3 * images[0].numel(), 10 ** 9):
        monkeypatch.setattr(planes, '_AT_A_TIME', size)
        cut = list(planes.parts(7, images[0].numel(), images.device))
        assert len(cut) == {1: 7, 10 ** 9: 1}.get(size, 3)
        found.append((view(images, ALL, seeded()), random_resized_crop(images, 0.5, seeded())))
    for seen, cropped in found[1:]:
        torch.testing.assert_close(seen, found[0][0], rtol=0, atol=1e-3)
        assert torch.equal(cropped, found[0][1])


def test_mixed_precision_changes_no_view() -> None:
    images = noise(4)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = view(images, ALL, seeded())
    assert torch.equal(mixed, view(images, ALL, seeded()))


@pytest.mark.parametrize(('change', 'words'), [
    ({'crop_smallest': 0.0}, 'crop_smallest is 0.0, must be above 0 and at most 1'),
    ({'crop_smallest': 1.2}, 'crop_smallest is 1.2'),
    ({'crop_smallest': math.nan}, 'crop_smallest is nan'),
    ({'crop_longest_side': 0.5}, 'crop_longest_side is 0.5, must be at least 1 '),
    ({'crop_longest_side': math.inf}, 'crop_longest_side is inf'),
    ({'flip_share': 1.5}, 'flip_share is 1.5, must be at least 0 and at most 1'),
    ({'camera_shift': -1}, 'camera_shift is -1, must be at least 0'),
    ({'jitter_share': -0.1}, 'jitter_share is -0.1'),
    ({'grey_share': 2.0}, 'grey_share is 2.0'),
    ({'blur_share': math.nan}, 'blur_share is nan'),
    ({'blur_smallest': 0.0}, 'blur_smallest is 0.0, must be above 0'),
    ({'blur_largest': 0.05}, 'blur_largest is 0.05, must be at least 0.1'),
    ({'photometric_share': -1.0}, 'photometric_share is -1.0'),
    ({'jitter': JitterConfig(hue=0.6)}, 'jitter.hue is 0.6, must be at least 0 and at most 0.5'),
    ({'jitter': JitterConfig(contrast=-1.0)}, 'jitter.contrast is -1.0'),
    ({'photometric': PhotometricConfig(sensor_noise=-4.0)}, 'photometric.sensor_noise is -4.0')])
def test_a_setting_that_cannot_be_is_named_with_its_value(
        change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f'views: {words}'):
        ViewConfig(**change)


def test_pictures_and_shifts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match=r'camera_shift is 18, must be smaller .*18x24'):
        view(noise(2), ViewConfig(camera_shift=18), seeded())
    for wrong in (noise(2)[0], noise(2)[..., :2], noise(2, 1, 1, 1)):
        with pytest.raises(ValueError, match='pictures are'):
            view(wrong, ViewConfig(), seeded())


def ramps(*lead: int) -> torch.Tensor:
    """Give pictures whose red tells the row and whose green the column, from 0 to 1."""
    images = torch.zeros(*lead, 40, 60, 3)
    images[..., 0] = ((torch.arange(40) + 0.5) / 40)[:, None]
    images[..., 1] = (torch.arange(60) + 0.5) / 60
    return images


def test_crops_have_the_area_and_the_order_that_they_should() -> None:
    batch, count = 8, 25
    images = ramps(batch, 2)
    wanted = torch.arange(batch)[:, None] + torch.tensor([0.0, 0.5])
    images[..., 2] = wanted[..., None, None]
    found = resized_crops(images, count, 16, (0.1, 0.3), seeded())
    assert found.shape == (count * batch, 2, 16, 16, 3) and found.dtype == torch.float32
    owner = found[..., 2].mean(dim=(2, 3)).view(count, batch, 2)
    torch.testing.assert_close(owner, wanted.expand(count, -1, -1), rtol=0, atol=1e-4)
    assert torch.equal(found[:, 0, ..., :2], found[:, 1, ..., :2]), 'cameras are cut alike'
    tall = (found[:, 0, 12, 8, 0] - found[:, 0, 3, 8, 0]) * 16 / 9
    wide = (found[:, 0, 8, 12, 1] - found[:, 0, 8, 3, 1]) * 16 / 9
    area = tall * wide
    assert 0.095 < float(area.min()) < 0.12 and 0.28 < float(area.max()) < 0.305
    assert float((wide / tall).max()) > 1.2 and float((wide / tall).min()) < 0.85
    assert len(area.unique()) > 0.9 * len(area), 'every crop of a sample is its own'


def test_a_crop_of_everything_at_half_the_size_is_the_mean_of_four_pixels() -> None:
    images = 255.0 * torch.rand(2, 12, 12, 3, generator=seeded(3))
    found = resized_crops(images, 1, 6, (1.0, 1.0), seeded(), longest_side=1.0)
    wanted = images.unfold(1, 2, 2).unfold(2, 2, 2).mean(dim=(-2, -1))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize(('count', 'size', 'area', 'side', 'words'), [
    (0, 8, (0.1, 0.4), 1.3, 'count is 0 and size is 8'),
    (2, 0, (0.1, 0.4), 1.3, 'size is 0, both must be at least 1'),
    (2, 8, (0.0, 0.4), 1.3, r'area is \(0.0, 0.4\), must be above 0'),
    (2, 8, (0.5, 0.4), 1.3, 'rising'),
    (2, 8, (0.5, 1.4), 1.3, 'up to 1'),
    (2, 8, (0.1, 0.4), 0.5, 'longest_side is 0.5')])
def test_crops_that_cannot_be_are_refused(
        count: int, size: int, area: tuple[float, float], side: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        resized_crops(noise(2), count, size, area, seeded(), side)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no accelerator')
def test_an_accelerator_gives_views_too() -> None:
    images = noise(6, 3, 2).cuda()
    generator = torch.Generator('cuda').manual_seed(0)
    seen = view(images, ALL, generator)
    assert seen.device.type == 'cuda' and seen.shape == images.shape
    assert torch.equal(seen, view(images, ALL, torch.Generator('cuda').manual_seed(0)))
