# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Prediction over time: learned where time can be predicted, and solved by nothing else."""

from __future__ import annotations

from collections.abc import Callable
import inspect
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.views import ViewConfig
from ssl_vla_ros.losses.precision import unit
from ssl_vla_ros.losses.temporal import future_nce
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import temporal
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.temporal import Temporal, temporal_needs, TemporalConfig
from tiny_training import draw, SIZE
import torch
from torch import Tensor
from torch.nn import functional

STILL = ViewConfig(crop_smallest=1.0, jitter_share=0.0, grey_share=0.0, blur_share=0.0)
NETWORK = VisionConfig(vit=VitConfig(patch=8, channels=16, depth=1, heads=2))
CLIPS, FRAMES, HORIZON = 8, 6, 2


def small(network: VisionConfig = NETWORK, **changes: Any) -> Temporal:
    torch.manual_seed(0)
    settings = {
        'frames': FRAMES, 'horizon': HORIZON, 'width': 32, 'views': STILL, **changes}
    return Temporal(DataShape(1, SIZE, SIZE, 2, 2), TemporalConfig(**settings),
                    VisionEncoder(1, SIZE, SIZE, 2, network))


def circling(count: int, seed: int, turn: float = 0.7) -> Tensor:
    """Clips of a square that goes round by so many radians from one frame to the next."""
    begin = np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, (count, 1))
    angle = begin + turn * np.arange(FRAMES)
    places = 0.5 + 0.45 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    pictures = draw(places.reshape(-1, 2).astype(np.float32))
    return torch.from_numpy(pictures).view(count, FRAMES, 1, SIZE, SIZE, 3)


def shuffled(clips: Tensor, seed: int) -> Tensor:
    """All frames of all clips in any order."""
    order = torch.randperm(
        len(clips) * FRAMES, generator=torch.Generator().manual_seed(seed))
    return clips.flatten(0, 1)[order].view_as(clips)


def parts_of(objective: Temporal, clips: Tensor) -> dict[str, float]:
    with torch.no_grad():
        parts = objective({'images': clips}, torch.Generator().manual_seed(0))
    return {name: float(value) for name, value in parts.items()}


def trained(make: Callable[[int], Tensor], steps: int) -> Temporal:
    objective = small()
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    for step in range(steps):
        loss = objective({'images': make(step)}, torch.Generator().manual_seed(step))['loss']
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return objective


# -- learning -----------------------------------------------------------------------------


def means(objective: Temporal, make: Callable[[int], Tensor]) -> dict[str, float]:
    """Mean of each part over batches of clips that were not met in training."""
    found = [parts_of(objective, make(10_000 + number)) for number in range(8)]
    return {name: float(np.mean([parts[name] for parts in found])) for name in found[0]}


def learned(objective: Temporal, make: Callable[[int], Tensor]) -> None:
    """See that each horizon is well above chance."""
    parts = means(objective, make)
    for ahead in range(1, HORIZON + 1):
        choices = CLIPS * (FRAMES - ahead)
        assert parts[f'temporal_{ahead}_chance'] == pytest.approx(math.log(choices))
        assert parts[f'temporal_{ahead}'] < 0.7 * math.log(choices)
        assert parts[f'temporal_right_{ahead}'] > 5 / choices


def test_it_learns_where_time_can_be_predicted_and_cannot_where_it_is_shuffled() -> None:
    learned(trained(lambda step: circling(CLIPS, step), 180), lambda step: circling(CLIPS, step))

    def mixed(step: int) -> Tensor:
        return shuffled(circling(CLIPS, step), step)

    objective = trained(mixed, 180)
    parts = means(objective, mixed)
    for ahead in range(1, HORIZON + 1):
        choices = CLIPS * (FRAMES - ahead)
        assert parts[f'temporal_{ahead}'] > math.log(choices) - 0.05
        assert parts[f'temporal_right_{ahead}'] < 3 / choices
    with pytest.raises(AssertionError):
        learned(objective, mixed)


def only_others(expected: Tensor, found: Tensor, temperature: float, *, gather: bool
                ) -> Tensor:
    """Fall into the trap: wrong answers are the same moment of other clips alone."""
    scores = torch.einsum('amd,bmd->mab', unit(expected), unit(found)) / temperature
    labels = torch.arange(len(expected)).expand(scores.shape[0], -1)
    return functional.cross_entropy(scores.flatten(0, 1), labels.flatten())


def needs_more_than_the_background(objective: Temporal) -> None:
    """See that where every clip stands still, no weights do better than to guess the moment."""
    parts = parts_of(objective, circling(CLIPS, 10_000, turn=0.0))
    for ahead in range(1, HORIZON + 1):
        assert parts[f'temporal_{ahead}'] >= math.log(FRAMES - ahead) - 1e-4


