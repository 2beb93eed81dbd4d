# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Trunks: timm's networks give what timm gives, with patches left out and at other sizes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.timm_trunk import (
    make_timm, make_timm_trunk, TimmTrunk, TimmViT)
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.trunk import (
    gather_tokens, patchify, PatchTransformer, resized_positions, Trunk)
import torch
from torch import nn, Tensor
from torch.nn import functional

# timm imports torchvision, which needs them.
declare_missing_operators()
timm = pytest.importorskip('timm', reason='timm is not installed')

#: Name: height and width of the pictures.
PLAIN = {
    'vit_tiny_patch16_224': (32, 64),
    'vit_small_patch14_reg4_dinov2': (28, 56),  # registers; layer scale
    'vit_xsmall_patch16_clip_224': (64, 32),    # norm before the blocks; no bias on patches
    'deit3_small_patch16_224': (32, 64),        # positions that leave the class token out
}
_built: dict[str, Trunk] = {}


def trunk_of(name: str) -> Trunk:
    """Trunk of a name, made once, with weights at which every part matters."""
    if name not in _built:
        torch.manual_seed(0)
        height, width = PLAIN.get(name, (64, 96))
        trunk = make_timm_trunk(name, height, width, 1, 'none').eval()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for part, parameter in trunk.named_parameters():
                if parameter.ndim == 1 or 'pos_embed' in part or 'token' in part:
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if isinstance(trunk, TimmViT):
                trunk.camera.zero_()
        _built[name] = trunk
    return _built[name]


def vit(name: str) -> TimmViT:
    trunk = trunk_of(name)
    assert isinstance(trunk, TimmViT)
    return trunk


def pictures(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8,
                         generator=torch.Generator().manual_seed(2))


def as_timm_takes(name: str, images: Tensor) -> Tensor:
    """Pictures normalised by the model's own statistics, channels first."""
    config = timm.get_pretrained_cfg(name)
    rows = images.float() / 255.0 - torch.tensor(config.mean)
    return (rows / torch.tensor(config.std)).permute(0, 3, 1, 2)


# -- plain transformers of timm -----------------------------------------------------------


@pytest.mark.parametrize('name', PLAIN)
def test_a_full_picture_gives_timm_s_own_features(name: str) -> None:
    trunk, images = vit(name), pictures(2, *PLAIN[name])
    with torch.no_grad():
        expected = trunk.model.forward_features(as_timm_takes(name, images))
        found = trunk(images)
    rows, columns = PLAIN[name][0] // trunk.patch, PLAIN[name][1] // trunk.patch
    assert (trunk.rows, trunk.columns, trunk.prefix) == (
        rows, columns, trunk.model.num_prefix_tokens)
    assert found.shape == (2, trunk.prefix + rows * columns, trunk.width)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def without(trunk: TimmViT, part: str) -> Tensor:
    """Features where one part is left away."""
    broken = copy.deepcopy(trunk)
    with torch.no_grad():
        if part == 'positions':
            broken.model.pos_embed.zero_()
        elif part == 'norm before':
            broken.model.norm_pre = nn.Identity()
        elif part == 'registers':
            broken.model.reg_token.zero_()
        elif part == 'statistics':
            broken.get_buffer('mean').fill_(127.5)
            broken.get_buffer('std').fill_(127.5)
        return broken(pictures(2, broken.rows * broken.patch, broken.columns * broken.patch))


@pytest.mark.parametrize(('name', 'part'), [
    ('vit_tiny_patch16_224', 'positions'), ('deit3_small_patch16_224', 'positions'),
    ('vit_xsmall_patch16_clip_224', 'norm before'), ('vit_small_patch14_reg4_dinov2', 'registers'),
    ('vit_small_patch14_reg4_dinov2', 'statistics')])
def test_the_comparison_with_timm_sees_what_is_missing(name: str, part: str) -> None:
    trunk, images = vit(name), pictures(2, *PLAIN[name])
    with torch.no_grad():
        expected = trunk.model.forward_features(as_timm_takes(name, images))
    assert float((without(trunk, part) - expected).abs().max()) > 1e-2


