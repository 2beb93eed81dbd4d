# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""R3M as a whole: which frames are drawn, whom they are told from, and what words may say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import inspect
from itertools import combinations
import math
from typing import Any

import numpy as np
import pytest
from ssl_vla_ros.augment.views import ViewConfig
from ssl_vla_ros.losses.temporal import time_contrast
from ssl_vla_ros.networks.text import ByteTransformer
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import r3m
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.r3m import draw_places, R3M, r3m_needs, R3MConfig
from tiny_training import draw, SIZE
import torch
from torch import nn, Tensor

TASKS = ('lift it', 'push it', 'turn it')
FRAMES = 5
STILL = ViewConfig(crop_smallest=1.0, jitter_share=0.0, grey_share=0.0, blur_share=0.0)


def small(tasks: tuple[str, ...] = TASKS, **changes: Any) -> R3M:
    torch.manual_seed(0)
    encoder = VisionEncoder(
        1, SIZE, SIZE, 2, VisionConfig(vit=VitConfig(patch=8, channels=16, depth=1, heads=2)))
    settings = {'frames': FRAMES, 'hidden': 16, 'views': STILL,
                'text_settings': {'width': 16, 'depth': 1, 'heads': 2}, **changes}
    return R3M(DataShape(1, SIZE, SIZE, 2, 2, tasks=tasks), R3MConfig(**settings), encoder)


def clips(count: int, seed: int = 0) -> Tensor:
    places = np.random.default_rng(seed).uniform(0.0, 1.0, (count * FRAMES, 2))
    pictures = draw(places.astype(np.float32))
    return torch.from_numpy(pictures).view(count, FRAMES, 1, SIZE, SIZE, 3)


def numbered(count: int) -> Tensor:
    """Clips of which each pixel tells the clip (red) and the frame (green)."""
    pictures = torch.zeros(count, FRAMES, 1, SIZE, SIZE, 3, dtype=torch.uint8)
    pictures[..., 0] = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1, 1)
    pictures[..., 1] = torch.arange(FRAMES, dtype=torch.uint8).view(-1, 1, 1, 1)
    return pictures


class Spy:
    """What a forward pass looked at, told, and compared."""

    def __init__(self, objective: R3M, images: Tensor, told: Tensor, seed: int = 0,
                 autocast: bool = False) -> None:
        self.videos: Tensor = torch.zeros(0)
        self.frames: Tensor = torch.zeros(0)
        self.told: Tensor = torch.zeros(0)
        self.moments: Tensor = torch.zeros(0)
        self.text: Tensor = torch.zeros(0)
        rows = objective.encoder.rows

        def seen(pictures: Tensor, *more: Any, **settings: Any) -> Tensor:
            self.videos = pictures[:, 0, 0, 0, 0, 0].long()
            self.frames = pictures[:, :, 0, 0, 0, 1].long()
            self.moments = rows(pictures, *more, **settings)
            return self.moments

        def read(module: nn.Module, given: tuple[Tensor], features: Tensor) -> None:
            self.told, self.text = given[0], features

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objective.encoder, 'rows', seen)
            hook = objective.text.register_forward_hook(read)
            with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
                self.parts = objective({'images': images, 'instruction': told,
                                        'episode': torch.arange(len(images))},
                                       torch.Generator().manual_seed(seed))
            hook.remove()


# -- which frames -------------------------------------------------------------------------


def places_are_in_order(drawn: Callable[..., Tensor], frames: int) -> Counter[tuple[int, ...]]:
    found = drawn(20_000, frames, torch.Generator().manual_seed(0), torch.device('cpu'))
    assert found.shape == (20_000, 4)
    start, early, middle, late = found.unbind(1)
    assert bool((start >= 0).all()) and bool((late < frames).all())
    assert bool((early < middle).all()) and bool((middle < late).all())
    assert bool((start <= early).all())
    return Counter(map(tuple, found.tolist()))


@pytest.mark.parametrize('frames', [3, 5, 8])
def test_the_start_is_never_after_the_first_of_three_frames_in_order(frames: int) -> None:
    found = places_are_in_order(draw_places, frames)
    triples = list(combinations(range(frames), 3))
    wanted = {(start, *triple) for triple in triples for start in range(triple[0] + 1)}
    assert set(found) == wanted, 'every choice can be drawn, and no other'
    for place, count in found.items():
        # All triples alike, and of one triple all starts: give or take five deviations.
        share = 1 / len(triples) / (place[1] + 1)
        assert abs(count - 20_000 * share) < 5 * math.sqrt(20_000 * share * (1 - share)) + 1


