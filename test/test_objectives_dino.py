# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""DINO: the whole loss against plain loops, and what keeps student and teacher apart."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.views import resized_crops, view, ViewConfig
from ssl_vla_ros.networks.trunk import PatchTransformer, PatchTrunk
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import dino
from ssl_vla_ros.objectives.base import DataShape, Needs
from ssl_vla_ros.objectives.dino import Dino, dino_needs, DinoConfig
from ssl_vla_ros.objectives.masking import block_patches
from tiny_training import draw, SIZE
import torch
from torch import nn, Tensor

CAMERAS, PROTOTYPES, BATCH = 2, 12, 4
SMALL = {'prototypes': PROTOTYPES, 'hidden': 16, 'bottleneck': 8, 'local_crops': 2,
         'local_size': 16}


def scenes(count: int, seed: int = 0, cameras: int = CAMERAS) -> Tensor:
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count * cameras, 2))
    return torch.from_numpy(draw(positions.astype(np.float32))).unflatten(0, (count, cameras))


def made(network: VisionConfig | None = None, cameras: int = CAMERAS, **changes: Any) -> Dino:
    torch.manual_seed(0)
    encoder = VisionEncoder(cameras, SIZE, SIZE, 2, network or VisionConfig(
        vit=VitConfig(8, 24, 1, 2)))
    objective = Dino(DataShape(cameras, SIZE, SIZE, 2, 2), DinoConfig(**{**SMALL, **changes}),
                     encoder)
    return objective.train()


def differing(objective: Dino) -> Dino:
    """Move the teacher and its centres away from where they begin."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for name in ('centre', 'patch_centre'):
            objective.get_buffer(name).copy_(0.2 * torch.randn(PROTOTYPES, generator=generator))
    return objective


def dice(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -- the whole loss -----------------------------------------------------------------------


def cross_entropy(student: Tensor, teacher: Tensor) -> float:
    """Sum of one row's products, logits at temperature 0.1."""
    scores = [float(value) / 0.1 for value in student]
    most = max(scores)
    total = most + math.log(sum(math.exp(score - most) for score in scores))
    return -sum(float(share) * (score - total)
                for share, score in zip(teacher, scores, strict=True))


