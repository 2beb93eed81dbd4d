# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The shared encoder: readouts, a trunk for each camera, fusion, state, frozen trunks, ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
from ssl_vla_ros.bundle.graphs import export_graph
from ssl_vla_ros.bundle.parity import check_parity, run_torch
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.networks.fusion import Proprioception
from ssl_vla_ros.networks.keypoints import channel_keypoints
from ssl_vla_ros.networks.timm_trunk import TimmViT
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.trunk import PatchTransformer
from ssl_vla_ros.networks.vision import READOUTS, VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.runtime.parity import ALLOWED
import torch
from torch import nn, Tensor

CAMERAS, SIZE, STATE, WIDTH, GRID = 2, 32, 3, 16, 16
SMALL = VitConfig(8, WIDTH, 1, 2)


def made(seed: int = 0, cameras: int = CAMERAS, **changes: Any) -> VisionEncoder:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {'vit': SMALL, 'readout': 'mean', **changes}
    if settings.get('backbone', 'vit') != 'vit':
        del settings['vit']
    return VisionEncoder(cameras, SIZE, SIZE, STATE, VisionConfig(**settings)).eval()


def pictures(count: int, cameras: int = CAMERAS) -> Tensor:
    return torch.randint(0, 256, (count, cameras, SIZE, SIZE, 3), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(1))


def states(count: int) -> Tensor:
    return torch.randn(count, STATE, generator=torch.Generator().manual_seed(2))


def tokens_of(encoder: VisionEncoder, images: Tensor) -> Tensor:
    """Tokens (n, cameras, 1 + patches, width), one picture at a time."""
    rows = []
    for sample in images:
        for camera in range(encoder.cameras):
            if len(encoder.trunks) > 1:
                rows.append(encoder.trunks[camera](sample[camera:camera + 1])[0])
            else:
                rows.append(encoder.trunk(sample)[camera])
    return torch.stack(rows).unflatten(0, (len(images), encoder.cameras))


# -- readouts -----------------------------------------------------------------------------


@torch.no_grad()
def by_hand(encoder: VisionEncoder, images: Tensor) -> Tensor:
    tokens = tokens_of(encoder, images)
    grid = tokens[:, :, 1:]
    readout = encoder.config.readout
    if readout == 'cls':
        return tokens[:, :, 0]
    if readout == 'tokens':
        return torch.cat([grid[:, camera] for camera in range(encoder.cameras)], dim=1)
    if readout == 'keypoints':
        return torch.cat([
            channel_keypoints(grid[:, camera].transpose(1, 2).reshape(-1, WIDTH, 4, 4), 2.0)
            for camera in range(encoder.cameras)], dim=1)
    means = grid.mean(dim=2)
    return means if readout == 'mean' else means.flatten(1)[:, None]


@pytest.mark.parametrize('shared', [True, False])
@pytest.mark.parametrize(('readout', 'tokens', 'dim'), [
    ('keypoints', CAMERAS * WIDTH, 2), ('mean', CAMERAS, WIDTH), ('cls', CAMERAS, WIDTH),
    ('tokens', CAMERAS * GRID, WIDTH), ('fused', 1, CAMERAS * WIDTH)])