def test_the_check_of_the_frames_sees_the_traps() -> None:
    def start_anywhere(batch: int, frames: int, generator: torch.Generator, device: torch.device
                       ) -> Tensor:
        found = draw_places(batch, frames, generator, device)
        return torch.cat([torch.randint(frames, (batch, 1), generator=generator), found[:, 1:]],
                         dim=1)

    def twice(batch: int, frames: int, generator: torch.Generator, device: torch.device
              ) -> Tensor:
        found = torch.randint(frames, (batch, 4), generator=generator).sort(dim=1).values
        return found

    for trap in (start_anywhere, twice):
        with pytest.raises(AssertionError):
            places_are_in_order(trap, FRAMES)


def test_the_frames_of_a_clip_stay_together_and_in_order() -> None:
    seen = Spy(small(), numbered(12), torch.zeros(12, dtype=torch.long))
    assert sorted(seen.videos.tolist()) == list(range(12))
    start, early, middle, late = seen.frames.unbind(1)
    assert bool(((start <= early) & (early < middle) & (middle < late)).all())


# -- the other video ----------------------------------------------------------------------


def meets_other_episodes(objective: R3M) -> None:
    """See that a negative is no neighbour, though a batch comes in the dataset's order."""
    count, steps = 16, 40
    episode = torch.arange(count) // 4
    same, met = 0, torch.zeros(count, count, dtype=torch.bool)
    for step in range(steps):
        videos = Spy(objective, numbered(count), episode % 3, step).videos
        other = videos.roll(1)      # as the losses choose it
        assert bool((videos != other).all()), 'never the video itself'
        same += int((episode[videos] == episode[other]).sum())
        met[videos, other] = True
    # By chance 3 of 15 others are of the same episode; in the order of the dataset 12 of 16.
    assert same / (steps * count) == pytest.approx(3 / 15, abs=0.06)
    assert float(met.sum(1).float().mean()) > 12, 'another one in each step'


def test_the_negative_video_is_any_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    meets_other_episodes(small())
    monkeypatch.setattr(torch, 'randperm', lambda count, **more: torch.arange(count))
    with pytest.raises(AssertionError):
        meets_other_episodes(small())


def keeps_its_instruction(objective: R3M) -> None:
    told = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    seen = Spy(objective, numbered(7), told)
    assert torch.equal(seen.told, told[seen.videos])


class Shuffled(R3M):
    """The trap: videos are mixed, and what was told is not."""

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        order = torch.randperm(len(batch['images']), generator=torch.Generator().manual_seed(5))
        return super().forward({**batch, 'images': batch['images'][order]}, generator)


def test_each_video_keeps_its_instruction() -> None:
    keeps_its_instruction(small())
    wrong = small()
    wrong.__class__ = Shuffled
    with pytest.raises(AssertionError):
        keeps_its_instruction(wrong)


# -- the losses ---------------------------------------------------------------------------


def far(one: Tensor, two: Tensor) -> float:
    return math.dist(one.tolist(), two.tolist())


def entropy(right: float, *wrong: float) -> float:
    """−ln of the share of the first among several."""
    return math.log(sum(math.exp(score - right) for score in (right, *wrong)))


def is_the_written_out_sum(objective: R3M, told: Tensor) -> None:
    with torch.no_grad():
        seen = Spy(objective, clips(len(told)), told, seed=2)
        reward = objective.reward.double()
        time = language = sparse = 0.0
        count = len(told)

        def score(start: Tensor, now: Tensor, words: Tensor) -> float:
            return float(reward(torch.cat([start, now, words]).double()))

        for row in range(count):
            other = (row - 1) % count
            start, *frames = seen.moments[row]
            early, middle, late = frames
            stranger = seen.moments[other]
            time += (entropy(-far(early, middle), -far(early, late), -far(early, stranger[1]))
                     + entropy(-far(late, middle), -far(late, early), -far(late, stranger[1]))
                     ) / 2 / count
            for before, after in ((0, 1), (1, 2), (0, 2)):
                words = seen.text[row]
                wrong = [score(start, frames[before], words)]
                if seen.told[other] != seen.told[row]:
                    wrong.append(score(stranger[0], stranger[1 + after], words))
                language += entropy(
                    score(start, frames[after], words), *wrong) / 3 / count
            for moment in seen.moments[row]:
                sparse += 1e-5 * (float(moment.abs().sum()) + far(moment, 0 * moment)) / 4 / count
    parts = {name: float(value) for name, value in seen.parts.items()}
    assert parts['r3m_time'] == pytest.approx(time, abs=1e-5)
    assert parts['r3m_language'] == pytest.approx(language, abs=1e-5)
    assert parts['r3m_sparsity'] == pytest.approx(sparse, rel=1e-5)
    assert parts['loss'] == pytest.approx(time + language + sparse, abs=1e-5)
    assert parts['r3m_time_chance'] == pytest.approx(math.log(3))