def assigned(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    weights = [[math.exp((float(value) - float(middle)) / temperature)
                for value, middle in zip(row, centre, strict=True)] for row in logits]
    return torch.tensor([[weight / sum(row) for weight in row] for row in weights])


def spread(features: Tensor) -> float:
    """Give the KoLeo loss of one group of features."""
    rows = features / features.norm(dim=1, keepdim=True)
    return -float(np.mean([
        math.log(min(float((rows[i] - rows[j]).norm()) for j in range(len(rows)) if j != i))
        for i in range(len(rows))]))


@torch.no_grad()
def plain(objective: Dino, images: Tensor, mistake: str = '') -> dict[str, float]:
    """Compute the loss in plain loops."""
    generator, config, encoder = dice(), objective.config, objective.encoder
    whole = torch.cat([view(images, config.views, generator) for _ in range(2)])
    count = len(images) * CAMERAS
    mask = block_patches(2 * count, 4, 4, config.mask_ratio, generator, images.device)
    small = resized_crops(images, config.local_crops, config.local_size,
                          (config.local_smallest, config.local_largest), generator)
    small = view(small, replace(config.views, crop_smallest=1.0), generator)
    teacher, teacher_head = objective.teacher.copies
    assert isinstance(teacher, VisionEncoder)
    slow, trunk = teacher.all_tokens(whole), encoder.patch_trunk('the test')
    centre = 0.0 * objective.get_buffer('centre') if mistake == 'no centre' else (
        objective.get_buffer('centre'))
    wanted = assigned(teacher_head(slow[:, 0]), centre, config.teacher_temperature)
    tokens = trunk.embed(trunk.patches(whole.flatten(0, 1)))
    if mistake != 'nothing hidden':
        for sample, patch in mask.nonzero().tolist():
            tokens[sample, patch] = objective.hidden
    fast = trunk.attend(trunk.place(tokens, 4, 4))
    local = encoder.all_tokens(small)
    logits = [objective.head(row[None])[0] for row in torch.cat([fast[:, 0], local[:, 0]])]
    costs = []
    for target in range(2):
        for crop in range(2 + config.local_crops):
            if crop != target or mistake == 'its own crop':
                costs += [cross_entropy(logits[crop * count + n], wanted[target * count + n])
                          for n in range(count)]
    parts = {'dino': float(np.mean(costs))}
    patches = []
    for sample, patch in (~mask if mistake == 'visible patches' else mask).nonzero().tolist():
        assignment = assigned(teacher_head(slow[sample, 1 + patch][None]),
                              objective.get_buffer('patch_centre'), config.teacher_temperature)[0]
        patches.append(cross_entropy(objective.head(fast[sample, 1 + patch][None])[0], assignment))
    parts['ibot'] = float(np.mean(patches))
    pictures = fast[:, 0].view(2, len(images), CAMERAS, -1)
    parts['koleo'] = float(np.mean([
        spread(pictures[crop, :, camera]) for crop in range(2) for camera in range(CAMERAS)]))
    if mistake == 'koleo over views':
        parts['koleo'] = spread(pictures.flatten(0, 2))
    sign = -1.0 if mistake == 'koleo draws together' else 1.0
    parts['loss'] = parts['dino'] + parts['ibot'] + sign * 0.1 * parts['koleo']
    return parts


def test_the_loss_is_that_of_plain_loops() -> None:
    objective, images = differing(made()), scenes(BATCH)
    expected = plain(objective, images)
    found = objective({'images': images}, dice())
    for name, value in expected.items():
        assert float(found[name].detach()) == pytest.approx(value, rel=1e-4), name
    assert float(found['dino_chance']) == pytest.approx(math.log(PROTOTYPES))
    assert float(found['ibot_chance']) == pytest.approx(math.log(PROTOTYPES))


@pytest.mark.parametrize('mistake', [
    'its own crop', 'no centre', 'nothing hidden', 'visible patches', 'koleo over views',
    'koleo draws together'])
def test_the_comparison_sees_a_mistake(mistake: str) -> None:
    objective, images = differing(made()), scenes(BATCH)
    wrong = plain(objective, images, mistake)['loss']
    found = float(objective({'images': images}, dice())['loss'].detach())
    assert found != pytest.approx(wrong, rel=1e-3)


def test_small_crops_have_colours_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, images = made(), scenes(BATCH)
    cut = resized_crops(images, 2, 16, (0.1, 0.4), dice())
    assert objective._local(images, dice()).shape == (2 * BATCH, CAMERAS, 16, 16, 3)
    assert not torch.allclose(objective._local(images, dice()), cut, atol=5.0)
    # With all colours off, they are what was cut: no further crop, and no shift.
    still = ViewConfig(jitter_share=0.0, grey_share=0.0, blur_share=0.0, camera_shift=20)
    assert torch.equal(made(views=still)._local(images, dice()), cut)


# -- student and teacher ------------------------------------------------------------------


def steps(objective: Dino, count: int, total: int, mend: bool = True) -> list[Tensor]:
    """Train, and give the prototypes after each step."""
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-2, weight_decay=0.1)
    found = []
    for step in range(count):
        objective.begin_step(step / total)
        optimiser.zero_grad()
        objective({'images': scenes(BATCH, step)}, dice(step))['loss'].backward()
        if mend:
            objective.mend_gradients()
        optimiser.step()
        objective.end_step()
        found.append(objective.head.prototypes.detach().clone())
    return found


