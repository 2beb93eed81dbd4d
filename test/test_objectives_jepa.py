# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""JEPA: which side learns, what the predictor is fed, and what it must not see."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.networks.predictors import LatentPredictor
from ssl_vla_ros.networks.trunk import PatchTransformer
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import jepa
from ssl_vla_ros.objectives.base import DataShape, Needs
from ssl_vla_ros.objectives.jepa import Jepa, jepa_needs, JepaConfig
from ssl_vla_ros.objectives.masking import block_patches
from tiny_training import draw, SIZE
import torch
from torch import nn, Tensor

STILL = PhotometricConfig(0.0, 0.0, 0.0)
CAMERAS, FRAMES, STRIDE, ACTION, WIDTH, GRID = 2, 4, 2, 2, 16, 16


def made(predict: str, target: str, network: VisionConfig | None = None, **changes: Any) -> Jepa:
    torch.manual_seed(0)
    encoder = VisionEncoder(CAMERAS, SIZE, SIZE, 3, network or VisionConfig(
        vit=VitConfig(8, 24, 1, 2)))
    settings: dict[str, Any] = {
        'predict': predict, 'target': target, 'frames': FRAMES, 'stride': STRIDE, 'rollout': 3,
        'width': WIDTH, 'depth': 1, 'heads': 2, 'directions': 8, 'photometric': STILL, **changes}
    objective = Jepa(DataShape(CAMERAS, SIZE, SIZE, 3, ACTION), JepaConfig(**settings), encoder)
    if predict == 'hidden':
        nn.init.normal_(objective.tubes.change.weight, 0.0, 0.05)
    return objective.train()


def differing(objective: Jepa) -> Jepa:
    """Move the teacher away from where it begins."""
    generator = torch.Generator().manual_seed(9)
    assert objective.teacher is not None
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return objective


def batch(count: int = 5, seed: int = 0) -> dict[str, Tensor]:
    """Clips of a square, with two actions from each frame to the next."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0.0, 1.0, (count * FRAMES * CAMERAS, 2)).astype(np.float32)
    actions = rng.normal(size=(count, (FRAMES - 1) * STRIDE, ACTION)).astype(np.float32)
    return {'images': torch.from_numpy(draw(positions)).view(
                count, FRAMES, CAMERAS, SIZE, SIZE, 3),
            'actions': torch.from_numpy(actions)}


def dice(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def both_sides(monkeypatch: pytest.MonkeyPatch, objective: Jepa, given: dict[str, Tensor],
               ) -> list[tuple[Tensor, Tensor]]:
    """Predictions and targets that a step compares."""
    found: list[tuple[Tensor, Tensor]] = []
    original = Jepa._error
    with monkeypatch.context() as patch:
        patch.setattr(Jepa, '_error', lambda self, prediction, target: (
            found.append((prediction, target)), original(self, prediction, target))[1])
        objective(given, dice())
    return found


class BlindTubes(nn.Module):
    """A predictor that looks at nothing: what the loss pulls on is the target alone."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.answer = nn.Parameter(torch.linspace(-1.0, 1.0, size))

    def forward(self, tokens: Tensor, shown: Tensor, asked: Tensor) -> Tensor:
        return self.answer.expand(len(tokens), asked.shape[1], -1)


class BlindLatents(LatentPredictor):
    """The same for the next latents."""

    def forward(self, latents: Tensor, actions: Tensor | None) -> Tensor:
        return torch.linspace(-1.0, 1.0, WIDTH).expand(*latents.shape[:2], -1)


class Recorder(LatentPredictor):
    """A toy whose next latent is the last plus what was done; it keeps what it was given."""

    def __init__(self, step: float = 1.0) -> None:
        super().__init__(WIDTH, ACTION * STRIDE, FRAMES - 1, depth=1, heads=2)
        self.step = step
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, latents: Tensor, actions: Tensor | None) -> Tensor:
        assert actions is not None
        self.given.append((latents.detach(), actions))
        move = torch.cat([actions, 0.5 * actions, actions.square(), -actions], dim=-1)
        return latents + self.step * move


# -- gradients ----------------------------------------------------------------------------


