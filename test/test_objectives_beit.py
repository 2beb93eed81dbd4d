# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Masked token prediction: the vocabulary stays, hidden pixels stay out, chance is honest."""

from __future__ import annotations

from collections.abc import Callable
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.losses.masked import masked_token_entropy
from ssl_vla_ros.networks.trunk import patchify, PatchTrunk
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import beit
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.beit import Beit, BeitConfig
from ssl_vla_ros.objectives.masking import block_patches
from tiny_training import draw, SIZE
import torch
from torch import Tensor

STILL = PhotometricConfig(0.0, 0.0, 0.0)
WORDS, PATCHES, CAMERAS = 6, 16, 2
Masked = Callable[[Beit, PatchTrunk, Tensor, Tensor], Tensor]


def scenes(count: int, seed: int = 0) -> Tensor:
    """Pictures (count, cameras, …) of a square, another one in each camera."""
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count * CAMERAS, 2))
    return torch.from_numpy(draw(positions.astype(np.float32))).unflatten(0, (count, CAMERAS))


def made(prepared: bool = True, **changes: Any) -> Beit:
    torch.manual_seed(0)
    encoder = VisionEncoder(CAMERAS, SIZE, SIZE, 2, VisionConfig(vit=VitConfig(8, 24, 2, 2)))
    settings = BeitConfig(**{'tokens': WORDS, 'photometric': STILL, **changes})
    objective = Beit(DataShape(CAMERAS, SIZE, SIZE, 2, 2), settings, encoder)
    if prepared:
        objective.prepare({'images': scenes(32)})
    return objective