def test_the_teacher_has_no_gradient_and_moves_by_one_minus_m() -> None:
    objective = differing(made(momentum=0.9))
    objective.begin_step(0.0)
    objective({'images': scenes(BATCH)}, dice())['loss'].backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert not any(parameter.requires_grad for parameter in objective.teacher.parameters())
    assert objective.head.prototypes.grad is not None
    students = [*objective.encoder.parameters(), *objective.head.parameters()]
    before = [slow.clone() for slow in objective.teacher.parameters()]
    objective.end_step()
    for old, slow, fast in zip(before, objective.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(slow - old, (1.0 - 0.9) * (fast.detach() - old),
                                   rtol=1e-4, atol=1e-6)
    # Ever more slowly: half-way along half a cosine from 0.9 to 0.9999.
    objective.begin_step(0.5)
    before = [slow.clone() for slow in objective.teacher.parameters()]
    objective.end_step()
    old, slow, fast = before[0], next(objective.teacher.parameters()), students[0]
    torch.testing.assert_close(slow - old, (1.0 - 0.94995) * (fast.detach() - old),
                               rtol=1e-3, atol=1e-6)


def test_the_teacher_stays_in_evaluation_and_is_named_for_the_watch() -> None:
    objective = made().train()
    assert not any(module.training for module in objective.teacher.modules())
    student, teacher = objective.teachers()['dino']
    assert student is objective.encoder and teacher is objective.teacher.copies[0]


def test_prototypes_rest_at_first_and_move_afterwards() -> None:
    objective = made(frozen_share=0.5)
    begin = objective.head.prototypes.detach().clone()
    hidden = objective.hidden.detach().clone()
    found = steps(objective, 4, 4)
    assert torch.equal(found[0], begin) and torch.equal(found[1], begin)
    assert not torch.equal(found[2], found[1]) and not torch.equal(found[3], found[2])
    assert not torch.equal(objective.hidden.detach(), hidden)


def test_prototypes_that_are_not_held_move_at_once() -> None:
    """Negative control."""
    objective = made(frozen_share=0.5)
    begin = objective.head.prototypes.detach().clone()
    assert not torch.equal(steps(objective, 1, 4, mend=False)[0], begin)
    begin = made().head.prototypes.detach().clone()
    assert not torch.equal(steps(made(frozen_share=0.0), 1, 4)[0], begin)


# -- assignments --------------------------------------------------------------------------


def test_centres_follow_the_teacher_s_logits_in_training_alone() -> None:
    objective, images = differing(made(centre_momentum=0.8)), scenes(BATCH)
    old = {name: objective.get_buffer(name).clone() for name in ('centre', 'patch_centre')}
    generator = dice()
    whole = torch.cat([view(images, objective.config.views, generator) for _ in range(2)])
    teacher, head = objective.teacher.copies
    assert isinstance(teacher, VisionEncoder)
    with torch.no_grad():
        tokens = teacher.all_tokens(whole)
        mean = {'centre': head(tokens[:, 0]).mean(0),
                'patch_centre': head(tokens[:, 1:].flatten(0, 1)).mean(0)}
    objective.eval()({'images': images}, dice())
    for name, before in old.items():
        assert torch.equal(objective.get_buffer(name), before)
    objective.train()({'images': images}, dice())
    for name, before in old.items():
        torch.testing.assert_close(
            objective.get_buffer(name), 0.8 * before + 0.2 * mean[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(mean['centre'], mean['patch_centre'], atol=1e-3)


@pytest.mark.parametrize(('progress', 'temperature'), [
    (0.0, 0.04), (0.15, 0.055), (0.3, 0.07), (1.0, 0.07)])
def test_the_teacher_s_temperature_rises(monkeypatch: pytest.MonkeyPatch, progress: float,
                                         temperature: float) -> None:
    used: list[float] = []
    original = dino.centred_assignments
    monkeypatch.setattr(dino, 'centred_assignments', lambda logits, centre, warmth: (
        used.append(warmth), original(logits, centre, warmth))[1])
    objective = made()
    objective.begin_step(progress)
    objective({'images': scenes(BATCH)}, dice())
    assert used == pytest.approx([temperature, temperature])
    at_once = made(warmup_share=0.0)
    at_once({'images': scenes(BATCH)}, dice())
    assert used[-1] == pytest.approx(0.07)


def test_sinkhorn_balances_and_needs_no_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    made_of: list[Tensor] = []
    original = dino.sinkhorn_assignments
    monkeypatch.setattr(dino, 'sinkhorn_assignments', lambda logits, warmth: (
        made_of.append(original(logits, warmth)), made_of[-1])[1])
    balanced, images = differing(made(sinkhorn=True)), scenes(16)
    before = balanced.get_buffer('centre').clone()
    found = balanced({'images': images}, dice())
    pictures, patches = made_of
    assert pictures.shape == (2 * 16 * CAMERAS, PROTOTYPES)
    assert patches.shape == (2 * 16 * CAMERAS * 16, PROTOTYPES)
    centred = differing(made())({'images': images}, dice())
    for rows in made_of:
        torch.testing.assert_close(rows.sum(1), torch.ones(len(rows)), rtol=1e-4, atol=1e-4)
    even = len(pictures) / PROTOTYPES
    assert float((pictures.sum(0) / even - 1.0).abs().max()) < 0.5
    # Negative control: without balancing, some prototypes get far more.
    teacher, head = balanced.teacher.copies
    assert isinstance(teacher, VisionEncoder)
    with torch.no_grad():
        logits = head(teacher.all_tokens(images)[:, 0])
    uneven = (logits / 0.04).softmax(1).sum(0) / (len(logits) / PROTOTYPES)
    assert float((uneven - 1.0).abs().max()) > 1.0
    assert torch.isfinite(found['loss'])
    assert float(found['dino'].detach()) != pytest.approx(float(centred['dino'].detach()),
                                                          rel=1e-3)
    assert torch.equal(balanced.get_buffer('centre'), before)


def blinded(objective: Dino) -> Dino:
    """Make the encoder, and so the teacher's, say the same of every picture."""
    for encoder in (objective.encoder, objective.teacher.copies[0]):
        assert isinstance(encoder, VisionEncoder)
        trunk = encoder.trunk
        assert isinstance(trunk, PatchTransformer)
        nn.init.zeros_(trunk.norm.weight)
        nn.init.ones_(trunk.norm.bias)
        trunk.norm.requires_grad_(False)
    return objective


def costs_of_training(objective: Dino, parameters: list[nn.Parameter]) -> tuple[float, float]:
    """Loss on pictures at its lowest and at last, in parts of ln K."""
    flat = torch.randint(0, 256, (32, CAMERAS, 1, 1, 3), generator=dice(), dtype=torch.uint8)
    images = flat.expand(-1, -1, SIZE, SIZE, -1)
    optimiser = torch.optim.AdamW(parameters, lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 50)
    costs = []
    for step in range(50):
        parts = objective({'images': images[torch.randperm(32, generator=dice(step))[:8]]},
                          dice(step))
        optimiser.zero_grad()
        parts['loss'].backward()
        optimiser.step()
        schedule.step()
        objective.end_step()
        costs.append(float(parts['dino'].detach()) / math.log(PROTOTYPES))
    return min(costs[10:]), float(np.mean(costs[-5:]))


PLAIN: dict[str, Any] = {
    'views': ViewConfig(crop_smallest=1.0, jitter_share=0.0, grey_share=0.0, blur_share=0.0),
    'local_crops': 0, 'ibot_weight': 0.0, 'koleo_weight': 0.0, 'bottleneck': 16,
    'centre_momentum': 0.2, 'momentum': 0.99, 'frozen_share': 0.0}


def test_a_collapse_costs_ln_k() -> None:
    """A constant encoder: the centre takes the teacher's one answer, and all is even."""
    objective = blinded(made(**PLAIN))
    lowest, last = costs_of_training(objective, [*objective.head.parameters()])
    assert last == pytest.approx(1.0, abs=0.01)
    assert lowest > 0.98


def test_an_encoder_that_sees_comes_below_ln_k() -> None:
    """Negative control: the same training with eyes."""
    objective = made(**PLAIN)
    _, last = costs_of_training(objective, [*objective.encoder.parameters(),
                                            *objective.head.parameters()])
    assert last < 0.8


def test_features_that_are_equal_are_finite() -> None:
    objective = blinded(made())
    loss = objective({'images': scenes(BATCH)}, dice())['loss']
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert all(bool(torch.isfinite(parameter.grad).all())
               for parameter in objective.parameters() if parameter.grad is not None)


# -- backbones ----------------------------------------------------------------------------


def test_a_convolutional_backbone_works_without_patches() -> None:
    network = VisionConfig(backbone='resnet18', readout='mean')
    with pytest.raises(ValueError, match=r'dino with model.ibot_weight above 0 hides patches, '
                                         r"which network.backbone 'resnet18' cannot leave out; "
                                         'use vit'):
        made(network)
    objective = made(network, ibot_weight=0.0)
    assert not hasattr(objective, 'hidden')
    parts = objective({'images': scenes(BATCH)}, dice())
    assert set(parts) == {'loss', 'dino', 'dino_chance', 'dino_prototypes_used', 'koleo'}
    parts['loss'].backward()
    first = next(objective.encoder.trunk.parameters())
    assert first.grad is not None and bool(first.grad.abs().sum() > 0)


@pytest.mark.parametrize('training', [True, False])
def test_looking_at_small_crops_leaves_a_backbone_as_it_was(training: bool) -> None:
    encoder = VisionEncoder(1, SIZE, SIZE, 2, VisionConfig(backbone='resnet18', readout='mean'))
    encoder.train(training)
    before = {name: value.clone() for name, value in encoder.named_buffers()}
    Dino(DataShape(1, SIZE, SIZE, 2, 2), DinoConfig(**SMALL, ibot_weight=0.0), encoder)
    assert all(module.training == training for module in encoder.modules())
    for name, value in encoder.named_buffers():
        assert torch.equal(value, before[name])


def test_a_transformer_of_one_size_does_without_small_crops() -> None:
    network = VisionConfig(backbone='deit_tiny_distilled_patch16_224', readout='mean')
    with pytest.raises(ValueError, match=r"local_size is 16, but network.backbone 'deit_tiny_dist"
                                         r"illed_patch16_224' takes no pictures of that size "
                                         r'beside its own \(.*\); set model.local_crops=0'):
        made(network, ibot_weight=0.0)
    objective = made(network, ibot_weight=0.0, local_crops=0)
    assert bool(torch.isfinite(objective({'images': scenes(2)}, dice())['loss']))


def test_trunks_of_their_own_for_each_camera_all_learn() -> None:
    objective = made(VisionConfig(vit=VitConfig(8, 24, 1, 2), shared=False))
    objective({'images': scenes(BATCH)}, dice())['loss'].backward()
    for trunk in objective.encoder.trunks:
        assert isinstance(trunk, PatchTrunk)
        assert trunk.camera.grad is not None and bool(trunk.camera.grad.abs().sum() > 0)


def test_it_needs_two_samples_to_tell_apart() -> None:
    assert dino_needs(DinoConfig()) == Needs(pairs=2)


@pytest.mark.parametrize(('changes', 'message'), [
    ({'local_size': 20}, r'local_size is 20, must be a multiple of the patch \(8\)'),
    ({'local_size': 0}, r'local_size is 0, must be a multiple of the patch \(8\)'),
    ({'local_smallest': 0.5}, 'local_smallest is 0.5 and local_largest 0.4; they must be above 0'),
    ({'local_largest': 1.5}, 'local_smallest is 0.1 and local_largest 1.5'),
    ({'local_crops': -1}, 'local_crops is -1, must be at least 0'),
    ({'mask_ratio': 1.0}, 'mask_ratio is 1.0: of 16 patches 16 would be hidden'),
    ({'prototypes': 1}, 'prototypes is 1, must be at least 2'),
    ({'momentum': 1.0}, 'momentum is 1.0, must be at least 0 and below 1'),
    ({'teacher_temperature': 0.0}, 'teacher_temperature is 0.0, must be above 0'),
    ({'ibot_weight': -1.0}, 'ibot_weight is -1.0, must be at least 0')])
def test_settings_that_cannot_work_are_refused_before_training(changes: dict[str, Any],
                                                               message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)
