# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures, instructions and actions embedded together: whom each row is compared with."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.robot import action_noise
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.losses.contrastive import paired_nce
from ssl_vla_ros.networks.actions import ActionEncoder
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import clip
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.clip import Clip, clip_needs, ClipConfig, MODALITIES
from ssl_vla_ros.training.building import build_objective
from tiny_training import draw, SIZE, small_config
import torch
from torch import nn, Tensor
from torch.nn import functional

# What the references import needs torchvision.
declare_missing_operators()

TASKS = tuple(f'{verb} it' for verb in ('lift', 'push', 'turn', 'drop', 'hold', 'shake', 'leave'))
SHAPE = DataShape(1, SIZE, SIZE, 2, 2, tasks=TASKS)
STEPS = 4
TEXT = {'width': 16, 'depth': 1, 'heads': 2}


def small(shape: DataShape = SHAPE, **changes: Any) -> Clip:
    torch.manual_seed(0)
    encoder = VisionEncoder(
        1, SIZE, SIZE, 2, VisionConfig(vit=VitConfig(patch=8, channels=16, depth=1, heads=2)))
    settings = {'hidden': 16, 'projection': 8, 'actions': STEPS, 'text_settings': TEXT, **changes}
    return Clip(shape, ClipConfig(**settings), encoder)


