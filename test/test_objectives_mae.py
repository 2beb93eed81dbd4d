# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The masked autoencoder: what it hides, what it sees, and that it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.networks.trunk import patchify, PatchTransformer, PatchTrunk
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import mae
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.masking import places_of, random_patches
from tiny_training import draw, SIZE
import torch

SHAPE = DataShape(1, SIZE, SIZE, 2, 2)
SMALL = {'decoder_channels': 24, 'decoder_depth': 1, 'decoder_heads': 2}
VIT = {'channels': 24, 'depth': 2, 'heads': 2}
STILL = PhotometricConfig(0.0, 0.0, 0.0)


def scene(count: int, seed: int) -> torch.Tensor:
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2)).astype(np.float32)
    return torch.from_numpy(draw(positions))[:, None]


def encoder_of(cameras: int, **sizes: Any) -> VisionEncoder:
    torch.manual_seed(0)
    return VisionEncoder(cameras, SIZE, SIZE, 2, VisionConfig(vit=VitConfig(**sizes)))


def small(**changes: Any) -> MaskedAutoencoder:
    sizes = {**VIT, **{name: changes.pop(name) for name in ('patch', 'heads') if name in changes}}
    encoder = encoder_of(1, **sizes)
    settings: dict[str, Any] = {**SMALL, **changes}
    return MaskedAutoencoder(SHAPE, MaskedAutoencoderConfig(**settings), encoder)


def trunk_of(encoder: VisionEncoder) -> PatchTrunk:
    return encoder.patch_trunk('mae')


def test_patches_are_cut_row_by_row_with_colours_innermost() -> None:
    pictures = torch.arange(2 * 4 * 6 * 3).view(2, 4, 6, 3)
    found = patchify(pictures, 2)
    assert found.shape == (2, 6, 12)
    for number in range(6):
        row, column = divmod(number, 3)
        block = pictures[:, 2 * row:2 * row + 2, 2 * column:2 * column + 2]
        assert torch.equal(found[:, number], block.reshape(2, -1))


def test_every_sample_hides_as_many_patches_and_keeps_the_others() -> None:
    keep, mask = random_patches(
        50, 144, 0.75, torch.Generator().manual_seed(0), torch.device('cpu'))
    assert keep.shape == (50, 36)
    assert mask.sum(1).tolist() == [108] * 50
    assert not bool(mask.gather(1, keep).any())
    assert all(len(set(row)) == 36 for row in keep.tolist())
    # Over samples, every patch has its turn: 108 of 144 hidden, give or take four deviations.
    assert bool(((mask.float().mean(0) - 0.75).abs() < 0.25).all())
    again, _ = random_patches(
        50, 144, 0.75, torch.Generator().manual_seed(0), torch.device('cpu'))
    assert torch.equal(keep, again)


def test_hidden_patches_never_reach_the_encoder() -> None:
    trunk = trunk_of(small().encoder).eval()
    patches = torch.randn(3, 16, 192)
    keep, mask = random_patches(3, 16, 0.75, torch.Generator().manual_seed(1), patches.device)
    changed = patches.clone()
    changed[mask] += 1.0
    with torch.no_grad():
        assert torch.equal(trunk.visible(patches, keep), trunk.visible(changed, keep))
        # Negative control: shown, they matter.
        everything = torch.arange(16).expand(3, -1)
        assert not torch.equal(
            trunk.visible(patches, everything), trunk.visible(changed, everything))


def test_a_patch_keeps_its_place_and_its_camera_wherever_it_stands_in_the_order() -> None:
    encoder = encoder_of(2, channels=8, depth=1, heads=2).eval()
    trunk = trunk_of(encoder)
    patches = torch.randn(4, 16, 192)
    everything = torch.arange(16).expand(4, -1)
    mixed = everything.flip(1)
    with torch.no_grad():
        straight = trunk.visible(patches, everything)
        turned = trunk.visible(patches, mixed)
        assert torch.allclose(straight[:, 1:], turned[:, 1:].flip(1), atol=1e-6)
        pictures = 255.0 * torch.rand(4, SIZE, SIZE, 3)
        assert torch.allclose(
            trunk(pictures), trunk.visible(trunk.patches(pictures), everything), atol=1e-6)
        same = patches[:1].expand(2, -1, -1)
        assert not torch.allclose(*trunk.visible(same, everything[:2]), atol=1e-3)


