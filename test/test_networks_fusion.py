# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Cameras and proprioception in one vector: nothing is mixed up, and the state may be missing."""

from __future__ import annotations

import pytest
from ssl_vla_ros.networks.fusion import AttentionFusion, Concatenation, Proprioception
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
import torch
from torch import nn, Tensor

CAMERAS, WIDTH, STATE = 3, 8, 2


def vectors(count: int = 5) -> Tensor:
    return torch.randn(count, CAMERAS, WIDTH, generator=torch.Generator().manual_seed(0))


def fusions() -> list[nn.Module]:
    torch.manual_seed(0)
    return [Concatenation(), AttentionFusion(CAMERAS, WIDTH)]


@pytest.mark.parametrize('number', [0, 1])
def test_samples_stay_apart_and_every_camera_counts(number: int) -> None:
    fusion, rows = fusions()[number], vectors()
    state = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
    for given in (None, state):
        whole = fusion(rows, given)
        alone = fusion(rows[1:2], None if given is None else given[1:2])
        torch.testing.assert_close(whole[1:2], alone)
        for camera in range(CAMERAS):
            changed = rows.clone()
            changed[0, camera, 0] += 1.0
            other = fusion(changed, given)
            assert not torch.allclose(other[0], whole[0], atol=1e-3)
            torch.testing.assert_close(other[1:], whole[1:])
    assert not torch.allclose(fusion(rows, state), fusion(rows, -state), atol=1e-3)


@pytest.mark.parametrize('number', [0, 1])
def test_cameras_are_told_apart(number: int) -> None:
    fusion, rows = fusions()[number], vectors()
    swapped = fusion(rows.flip(1), None)
    assert not torch.allclose(swapped, fusion(rows, None), atol=1e-4)
    if isinstance(fusion, AttentionFusion):
        # Negative control: without its embedding, one camera is as good as another.
        nn.init.zeros_(fusion.camera)
        torch.testing.assert_close(fusion(rows.flip(1), None), fusion(rows, None))


def test_shapes_are_those_the_encoder_announces() -> None:
    rows, token = vectors(), torch.zeros(5, WIDTH)
    joined, attended = fusions()
    assert joined(rows, None).shape == (5, CAMERAS * WIDTH)
    assert joined(rows, token).shape == (5, (CAMERAS + 1) * WIDTH)
    assert attended(rows, None).shape == attended(rows, token).shape == (5, WIDTH)
    assert torch.equal(joined(rows, token)[:, :CAMERAS * WIDTH], rows.flatten(1))
    for fusion in ('concat', 'attention'):
        for proprioception in (False, True):
            encoder = VisionEncoder(2, 16, 16, STATE, VisionConfig(
                vit=VitConfig(patch=8, channels=8, depth=1, heads=2), fusion=fusion,
                proprioception=proprioception, readout='fused'))
            images = torch.zeros(4, 6, 2, 16, 16, 3)
            found = encoder.rows(images, torch.zeros(4, 6, STATE))
            assert found.shape == (4, 6, encoder.row_width)
            assert encoder(images[:, 0]).shape == (4, encoder.tokens, encoder.dim)


# -- proprioception -----------------------------------------------------------------------


def branch(**settings: float) -> Proprioception:
    torch.manual_seed(0)
    found = Proprioception(STATE, WIDTH, **settings)
    found.state.fit(torch.tensor([[1.0, -50.0], [3.0, 150.0], [2.0, 50.0]]))
    return found


def states(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.tensor([2.0, 50.0]) + torch.tensor([1.0, 100.0]) * torch.randn(
        count, STATE, generator=generator)


def without_state(module: Proprioception, found: Tensor) -> Tensor:
    return (found == module.absent).all(dim=1)


def test_in_training_half_of_the_samples_go_without_their_state() -> None:
    module, given = branch().train(), states(2000)
    found = module(given, 2000, torch.Generator().manual_seed(1))
    missing = without_state(module, found)
    assert float(missing.float().mean()) == pytest.approx(0.5, abs=0.05)
    # Those that have it have it whole, whoever else has it.
    torch.testing.assert_close(found[~missing], module.eval()(given, 2000)[~missing])
    again = module.train()(given, 2000, torch.Generator().manual_seed(1))
    assert torch.equal(found, again)
    other = module(given, 2000, torch.Generator().manual_seed(2))
    assert not torch.equal(without_state(module, other), missing)
    assert not bool(without_state(branch(left_out=0.0), branch(left_out=0.0).train()(
        given, 2000, torch.Generator().manual_seed(1))).any())


def test_in_evaluation_every_state_is_seen_and_a_missing_one_is_the_learned_token() -> None:
    module, given = branch().eval(), states(50)
    found = module(given, 50, torch.Generator().manual_seed(1))
    assert not bool(without_state(module, found).any())
    assert bool(without_state(module, module(None, 50)).all())
    assert module(None, 50).shape == (50, WIDTH)
    # Without a generator nobody is left out in training, either.
    assert not bool(without_state(module, module.train()(given, 50)).any())


def test_the_state_is_normalised_by_its_own_statistics() -> None:
    module = branch().eval()
    torch.testing.assert_close(module.state(torch.tensor([[2.0, 50.0], [3.0, 150.0]])),
                               torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    # In other units, with the statistics of these, a state is the same token.
    given, units = states(9), torch.tensor([1000.0, 0.01])
    wanted = module(given, 9)
    module.state.get_buffer('mean').mul_(units)
    module.state.get_buffer('std').mul_(units)
    torch.testing.assert_close(module(given * units, 9), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(module(given, 9), wanted, atol=1e-3)


def test_both_the_token_and_the_layers_learn() -> None:
    module = branch().train()
    module(states(20), 20, torch.Generator().manual_seed(1)).sum().backward()
    for value in module.parameters():
        assert value.grad is not None and float(value.grad.abs().sum()) > 0.0


def test_under_mixed_precision_the_token_fits_the_others() -> None:
    module = branch().train()
    with torch.autocast('cpu', torch.bfloat16):
        token = module(states(6), 6, torch.Generator().manual_seed(1))
        assert token.dtype == torch.bfloat16
        for fusion in fusions():
            assert bool(torch.isfinite(fusion(vectors(6), token)).all())
            assert bool(torch.isfinite(fusion(vectors(6), module(None, 6))).all())