def test_a_readout_is_what_its_name_says(readout: str, tokens: int, dim: int, shared: bool
                                         ) -> None:
    encoder, images = made(readout=readout, shared=shared), pictures(3)
    with torch.no_grad():
        found = encoder(images)
    assert (encoder.tokens, encoder.dim) == (tokens, dim)
    assert found.shape == (3, tokens, dim) and found.dtype == torch.float32
    expected = by_hand(encoder, images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Negative control: cameras exchanged are another moment.
    assert not torch.allclose(found, by_hand(encoder, images.flip(1)), atol=1e-3)


def test_every_readout_is_tested() -> None:
    assert set(READOUTS) == {'keypoints', 'mean', 'cls', 'tokens', 'fused'}


def test_keypoints_follow_where_a_channel_is_active() -> None:
    encoder = made(readout='keypoints', cameras=1, sharpness=20.0)
    trunk = encoder.trunk
    assert isinstance(trunk, PatchTransformer)
    # One patch's token stands out in one channel.
    trunk.forward = lambda images: torch.cat([  # type: ignore[method-assign]
        torch.zeros(1, 1, WIDTH), torch.eye(GRID)[6][None, :, None].expand(-1, -1, WIDTH)], dim=1)
    found = encoder(pictures(1, 1))
    row, column = divmod(6, 4)
    expected = torch.tensor([2.0 * column / 3 - 1.0, 2.0 * row / 3 - 1.0])
    torch.testing.assert_close(found[0, 0], expected, rtol=1e-3, atol=1e-3)


# -- trunks -------------------------------------------------------------------------------


def test_each_camera_goes_through_its_own_trunk() -> None:
    encoder, images = made(shared=False), pictures(3)
    assert len(encoder.trunks) == CAMERAS
    with torch.no_grad():
        before = encoder(images)
        trunk = encoder.trunks[1]
        assert isinstance(trunk, PatchTransformer)
        nn.init.zeros_(trunk.norm.weight)
        nn.init.zeros_(trunk.norm.bias)
        after = encoder(images)
    assert torch.equal(after[:, 0], before[:, 0])
    assert float(after[:, 1].abs().max()) == 0.0
    # Negative control: a shared trunk takes both down.
    shared = made()
    assert len(shared.trunks) == 1 and isinstance(shared.trunk, PatchTransformer)
    nn.init.zeros_(shared.trunk.norm.weight)
    nn.init.zeros_(shared.trunk.norm.bias)
    with torch.no_grad():
        assert float(shared(images).abs().max()) == 0.0


def test_work_on_samples_keeps_their_order_and_their_masks() -> None:
    encoder = made(shared=False, cameras=3)
    numbers = torch.arange(12.0)[:, None]
    places = {id(trunk): place for place, trunk in enumerate(encoder.trunks)}
    found = encoder.each(
        lambda trunk, rows, more: rows + 0.1 * places[id(trunk)] + more, numbers, 100 * numbers)
    assert found.shape == (12, 1)
    for sample in range(12):
        assert float(found[sample]) == pytest.approx(101.0 * sample + 0.1 * (sample % 3))


def test_a_shared_trunk_tells_cameras_apart_and_samples_are_alone() -> None:
    encoder, images = made(), pictures(4)
    same = images[:, :1].expand(-1, CAMERAS, -1, -1, -1)
    with torch.no_grad():
        found = encoder(same)
        assert not torch.allclose(found[:, 0], found[:, 1], atol=1e-4)
        assert torch.allclose(encoder(images)[2:3], encoder(images[2:3]), atol=1e-5)


# -- one vector of a moment ---------------------------------------------------------------


def test_rows_are_the_fused_means_whatever_comes_before_the_cameras() -> None:
    encoder = made()
    images = pictures(6).unflatten(0, (2, 3))
    with torch.no_grad():
        found = encoder.rows(images)
        assert found.shape == (2, 3, CAMERAS * WIDTH) and encoder.row_width == CAMERAS * WIDTH
        torch.testing.assert_close(
            found[1, 2], encoder(images[1, 2][None])[0].flatten(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder.rows(images[0]), found[0], rtol=1e-4, atol=1e-5)


def test_parts_give_the_rows_and_the_gradients_of_the_whole() -> None:
    encoder, images = made(fusion='attention'), pictures(5)
    gradients = []
    for chunk in (0, 2):
        encoder.zero_grad()
        rows = encoder.rows(images, chunk=chunk)
        rows.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()
                          if parameter.grad is not None])
    assert len(gradients[0]) > 10
    for whole, parts in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-3, atol=1e-4)