def test_the_loss_is_that_of_the_hidden_patches_of_what_the_encoder_saw() -> None:
    objective = small(photometric=STILL, normalise_patches=False)
    images = scene(4, 0)
    loss = objective({'images': images}, torch.Generator().manual_seed(3))['loss']
    found = float(loss.detach())
    generator = torch.Generator().manual_seed(3)
    assert torch.equal(photometric(images, STILL, generator), images.float())
    patches = patchify(images[:, 0].float() / 127.5 - 1.0, 8)
    keep, mask = random_patches(4, 16, 0.75, generator, images.device)
    hidden = [row.nonzero()[:, 0].tolist() for row in mask]
    with torch.no_grad():
        drawn = objective.decoder(trunk_of(objective.encoder).visible(patches, keep), keep,
                                  torch.tensor(hidden))
    assert drawn.shape == (4, 12, 192)
    expected = [float((drawn[i, place] - patches[i, n]).square().mean())
                for i in range(4) for place, n in enumerate(hidden[i])]
    assert found == pytest.approx(np.mean(expected), rel=1e-5)


def drawing_nothing(monkeypatch: pytest.MonkeyPatch, normalised: Any = None) -> float:
    """Loss of a decoder that draws zero everywhere, on pictures without a flat patch."""
    if normalised is not None:
        monkeypatch.setattr(mae, 'normalised_patches', normalised)
    objective = small(photometric=STILL)
    torch.nn.init.zeros_(objective.decoder.pixels.weight)
    torch.nn.init.zeros_(objective.decoder.pixels.bias)
    images = torch.randint(0, 256, (4, 1, SIZE, SIZE, 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    return float(objective({'images': images}, torch.Generator().manual_seed(1))['loss'].detach())


def test_drawing_nothing_costs_n_minus_1_over_n(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawing_nothing(monkeypatch) == pytest.approx(191 / 192, abs=1e-5)


def test_the_floor_sees_another_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    biased = drawing_nothing(monkeypatch, lambda rows: (
        rows - rows.mean(-1, keepdim=True)) / rows.std(-1, keepdim=True, unbiased=False))
    assert biased == pytest.approx(1.0, abs=1e-5)
    assert biased > 191 / 192 + 0.004
    assert drawing_nothing(monkeypatch, lambda rows: rows) < 0.5


def embedded(objective: MaskedAutoencoder, images: torch.Tensor) -> list[torch.Tensor]:
    """Patches that the encoder embeds in a step."""
    found: list[torch.Tensor] = []
    trunk = trunk_of(objective.encoder)
    assert isinstance(trunk, PatchTransformer)
    trunk.project.register_forward_pre_hook(lambda layer, given: found.append(given[0]))
    objective({'images': images}, torch.Generator().manual_seed(3))
    return found


def test_a_quarter_of_the_patches_is_embedded_and_the_class_token_is_always_there() -> None:
    objective = small(photometric=STILL)
    seen: list[torch.Tensor] = []
    trunk = trunk_of(objective.encoder)
    assert isinstance(trunk, PatchTransformer)
    trunk.blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    (patches,) = embedded(objective, scene(5, 0))
    assert patches.shape == (5, 4, 192)
    (tokens,) = seen
    assert tokens.shape == (5, 5, 24)
    # First in every sample, without place and camera.
    assert torch.equal(tokens[:, 0], trunk.cls[0].expand(5, -1))
    # Negative control: an encoder of everything embeds everything.
    whole = small(photometric=STILL)
    whole.encoder.each = (  # type: ignore[method-assign]
        lambda work, samples, keep: trunk_of(whole.encoder).visible(
            samples, torch.arange(16).expand(5, -1))[:, :5])
    (patches,) = embedded(whole, scene(5, 0))
    assert patches.shape == (5, 16, 192)


def test_the_decoder_gets_every_token_at_its_place_and_a_learned_one_elsewhere() -> None:
    torch.manual_seed(0)
    encoder = encoder_of(2, **VIT)
    objective = MaskedAutoencoder(
        DataShape(2, SIZE, SIZE, 2, 2), MaskedAutoencoderConfig(**SMALL), encoder)
    decoder, seen = objective.decoder, []
    decoder.blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    tokens, place = torch.randn(4, 5, 24), decoder.get_buffer('position')
    keep, mask = random_patches(4, 16, 0.75, torch.Generator().manual_seed(1), tokens.device)
    hidden = places_of(mask, 12)
    drawn = decoder(tokens, keep, hidden)
    (grid,) = seen
    # What is asked for comes in the order in which it is asked for.
    with torch.no_grad():
        assert torch.allclose(
            decoder(tokens, keep, hidden.flip(1)), drawn.flip(1), atol=1e-6)
    assert not torch.allclose(drawn, drawn.flip(1), atol=1e-3)
    known = decoder.embed(tokens)
    assert torch.equal(grid[:, 0], known[:, 0]), 'the class token has no place and no camera'
    for sample in range(4):
        camera = decoder.camera[sample % 2]
        for order, patch in enumerate(keep[sample].tolist()):
            assert torch.allclose(grid[sample, 1 + patch],
                                  known[sample, 1 + order] + place[patch] + camera, atol=1e-6)
        for patch in mask[sample].nonzero()[:, 0].tolist():
            assert torch.allclose(grid[sample, 1 + patch],
                                  decoder.hidden[0, 0] + place[patch] + camera, atol=1e-6)


def test_every_camera_s_picture_is_masked_on_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Tensor] = []
    monkeypatch.setattr(mae, 'places_of', lambda mask, count: (
        drawn.append(mask), places_of(mask, count))[1])
    objective = MaskedAutoencoder(
        DataShape(2, SIZE, SIZE, 2, 2), MaskedAutoencoderConfig(**SMALL), encoder_of(2, **VIT))
    objective({'images': scene(6, 0).repeat(1, 2, 1, 1, 1)}, torch.Generator().manual_seed(0))
    (mask,) = drawn
    assert mask.sum(1).tolist() == [12] * 12
    assert not any(torch.equal(mask[2 * i], mask[2 * i + 1]) for i in range(6))


def test_it_runs_with_a_trunk_for_each_camera_and_every_patch_trunk_of_timm() -> None:
    images = scene(3, 0).repeat(1, 2, 1, 1, 1)
    for config in (VisionConfig(vit=VitConfig(8, 24, 1, 2), shared=False),
                   VisionConfig(backbone='vit_tiny_patch16_224')):
        torch.manual_seed(0)
        encoder = VisionEncoder(2, SIZE, SIZE, 2, config)
        objective = MaskedAutoencoder(
            DataShape(2, SIZE, SIZE, 2, 2), MaskedAutoencoderConfig(**SMALL), encoder)
        loss = objective({'images': images}, torch.Generator().manual_seed(0))['loss']
        loss.backward()
        for trunk in encoder.trunks:
            assert isinstance(trunk, PatchTrunk)
            assert trunk.camera.grad is not None and bool(trunk.camera.grad.abs().sum() > 0)


def test_a_convolutional_backbone_is_refused_with_what_to_use_instead() -> None:
    encoder = VisionEncoder(1, 64, 64, 2, VisionConfig(backbone='resnet18', readout='mean'))
    with pytest.raises(ValueError, match=r"mae hides patches, which network.backbone 'resnet18' "
                                         r'cannot leave out; use vit, or .* vit_tiny_patch16_224'):
        MaskedAutoencoder(DataShape(1, 64, 64, 2, 2), MaskedAutoencoderConfig(), encoder)


def test_it_learns_to_draw_what_is_hidden() -> None:
    objective = small()
    images = scene(128, 0)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(150):
        pick = torch.randint(0, len(images), (32,), generator=generator)
        loss = objective({'images': images[pick]}, generator)['loss']
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    # 191/192 is what predicting zero costs; below it, something was learned from the neighbours.
    assert np.mean(losses[-10:]) < 0.9 * 191 / 192
    assert losses[0] > 0.9 * 191 / 192


def test_features_are_points_of_every_channel_and_camera() -> None:
    encoder = encoder_of(2, channels=8, depth=1, heads=2).eval()
    images = scene(6, 0).repeat(1, 2, 1, 1, 1)
    with torch.no_grad():
        features = encoder(images)
        assert features.shape == (6, 16, 2)
        assert float(features.abs().max()) <= 1.0
        assert torch.allclose(encoder(images[:1]), features[:1], atol=1e-5)
    with pytest.raises(ValueError, match='this encoder takes'):
        encoder(images[:, :1])


@pytest.mark.parametrize(('changes', 'message'), [
    ({'mask_ratio': 1.0}, 'mask_ratio is 1.0: of 16 patches 0 would stay visible'),
    ({'mask_ratio': 0.0}, 'mask_ratio is 0.0: of 16 patches 16 would stay visible'),
    ({'patch': 7}, r'patch is 7, but height and width \(32, 32\) must be multiples of it'),
    ({'patch': 0}, 'patch is 0, must be at least 1'),
    ({'heads': 5}, r'width is 24, must be a multiple of heads \(5\)'),
])
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