def samples(told: list[int], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = len(told)
    positions = np.random.default_rng(seed).uniform(0.0, 1.0, (count, 2)).astype(np.float32)
    left = torch.randint(1, STEPS + 1, (count,), generator=generator)
    return {'images': torch.from_numpy(draw(positions))[:, None],
            'instruction': torch.tensor(told),
            'actions': torch.randn(count, STEPS, 2, generator=generator),
            'valid': torch.arange(STEPS) < left[:, None]}


def once(objective: Clip, batch: dict[str, Tensor], seed: int = 0
         ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One forward pass, and the embedding of each modality."""
    found: dict[str, Tensor] = {}
    hooks = [module.register_forward_hook(
        lambda module, given, rows, name=name: found.__setitem__(name, rows))
        for name, module in objective.projections.items()]
    try:
        parts = objective(batch, torch.Generator().manual_seed(seed))
    finally:
        for hook in hooks:
            hook.remove()
    return parts, found


# -- the loss -----------------------------------------------------------------------------


def agrees_with_open_clip(objective: Clip, batch: dict[str, Tensor]) -> None:
    """Hold every pair, and their mean, against open_clip's loss on the same embeddings."""
    theirs = pytest.importorskip('open_clip.loss').ClipLoss()
    parts, found = once(objective, batch)
    pairs = list(combinations(objective.names, 2))
    expected = []
    for one, two in pairs:
        expected.append(theirs(*(functional.normalize(found[name].double(), dim=1)
                                 for name in (one, two)),
                               objective.log_scale[f'{one}_{two}'].double().exp()))
        ours = parts[f'{one}_{two}']
        torch.testing.assert_close(ours.double(), expected[-1], rtol=1e-6, atol=1e-6)
        for name in (one, two):
            mine, other = (torch.autograd.grad(loss, found[name], retain_graph=True)[0]
                           for loss in (ours, expected[-1]))
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
        assert float(parts[f'{one}_{two}_chance']) == pytest.approx(math.log(len(found[one])))
    torch.testing.assert_close(
        parts['loss'].double(), torch.stack(expected).mean(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('modalities', [
    MODALITIES, ('image', 'text'), ('action', 'image')])
def test_without_repeats_the_loss_is_open_clip_s(modalities: tuple[str, ...]) -> None:
    for count in (2, 7):
        agrees_with_open_clip(small(modalities=modalities), samples(list(range(count))))


@pytest.mark.parametrize('trap', [
    lambda one, two, scale, same, **more: paired_nce(one, two, 1 / scale, same),
    lambda one, two, scale, same, **more: paired_nce(one, two.roll(1, 0), scale, same),
    lambda one, two, scale, same, **more: paired_nce(one, two, scale, torch.zeros_like(same)),
], ids=['the scale is a temperature', 'the label is one off', 'all are positives'])
def test_the_comparison_with_open_clip_sees_the_traps(
        trap: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip, 'paired_nce', trap)
    with pytest.raises(AssertionError):
        agrees_with_open_clip(small(modalities=('image', 'text')), samples(list(range(6))))


class Fixed(nn.Module):
    """Embeddings that are learned freely, row by row."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, features: Tensor) -> Tensor:
        return self.rows


def free(told: list[int], seed: int = 0) -> Clip:
    """Build an objective with free embeddings, near each other where the instruction is one."""
    generator = torch.Generator().manual_seed(seed)
    objective = small(modalities=('image', 'text'))
    directions = torch.eye(8)[torch.tensor(told)]
    for name in objective.names:
        objective.projections[name] = Fixed(
            directions + 0.2 * torch.randn(len(told), 8, generator=generator))
    return objective


def brings_together(objective: Clip, told: list[int]) -> None:
    """Train free embeddings, and see that pictures of one instruction end beside each other."""
    optimiser = torch.optim.Adam(objective.projections.parameters(), lr=0.02)
    batch = samples(told)
    for _ in range(50):
        optimiser.zero_grad()
        objective(batch, torch.Generator().manual_seed(0))['image_text'].backward()
        optimiser.step()
    pictures = objective.projections['image']
    assert isinstance(pictures, Fixed)
    rows = functional.normalize(pictures.rows.detach(), dim=1)
    same = torch.tensor(told)[:, None] == torch.tensor(told)
    assert float((rows @ rows.T)[same].min()) > 0.75


def test_what_was_told_alike_is_brought_together_not_pushed_apart(
        monkeypatch: pytest.MonkeyPatch) -> None:
    told = [0, 0, 1, 1, 1, 2]
    brings_together(free(told), told)
    monkeypatch.setattr(clip, 'paired_nce', lambda one, two, scale, same, **more: paired_nce(
        one, two, scale, None, **more))
    with pytest.raises(AssertionError):
        brings_together(free(told), told)


def by_hand(found: dict[str, Tensor], one: str, two: str, scale: float, told: list[int]) -> float:
    """Mean over rows and both directions of the mean over a row's positives."""
    rows, columns = (functional.normalize(found[name].detach().double(), dim=1)
                     for name in (one, two))
    total = 0.0
    for table in (scale * rows @ columns.T, scale * columns @ rows.T):
        for row, mine in enumerate(told):
            scores = table[row].log_softmax(0)
            right = [float(scores[column]) for column, other in enumerate(told) if other == mine]
            total -= sum(right) / len(right) / (2 * len(told))
    return total


def test_repeated_instructions_are_positives_of_each_other_and_actions_are_not() -> None:
    told = [0, 0, 4, 4, 4, 2, 0]
    objective = small()
    with torch.no_grad():
        parts, found = once(objective, samples(told))
    scale = 1 / 0.07
    alone = list(range(len(told)))
    for one, two, who in (('image', 'text', told), ('text', 'action', told),
                          ('image', 'action', alone)):
        assert float(parts[f'{one}_{two}']) == pytest.approx(
            by_hand(found, one, two, scale, who), abs=2e-6)
    # Negative control: pictures and actions of one instruction are many different pairs.
    assert float(parts['image_action']) != pytest.approx(
        by_hand(found, 'image', 'action', scale, told), abs=1e-3)


def test_where_an_instruction_is_one_vector_several_positives_cost_what_one_does() -> None:
    """
    What the losses can reach: a tower gives all rows of an instruction one and the same vector.

    Then −ln p of each of g pictures is asked for once with one positive a row, and g times 1/g
    with g: the same sum. What remains at the optimum is the mean of ln g over rows, not 0.
    """
    told = torch.tensor([0, 0, 1, 1, 1, 2])
    generator = torch.Generator().manual_seed(0)
    pictures, words = torch.randn(2, 6, 8, generator=generator, dtype=torch.float64)
    several = paired_nce(pictures, words[told], 10.0, told)
    assert abs(float(several - paired_nce(pictures, words[told], 10.0))) < 1e-12
    perfect = torch.eye(3, dtype=torch.float64)[told]
    floor = (2 * math.log(2) + 3 * math.log(3)) / 6
    assert float(paired_nce(perfect, perfect, 100.0, told)) == pytest.approx(floor, abs=1e-6)


def test_under_mixed_precision_the_loss_is_in_full_precision(
        monkeypatch: pytest.MonkeyPatch) -> None:
    told = list(range(7)) * 3

    def exact(objective: Clip) -> None:
        with torch.autocast('cpu', torch.bfloat16), torch.no_grad():
            parts, found = once(objective, samples(told))
        assert parts['loss'].dtype == torch.float32
        wanted = by_hand(found, 'image', 'action', 1 / 0.07, list(range(len(told))))
        assert abs(float(parts['image_action']) - wanted) < 1e-5

    exact(small())
    bare: Any = paired_nce
    monkeypatch.setattr(clip, 'paired_nce', bare.__wrapped__)
    with pytest.raises(AssertionError):
        exact(small())


# -- the scale ----------------------------------------------------------------------------


def scales(objective: Clip) -> list[float]:
    return [float(value.detach().exp()) for value in objective.log_scale.values()]


def scale_stays_below_100(objective: Clip, after: Callable[[Clip], None]) -> None:
    optimiser = torch.optim.SGD(objective.log_scale.values(), lr=1e4)
    for number in range(4):
        optimiser.zero_grad()
        parts = objective(samples(list(range(6)), number), torch.Generator().manual_seed(0))
        # Towards ever larger scales, as if every pair were told apart.
        (parts['loss'] * 0 - sum(value for value in objective.log_scale.values())).backward()
        optimiser.step()
        after(objective)
        assert max(scales(objective)) <= 100.0 * (1 + 1e-6)
    assert min(scales(objective)) == pytest.approx(100.0)


def test_the_scale_begins_at_1_over_0_07_and_never_exceeds_100() -> None:
    objective = small()
    assert set(objective.log_scale) == {'image_text', 'image_action', 'text_action'}
    assert scales(objective) == pytest.approx([1 / 0.07] * 3)
    scale_stays_below_100(objective, Clip.end_step)
    with pytest.raises(AssertionError):
        scale_stays_below_100(small(), lambda objective: None)


def test_the_scale_is_learned() -> None:
    objective = small()
    once(objective, samples([0, 1, 2, 3]))[0]['loss'].backward()
    assert all(value.grad is not None and float(value.grad) != 0.0
               for value in objective.log_scale.values())


# -- actions ------------------------------------------------------------------------------


def padding_does_not_matter(objective: Clip) -> None:
    batch = samples(list(range(6)))
    assert 0 < int((~batch['valid']).sum()) < batch['valid'].numel()
    other = dict(batch, actions=torch.where(
        batch['valid'][..., None], batch['actions'], torch.full_like(batch['actions'], 1e3)))
    found = []
    for given in (batch, other):
        objective.zero_grad()
        loss = objective(given, torch.Generator().manual_seed(0))['loss']
        loss.backward()
        found.append([loss.detach(), *(value.grad for value in objective.parameters()
                                       if value.grad is not None)])
    assert len(found[0]) > 20
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_steps_past_the_end_of_an_episode_change_nothing(
        monkeypatch: pytest.MonkeyPatch) -> None:
    padding_does_not_matter(small())
    whole = ActionEncoder.forward
    monkeypatch.setattr(ActionEncoder, 'forward', lambda self, actions, valid: whole(
        self, actions, torch.ones_like(valid)))
    with pytest.raises(AssertionError):
        padding_does_not_matter(small())


def test_a_chunk_is_the_mean_over_what_was_done() -> None:
    tower = ActionEncoder(2, STEPS, width=8, depth=1, heads=2)
    tokens: list[Tensor] = []
    tower.norm.register_forward_hook(lambda module, given, rows: tokens.append(rows))
    batch = samples([0] * 20)
    with torch.no_grad():
        found = tower(batch['actions'], batch['valid'])
    assert len(batch['valid'].sum(1).unique()) > 2
    for row, valid in enumerate(batch['valid']):
        torch.testing.assert_close(found[row], tokens[0][row][valid].mean(0))
    # Steps have a place: the same actions in another order are another chunk.
    whole = torch.ones_like(batch['valid'])
    turned = tower(batch['actions'].flip(1), whole)
    assert not torch.allclose(turned, tower(batch['actions'], whole), atol=1e-3)


def noise_is_on_what_was_done(objective: Clip, sigma: float) -> None:
    batch = samples([number % 7 for number in range(200)])
    tower = objective.towers['action']
    assert isinstance(tower, ActionEncoder)
    tower.actions.fit(3.0 * batch['actions'].flatten(0, 1) + 7.0)
    seen: list[Tensor] = []
    hook = tower.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    objective(batch, torch.Generator().manual_seed(0))
    hook.remove()
    noise = seen[0] - tower.actions(batch['actions'])
    assert float(noise[~batch['valid']].abs().max()) == 0.0
    assert float(noise[batch['valid']].std()) == pytest.approx(sigma, rel=0.1)


def test_noise_is_in_standard_deviations_and_never_on_padding(
        monkeypatch: pytest.MonkeyPatch) -> None:
    noise_is_on_what_was_done(small(action_noise=0.3), 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(clip, 'action_noise', lambda actions, sigma, generator, valid: action_noise(
            actions, sigma, generator))
        with pytest.raises(AssertionError):
            noise_is_on_what_was_done(small(action_noise=0.3), 0.3)
    with pytest.raises(AssertionError):
        noise_is_on_what_was_done(small(action_noise=0.1), 0.3)


# -- what is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(('tasks', 'modalities', 'message'), [
    (('lift it',), MODALITIES,
     r"clip with text needs instructions that differ, the dataset has only 'lift it'; leave text "
     r'out \(model\.modalities=\[image, action\]\)'),
    ((), MODALITIES, r'the dataset has none; leave text out \(model\.modalities=\[image, action'),
    (('lift it',), ('image', 'text'), "has only 'lift it'; use another objective"),
])
def test_a_dataset_of_one_instruction_is_refused_and_told_what_to_do(
        tasks: tuple[str, ...], modalities: tuple[str, ...], message: str) -> None:
    shape = DataShape(1, SIZE, SIZE, 2, 2, tasks=tasks)
    with pytest.raises(ValueError, match=message):
        small(shape, modalities=modalities)
    config = small_config('clip', model={'modalities': f'[{", ".join(modalities)}]'})
    with pytest.raises(ConfigError, match=f'here: model: .*{message}'):
        build_objective(config, shape, 'here')
    # What the sentence says to do works.
    small(shape, modalities=('image', 'action'))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'modalities': ('image',)}, r"modalities is \['image'\], must name two or three of image"),
    ({'modalities': ('image', 'txt')}, "modalities has 'txt', must be of .*text"),
    ({'modalities': ('text', 'action')}, 'must have image: without it the encoder would learn n'),
    ({'action_noise': -0.1}, 'action_noise is -0.1, must be at least 0 and finite'),
    ({'action_noise': float('nan')}, 'action_noise is nan'),
    ({'actions': 0}, 'actions is 0, must be at least 1'),
    ({'chunk': -2}, 'chunk is -2, must be at least 0'),
])
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_without_actions_it_wants_none_and_a_dataset_without_any_is_told() -> None:
    assert clip_needs(ClipConfig(modalities=('image', 'text'))).actions == 0
    assert not clip_needs(ClipConfig(modalities=('image', 'action'))).text
    assert clip_needs(ClipConfig(actions=5)).actions == 5
    with pytest.raises(ValueError, match=r'model\.modalities=\[image, text\]'):
        small(DataShape(1, SIZE, SIZE, 2, 0, tasks=TASKS))