def spread(**changes: Any) -> R3M:
    """Build an objective whose features and scores differ enough to tell formulas apart."""
    objective = small(**changes)
    objective.encoder.fusion = Stretched(4.0)
    with torch.no_grad():
        for parameter in objective.reward.parameters():
            parameter.mul_(2.0)
    return objective


class Stretched(nn.Module):
    """Stands for the fusion: the only camera's vector, its differences made larger."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, vectors: Tensor, state: Tensor | None) -> Tensor:
        return self.factor * (vectors[:, 0] - vectors[:, 0].mean(0).detach())


@pytest.mark.parametrize('told', [[0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], [2, 2, 2, 2, 2, 2]])
def test_the_loss_is_the_paper_s_written_out(told: list[int]) -> None:
    is_the_written_out_sum(spread(), torch.tensor(told))


def near(one: Tensor, two: Tensor) -> Tensor:
    return -(one - two).square().sum(dim=1).sqrt()


def told_from_itself(early: Tensor, middle: Tensor, late: Tensor, _: Tensor) -> Tensor:
    """Fall into the trap: a negative that is the video's own frame."""
    return sum((torch.stack([near(one, middle), near(one, two), near(one, early)]).logsumexp(0)
                - near(one, middle)).mean() for one, two in ((early, late), (late, early))) / 2


@pytest.mark.parametrize(('name', 'trap'), [
    ('time_contrast', told_from_itself),
    ('time_contrast', lambda one, two, three, _: time_contrast(one, three, two)),
    ('time_contrast', lambda one, two, three, _: time_contrast(three, two, one)),
    ('sparsity', lambda rows, one, two: 0.0 * rows.sum()),
    ('sparsity', lambda rows, one, two: one * rows.abs().mean()),
    ('sparsity', lambda rows, one, two: 1e-5 * rows.abs().sum(1).mean()),
], ids=['the negative is its own', 'the middle is the last', 'time runs backwards', 'no sparsity',
        'a mean, not a norm', 'L1 alone'])
