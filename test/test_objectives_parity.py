# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
MAE and VideoMAE as wholes against transformers' models: same weights, same mask, same loss.

Each way to get them wrong is put in on purpose beside: the comparison must see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity_table import note, relative
import pytest
from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.losses.masked import normalised_patches
from ssl_vla_ros.networks.timm_trunk import TimmViT
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.trunk import patchify, PatchTransformer
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import mae, videomae
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.masking import places_of
from ssl_vla_ros.objectives.videomae import VideoMAE, VideoMAEConfig
import torch
from torch import nn, Tensor

# What the references import needs torchvision.
declare_missing_operators()
transformers = pytest.importorskip('transformers')

SIZE, PATCH, WIDTH, NARROW, HEADS = 32, 8, 16, 8, 2
STILL = PhotometricConfig(0.0, 0.0, 0.0)
SIZES = {
    'hidden_size': WIDTH, 'num_hidden_layers': 2, 'num_attention_heads': HEADS,
    'intermediate_size': 4 * WIDTH, 'image_size': SIZE, 'patch_size': PATCH,
    'decoder_hidden_size': NARROW, 'decoder_num_hidden_layers': 1,
    'decoder_num_attention_heads': HEADS, 'decoder_intermediate_size': 4 * NARROW,
    # Ours; the references have 1e-12 unless told.
    'layer_norm_eps': 1e-5}


def drawn_anew(model: nn.Module) -> nn.Module:
    """Weights at which every part matters: the references start near zero, all biases at it."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            spread = 0.5 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            nn.init.normal_(parameter, 0.0, spread, generator=generator)
    return model.double().eval()


def pixels(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (*shape, 3), generator=generator, dtype=torch.uint8)


def copy(mine: Tensor, theirs: Tensor) -> None:
    with torch.no_grad():
        assert mine.shape == theirs.shape
        mine.copy_(theirs)


def copy_linear(mine: nn.Module, theirs: nn.Module) -> None:
    """Weights of a linear layer or a norm; a bias that theirs lacks is zero."""
    copy(mine.weight, theirs.weight)
    copy(mine.bias, theirs.bias if theirs.bias is not None else torch.zeros_like(mine.bias))


def by_pixels(kernel: Tensor) -> Tensor:
    """Weights (out, values) on our patches of a convolution's kernel (out, colours, p, p)."""
    return kernel.permute(0, 2, 3, 1).flatten(1)


def masks_of(monkeypatch: pytest.MonkeyPatch, module: Any) -> list[Tensor]:
    """Fill a list with what an objective keeps visible, step by step."""
    drawn: list[Tensor] = []
    original = module.random_patches

    def recorded(*args: Any) -> tuple[Tensor, Tensor]:
        keep, mask = original(*args)
        drawn.append(keep)
        return keep, mask
    monkeypatch.setattr(module, 'random_patches', recorded)
    return drawn


def close(mine: Tensor, theirs: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)
    note(relative(mine, theirs))


def close_gradients(mine: Tensor | None, theirs: Tensor, tolerance: float) -> None:
    """Compare on the scale of the largest one."""
    assert mine is not None
    scale = float(theirs.abs().max())
    assert scale > 1e-6
    torch.testing.assert_close(mine / scale, theirs / scale, rtol=tolerance, atol=tolerance)
    note(gradient=relative(mine, theirs))


# -- MAE ----------------------------------------------------------------------------------


def copy_block(mine: Any, theirs: Any) -> None:
    """Take the weights of one of their layers into one of our blocks."""
    parts = theirs.attention
    for name in ('weight', 'bias'):
        copy(getattr(mine.qkv, name), torch.cat([
            getattr(part, name) for part in (parts.q_proj, parts.k_proj, parts.v_proj)]))
    copy_linear(mine.out, parts.o_proj)
    copy_linear(mine.norm1, theirs.layernorm_before)
    copy_linear(mine.norm2, theirs.layernorm_after)
    copy_linear(mine.mlp[0], theirs.mlp.fc1)
    copy_linear(mine.mlp[2], theirs.mlp.fc2)


