# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Tubes: every one at a place of its own, and on a clip that stands still a picture's token."""

from __future__ import annotations

import pytest
from ssl_vla_ros.networks.predictors import LatentPredictor, TubePredictor
from ssl_vla_ros.networks.transformer import sincos_positions
from ssl_vla_ros.networks.trunk import PatchTransformer
from ssl_vla_ros.networks.tubes import time_positions, TubeEncoder
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
import torch
from torch import nn, Tensor

FRAMES, GRID, WIDTH = 6, 16, 24


def made(cameras: int = 2, seed: int = 0) -> tuple[VisionEncoder, TubeEncoder]:
    torch.manual_seed(seed)
    encoder = VisionEncoder(
        cameras, 32, 32, 0, VisionConfig(vit=VitConfig(8, WIDTH, 2, 2))).eval()
    tubes = TubeEncoder(encoder, FRAMES, 'the test')
    # It starts at zero, which would hide what moves.
    nn.init.normal_(tubes.change.weight, 0.0, 0.05)
    return encoder, tubes


def clips(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 255.0 * torch.rand(count, FRAMES, 32, 32, 3, generator=generator)


def nearest(places: Tensor) -> float:
    """Smallest distance of two places."""
    apart = torch.cdist(places.double(), places.double())
    return float((apart + 100.0 * torch.eye(len(places))).min())


# -- places -------------------------------------------------------------------------------


@pytest.mark.parametrize('width', [8, 24, 96, 192])
@pytest.mark.parametrize(('tubes', 'rows', 'columns'), [(4, 4, 4), (8, 12, 12), (3, 2, 5)])
def test_no_two_tubes_have_the_same_place(width: int, tubes: int, rows: int, columns: int
                                          ) -> None:
    grid = sincos_positions(rows, columns, width)
    places = (time_positions(tubes, width)[:, None] + grid).flatten(0, 1)
    assert nearest(places) > 0.01
    # Negative control: with the rows' own waves, tube 1 of row 2 stands where 2 of row 1 does.
    swapped = (sincos_positions(tubes, 1, width)[:, None] + grid).flatten(0, 1)
    assert nearest(swapped) < 1e-6


def test_the_encoder_and_the_predictor_tell_tubes_apart_by_place_alone() -> None:
    encoder, tubes = made(1)
    trunk = encoder.trunk
    assert isinstance(trunk, PatchTransformer)
    asked = (tubes.get_buffer('time')[:, None] + trunk.positions(4, 4)).flatten(0, 1)
    assert asked.shape == (3 * GRID, WIDTH) and nearest(asked) > 0.1
    predictor = TubePredictor(WIDTH, 3, 4, 4, 1, width=16, depth=1, heads=2)
    assert nearest(predictor.get_buffer('position')) > 0.1


def test_time_is_zero_at_first_and_needs_an_even_width() -> None:
    assert float(time_positions(5, 12)[0].abs().max()) == 0.0
    assert float(time_positions(5, 12)[1:].abs().max(dim=1).values.min()) > 0.1
    with pytest.raises(ValueError, match='width is 7, must be even'):
        time_positions(5, 7)


# -- tokens -------------------------------------------------------------------------------


def test_tubes_are_two_frames_of_a_patch_time_first() -> None:
    _, tubes = made(1)
    given = clips(2)
    found = tubes.patches(given)
    assert found.shape == (2, 3, GRID, 2 * 192)
    values = given / 127.5 - 1.0
    for tube in range(3):
        for patch in range(GRID):
            row, column = divmod(patch, 4)
            where = slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8)
            both = [values[:, 2 * tube + late][:, where[0], where[1]].reshape(2, -1)
                    for late in (0, 1)]
            assert torch.equal(found[:, tube, patch], torch.cat(both, dim=1))
    numbers = tubes.keep_of(torch.tensor([[3, 0], [5, 15]]))
    assert numbers.tolist() == [[3, 0, 19, 16, 35, 32], [5, 15, 21, 31, 37, 47]]


def test_the_embedding_is_one_of_both_frames() -> None:
    """Any W0·x0 + W1·x1 can be written with the picture's weights and those of the change."""
    encoder, tubes = made(1)
    trunk, seen = encoder.trunk, []
    assert isinstance(trunk, PatchTransformer)
    trunk.blocks[0].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    before = trunk.project.weight / 2 - tubes.change.weight / 2
    after = trunk.project.weight / 2 + tubes.change.weight / 2
    patches = tubes.patches(clips(2))
    every = torch.arange(3 * GRID).expand(2, -1)
    tubes(patches, every)
    first, second = patches.chunk(2, dim=-1)
    tokens = first @ before.T + second @ after.T + trunk.project.bias
    places = tubes.get_buffer('time')[:, None] + trunk.positions(4, 4)
    torch.testing.assert_close(
        seen[0][:, 1:], (tokens + places).flatten(1, 2) + trunk.camera, rtol=1e-4, atol=1e-5)


def test_the_first_tube_of_a_clip_that_stands_still_is_the_picture() -> None:
    encoder, tubes = made()
    still = clips(4)[:, :1].expand(-1, FRAMES, -1, -1, -1)
    patches, first = tubes.patches(still), torch.arange(GRID).expand(4, -1)
    with torch.no_grad():
        picture = encoder.all_tokens(still[:, 0].unflatten(0, (2, 2)))
        assert torch.allclose(tubes(patches, first), picture, atol=1e-5)
        # Negative control: one that moves is not.
        moving = tubes.patches(clips(4))
        assert not torch.allclose(tubes(moving, first), picture, atol=1e-2)


