# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""VideoMAE: tubes are hidden through all frames, and what is hidden stays hidden."""

from __future__ import annotations

from collections.abc import Callable
import dataclasses
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.losses.masked import normalised_patches, normalised_tubes
from ssl_vla_ros.networks.transformer import sincos_positions
from ssl_vla_ros.networks.tubes import TubeEncoder
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import videomae
from ssl_vla_ros.objectives.base import DataShape, Needs
from ssl_vla_ros.objectives.videomae import VideoMAE, videomae_needs, VideoMAEConfig
from tiny_training import draw, SIZE
import torch
from torch import Tensor

STILL = PhotometricConfig(0.0, 0.0, 0.0)
FRAMES, TUBES, GRID, CAMERAS = 6, 3, 16, 2
VALUES = 2 * 8 * 8 * 3


def made(backbone: VisionConfig | None = None, **changes: Any) -> VideoMAE:
    torch.manual_seed(0)
    encoder = VisionEncoder(CAMERAS, SIZE, SIZE, 2, backbone or VisionConfig(
        vit=VitConfig(8, 24, 2, 2)))
    settings = VideoMAEConfig(**{
        'frames': FRAMES, 'decoder_channels': 24, 'decoder_depth': 1, 'decoder_heads': 2,
        'photometric': STILL, **changes})
    return VideoMAE(DataShape(CAMERAS, SIZE, SIZE, 2, 2), settings, encoder)


def noise(count: int, frames: int = FRAMES) -> Tensor:
    """Clips (count, frames, cameras, …) without a flat patch."""
    return torch.randint(0, 256, (count, frames, CAMERAS, SIZE, SIZE, 3), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(0))