def test_other_moments_of_the_same_clip_are_wrong_answers(
        monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(temporal, 'future_nce', only_others)
        objective = trained(lambda step: circling(CLIPS, step, turn=0.0), 160)
        # Negative control: without them the background is all it takes.
        with pytest.raises(AssertionError):
            needs_more_than_the_background(objective)
    needs_more_than_the_background(objective)


# -- what is compared with what -----------------------------------------------------------


def traced(objective: Temporal, clips: Tensor, autocast: bool = False
           ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """One forward pass, the features and the context of every moment."""
    seen: list[Tensor] = []
    hooks = [objective.features.register_forward_hook(lambda module, given, rows: seen.append(
        rows)), objective.context.register_forward_hook(lambda module, given, rows: seen.append(
            rows[0]))]
    try:
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            parts = objective({'images': clips}, torch.Generator().manual_seed(0))
    finally:
        for hook in hooks:
            hook.remove()
    return parts, seen[0], seen[1]


def is_the_written_out_sum(objective: Temporal) -> None:
    parts, features, context = traced(objective, circling(5, 3))
    total = 0.0
    for ahead in range(1, HORIZON + 1):
        predict, loss, right = objective.predict[ahead - 1], 0.0, 0
        later = [(clip, moment) for clip in range(5) for moment in range(ahead, FRAMES)]
        for clip in range(5):
            for moment in range(FRAMES - ahead):
                with torch.no_grad():
                    expected = unit(predict(context[clip, moment])).double()
                scores = torch.stack([expected @ unit(features[place]).double()
                                      for place in later]) / objective.config.temperature
                answer = later.index((clip, moment + ahead))
                loss -= float(scores.log_softmax(0)[answer]) / len(later)
                right += int(int(scores.argmax()) == answer)
        assert float(parts[f'temporal_{ahead}']) == pytest.approx(loss, abs=1e-5)
        assert float(parts[f'temporal_right_{ahead}']) == pytest.approx(right / len(later))
        total += loss / HORIZON
    assert float(parts['loss']) == pytest.approx(total, abs=1e-5)


@pytest.fixture(scope='module')
def taught() -> Temporal:
    """Train until features differ, so that no two answers are as good."""
    return trained(lambda step: circling(CLIPS, step), 80)


def test_each_horizon_is_the_written_out_sum(
        taught: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    is_the_written_out_sum(taught)
    for trap in (only_others,
                 lambda expected, found, temperature, gather: future_nce(
                     expected, found.roll(1, 1), temperature),
                 lambda expected, found, temperature, gather: future_nce(
                     expected, found, 1 / temperature)):
        monkeypatch.setattr(temporal, 'future_nce', trap)
        with pytest.raises(AssertionError):
            is_the_written_out_sum(taught)


def clips_stay_apart(objective: Temporal) -> None:
    """See that a clip's context is the same whatever stood before it or stands beside it."""
    one, other = circling(4, 1), circling(4, 2)
    _, _, alone = traced(objective, one)
    _, _, after = traced(objective, other)
    _, _, again = traced(objective, one)
    _, _, beside = traced(objective, torch.cat([other, one]))
    for found in (again, beside[4:]):
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(beside[:4], after, rtol=1e-4, atol=1e-5)


class Carrying(torch.nn.GRU):
    """The trap: begins each batch where the last one ended."""

    state: Tensor | None = None

    def forward(self, rows: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        fits = self.state is not None and self.state.shape[1] == len(rows)
        found, self.state = super().forward(rows, self.state if fits else None)
        return found, self.state


def test_the_hidden_state_does_not_cross_clips(taught: Temporal) -> None:
    clips_stay_apart(taught)
    carrying = small()
    carrying.load_state_dict(taught.state_dict())
    carrying.context = Carrying(32, 32, batch_first=True)
    with pytest.raises(AssertionError):
        clips_stay_apart(carrying)
    sideways = small()
    sideways.load_state_dict(taught.state_dict())
    sideways.context.batch_first = False    # clips would follow each other as moments do
    with pytest.raises(AssertionError):
        clips_stay_apart(sideways)


def the_future_is_unknown(objective: Temporal) -> None:
    """See that neither features nor context of a moment depend on later frames."""
    clips = circling(4, 1)
    later = clips.clone()
    later[:, -1] = 255 - later[:, -1]
    for one, two in zip(traced(objective, clips)[1:], traced(objective, later)[1:], strict=True):
        torch.testing.assert_close(one[:, :-1], two[:, :-1], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(one[:, -1], two[:, -1], atol=1e-3)


def test_nothing_of_the_future_reaches_the_context(
        taught: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    the_future_is_unknown(taught)
    backbone = VisionConfig(backbone='test_resnet', readout='mean')
    with pytest.raises(ValueError, match="temporal cannot train network.backbone 'test_resnet'"):
        small(backbone)
    the_future_is_unknown(small(VisionConfig(backbone='test_resnet', readout='mean',
                                             frozen=True)).train())
    # Negative control: why batch normalisation is refused.
    monkeypatch.setattr(temporal, 'mixes_samples', lambda module: False)
    with pytest.raises(AssertionError):
        the_future_is_unknown(small(backbone).train())


def test_under_mixed_precision_the_loss_is_in_full_precision(
        taught: Temporal, monkeypatch: pytest.MonkeyPatch) -> None:
    def exact() -> None:
        parts, features, context = traced(taught, circling(16, 5), autocast=True)
        assert parts['loss'].dtype == torch.float32
        for ahead in range(1, HORIZON + 1):
            with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
                expected = taught.predict[ahead - 1](context[:, :-ahead])
            assert expected.dtype == torch.bfloat16
            wanted = future_nce(expected.double(), features[:, ahead:].double(),
                                taught.config.temperature)
            assert abs(float(parts[f'temporal_{ahead}'] - wanted)) < 1e-5

    exact()
    monkeypatch.setattr(temporal, 'future_nce', inspect.unwrap(future_nce))
    with pytest.raises(AssertionError):
        exact()


def test_under_mixed_precision_the_accuracy_is_in_full_precision() -> None:
    def exact(right: Callable[[Tensor, Tensor], Tensor]) -> None:
        # As the frames of a clip are: all but the same.
        rows = 1.0 + 0.02 * torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(0))
        with torch.autocast('cpu', torch.bfloat16):
            assert float(right(rows, rows)) == 1.0

    exact(temporal._right)
    with pytest.raises(AssertionError):
        exact(inspect.unwrap(temporal._right))


def test_in_parts_the_gradients_are_those_of_the_whole() -> None:
    found = []
    for chunk in (0, 7):
        objective = small(chunk=chunk)
        objective({'images': circling(4, 0)}, torch.Generator().manual_seed(0))['loss'].backward()
        found.append([value.grad for value in objective.encoder.parameters()
                      if value.grad is not None])
    assert len(found[0]) == len(found[1]) > 10
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5 * float(two.abs().max()))


@pytest.mark.parametrize(('changes', 'message'), [
    ({'frames': 3}, r'frames is 3, must be at least horizon \+ 2 = 4: .* background'),
    ({'frames': 2}, 'frames is 2, must be at least'),
    ({'horizon': 0}, 'horizon is 0, must be at least 1'),
    ({'width': 0}, 'width is 0, must be at least 1'),
    ({'temperature': float('nan')}, 'temperature is nan, must be above 0'),
    ({'chunk': -1}, 'chunk is -1, must be at least 0'),
])
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_what_it_needs_follows_its_settings() -> None:
    needs = temporal_needs(TemporalConfig(frames=5, stride=3))
    assert (needs.frames, needs.stride, needs.actions, needs.text) == (5, 3, 0, False)


def test_a_crop_in_time_cuts_frames_and_leaves_enough_to_tell_apart() -> None:
    encoder = VisionEncoder(1, 16, 16, 2, VisionConfig(vit=VitConfig(8, 8, 1, 2)))
    shape = DataShape(1, 16, 16, 2, 2)
    objective = Temporal(shape, TemporalConfig(frames=5, horizon=2, width=8, crop=0.8), encoder)
    images = torch.randint(0, 256, (3, 5, 1, 16, 16, 3), dtype=torch.uint8)
    parts = objective({'images': images}, torch.Generator().manual_seed(0))
    # Four frames are left: three moments have one a frame later, two one two frames later.
    assert float(parts['temporal_1_chance']) == pytest.approx(math.log(3 * 3))
    assert float(parts['temporal_order_2_chance']) == pytest.approx(math.log(2))
    # To know the clip alone costs the logarithm of its moments, and that is what order measures.
    assert float(parts['temporal_order_1'].detach()) < float(parts['temporal_1'].detach())
    with pytest.raises(ValueError, match=r'frames is 5 and crop 0\.6, must be at least horizon'):
        Temporal(shape, TemporalConfig(frames=5, horizon=2, crop=0.6), encoder)
    with pytest.raises(ValueError, match='crop is 0, must lie above 0'):
        Temporal(shape, TemporalConfig(frames=5, horizon=2, crop=0), encoder)
