# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Cuts in time: consecutive, each sample its own, and everything of a sample at the same steps."""

from __future__ import annotations

import pytest
from ssl_vla_ros.augment.temporal import temporal_crop
import torch

SAMPLES, STEPS = 40, 10


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> dict[str, torch.Tensor]:
    """Give a batch in which every value tells its sample and step: 100 · sample + step."""
    told = 100 * torch.arange(SAMPLES)[:, None] + torch.arange(STEPS)
    return {
        'images': told[:, :, None, None, None, None].expand(-1, -1, 2, 3, 4, 3).clone(),
        'actions': told[..., None].repeat(1, 1, 7).float(), 'state': told[..., None].float(),
        'valid': told % 100 < 7, 'task': torch.arange(SAMPLES)}


def test_everything_of_a_sample_is_cut_at_the_same_consecutive_steps() -> None:
    given = batch()
    found = temporal_crop(given, 0.8, generator(0))
    assert found['images'].shape == (SAMPLES, 8, 2, 3, 4, 3)
    steps = found['images'][..., 0, 0, 0, 0]
    assert torch.equal(steps // 100, torch.arange(SAMPLES)[:, None].expand(-1, 8))
    assert bool((steps.diff(dim=1) == 1).all())
    assert set((steps[:, 0] % 100).tolist()) == {0, 1, 2}, 'every start is drawn'
    for key in ('actions', 'state'):
        assert torch.equal(found[key][..., 0], steps.float())
    assert torch.equal(found['valid'], steps % 100 < 7)
    assert bool((found['images'] == steps[:, :, None, None, None, None]).all())
    assert found['task'] is given['task'], 'what has no time stays'
    assert given['images'].shape[1] == STEPS, 'what was given stays'


def test_entries_cut_one_by_one_do_not_fit_together() -> None:
    """The check above can fail: it sees starts that differ between entries."""
    source = generator(0)
    frames = temporal_crop(batch(), 0.8, source, ('images',))['images'][..., 0, 0, 0, 0]
    actions = temporal_crop(batch(), 0.8, source, ('actions',))['actions'][..., 0]
    assert not torch.equal(actions, frames.float())


def test_a_seed_repeats_it_and_all_of_it_is_no_cut() -> None:
    one, two = (temporal_crop(batch(), 0.5, generator(4)) for _ in range(2))
    assert torch.equal(one['state'], two['state'])
    assert not torch.equal(
        one['state'], temporal_crop(batch(), 0.5, generator(5))['state'])
    given, untouched = batch(), generator(6)
    whole = temporal_crop(given, 1.0, untouched)
    assert all(whole[key] is given[key] for key in given)
    assert torch.equal(untouched.get_state(), generator(6).get_state())


@pytest.mark.parametrize(('ratio', 'steps'), [(0.25, 2), (0.26, 3), (0.11, 1), (0.94, 9)])
def test_as_many_steps_are_kept_as_the_ratio_rounds_to(ratio: float, steps: int) -> None:
    assert temporal_crop(batch(), ratio, generator(0))['state'].shape[1] == steps


@pytest.mark.parametrize(('ratio', 'change', 'keys', 'words'), [
    (0.0, {}, ('state',), 'ratio is 0.0, must be above 0 and up to 1'),
    (1.1, {}, ('state',), 'ratio is 1.1'),
    (float('nan'), {}, ('state',), 'ratio is nan'),
    (0.04, {}, ('state',), 'of 10 steps none would be kept'),
    (0.8, {'actions': torch.zeros(SAMPLES, 9, 7)}, ('state', 'actions'),
     'samples and steps differ: state 40 and 10, actions 40 and 9'),
    (0.8, {'actions': torch.zeros(39, 10, 7)}, ('state', 'actions'), 'actions 39 and 10'),
    (0.8, {}, ('states',), "no 'states' in the batch; it has images, actions"),
    (0.8, {}, ('task',), r'task is \(40,\), must be \(B, T'),
    (0.8, {}, (), 'keys is empty')])
def test_a_cut_that_cannot_be_is_refused(
        ratio: float, change: dict[str, torch.Tensor], keys: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        temporal_crop(batch() | change, ratio, generator(0), keys)