def dice(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trunk_of(objective: Beit) -> PatchTrunk:
    return objective.encoder.patch_trunk('beit')


def a_mask(pictures: int) -> Tensor:
    return block_patches(pictures, 4, 4, 0.4, dice(), torch.device('cpu'))


# -- hidden pixels ------------------------------------------------------------------------


def hides_pixels(objective: Beit, masked: Masked = Beit._masked) -> None:
    """See that what is hidden changes nothing, and what is shown does."""
    trunk = trunk_of(objective)
    patches, mask = torch.randn(4, PATCHES, 192, generator=dice()), a_mask(4)
    with torch.no_grad():
        before = masked(objective, trunk, patches, mask)
        hidden, shown = patches.clone(), patches.clone()
        hidden[mask] += 1.0
        shown[~mask] += 1.0
        assert torch.equal(masked(objective, trunk, hidden, mask), before)
        assert not torch.allclose(masked(objective, trunk, shown, mask), before, atol=1e-2)


def placed(objective: Beit, masked: Masked = Beit._masked) -> None:
    """See that the learned token stands at the place, and in the camera, of what it hides."""
    trunk, seen = trunk_of(objective), []
    blocks = trunk.get_submodule('blocks')
    hook = blocks.get_submodule('0').register_forward_pre_hook(
        lambda block, given: seen.append(given[0]))
    patches, mask = torch.randn(4, PATCHES, 192, generator=dice()), a_mask(4)
    masked(objective, trunk, patches, mask)
    hook.remove()
    tokens, places, known = seen[0][:, trunk.prefix:], trunk.positions(4, 4), trunk.embed(patches)
    for sample in range(4):
        for patch in range(PATCHES):
            what = objective.hidden if mask[sample, patch] else known[sample, patch]
            torch.testing.assert_close(
                tokens[sample, patch], what + places[patch] + trunk.camera[sample % CAMERAS])


def test_hidden_pixels_do_not_reach_the_prediction() -> None:
    hides_pixels(made())


def test_a_hidden_patch_keeps_its_place() -> None:
    placed(made())


def test_the_checks_see_a_mask_that_hides_nothing_and_one_that_hides_the_place() -> None:
    def nothing(objective: Beit, trunk: PatchTrunk, patches: Tensor, mask: Tensor) -> Tensor:
        return trunk.attend(trunk.place(trunk.embed(patches), trunk.rows, trunk.columns))

    def place_too(objective: Beit, trunk: PatchTrunk, patches: Tensor, mask: Tensor) -> Tensor:
        tokens = trunk.place(trunk.embed(patches), trunk.rows, trunk.columns)
        return trunk.attend(torch.where(mask[..., None], objective.hidden, tokens))
    with pytest.raises(AssertionError):
        hides_pixels(made(), nothing)
    hides_pixels(made(), place_too)
    with pytest.raises(AssertionError):
        placed(made(), place_too)


# -- the loss -----------------------------------------------------------------------------


@pytest.mark.parametrize('centred', [True, False])
def test_the_loss_is_a_plain_loop_over_hidden_patches(
        centred: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = made(centred=centred)
    torch.nn.init.normal_(objective.classify.weight)
    drawn: list[Tensor] = []
    monkeypatch.setattr(beit, 'block_patches', lambda *given: (
        drawn.append(block_patches(*given)), drawn[-1])[1])
    images = scenes(3, 7)
    parts = objective({'images': images}, dice())
    (mask,) = drawn
    trunk = trunk_of(objective)
    patches = patchify(images.flatten(0, 1).float() / 127.5 - 1.0, 8)
    with torch.no_grad():
        logits = objective.classify(Beit._masked(objective, trunk, patches, mask)[:, 1:])
    hidden, every = [], []
    for sample in range(6):
        for patch in range(PATCHES):
            what = patches[sample, patch].view(64, 3)
            if centred:
                what = what - what.mean(dim=0)
            apart = [float((what.flatten() - row).square().sum())
                     for row in objective.codebook.get_buffer('rows')]
            cost = -float(logits[sample, patch].log_softmax(0)[int(np.argmin(apart))])
            every.append(cost)
            if mask[sample, patch]:
                hidden.append(cost)
    assert len(hidden) == 6 * 6
    assert float(parts['loss'].detach()) == pytest.approx(float(np.mean(hidden)), rel=1e-5)
    assert torch.equal(parts['beit'], parts['loss'])
    # Negative control: over all patches it is another number.
    assert abs(float(np.mean(every)) - float(np.mean(hidden))) > 1e-2


def constant(objective: Beit, logits: Tensor) -> dict[str, float]:
    """Give the parts of a classifier that says the same of every patch."""
    torch.nn.init.zeros_(objective.classify.weight)
    with torch.no_grad():
        objective.classify.bias.copy_(logits)
    parts = objective({'images': scenes(8, 3)}, dice())
    return {name: float(value.detach()) for name, value in parts.items()}


def test_chance_is_the_best_that_can_be_said_without_looking(monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(beit, 'masked_token_entropy', lambda logits, words, mask: (
        asked.append(words[mask]), masked_token_entropy(logits, words, mask))[1])
    objective = made()
    blind = constant(objective, torch.zeros(WORDS))
    assert blind['loss'] == pytest.approx(math.log(WORDS), abs=1e-5)
    # A table is plain: to know how frequent words are is worth much, and is no sight.
    assert blind['beit_chance'] < 0.5 * math.log(WORDS)
    frequent = torch.bincount(asked[0], minlength=WORDS) / len(asked[0])
    best = constant(objective, frequent.clamp_min(1e-9).log())
    assert best['loss'] == pytest.approx(best['beit_chance'], abs=1e-5)
    for seed in range(20):
        other = frequent.clamp_min(1e-9).log() + torch.randn(WORDS, generator=dice(seed))
        assert constant(objective, other)['loss'] > best['beit_chance']


def test_a_vocabulary_of_which_one_word_is_left_shows() -> None:
    objective = made()
    healthy = objective({'images': scenes(8, 3)}, dice())
    assert 1.5 < float(healthy['beit_words_used']) <= WORDS
    assert float(healthy['beit_words_used']) == pytest.approx(
        math.exp(float(healthy['beit_chance'])), rel=1e-5)
    # All words but one are moved away from every patch.
    rows = objective.codebook.get_buffer('rows')
    rows[1:] = 100.0 + torch.arange(WORDS - 1)[:, None]
    collapsed = objective({'images': scenes(8, 3)}, dice())
    assert float(collapsed['beit_words_used']) == pytest.approx(1.0, abs=1e-5)
    assert float(collapsed['beit_chance']) == pytest.approx(0.0, abs=1e-5)


# -- the vocabulary -----------------------------------------------------------------------


def train(objective: Beit, steps: int) -> list[tuple[float, float]]:
    """Give loss and chance of each step."""
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3, weight_decay=0.1)
    images, generator, found = scenes(256), dice(0), []
    for _ in range(steps):
        pick = torch.randint(0, len(images), (32,), generator=generator)
        parts = objective({'images': images[pick]}, generator)
        optimiser.zero_grad()
        parts['loss'].backward()
        optimiser.step()
        found.append((float(parts['loss'].detach()), float(parts['beit_chance'])))
    return found


def test_training_goes_below_chance_and_leaves_the_vocabulary_alone() -> None:
    objective = made()
    rows = objective.codebook.get_buffer('rows')
    before = rows.clone()
    losses = train(objective, 220)
    assert torch.equal(rows, before)
    assert not any('codebook' in name for name, _ in objective.named_parameters())
    assert 'codebook.rows' in objective.state_dict()
    relative = np.array([loss / chance for loss, chance in losses])
    assert relative[0] > 2.0
    assert relative[-30:].mean() < 0.92
    # Held against ln K, it would have learned long before it saw anything.
    early = slice(40, 60)
    assert np.mean([loss for loss, _ in losses[early]]) < 0.4 * math.log(WORDS)
    assert relative[early].mean() > 0.97


def test_every_word_of_the_vocabulary_is_said_of_a_training_patch() -> None:
    objective = made()
    words = objective.codebook(
        trunk_of(objective).patches(scenes(32).flatten(0, 1)))
    assert words.shape == (64, PATCHES)
    assert len(words.unique()) == WORDS


def test_words_are_of_things_and_not_of_the_light() -> None:
    dark = scenes(32) // 2
    light = dark + torch.tensor([60, 40, 20], dtype=torch.uint8)
    for centred in (True, False):
        objective = made(prepared=False, centred=centred)
        objective.prepare({'images': torch.cat([dark, light])})
        said = [objective.codebook(objective._worded(trunk_of(objective).patches(
            images.flatten(0, 1)))) for images in (dark, light)]
        assert torch.equal(*said) == centred
        # Raw, the words are about which light it is, and hardly about what is there.
        assert (len(said[0].unique()) == WORDS) == centred


def test_words_are_of_the_picture_before_its_light_is_changed(
        monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(beit, 'masked_token_entropy', lambda logits, words, mask: (
        asked.append(words), masked_token_entropy(logits, words, mask))[1])
    for noise in (0.0, 40.0):
        objective = made(photometric=PhotometricConfig(0.3, 0.1, noise))
        objective({'images': scenes(8, 3)}, dice(int(noise)))
    assert torch.equal(*asked)


def test_a_vocabulary_larger_than_what_there_is_to_see_is_refused() -> None:
    objective = made(prepared=False, tokens=40)
    with pytest.raises(ValueError, match=r'of 64 patches of the training split 1 are different, '
                                         'fewer than the 40 words of the vocabulary; lower '
                                         'model.tokens'):
        objective.prepare({'images': torch.full((2, CAMERAS, SIZE, SIZE, 3), 90,
                                                dtype=torch.uint8)})


@pytest.mark.parametrize(('changes', 'message'), [
    ({'mask_ratio': 1.0}, 'mask_ratio is 1.0: of 16 patches 16 would be hidden'),
    ({'smallest_block': 0}, 'smallest_block is 0, must be at least 1 patch'),
    ({'tokens': 1}, 'tokens is 1, must be at least 2')])
def test_settings_that_cannot_work_are_refused_before_training(changes: dict[str, Any],
                                                               message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(prepared=False, **changes)