def pull_on_the_target(objective: Jepa) -> float:
    """Gradient that the encoder gets through the target alone."""
    if objective.config.predict == 'hidden':
        objective.predictor = BlindTubes(24)  # type: ignore[assignment]
    else:
        objective.predictor = BlindLatents(WIDTH, 0, FRAMES - 1, depth=1, heads=2)
    parts = objective(batch(), dice())
    if not parts['jepa'].requires_grad:
        return 0.0
    gradients = torch.autograd.grad(
        parts['jepa'], [*objective.encoder.trunk.parameters()], allow_unused=True)
    return sum(float(gradient.abs().sum()) for gradient in gradients if gradient is not None)


@pytest.mark.parametrize('predict', ['hidden', 'next'])
def test_a_teacher_s_target_is_detached_and_a_gaussian_one_is_not(predict: str) -> None:
    assert pull_on_the_target(made(predict, 'teacher')) == 0.0
    assert pull_on_the_target(made(predict, 'gaussian')) > 1e-3


@pytest.mark.parametrize('predict', ['hidden', 'next'])
def test_the_teacher_gets_no_gradient_and_follows(predict: str) -> None:
    objective = differing(made(predict, 'teacher', momentum=0.9))
    objective(batch(), dice())['loss'].backward()
    assert objective.teacher is not None
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    followed = objective.tubes.change if predict == 'hidden' else objective.latent
    students = [*objective.encoder.parameters(), *followed.parameters()]
    assert all(parameter.grad is not None for parameter in followed.parameters())
    before = [slow.clone() for slow in objective.teacher.parameters()]
    objective.end_step()
    for old, slow, fast in zip(before, objective.teacher.parameters(), students, strict=True):
        torch.testing.assert_close(slow - old, (1.0 - 0.9) * (fast.detach() - old),
                                   rtol=1e-4, atol=1e-6)
    assert [*objective.teachers()] == ['jepa']


@pytest.mark.parametrize('predict', ['hidden', 'next'])
def test_without_a_teacher_features_are_held_to_a_normal_distribution(predict: str) -> None:
    objective = made(predict, 'gaussian', gaussian_weight=0.5, rollout=1)
    parts = objective(batch(), dice())
    assert objective.teacher is None and objective.teachers() == {}
    objective.end_step()
    assert set(parts) == {'loss', 'jepa', 'jepa_gaussian'}
    assert float(parts['loss'].detach()) == pytest.approx(
        float(parts['jepa'].detach()) + 0.5 * float(parts['jepa_gaussian'].detach()), rel=1e-5)


def spread(objective: Jepa, images: Tensor) -> Tensor:
    """Deviation of each number of the latents over pictures."""
    with torch.no_grad():
        return objective.latent(objective.encoder.rows(images.float())).flatten(0, -2).std(0)


def spread_after_training(weight: float, prepared: bool) -> float:
    """Deviation of latents over pictures, in the mean over their numbers."""
    objective, given = made('next', 'gaussian', gaussian_weight=weight, rollout=1), batch(16)
    rows = {'images': given['images'].flatten(0, 1), 'actions': given['actions'].flatten(0, 1)}
    if prepared:
        objective.prepare(rows)
        torch.testing.assert_close(spread(objective, rows['images']), torch.ones(WIDTH),
                                   rtol=1e-3, atol=1e-3)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    for step in range(40):
        loss = objective(given, dice(step))['loss']
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(spread(objective, given['images']).mean())


def test_the_normal_distribution_keeps_features_from_collapsing() -> None:
    held = spread_after_training(0.5, prepared=True)
    assert held > 0.4
    assert spread_after_training(0.0, prepared=True) < 0.8 * held, 'without it they draw together'


def test_features_that_begin_nearly_equal_would_stay_so() -> None:
    """Negative control: the distance has no slope where all are equal."""
    assert spread_after_training(0.5, prepared=False) < 0.05


# -- both sides are normalised ------------------------------------------------------------


class Scaled(nn.Module):
    """A predictor's answers on another scale."""

    def __init__(self, predictor: nn.Module) -> None:
        super().__init__()
        self.predictor = predictor

    def forward(self, *given: Tensor) -> Tensor:
        found: Tensor = 3.0 * self.predictor(*given) + 2.0
        return found