def their_positions(width: int) -> Tensor:
    """Positions (1, 1 + patches, width) as their trained weights have them: columns first."""
    from transformers.models.vit_mae import modeling_vit_mae
    rows = modeling_vit_mae.build_2d_sinusoidal_position_embedding(
        SIZE // PATCH, SIZE // PATCH, width, cls_token=True)
    down, across = rows.chunk(2, dim=1)
    return torch.cat([across, down], dim=1)[None]


def vit_mae(normalise: bool) -> Any:
    model = drawn_anew(transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(
        **SIZES, norm_pix_loss=normalise, mask_ratio=0.75)))
    # A model that no weights were loaded into has zeros there.
    copy(model.vit.embeddings.position_embeddings, their_positions(WIDTH))
    copy(model.decoder.decoder_pos_embed, their_positions(NARROW))
    return model


def our_mae(theirs: Any, normalise: bool) -> MaskedAutoencoder:
    """Build ours with the weights of theirs."""
    encoder = VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(
        vit=VitConfig(patch=PATCH, channels=WIDTH, depth=2, heads=HEADS)))
    objective = MaskedAutoencoder(DataShape(1, SIZE, SIZE, 0, 0), MaskedAutoencoderConfig(
        decoder_channels=NARROW, decoder_depth=1, decoder_heads=HEADS,
        normalise_patches=normalise, photometric=STILL), encoder).double()
    trunk, decoder = encoder.trunk, objective.decoder
    assert isinstance(trunk, PatchTransformer)
    # Pictures are float32 up to here; all that follows is float64.
    trunk.patches = lambda pictures: patchify(  # type: ignore[method-assign]
        pictures.double() / 127.5 - 1.0, PATCH)
    embeddings = theirs.vit.embeddings
    copy(trunk.project.weight, by_pixels(embeddings.patch_embeddings.projection.weight))
    copy(trunk.project.bias, embeddings.patch_embeddings.projection.bias)
    copy(trunk.cls, embeddings.cls_token)
    copy(trunk.get_buffer('position'), embeddings.position_embeddings[0, 1:])
    copy_linear(trunk.norm, theirs.vit.layernorm)
    copy_linear(decoder.embed, theirs.decoder.decoder_embed)
    copy(decoder.hidden, theirs.decoder.mask_token)
    copy(decoder.get_buffer('position'), theirs.decoder.decoder_pos_embed[0, 1:])
    copy_linear(decoder.norm, theirs.decoder.decoder_norm)
    copy_linear(decoder.pixels, theirs.decoder.decoder_pred)
    for camera in (trunk.camera, decoder.camera):
        nn.init.zeros_(camera)
    for mine, other in zip([*trunk.blocks, *decoder.blocks],
                           [*theirs.vit.layers, *theirs.decoder.decoder_layers], strict=True):
        copy_block(mine, other)
    return objective


def compare_mae(monkeypatch: pytest.MonkeyPatch, normalise: bool,
                mistake: Callable[[pytest.MonkeyPatch, MaskedAutoencoder], None] | None = None
                ) -> None:
    """See that loss and gradients are theirs."""
    theirs = vit_mae(normalise)
    objective = our_mae(theirs, normalise)
    kept = masks_of(monkeypatch, mae)
    if mistake is not None:
        mistake(monkeypatch, objective)
    images = pixels(5, SIZE, SIZE)
    ours = objective({'images': images[:, None]}, torch.Generator().manual_seed(3))['loss']
    # Noise that sorts into the same order.
    keep, = kept
    order = torch.arange(keep.shape[1], dtype=torch.float64).expand_as(keep)
    noise = torch.full((5, 16), 99.0, dtype=torch.float64).scatter(1, keep, order)
    values = (images.double() / 127.5 - 1.0).permute(0, 3, 1, 2)
    found = theirs(pixel_values=values, noise=noise)
    close(ours, found.loss, 1e-6)
    ours.backward()
    found.loss.backward()
    trunk, decoder = objective.encoder.trunk, objective.decoder
    layer = theirs.vit.layers[0]
    for mine, other in (
            (trunk.project.weight, by_pixels(
                theirs.vit.embeddings.patch_embeddings.projection.weight.grad)),
            (trunk.cls, theirs.vit.embeddings.cls_token.grad),
            (trunk.blocks[0].mlp[0].weight, layer.mlp.fc1.weight.grad),
            (trunk.blocks[0].qkv.weight, torch.cat([
                part.weight.grad for part in (
                    layer.attention.q_proj, layer.attention.k_proj, layer.attention.v_proj)])),
            (decoder.hidden, theirs.decoder.mask_token.grad),
            (decoder.pixels.weight, theirs.decoder.decoder_pred.weight.grad)):
        close_gradients(mine.grad, other, 1e-5)