def test_the_comparison_with_the_paper_sees_the_traps(
        name: str, trap: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(r3m, name, trap)
    with pytest.raises(AssertionError):
        is_the_written_out_sum(spread(), torch.tensor([0, 1, 2, 0, 1, 2]))


def leaves_out_the_same_instruction(objective: R3M, told: list[int]) -> None:
    """See that rows told alike cost what each costs alone: neither is the other's wrong answer."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(4, 2, objective.encoder.row_width, generator=generator)
    text = objective.text(torch.tensor([1, 1]))
    start, *later = frames
    with torch.no_grad():
        numbers = torch.tensor(told)
        together = objective._language(
            start, tuple(later), text, numbers == numbers.roll(1))
        alone = [objective._language(start[row], tuple(part[row] for part in later), text[row],
                                     torch.tensor([True])) for row in (slice(1), slice(1, 2))]
    assert float(together) == pytest.approx(float(sum(alone)) / 2, abs=1e-6)


def test_a_video_with_the_same_instruction_is_no_wrong_answer() -> None:
    leaves_out_the_same_instruction(spread(), [1, 1])
    with pytest.raises(AssertionError):
        leaves_out_the_same_instruction(spread(), [1, 2])


def test_another_part_of_the_same_episode_is_no_other_video() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(3, 4, 8, generator=generator)
    # Rows 0 and 1 are of one recording, 2 and 3 of two others: row 1's negative is left out.
    episode = torch.tensor([5, 5, 6, 7])
    found = float(time_contrast(*frames, episode))
    first, second, third = frames
    wanted = []
    for row in range(4):
        for start, middle, end in ((first, second, third), (third, second, first)):
            scores = [-(start[row] - middle[row]).norm(), -(start[row] - end[row]).norm()]
            if episode[row] != episode[row - 1]:
                scores.append(-(start[row] - first[row - 1]).norm())
            wanted.append(torch.stack(scores).logsumexp(0) - scores[0])
    assert found == pytest.approx(float(torch.stack(wanted).mean()), abs=1e-6)
    assert abs(float(time_contrast(*frames)) - found) > 1e-3


def gradients_at(objective: R3M, factor: float) -> tuple[float, list[Tensor]]:
    objective.encoder.fusion = Stretched(factor)
    seen = Spy(objective, clips(6), torch.tensor([0, 1, 2, 0, 1, 2]))
    start, early, middle, late = seen.moments.unbind(1)
    shortest = float((early - middle).norm(dim=1).min().detach())
    objective.zero_grad()
    seen.parts['r3m_time'].backward()
    return shortest, [value.grad for value in objective.encoder.trunks.parameters()
                      if value.grad is not None]


def learns_from_afar(objective: R3M) -> None:
    shortest, slopes = gradients_at(objective, 400.0)
    assert shortest > 60.0
    assert all(bool(torch.isfinite(slope).all()) for slope in slopes)
    assert sum(float(slope.abs().sum()) for slope in slopes) > 1.0


def test_the_gradient_is_finite_and_not_zero_at_distances_of_60(
        monkeypatch: pytest.MonkeyPatch) -> None:
    learns_from_afar(small())

    def saturating(early: Tensor, middle: Tensor, late: Tensor, _: Tensor) -> Tensor:
        right, wrong = near(early, middle).exp(), near(early, late).exp()
        return -(1e-8 + right / (1e-8 + right + wrong)).log().mean()

    monkeypatch.setattr(r3m, 'time_contrast', saturating)
    with pytest.raises(AssertionError):
        learns_from_afar(small())
    # Frames that are equal have no direction, and no infinite slope either.
    monkeypatch.undo()
    objective = small()
    still = clips(4)[:, :1].expand(-1, FRAMES, -1, -1, -1, -1)
    objective({'images': still, 'instruction': torch.zeros(4, dtype=torch.long),
               'episode': torch.arange(4)},
              torch.Generator().manual_seed(0))['loss'].backward()
    assert all(bool(torch.isfinite(value.grad).all()) for value in objective.parameters()
               if value.grad is not None)


def test_under_mixed_precision_the_loss_is_in_full_precision(
        monkeypatch: pytest.MonkeyPatch) -> None:
    def exact(objective: R3M) -> None:
        told = torch.tensor([0, 1, 2] * 4)
        with torch.no_grad():
            seen = Spy(objective, clips(12), told, autocast=True)
            start, *frames = seen.moments.float().unbind(1)
            wanted = objective._language(
                start, tuple(frames), seen.text.float(), seen.told == seen.told.roll(1))
        assert seen.parts['loss'].dtype == torch.float32
        assert abs(float(seen.parts['r3m_language'] - wanted)) < 1e-6
        assert abs(float(seen.parts['r3m_time'] - time_contrast(*frames))) < 1e-6

    exact(spread())
    monkeypatch.setattr(R3M, '_score', inspect.unwrap(R3M._score))
    with pytest.raises(AssertionError):
        exact(spread())


# -- text ---------------------------------------------------------------------------------


def padding_stays_out(longer: tuple[str, ...]) -> None:
    """See that features, and so the loss, do not know how long other instructions are."""
    told = torch.tensor([0, 1, 0, 1])
    short, long = small(TASKS[:2]), small((*TASKS[:2], *longer))
    long.load_state_dict(short.state_dict())
    with torch.no_grad():
        one, two = (Spy(objective, clips(4), told) for objective in (short, long))
    torch.testing.assert_close(one.text, two.text, rtol=1e-5, atol=1e-6)
    assert float(one.parts['r3m_language']) == pytest.approx(
        float(two.parts['r3m_language']), abs=1e-6)


def test_padding_cannot_enter_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    longer = ('put the red cube into the blue bowl, and the bowl onto the shelf',)
    padding_stays_out(longer)

    def of_all(self: ByteTransformer, tokens: Tensor) -> Tensor:
        x = self.embed(tokens) + self.position[:tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        found: Tensor = self.norm(x).mean(dim=1)
        return found

    monkeypatch.setattr(ByteTransformer, '_pooled', of_all)
    with pytest.raises(AssertionError):
        padding_stays_out(longer)
    padding_stays_out(())


# -- settings -----------------------------------------------------------------------------


def test_the_weights_of_sparsity_are_the_paper_s() -> None:
    assert R3MConfig().sparsity == 1e-5
    needs = r3m_needs(R3MConfig(frames=4, stride=3))
    assert (needs.frames, needs.stride, needs.text, needs.pairs) == (4, 3, True, 2)
    assert not r3m_needs(R3MConfig(language_weight=0.0)).text


def test_without_language_it_reads_no_instruction() -> None:
    objective = small((), language_weight=0.0)
    parts = objective({'images': clips(4), 'episode': torch.arange(4)},
                      torch.Generator().manual_seed(0))
    assert 'r3m_language' not in parts
    assert float(parts['loss'].detach()) == pytest.approx(
        float((parts['r3m_time'] + parts['r3m_sparsity']).detach()))


@pytest.mark.parametrize(('tasks', 'changes', 'message'), [
    (TASKS, {'frames': 2}, 'frames is 2, must be at least 3'),
    (TASKS, {'sparsity': -1.0}, 'sparsity is -1.0, must be at least 0'),
    (TASKS, {'time_weight': float('nan')}, 'time_weight is nan'),
    (TASKS, {'chunk': -1}, 'chunk is -1, must be at least 0'),
    ((), {}, r'r3m needs instructions, the dataset has none; set model\.language_weight=0'),
])
def test_settings_that_cannot_work_are_refused(
        tasks: tuple[str, ...], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(tasks, **changes)