@pytest.mark.parametrize(('target', 'same'), [('teacher', True), ('gaussian', False)])
def test_scales_matter_only_where_nothing_is_normalised(target: str, same: bool) -> None:
    objective = made('hidden', target)
    before = float(objective(batch(), dice())['jepa'].detach())
    objective.predictor = Scaled(objective.predictor)  # type: ignore[assignment]
    scaled = float(objective(batch(), dice())['jepa'].detach())
    assert (scaled == pytest.approx(before, rel=1e-3)) == same
    # The other side.
    objective = made('hidden', target)
    source = objective.encoder if objective.teacher is None else objective.teacher.copies[0]
    assert isinstance(source, VisionEncoder) and isinstance(source.trunk, PatchTransformer)
    with torch.no_grad():
        source.trunk.norm.weight.mul_(3.0)
        source.trunk.norm.bias.add_(2.0)
    scaled = float(objective(batch(), dice())['jepa'].detach())
    assert (scaled == pytest.approx(before, rel=1e-3)) == same


def test_the_error_is_l1_of_normalised_features(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = differing(made('hidden', 'teacher'))
    ((prediction, target),) = both_sides(monkeypatch, objective, batch())

    def even(rows: Tensor) -> Tensor:
        return (rows - rows.mean(-1, keepdim=True)) / (
            rows.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = (even(prediction) - even(target)).abs().mean()
    found = objective(batch(), dice())['loss']
    torch.testing.assert_close(found, expected)
    assert abs(float((prediction - target).abs().mean().detach() - expected.detach())) > 1e-2


# -- the rollout --------------------------------------------------------------------------


def fed_its_own_predictions(recorder: Recorder) -> None:
    """See that a rollout of three begins with one true latent and goes on from its own."""
    (truth, done), *rollout = recorder.given
    assert truth.shape == (5, FRAMES - 1, WIDTH) and done.shape == (5, 3, ACTION * STRIDE)
    assert [latents.shape[1] for latents, _ in rollout] == [1, 2, 3]
    known = truth[:, :1]
    for latents, actions in rollout:
        assert torch.equal(actions, done[:, :latents.shape[1]])
        torch.testing.assert_close(latents, known)
        move = torch.cat([actions, 0.5 * actions, actions.square(), -actions], dim=-1)
        known = torch.cat([known, (latents + move)[:, -1:]], dim=1)
    assert not torch.allclose(rollout[-1][0][:, 1:], truth[:, 1:], atol=0.1)


def recorded(objective: Jepa, recorder: Recorder) -> Recorder:
    objective.predictor = recorder
    objective(batch(), dice())
    return recorder


@pytest.mark.parametrize('target', ['teacher', 'gaussian'])
def test_a_rollout_is_fed_its_own_predictions_and_the_right_actions(target: str) -> None:
    fed_its_own_predictions(recorded(made('next', target), Recorder()))


class FedTheTruth(Recorder):
    """The mistake: every step from the latent that was really there."""

    def rollout(self, latents: Tensor, actions: Tensor | None, horizon: int) -> Tensor:
        truth = self.given[0][0]
        assert actions is not None
        return torch.cat([self(truth[:, :step + 1], actions[:, :step + 1])[:, -1:]
                          for step in range(horizon)], dim=1)


class OneActionLate(Recorder):
    """The mistake: each step with the action of the one before."""

    def rollout(self, latents: Tensor, actions: Tensor | None, horizon: int) -> Tensor:
        assert actions is not None
        return super().rollout(latents, actions.roll(1, dims=1), horizon)


@pytest.mark.parametrize('wrong', [FedTheTruth, OneActionLate])
def test_the_check_of_rollouts_sees_the_wrong_latent_and_the_wrong_action(wrong: type[Recorder]
                                                                          ) -> None:
    with pytest.raises(AssertionError):
        fed_its_own_predictions(recorded(made('next', 'teacher'), wrong()))


def test_rollout_and_steps_are_held_against_the_frames_they_predict(
        monkeypatch: pytest.MonkeyPatch) -> None:
    objective = differing(made('next', 'teacher'))
    given = batch()
    one_step, far = both_sides(monkeypatch, objective, given)
    slow = objective._slow_latents(given['images'].float(), None)
    torch.testing.assert_close(one_step[1], slow[:, 1:])
    torch.testing.assert_close(far[1], slow[:, 2:])
    assert far[0].shape == (5, 2, WIDTH)
    # The first step of a rollout is one of those above: it is left out.
    parts = objective(given, dice())
    assert float(parts['loss'].detach()) == pytest.approx(
        float(parts['jepa'].detach() + parts['jepa_rollout'].detach()), rel=1e-5)


def seen_by(objective: Jepa) -> list[Tensor]:
    """Latents that the objective's own predictor is given in a step."""
    given: list[Tensor] = []
    objective.predictor.register_forward_pre_hook(
        lambda module, item: given.append(item[0].detach()))
    objective(batch(), dice())
    return given


def test_what_is_fed_back_has_the_scale_of_what_was_seen() -> None:
    """L1 of normalised features does not hold the scale of a prediction; its norm does."""
    for target, normalised in (('teacher', True), ('gaussian', False)):
        objective = made('next', target)
        assert isinstance(objective.predictor, LatentPredictor)
        with torch.no_grad():
            objective.predictor.out.weight.mul_(30.0)
        scales = [latents.std(-1, unbiased=False) for latents in seen_by(objective)]
        held = all(float((scale - 1.0).abs().max()) < 0.02 for scale in scales)
        assert held == normalised


# -- actions ------------------------------------------------------------------------------


def test_actions_of_skipped_frames_are_joined_in_order() -> None:
    objective, given = made('next', 'teacher'), batch()
    rows = {'actions': 3.0 + 5.0 * torch.randn(400, ACTION, generator=dice())}
    objective.prepare(rows)
    recorder = Recorder()
    objective.predictor = recorder
    objective(given, dice())
    joined = recorder.given[0][1]
    mean, spread = rows['actions'].mean(0), rows['actions'].std(0)
    for step in range(FRAMES - 1):
        between = [(given['actions'][:, STRIDE * step + late] - mean) / spread
                   for late in range(STRIDE)]
        torch.testing.assert_close(joined[:, step], torch.cat(between, dim=1))
        # Negative control: those of the next step, or in turns, are others.
        assert not torch.allclose(joined[:, step], torch.cat(between[::-1], dim=1), atol=0.1)
    wrong = ((given['actions'] - mean) / spread).unflatten(1, (STRIDE, -1)).transpose(1, 2)
    assert not torch.allclose(joined, wrong.flatten(2), atol=0.1)


def test_an_action_that_never_changes_is_no_division_by_zero() -> None:
    objective = made('next', 'teacher')
    objective.prepare({'actions': torch.ones(10, ACTION)})
    assert bool(torch.isfinite(objective({**batch(), 'actions': torch.ones(5, 6, ACTION)},
                                         dice())['loss']))


def test_without_actions_none_are_asked_for() -> None:
    config = JepaConfig(predict='next', frames=4, stride=3)
    assert jepa_needs(config) == Needs(frames=4, stride=3, actions=9, pairs=2)
    assert jepa_needs(dataclasses.replace(config, actions=False)).actions == 0
    assert jepa_needs(dataclasses.replace(config, predict='hidden')).actions == 0
    objective = made('next', 'teacher', actions=False)
    given = {'images': batch()['images']}
    objective.prepare(given)
    assert bool(torch.isfinite(objective(given, dice())['loss']))


# -- hidden tubes -------------------------------------------------------------------------


def a_mask(monkeypatch: pytest.MonkeyPatch, count: int) -> Tensor:
    mask = block_patches(count, 4, 4, 0.75, dice(1), torch.device('cpu'))
    monkeypatch.setattr(jepa, 'block_patches', lambda *given: mask)
    return mask


def test_hidden_tubes_do_not_reach_the_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, given = differing(made('hidden', 'teacher')), batch()
    mask = a_mask(monkeypatch, 5 * CAMERAS)
    pixels = mask.view(5, 1, CAMERAS, 4, 4).repeat_interleave(8, 3).repeat_interleave(8, 4)
    images = given['images']
    hidden = torch.where(pixels[..., None], 255 - images, images)
    shown = torch.where(pixels[..., None], images, 255 - images)
    (before,) = both_sides(monkeypatch, objective, given)
    (spoilt,) = both_sides(monkeypatch, objective, {**given, 'images': hidden})
    assert before[0].shape == (5 * CAMERAS, 2 * 12, 24)
    assert torch.equal(spoilt[0], before[0])
    assert not torch.allclose(spoilt[1], before[1], atol=1e-2)
    # Negative control: what is shown reaches it.
    (changed,) = both_sides(monkeypatch, objective, {**given, 'images': shown})
    assert not torch.allclose(changed[0], before[0], atol=1e-4)


def test_targets_are_the_teacher_s_features_of_the_whole_clip(monkeypatch: pytest.MonkeyPatch
                                                              ) -> None:
    objective, given = differing(made('hidden', 'teacher')), batch()
    mask = a_mask(monkeypatch, 5 * CAMERAS)
    ((_, target),) = both_sides(monkeypatch, objective, given)
    assert objective.teacher is not None
    encoder, change = objective.teacher.copies
    clips = given['images'].transpose(1, 2).flatten(0, 1)
    every = torch.arange(2 * GRID).expand(5 * CAMERAS, -1)
    with torch.no_grad():
        whole = objective.tubes(objective.tubes.patches(clips), every, (encoder, change))[:, 1:]
    for sample in range(5 * CAMERAS):
        asked = [tube for tube in range(2 * GRID) if mask[sample, tube % GRID]]
        torch.testing.assert_close(target[sample], whole[sample, asked])


def test_the_teacher_has_a_change_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, given = made('hidden', 'teacher'), batch()
    a_mask(monkeypatch, 5 * CAMERAS)
    ((_, before),) = both_sides(monkeypatch, objective, given)
    with torch.no_grad():
        objective.tubes.change.weight.mul_(-1.0)
    ((_, after),) = both_sides(monkeypatch, objective, given)
    assert torch.equal(after, before), 'the student is not in the target'
    assert objective.teacher is not None
    slow = objective.teacher.copies[1]
    assert isinstance(slow, nn.Linear)
    with torch.no_grad():
        slow.weight.add_(0.1 * torch.randn(slow.weight.shape, generator=dice()))
    ((_, after),) = both_sides(monkeypatch, objective, given)
    assert not torch.allclose(after, before, atol=1e-3)


# -- settings -----------------------------------------------------------------------------


def test_all_four_run_with_trunks_of_their_own_for_each_camera() -> None:
    for predict in jepa.PREDICTIONS:
        for target in jepa.TARGETS:
            objective = made(predict, target,
                             VisionConfig(vit=VitConfig(8, 24, 1, 2), shared=False))
            objective(batch(), dice())['loss'].backward()
            for trunk in objective.encoder.trunks:
                assert isinstance(trunk, PatchTransformer)
                gradient = trunk.project.weight.grad
                assert gradient is not None and bool(gradient.abs().sum() > 0)


def test_next_takes_a_convolutional_backbone_and_the_state() -> None:
    objective = made('next', 'gaussian', VisionConfig(
        backbone='resnet18', readout='mean', proprioception=True))
    given = {**batch(2), 'state': torch.randn(2, FRAMES, 3)}
    objective(given, dice())['loss'].backward()
    assert objective.encoder.proprioception is not None
    layer = objective.encoder.proprioception.layers[0]
    assert isinstance(layer, nn.Linear) and layer.weight.grad is not None
    with pytest.raises(ValueError, match='jepa with model.predict=hidden hides patches, which '
                                         "network.backbone 'resnet18' cannot leave out"):
        made('hidden', 'teacher', VisionConfig(backbone='resnet18', readout='mean'))


@pytest.mark.parametrize(('predict', 'changes', 'message'), [
    ('hiden', {}, "predict is 'hiden', must be hidden or next; did you mean 'hidden'"),
    ('next', {'target': 'teachr'}, "target is 'teachr', must be teacher or gaussian"),
    ('hidden', {'frames': 3}, 'frames is 3, must be even'),
    ('hidden', {'mask_ratio': 0.0}, 'mask_ratio is 0.0'),
    ('next', {'frames': 1}, 'frames is 1, must be at least 2'),
    ('next', {'rollout': 4}, 'rollout is 4, must lie between 1 and frames - 1 = 3'),
    ('next', {'rollout': 0}, 'rollout is 0, must lie between 1'),
    ('next', {'directions': 0}, 'directions is 0, both must be at least 1'),
    ('hidden', {'gaussian_weight': -0.1}, 'gaussian_weight is -0.1, must be at least 0'),
    ('hidden', {'momentum': 1.0}, 'momentum is 1.0, must be at least 0 and below 1')])
def test_settings_that_cannot_work_are_refused(predict: str, changes: dict[str, Any],
                                               message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(predict, changes.pop('target', 'teacher'), **changes)


def test_actions_that_the_dataset_has_not_are_told() -> None:
    encoder = VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(vit=VitConfig(8, 24, 1, 2)))
    with pytest.raises(ValueError, match='needs actions, the dataset has none; set '
                                         'model.actions=false'):
        Jepa(DataShape(1, SIZE, SIZE, 0, 0), JepaConfig(predict='next'), encoder)