@pytest.mark.parametrize('normalise', [True, False])
def test_mae_is_vit_mae_as_a_whole(monkeypatch: pytest.MonkeyPatch, normalise: bool) -> None:
    compare_mae(monkeypatch, normalise)


def test_positions_are_vit_mae_s_with_rows_and_columns_swapped() -> None:
    theirs = their_positions(WIDTH)[0]
    fresh = VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(
        vit=VitConfig(patch=PATCH, channels=WIDTH, depth=1, heads=HEADS)))
    down, across = fresh.trunk.get_buffer('position').chunk(2, dim=1)
    close(torch.cat([across, down], dim=1), theirs[1:], 1e-6)
    assert not torch.allclose(torch.cat([down, across], dim=1), theirs[1:], atol=0.1)
    assert float(theirs[0].abs().max()) == 0.0, 'the class token has no place'


def positions_of_the_first(_: pytest.MonkeyPatch, objective: MaskedAutoencoder) -> None:
    """Add positions after masking without asking which patches were kept."""
    trunk = objective.encoder.trunk
    assert isinstance(trunk, PatchTransformer)
    trunk.place = (  # type: ignore[method-assign]
        lambda tokens, rows, columns, keep=None:
        tokens + trunk.positions(rows, columns)[:tokens.shape[1]])


def class_token_hidden(_: pytest.MonkeyPatch, objective: MaskedAutoencoder) -> None:
    objective.decoder.embed.register_forward_hook(
        lambda module, given, found: torch.cat([0.0 * found[:, :1], found[:, 1:]], dim=1))


def everything_encoded(_: pytest.MonkeyPatch, objective: MaskedAutoencoder) -> None:
    """Encode all patches, hidden ones too, and take the kept ones afterwards."""
    trunk = objective.encoder.trunk
    assert isinstance(trunk, PatchTransformer)

    def leaking(samples: Tensor, keep: Tensor) -> Tensor:
        tokens = trunk.attend(trunk.place(trunk.embed(samples), trunk.rows, trunk.columns))
        kept = tokens[:, 1:].gather(1, keep[..., None].expand(-1, -1, WIDTH))
        return torch.cat([tokens[:, :1], kept], dim=1)
    objective.encoder.each = (  # type: ignore[method-assign]
        lambda work, samples, *more: leaking(samples, *more))


def every_patch_counted(monkeypatch: pytest.MonkeyPatch, _: MaskedAutoencoder) -> None:
    monkeypatch.setattr(mae, 'places_of', lambda mask, count: places_of(
        torch.ones_like(mask), mask.shape[1]))