def test_tubes_that_are_not_kept_are_not_seen_and_the_order_does_not_matter() -> None:
    _, tubes = made()
    patches = tubes.patches(clips(4))
    keep = tubes.keep_of(torch.tensor([[3, 0], [5, 15], [1, 2], [9, 8]]))
    changed = patches.clone()
    changed.flatten(1, 2)[torch.ones(4, 48).scatter(1, keep, 0.0).bool()] += 1.0
    with torch.no_grad():
        found = tubes(patches, keep)
        assert found.shape == (4, 1 + 6, WIDTH)
        assert torch.equal(tubes(changed, keep), found)
        turned = tubes(patches, keep.flip(1))
        assert torch.allclose(turned[:, 1:].flip(1), found[:, 1:], atol=1e-5)
        everything = torch.arange(48).expand(4, -1)
        assert not torch.equal(tubes(changed, everything), tubes(patches, everything))


def test_a_teacher_brings_its_own_trunk_and_its_own_change() -> None:
    _, tubes = made()
    teacher, other = made(seed=1)
    patches, every = tubes.patches(clips(4)), torch.arange(48).expand(4, -1)
    with torch.no_grad():
        slow = tubes(patches, every, (teacher, other.change))
        assert torch.allclose(slow, other(patches, every), atol=1e-6)
        half = tubes(patches, every, (teacher, tubes.change))
        assert not torch.allclose(half, slow, atol=1e-3), 'without its change it is another'
    assert not any('trunk' in name for name, _ in tubes.named_parameters())


@pytest.mark.parametrize('frames', [1, 3, 0])
def test_an_odd_number_of_frames_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=f'frames is {frames}, must be even'):
        TubeEncoder(made()[0], frames, 'the test')


# -- predictors ---------------------------------------------------------------------------


def test_the_tube_predictor_answers_for_the_places_that_are_asked() -> None:
    torch.manual_seed(0)
    predictor = TubePredictor(WIDTH, 3, 4, 4, 2, width=16, depth=1, heads=2).eval()
    tokens = torch.randn(4, 5, WIDTH)
    shown = torch.arange(5).expand(4, -1)
    asked = torch.tensor([20, 21, 40]).expand(4, -1)
    with torch.no_grad():
        found = predictor(tokens, shown, asked)
        assert found.shape == (4, 3, WIDTH)
        assert torch.allclose(predictor(tokens, shown, asked.flip(1)).flip(1), found, atol=1e-5)
        # Place, camera and what is shown all matter.
        assert not torch.allclose(predictor(tokens, shown, asked + 1), found, atol=1e-3)
        assert not torch.allclose(predictor(tokens, shown + 1, asked), found, atol=1e-3)
        same = tokens[:1].expand(4, -1, -1)
        answers = predictor(same, shown, asked)
        assert torch.allclose(answers[0], answers[2], atol=1e-6)
        assert not torch.allclose(answers[0], answers[1], atol=1e-3)


def test_the_latent_predictor_sees_neither_the_future_nor_later_actions() -> None:
    torch.manual_seed(0)
    predictor = LatentPredictor(16, 3, 5, depth=2, heads=2).eval()
    latents, actions = torch.randn(2, 5, 16), torch.randn(2, 5, 3)
    with torch.no_grad():
        found = predictor(latents, actions)
        for step in range(5):
            later, acted = latents.clone(), actions.clone()
            later[:, step + 1:] += 1.0
            acted[:, step + 1:] += 1.0
            assert torch.allclose(predictor(later, acted)[:, :step + 1], found[:, :step + 1],
                                  atol=1e-6)
            acted[:, step] += 1.0
            assert not torch.allclose(predictor(latents, acted)[:, step], found[:, step],
                                      atol=1e-4)


def test_normalised_predictions_have_no_scale_of_their_own() -> None:
    torch.manual_seed(0)
    for normalised in (True, False):
        predictor = LatentPredictor(16, 0, 4, depth=1, heads=2, normalised=normalised)
        with torch.no_grad():
            predictor.out.weight.mul_(30.0)
            found = predictor(torch.randn(3, 4, 16), None)
        plain = (float(found.mean(-1).abs().max()) < 1e-5
                 and float((found.std(-1, unbiased=False) - 1.0).abs().max()) < 1e-2)
        assert plain == normalised


@pytest.mark.parametrize(('latents', 'actions', 'message'), [
    (6, 6, 'got 6 latents, 5 fit'),
    (4, 3, r'\(2, 4, 16\) latents need as many actions, got \(2, 3, 3\)'),
    (4, None, r'\(2, 4, 16\) latents need as many actions, got None')])
def test_actions_that_are_missing_are_told(latents: int, actions: int | None, message: str
                                           ) -> None:
    predictor = LatentPredictor(16, 3, 5, depth=1, heads=2)
    with pytest.raises(ValueError, match=message):
        predictor(torch.zeros(2, latents, 16),
                  None if actions is None else torch.zeros(2, actions, 3))