def moving(count: int, seed: int) -> Tensor:
    """Clips of a square that goes its way, in every camera another."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0.1, 0.6, (count, 1, CAMERAS, 2))
    way = rng.uniform(-0.02, 0.06, (count, 1, CAMERAS, 2)) * np.arange(FRAMES)[:, None, None]
    positions = np.clip(start + way, 0.0, 1.0).astype(np.float32)
    return torch.from_numpy(draw(positions.reshape(-1, 2))).view(
        count, FRAMES, CAMERAS, SIZE, SIZE, 3)


def dice(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kept_by(objective: VideoMAE, images: Tensor) -> Tensor:
    """Numbers (n, kept) of the tubes that the encoder sees in a step."""
    seen: list[Tensor] = []
    hook = objective.tubes.register_forward_pre_hook(lambda tubes, given: seen.append(given[1]))
    objective({'images': images}, dice())
    hook.remove()
    (keep,) = seen
    return keep


# -- the mask -----------------------------------------------------------------------------


def the_same_places_in_every_frame(objective: VideoMAE) -> None:
    keep = kept_by(objective, noise(4))
    for sample in keep.tolist():
        places = [{tube % GRID for tube in sample if tube // GRID == time}
                  for time in range(TUBES)]
        assert len(places[0]) == len(sample) / TUBES
        assert places[0] == places[1] == places[2]


def test_what_is_hidden_in_one_frame_is_hidden_in_all_of_them() -> None:
    the_same_places_in_every_frame(made(mask_ratio=0.75))


def test_the_check_of_tubes_sees_a_mask_for_each_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = dice(8)

    def each_frame(tubes: TubeEncoder, keep: Tensor) -> Tensor:
        order = torch.rand(len(keep), tubes.length, GRID, generator=generator).argsort(-1)
        offsets = GRID * torch.arange(tubes.length)[:, None]
        return (order[..., :keep.shape[1]] + offsets).flatten(1)
    monkeypatch.setattr(TubeEncoder, 'keep_of', each_frame)
    with pytest.raises(AssertionError):
        the_same_places_in_every_frame(made(mask_ratio=0.75))


def test_nine_tenths_are_hidden_unless_told_otherwise_as_many_in_every_sample() -> None:
    assert VideoMAEConfig().mask_ratio == 0.9
    keep = kept_by(made(), noise(4))
    assert keep.shape == (4 * CAMERAS, TUBES * 1), '1 of 16 places'
    assert kept_by(made(mask_ratio=0.75), noise(4)).shape == (4 * CAMERAS, TUBES * 4)
    assert len({tuple(sorted(sample)) for sample in keep.tolist()}) > 4


def test_hidden_tubes_change_the_target_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(videomae, 'masked_patch_mse', lambda drawn, target: (
        compared.append((drawn, target)), drawn.mean())[1])
    objective, images = made(mask_ratio=0.75), noise(3)
    keep = kept_by(objective, images)
    shown = torch.zeros(len(keep), TUBES * GRID, dtype=torch.bool).scatter(1, keep, True)
    pixels = shown.view(3, CAMERAS, TUBES, 4, 4).repeat_interleave(2, 2)
    pixels = pixels.repeat_interleave(8, 3).repeat_interleave(8, 4).transpose(1, 2)[..., None]
    for spoilt in (torch.where(pixels, images, 255 - images),
                   torch.where(pixels, 255 - images, images)):
        kept_by(objective, spoilt)
    (drawn, target), (hidden_drawn, hidden_target), (shown_drawn, shown_target) = compared
    assert drawn.shape == (3 * CAMERAS, TUBES * 12, VALUES)
    assert torch.equal(hidden_drawn, drawn) and not torch.allclose(hidden_target, target)
    assert torch.equal(shown_target, target)
    assert not torch.allclose(shown_drawn, drawn, atol=1e-4)


# -- places -------------------------------------------------------------------------------


def answers_differ(objective: VideoMAE) -> None:
    """See that every hidden tube is asked at a place of its own."""
    place = objective.get_buffer('position')
    apart = torch.cdist(place.double(), place.double()) + 100.0 * torch.eye(len(place))
    assert place.shape == (TUBES * GRID, 24)
    assert float(apart.min()) > 0.1


def test_the_decoder_is_asked_for_every_tube_at_a_place_of_its_own() -> None:
    answers_differ(made())


def test_the_check_of_places_sees_time_on_the_waves_of_the_rows() -> None:
    objective = made()
    time = sincos_positions(TUBES, 1, 24)
    wrong = (time[:, None] + sincos_positions(4, 4, 24)[None]).flatten(0, 1)
    objective.register_buffer('position', wrong, persistent=False)
    with pytest.raises(AssertionError):
        answers_differ(objective)
    # Tubes (time 1, row 2) and (time 2, row 1) of a column: a decoder draws the same for both.
    keep = torch.tensor([[0, 16, 32]] * CAMERAS)
    swapped = torch.tensor([[16 + 4 * 2 + 3, 32 + 4 * 1 + 3]] * CAMERAS)
    tokens = torch.randn(CAMERAS, 1 + 3, 24)
    with torch.no_grad():
        one, two = objective._draw(tokens, keep, swapped).unbind(1)
        assert torch.allclose(one, two, atol=1e-5)
        one, two = made()._draw(tokens, keep, swapped).unbind(1)
        assert not torch.allclose(one, two, atol=1e-3)


# -- the target ---------------------------------------------------------------------------


def targets_of(objective: VideoMAE, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    compared: list[Tensor] = []
    with monkeypatch.context() as patch:
        patch.setattr(videomae, 'masked_patch_mse', lambda drawn, target: (
            compared.append(target), drawn.mean())[1])
        objective({'images': images}, dice())
    return compared[0]


def each_colour_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, images = made(), noise(2)
    target = targets_of(objective, images, monkeypatch)
    keep = kept_by(objective, images)
    for sample in range(2 * CAMERAS):
        clip = images[sample // CAMERAS, :, sample % CAMERAS].double() / 127.5 - 1.0
        hidden = [tube for tube in range(TUBES * GRID) if tube not in keep[sample].tolist()]
        for number, tube in list(enumerate(hidden))[::7]:
            time, (row, column) = tube // GRID, divmod(tube % GRID, 4)
            values = clip[2 * time:2 * time + 2, 8 * row:8 * row + 8, 8 * column:8 * column + 8]
            wanted = torch.stack([
                (values[..., colour] - values[..., colour].mean())
                / (values[..., colour].std() + 1e-6) for colour in range(3)], dim=-1)
            torch.testing.assert_close(
                target[sample, number].double(), wanted.flatten(), rtol=1e-4, atol=1e-4)


def test_targets_are_normalised_for_each_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    each_colour_on_its_own(monkeypatch)


@pytest.mark.parametrize('wrong', [
    lambda tubes: normalised_patches(tubes.flatten(-2)).unflatten(-1, (-1, 3)),
    lambda tubes: normalised_tubes(tubes) * (127 / 128) ** -0.5])
def test_the_check_of_targets_sees_mae_s_and_the_biased_one(
        monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], Tensor]) -> None:
    monkeypatch.setattr(videomae, 'normalised_tubes', wrong)
    with pytest.raises(AssertionError):
        each_colour_on_its_own(monkeypatch)


def test_targets_as_they_are_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, images = made(normalise_tubes=False), noise(1)
    keep = kept_by(objective, images)
    patches = objective.tubes.patches(images.transpose(1, 2).flatten(0, 1)).flatten(1, 2)
    mask = torch.ones(CAMERAS, TUBES * GRID, dtype=torch.bool).scatter(1, keep, False)
    assert torch.equal(targets_of(objective, images, monkeypatch),
                       patches[mask].view(CAMERAS, -1, VALUES))


def test_drawing_nothing_costs_n_minus_1_over_n() -> None:
    objective = made()
    torch.nn.init.zeros_(objective.pixels.weight)
    torch.nn.init.zeros_(objective.pixels.bias)
    loss = objective({'images': noise(3)}, dice())['loss']
    # n: the pixels of one colour of a tube.
    assert float(loss.detach()) == pytest.approx(127 / 128, abs=1e-5)


def test_it_learns_to_draw_what_is_hidden() -> None:
    objective, images = made(mask_ratio=0.6), moving(48, 0)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    generator, losses = dice(0), []
    for _ in range(60):
        pick = torch.randint(0, len(images), (12,), generator=generator)
        loss = objective({'images': images[pick]}, generator)['loss']
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:3])
    change = objective.tubes.change.weight
    assert float(change.detach().abs().max()) > 1e-3, 'what moves was learned from, too'


# -- light --------------------------------------------------------------------------------


def test_all_frames_of_a_camera_s_clip_have_one_light(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = made(photometric=PhotometricConfig(0.3, 0.1, 0.0), normalise_tubes=False)
    grey = torch.full((5, FRAMES, CAMERAS, SIZE, SIZE, 3), 100, dtype=torch.uint8)
    seen = targets_of(objective, grey, monkeypatch).unflatten(-1, (2, -1, 3))
    of_clip = seen.flatten(1, 3)
    assert float((of_clip.amax(1) - of_clip.amin(1)).max()) < 1e-6
    # Cameras and samples have their own.
    assert len(of_clip[:, 0, 0].unique()) == 5 * CAMERAS


# -- what it needs ------------------------------------------------------------------------


def test_it_asks_for_clips() -> None:
    config = VideoMAEConfig(frames=4, stride=3)
    assert videomae_needs(config) == Needs(frames=4, stride=3)
    assert videomae_needs(dataclasses.replace(config, frames=8)).frames == 8


def test_trunks_of_their_own_for_each_camera_all_learn() -> None:
    objective = made(VisionConfig(vit=VitConfig(8, 24, 1, 2), shared=False))
    objective({'images': noise(2)}, dice())['loss'].backward()
    for trunk in objective.encoder.trunks:
        gradient = trunk.get_submodule('project').weight.grad
        assert isinstance(gradient, Tensor) and float(gradient.abs().sum()) > 0.0


@pytest.mark.parametrize(('changes', 'message'), [
    ({'frames': 5}, 'frames is 5, must be even: a tube is two frames deep'),
    ({'mask_ratio': 0.96}, 'mask_ratio is 0.96: of 16 patches 0 would stay visible'),
    ({'backbone': VisionConfig(backbone='resnet18', readout='mean')},
     "videomae hides patches, which network.backbone 'resnet18' cannot leave out")])
def test_what_cannot_work_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)