def biased_variance(monkeypatch: pytest.MonkeyPatch, _: MaskedAutoencoder) -> None:
    monkeypatch.setattr(mae, 'normalised_patches', lambda rows: (
        rows - rows.mean(-1, keepdim=True)) / (
            rows.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt())


def colours_apart(monkeypatch: pytest.MonkeyPatch, _: MaskedAutoencoder) -> None:
    """Normalise as VideoMAE does."""
    monkeypatch.setattr(mae, 'normalised_patches', lambda rows: normalised_patches(
        rows.unflatten(-1, (-1, 3)).transpose(-1, -2)).transpose(-1, -2).flatten(-2))


def approximate_gelu(_: pytest.MonkeyPatch, objective: MaskedAutoencoder) -> None:
    objective.decoder.blocks[0].mlp[1] = nn.GELU(approximate='tanh')


@pytest.mark.parametrize('mistake', [
    positions_of_the_first, class_token_hidden, everything_encoded, every_patch_counted,
    biased_variance, colours_apart, approximate_gelu], ids=lambda mistake: mistake.__name__)
def test_the_comparison_of_mae_sees_a_mistake(monkeypatch: pytest.MonkeyPatch, mistake: Any
                                              ) -> None:
    with pytest.raises(AssertionError):
        compare_mae(monkeypatch, True, mistake)


# -- VideoMAE -----------------------------------------------------------------------------

FRAMES = 6
TUBES, GRID = FRAMES // 2, (SIZE // PATCH) ** 2
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def video_mae() -> Any:
    return drawn_anew(transformers.VideoMAEForPreTraining(transformers.VideoMAEConfig(
        **SIZES, num_frames=FRAMES, tubelet_size=2, norm_pix_loss=True, use_mean_pooling=False)))


def copy_layer(mine: Any, theirs: Any, timm: bool) -> None:
    """Take the weights of one of their layers; theirs has no bias on keys."""
    parts = theirs.attention.attention
    qkv, out = (mine.attn.qkv, mine.attn.proj) if timm else (mine.qkv, mine.out)
    first, last = (mine.mlp.fc1, mine.mlp.fc2) if timm else (mine.mlp[0], mine.mlp[2])
    copy(qkv.weight, torch.cat([
        part.weight for part in (parts.query, parts.key, parts.value)]))
    copy(qkv.bias, torch.cat([
        parts.query.bias, torch.zeros_like(parts.query.bias), parts.value.bias]))
    copy_linear(out, theirs.attention.output.dense)
    copy_linear(mine.norm1, theirs.layernorm_before)
    copy_linear(mine.norm2, theirs.layernorm_after)
    copy_linear(first, theirs.intermediate.dense)
    copy_linear(last, theirs.output.dense)


def our_videomae(theirs: Any) -> VideoMAE:
    """
    Build ours with the weights of theirs.

    Theirs has no class token, so the trunk is a timm one without it. Theirs numbers all tubes in
    one row and takes waves of that number, which is no sum of time and place as ours is: so their
    table is set to ours.
    """
    from timm.models.vision_transformer import VisionTransformer
    model = VisionTransformer(
        img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=2, num_heads=HEADS,
        num_classes=0, class_token=False, global_pool='avg', fc_norm=False,
        norm_layer=nn.LayerNorm)
    model.pretrained_cfg = {'mean': MEAN, 'std': SPREAD}
    encoder = VisionEncoder(1, SIZE, SIZE, 0, VisionConfig(vit=VitConfig(PATCH, WIDTH, 1, HEADS)))
    trunk = TimmViT(SIZE, SIZE, 1, model)
    encoder.trunks[0] = trunk
    objective = VideoMAE(DataShape(1, SIZE, SIZE, 0, 0), VideoMAEConfig(
        frames=FRAMES, decoder_channels=NARROW, decoder_depth=1, decoder_heads=HEADS,
        photometric=STILL), encoder).double()
    trunk.patches = lambda pictures: patchify(  # type: ignore[method-assign]
        (pictures.double() / 255.0 - torch.tensor(MEAN).double()) / torch.tensor(SPREAD).double(),
        PATCH)
    embeddings, change = theirs.videomae.embeddings, objective.tubes.change
    before, after = embeddings.patch_embeddings.projection.weight.unbind(dim=2)
    copy(model.patch_embed.proj.weight, before + after)
    copy(model.patch_embed.proj.bias, embeddings.patch_embeddings.projection.bias)
    copy(change.weight, by_pixels(after - before))
    time = objective.tubes.get_buffer('time')
    table = time[:, None] + model.pos_embed.detach()
    embeddings.position_embeddings = table.flatten(0, 1)[None]
    theirs.position_embeddings = objective.get_buffer('position')[None]
    copy_linear(model.norm, theirs.videomae.layernorm)
    copy_linear(objective.embed, theirs.encoder_to_decoder)
    copy(objective.hidden, theirs.mask_token[0, 0])
    copy_linear(objective.norm, theirs.decoder.norm)
    copy_linear(objective.pixels, theirs.decoder.head)
    nn.init.zeros_(objective.camera)
    for mine, other in zip(model.blocks, theirs.videomae.encoder.layer, strict=True):
        copy_layer(mine, other, timm=True)
    copy_layer(objective.blocks[0], theirs.decoder.decoder_layers[0], timm=False)
    return objective


def compare_videomae(monkeypatch: pytest.MonkeyPatch,
                     mistake: Callable[[pytest.MonkeyPatch, VideoMAE], None] | None = None
                     ) -> None:
    """See that loss and gradients are theirs."""
    theirs = video_mae()
    objective = our_videomae(theirs)
    kept = masks_of(monkeypatch, videomae)
    if mistake is not None:
        mistake(monkeypatch, objective)
    clips = pixels(3, FRAMES, SIZE, SIZE)
    ours = objective({'images': clips[:, :, None]}, torch.Generator().manual_seed(3))['loss']
    keep, = kept
    assert keep.shape[1] == 1, '90 % of 16 places'
    hidden = torch.ones(3, GRID, dtype=torch.bool).scatter(1, keep, False).repeat(1, TUBES)
    values = (clips.double() / 255.0 - torch.tensor(MEAN).double()) / torch.tensor(SPREAD).double()
    found = theirs(pixel_values=values.permute(0, 1, 4, 2, 3), bool_masked_pos=hidden)
    # They add 1e-6 to the deviation of values 0 … 1, we to that of values as the trunk takes them.
    close(ours, found.loss, 1e-5)
    ours.backward()
    found.loss.backward()
    trunk, layer = objective.encoder.trunk, theirs.videomae.encoder.layer[0]
    before, after = theirs.videomae.embeddings.patch_embeddings.projection.weight.grad.unbind(2)
    for mine, other in (
            (trunk.model.patch_embed.proj.weight, (before + after) / 2),
            (objective.tubes.change.weight, by_pixels(after - before) / 2),
            (trunk.model.blocks[0].mlp.fc1.weight, layer.intermediate.dense.weight.grad),
            (objective.hidden, theirs.mask_token.grad[0, 0]),
            (objective.pixels.weight, theirs.decoder.head.weight.grad)):
        close_gradients(mine.grad, other, 1e-4)


def test_videomae_is_transformers_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    compare_videomae(monkeypatch)


def like_mae(monkeypatch: pytest.MonkeyPatch, _: VideoMAE) -> None:
    """Normalise over all colours together."""
    monkeypatch.setattr(videomae, 'normalised_tubes', lambda tubes: normalised_patches(
        tubes.flatten(-2)).unflatten(-1, (-1, 3)))


def frames_exchanged(_: pytest.MonkeyPatch, objective: VideoMAE) -> None:
    with torch.no_grad():
        objective.tubes.change.weight.neg_()


def time_forgotten(_: pytest.MonkeyPatch, objective: VideoMAE) -> None:
    objective.tubes.get_buffer('time').zero_()


def hidden_alike(_: pytest.MonkeyPatch, objective: VideoMAE) -> None:
    """Ask the decoder without saying where."""
    original = objective._draw

    def draw(tokens: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        return original(tokens, keep, 0 * hidden)
    objective._draw = draw  # type: ignore[method-assign]


def three_quarters(_: pytest.MonkeyPatch, objective: VideoMAE) -> None:
    object.__setattr__(objective.config, 'mask_ratio', 0.75)


@pytest.mark.parametrize('mistake', [
    like_mae, frames_exchanged, time_forgotten, hidden_alike, three_quarters],
    ids=lambda mistake: mistake.__name__)
def test_the_comparison_of_videomae_sees_a_mistake(monkeypatch: pytest.MonkeyPatch, mistake: Any
                                                   ) -> None:
    with pytest.raises(AssertionError):
        compare_videomae(monkeypatch, mistake)