def test_attention_fuses_cameras_to_one_width_and_tells_them_apart() -> None:
    encoder = made(fusion='attention', proprioception=True, readout='fused')
    assert encoder.row_width == WIDTH and encoder.dim == WIDTH
    vectors, state = torch.randn(3, CAMERAS, WIDTH), states(3)
    with torch.no_grad():
        found = encoder.fuse(vectors, state)
        assert found.shape == (3, WIDTH)
        assert not torch.allclose(encoder.fuse(vectors.flip(1), state), found, atol=1e-3)
        assert not torch.allclose(encoder.fuse(vectors, state + 1.0), found, atol=1e-4)
        assert not torch.allclose(encoder.fuse(vectors), found, atol=1e-4)


def test_the_state_is_a_further_part_and_a_learned_one_stands_in_for_it() -> None:
    encoder = made(proprioception=True, readout='fused')
    assert encoder.row_width == (CAMERAS + 1) * WIDTH
    branch = encoder.proprioception
    assert isinstance(branch, Proprioception)
    encoder.prepare(5.0 + 2.0 * states(100))
    images, state = pictures(3), states(3)
    with torch.no_grad():
        with_it, without = encoder.rows(images, state), encoder.rows(images)
        pictured = CAMERAS * WIDTH
        assert torch.equal(with_it[:, :pictured], without[:, :pictured])
        assert torch.equal(without[:, pictured:], branch.absent.expand(3, -1))
        known = 5.0 + 2.0 * states(100)
        normal = (state - known.mean(0)) / known.std(0)
        torch.testing.assert_close(with_it[:, pictured:], branch.layers(normal),
                                   rtol=1e-4, atol=1e-5)
        # What is served sees pictures alone.
        assert torch.equal(encoder(images)[:, 0], without)


def test_in_training_half_of_the_states_are_left_out() -> None:
    encoder = made(proprioception=True).train()
    branch = encoder.proprioception
    assert isinstance(branch, Proprioception)
    vectors, state = torch.zeros(2000, CAMERAS, WIDTH), states(1).expand(2000, -1)

    def left_out(generator: torch.Generator | None) -> float:
        rows = encoder.fuse(vectors, state, generator)[:, CAMERAS * WIDTH:]
        return float((rows == branch.absent).all(1).float().mean())
    assert left_out(torch.Generator().manual_seed(0)) == pytest.approx(0.5, abs=0.05)
    assert left_out(None) == 0.0
    encoder.eval()
    assert left_out(torch.Generator().manual_seed(0)) == 0.0


# -- frozen -------------------------------------------------------------------------------


def learn(encoder: VisionEncoder) -> None:
    rows = encoder.train().rows(pictures(4), states(4), torch.Generator().manual_seed(0))
    rows.square().sum().backward()


def test_a_frozen_trunk_gets_no_gradient_and_the_rest_learns() -> None:
    encoder = made(frozen=True, fusion='attention', proprioception=True)
    learn(encoder)
    assert all(parameter.grad is None for parameter in encoder.trunks.parameters())
    assert all(parameter.grad is not None for parameter in encoder.fusion.parameters())
    free = made(fusion='attention', proprioception=True)
    learn(free)
    assert all(parameter.grad is not None for parameter in free.trunks.parameters())


def test_a_frozen_trunk_stays_in_evaluation_and_keeps_its_statistics() -> None:
    for frozen in (True, False):
        encoder = made(backbone='resnet18', frozen=frozen, proprioception=True)
        before = {name: value.clone() for name, value in encoder.trunks.named_buffers()}
        learn(encoder)
        assert encoder.training and encoder.proprioception is not None
        assert encoder.proprioception.training
        assert any(module.training for module in encoder.trunks.modules()) != frozen
        kept = all(torch.equal(value, before[name])
                   for name, value in encoder.trunks.named_buffers())
        assert kept == frozen


# -- export -------------------------------------------------------------------------------