@pytest.mark.parametrize('name', PLAIN)
def test_patches_are_left_out_as_timm_would(name: str) -> None:
    trunk, images = vit(name), pictures(2, *PLAIN[name])
    model, prefix = trunk.model, trunk.prefix
    keep = torch.tensor([[4, 0, 7], [1, 5, 2]])
    with torch.no_grad():
        # timm's own steps, with a gather where it has its own way to drop patches.
        tokens = model._pos_embed(model.patch_embed(as_timm_takes(name, images)))
        tokens = torch.cat([tokens[:, :prefix], gather_tokens(tokens[:, prefix:], keep)], dim=1)
        expected = model.norm(model.blocks(model.norm_pre(tokens)))
        patches = trunk.patches(images)
        torch.testing.assert_close(trunk.visible(patches, keep), expected, rtol=1e-4, atol=1e-4)
        # What is left out is not seen.
        changed = patches.clone()
        changed[torch.ones(2, 8).scatter(1, keep, 0.0).bool()] += 3.0
        assert torch.equal(trunk.visible(changed, keep), trunk.visible(patches, keep))
        whole, part = trunk(images), trunk.visible(patches, keep)
        assert not torch.allclose(whole[:, :prefix], part[:, :prefix], atol=1e-3)


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'vit_small_patch14_reg4_dinov2'])
def test_pictures_of_other_sizes_are_what_timm_makes_of_them(name: str) -> None:
    trunk = vit(name)
    height, width = 2 * PLAIN[name][0], 2 * PLAIN[name][1]
    images, larger = pictures(1, height, width), copy.deepcopy(trunk.model)
    larger.set_input_size(img_size=(height, width))
    with torch.no_grad():
        expected = larger.forward_features(as_timm_takes(name, images))
        torch.testing.assert_close(trunk(images), expected, rtol=1e-4, atol=1e-4)
        # A crop of half the size, as DINO's.
        part, smaller = images[:, :height // 4, :width // 4], copy.deepcopy(trunk.model)
        smaller.set_input_size(img_size=part.shape[1:3])
        expected = smaller.forward_features(as_timm_takes(name, part))
        torch.testing.assert_close(trunk(part), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match='not made of whole patches'):
        trunk(pictures(1, height + 1, width))


def test_cameras_start_alike_and_can_become_different() -> None:
    """A pretrained network starts as what it is."""
    torch.manual_seed(0)
    trunk = make_timm_trunk('vit_tiny_patch16_224', 32, 32, 2, 'none').eval()
    assert isinstance(trunk, TimmViT)
    same = pictures(1, 32, 32).expand(2, -1, -1, -1)
    with torch.no_grad():
        assert torch.equal(*trunk(same))
        trunk.camera[1] += torch.randn(192, generator=torch.Generator().manual_seed(0))
        first, second = trunk(same)
        assert not torch.allclose(first, second, atol=1e-2)


# -- all other networks of timm -----------------------------------------------------------


@pytest.mark.parametrize(('name', 'rows', 'columns', 'prefix'), [
    ('resnet18', 2, 3, 0), ('convnext_atto', 2, 3, 0), ('mobilenetv3_small_050', 2, 3, 0),
    ('vit_small_patch16_dinov3', 4, 6, 5),        # rotary positions
    ('deit_tiny_distilled_patch16_224', 4, 6, 2),  # a second token, for distillation
    ('mambaout_femto', 2, 3, 0),                   # channels last, as Swin has them
])
def test_any_network_gives_its_features_as_tokens_of_the_grid(
        name: str, rows: int, columns: int, prefix: int) -> None:
    trunk, images = trunk_of(name), pictures(2, 64, 96)
    assert isinstance(trunk, TimmTrunk)
    with torch.no_grad():
        expected = trunk.model.forward_features(as_timm_takes(name, images))
        found = trunk(images)
    assert (trunk.rows, trunk.columns, trunk.prefix) == (rows, columns, prefix)
    assert found.shape == (2, prefix + rows * columns, trunk.width)
    if expected.ndim == 3:
        torch.testing.assert_close(found, expected)
        return
    last = expected.shape[1:3] == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            torch.testing.assert_close(
                found[:, row * columns + column],
                expected[:, row, column] if last else expected[:, :, row, column])
    # Negative control: the other axes are no grid of a wide picture.
    assert trunk.width not in (rows, columns)


def test_a_distilled_transformer_is_none_whose_patches_can_be_left_out() -> None:
    """Its tokens are two, and a class token twice would pass unseen."""
    trunk = trunk_of('deit_tiny_distilled_patch16_224')
    wrong = TimmViT(64, 96, 1, trunk.model).eval()
    images = pictures(1, 64, 96)
    with torch.no_grad():
        assert wrong(images).shape == trunk(images).shape
        assert not torch.allclose(wrong(images), trunk(images), atol=1e-2)


@pytest.mark.parametrize('name', ['resnet18', 'convnext_atto', 'vit_small_patch16_dinov3'])
def test_other_networks_take_other_sizes(name: str) -> None:
    trunk, images = trunk_of(name), pictures(1, 32, 64)
    with torch.no_grad():
        found = trunk(images)
        expected = trunk.model.forward_features(as_timm_takes(name, images))
    assert found.shape[2] == trunk.width
    torch.testing.assert_close(
        found, expected if expected.ndim == 3 else expected.flatten(2).transpose(1, 2))


# -- our own ------------------------------------------------------------------------------


def test_our_own_trunk_is_its_blocks_on_placed_patches() -> None:
    torch.manual_seed(0)
    trunk = PatchTransformer(2, 16, 24, patch=8, channels=16, depth=2, heads=2).eval()
    images = pictures(4, 16, 24)
    with torch.no_grad():
        values = patchify(images.float() / 127.5 - 1.0, 8)
        tokens = values @ trunk.project.weight.T + trunk.project.bias
        tokens = tokens + trunk.get_buffer('position') + trunk.camera.repeat(2, 1)[:, None]
        tokens = torch.cat([trunk.cls.expand(4, -1, -1), tokens], dim=1)
        for block in trunk.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(trunk(images), trunk.norm(tokens), rtol=1e-4, atol=1e-5)


def test_positions_of_another_grid_are_spread_over_the_picture() -> None:
    torch.manual_seed(0)
    places = torch.randn(12, 8)
    assert resized_positions(places, (3, 4), (3, 4)) is places
    larger = resized_positions(places, (3, 4), (6, 8))
    expected = functional.interpolate(
        places.view(1, 3, 4, 8).permute(0, 3, 1, 2), size=(6, 8), mode='bicubic',
        antialias=True)
    assert torch.equal(larger, expected[0].permute(1, 2, 0).flatten(0, 1))
    # Rows stay rows: what rises downwards alone rises downwards alone.
    ramp = torch.arange(3.0)[:, None, None].expand(3, 4, 8).flatten(0, 1)
    spread = resized_positions(ramp, (3, 4), (6, 8)).view(6, 8, 8)
    assert float((spread - spread[:, :1]).abs().max()) < 1e-5
    assert bool((spread.diff(dim=0) > 0).all())


# -- weights ------------------------------------------------------------------------------


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub give up at once: it would try for most of a minute."""
    hub = pytest.importorskip('huggingface_hub')
    monkeypatch.setattr(hub.constants, 'HF_HUB_OFFLINE', True)


def weights(name: str, path: Path, classes: int, **sizes: Any) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model = timm.create_model(name, num_classes=classes, **sizes)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, path)
    return state


@pytest.mark.parametrize('name', ['vit_tiny_patch16_224', 'resnet18', 'convnext_atto'])
@pytest.mark.parametrize('classes', [0, 1000])
def test_a_local_file_is_loaded_with_and_without_its_classifier(
        name: str, classes: int, tmp_path: Path) -> None:
    """As it comes from a hub, it has one."""
    path = tmp_path / 'weights.safetensors'
    state = weights(name, path, classes, **({'img_size': 64} if 'vit' in name else {}))
    torch.manual_seed(0)
    trunk = make_timm_trunk(name, 64, 64, 1, str(path))
    model = trunk.get_submodule('model')
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    fresh = make_timm_trunk(name, 64, 64, 1, 'none').get_submodule('model').state_dict()
    assert any(not torch.equal(value, state[key]) for key, value in fresh.items())
    # Nothing of the file is kept beside the weights: every teacher would copy it.
    config = model.pretrained_cfg
    assert isinstance(config, dict) and 'state_dict' not in config


def test_positions_of_a_file_are_fitted_to_the_size_of_the_pictures(tmp_path: Path) -> None:
    path = tmp_path / 'weights.safetensors'
    state = weights('vit_tiny_patch16_224', path, 1000)
    assert state['pos_embed'].shape[1] == 197
    trunk = make_timm_trunk('vit_tiny_patch16_224', 32, 64, 1, str(path))
    assert isinstance(trunk, TimmViT)
    assert trunk.model.pos_embed.shape[1] == 1 + 8
    torch.testing.assert_close(trunk.model.pos_embed[:, 0], state['pos_embed'][:, 0])


def broken(kind: str, folder: Path) -> Path:
    path = folder / f'{kind}.safetensors'
    if kind == 'garbage':
        path.write_bytes(b'not a tensor' * 100)
    elif kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'no tensor':
        save_file({}, path)
    elif kind == 'a classifier alone':
        save_file({'head.weight': torch.zeros(10, 192)}, path)
    elif kind == 'something else':
        save_file({'x': torch.zeros(3)}, path)
    elif kind == 'another model':
        weights('resnet18', path, 1000)
    elif kind == 'one tensor less':
        state = weights('vit_tiny_patch16_224', path, 0, img_size=64)
        del state['norm.weight']
        save_file(state, path)
    elif kind == 'cut off':
        weights('vit_tiny_patch16_224', path, 0, img_size=64)
        path.write_bytes(path.read_bytes()[:-1000])
    return path


@pytest.mark.usefixtures('offline')
@pytest.mark.parametrize(('kind', 'said'), [
    ('garbage', 'SafetensorError'), ('empty', 'SafetensorError'), ('cut off', 'SafetensorError'),
    ('no tensor', 'it is empty'), ('a classifier alone', 'it is empty'),
    ('something else', 'Missing key'), ('another model', 'Missing key'),
    ('one tensor less', 'Missing key.*norm.weight')])
def test_a_file_that_is_not_the_model_s_is_refused(kind: str, said: str, tmp_path: Path) -> None:
    path = broken(kind, tmp_path)
    with pytest.raises(ConfigError, match=r'network.init is .*\.safetensors.: not the weights of '
                                          rf'vit_tiny_patch16_224 \(.*{said}'):
        make_timm_trunk('vit_tiny_patch16_224', 64, 64, 1, str(path))


def test_files_that_may_run_code_and_files_that_are_not_there_are_told(tmp_path: Path) -> None:
    unsafe = tmp_path / 'weights.pth'
    unsafe.write_bytes(b'')
    with pytest.raises(ConfigError, match='only .safetensors is read, since other formats may '
                                          'run code'):
        make_timm_trunk('resnet18', 64, 64, 1, str(unsafe))
    with pytest.raises(ConfigError, match="network.init is 'nowhere': there is no such file; give "
                                          'a .safetensors file with weights of resnet18'):
        make_timm_trunk('resnet18', 64, 64, 1, 'nowhere')


@pytest.mark.usefixtures('offline')
@pytest.mark.parametrize('name', ['resnet18', 'vit_tiny_patch16_224'])
def test_pretrained_without_a_network_says_what_to_do(
        name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Whoever has loaded it before has it in the cache.
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(ConfigError, match=(
            rf'the weights of {name} cannot be had \(.*\); download them elsewhere and give their '
            r'\.safetensors file as network\.init, or start fresh with network\.init=none')):
        make_timm(name, 64, 64, 'pretrained')


# -- names and sizes ----------------------------------------------------------------------


@pytest.mark.parametrize(('name', 'message'), [
    ('resnet81', 'neither "vit" nor a model that timm knows; did you mean \'resnet18\''),
    ('vit_tiny_patch16', "did you mean .*'vit_tiny_patch16_224'"),
    ('dinov2', "did you mean 'vit_base_patch14_dinov2'"),
    ('vitt', "did you mean 'vit'"),
    ('qqqqqqqq', r'timm.list_models\(\) lists them'),
    ('', r'timm.list_models\(\) lists them'),
    ('resnet18.best', "timm knows no weights 'best' of resnet18; it has .*a1_in1k")])
def test_unknown_names_are_told_with_what_was_meant(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_timm(name, 64, 64, 'none')
    assert len(str(caught.value)) < 400


def test_a_tag_that_timm_knows_is_no_mistake() -> None:
    assert make_timm('resnet18.a1_in1k', 64, 64, 'none').num_classes == 0


@pytest.mark.parametrize(('name', 'height', 'width', 'error', 'message'), [
    ('vit_tiny_patch16_224', 60, 64, ValueError,
     r'backbone has patches of 16 pixels, but height and width \(60, 64\) must be multiples'),
    ('crossvit_tiny_240', 64, 96, ConfigError,
     "network.backbone is 'crossvit_tiny_240', which takes no pictures of 64x96"),
    ('coat_tiny', 64, 64, ConfigError, 'whose features list are neither a map nor tokens')])
def test_what_does_not_fit_is_told(name: str, height: int, width: int, error: type[Exception],
                                   message: str) -> None:
    with pytest.raises(error, match=message):
        make_timm_trunk(name, height, width, 1, 'none')