class Together(nn.Module):
    """Several encoders as one graph: an export takes seconds each."""

    def __init__(self, encoders: dict[str, VisionEncoder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([encoder(images).flatten(1) for encoder in self.encoders.values()], dim=1)


def exported(network: nn.Module, path: Path) -> float:
    """Largest difference of the ONNX graph from torch, in batches of one and of five."""
    images = pictures(5)
    export_graph(network.eval(), {'images': images[:2]}, 'features', path)
    return compared(network, path, images.numpy())


def compared(network: nn.Module, path: Path, images: NDArray[np.uint8]) -> float:
    """Largest difference of an ONNX file from torch."""
    inputs = {'images': images}
    found, _ = check_parity(path, run_torch(network, inputs), inputs, 'fp32', ALLOWED['fp32'])
    return found['cpu'].max_abs_error


def of_timm() -> TimmViT:
    """Trunk of timm's kind, of one block."""
    declare_missing_operators()
    from timm.models.vision_transformer import VisionTransformer
    model = VisionTransformer(
        img_size=SIZE, patch_size=8, embed_dim=WIDTH, depth=1, num_heads=2, num_classes=0)
    model.pretrained_cfg = {}
    return TimmViT(SIZE, SIZE, 1, model)


def test_every_readout_is_exported_as_it_is(tmp_path: Path) -> None:
    # Every second one with a trunk for each camera; one with a state, one with a trunk of timm.
    encoders = {readout: made(place, readout=readout, shared=place % 2 == 0,
                              proprioception=readout == 'fused')
                for place, readout in enumerate(READOUTS)}
    encoders['tokens'].trunks[0] = of_timm()
    together = Together(encoders)
    assert exported(together, tmp_path / 'encoders.onnx') < 1e-4
    # Negative control: other weights are another graph.
    with torch.no_grad():
        for parameter in encoders['cls'].parameters():
            parameter.mul_(1.05)
    with pytest.raises(BundleError, match='differs from torch'):
        compared(together, tmp_path / 'encoders.onnx', pictures(5).numpy())


def test_attention_over_cameras_is_exported_for_any_batch(tmp_path: Path) -> None:
    encoder = made(readout='fused', fusion='attention', proprioception=True)
    assert exported(encoder, tmp_path / 'encoder.onnx') < 1e-4


# -- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(('changes', 'message'), [
    ({'fusion': 'concatenate'}, "network.fusion is 'concatenate', must be one of concat, attent"),
    ({'readout': 'means'}, "network.readout is 'means', must be one of .*did you mean 'mean'"),
    ({'backbone': 'resnet18', 'readout': 'cls'}, "readout is cls, but backbone 'resnet18' has no"),
    ({'backbone': 'resnet18', 'readout': 'keypoints'}, "maps of backbone 'resnet18' have 1x1"),
    ({'init': 'pretrained'}, "network.init is 'pretrained', but our own transformer"),
    ({'learning_rate_scale': -1.0}, 'network.learning_rate_scale is -1.0, must be at least 0')])
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_sizes_of_our_own_trunk_are_for_our_own_trunk() -> None:
    with pytest.raises(ValueError, match='network.vit sizes our own transformer'):
        VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(backbone='resnet18', vit=SMALL))


def test_a_state_that_the_dataset_has_not_is_told() -> None:
    with pytest.raises(ValueError, match='network.proprioception is true, but the dataset has no'):
        VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(vit=SMALL, proprioception=True))


def test_pictures_of_another_shape_are_refused() -> None:
    encoder = made()
    with pytest.raises(ValueError, match=r'images are \(1, 32, 32, 3\), this encoder takes'):
        encoder(pictures(2, 1))
    with pytest.raises(ValueError, match='this encoder takes'):
        encoder(pictures(2)[:, :, :24])


def test_only_trunks_of_patches_are_given_to_those_who_hide_them() -> None:
    encoder = made()
    assert encoder.patch_trunk('mae') is encoder.trunk
    with pytest.raises(ValueError, match=r"mae hides patches, which network.backbone 'resnet18' "
                                         r'cannot leave out; use vit'):
        made(backbone='resnet18').patch_trunk('mae')
