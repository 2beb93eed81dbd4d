# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Trunks by timm name, at any input size: fresh, from a local file, or from a model hub."""

from __future__ import annotations

from difflib import get_close_matches
import math
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from ssl_vla_ros.errors import ConfigError, MissingDependencyError
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.trunk import patchify, PatchTrunk, resized_positions, Trunk
import torch
from torch import nn, Tensor

#: Values of ``init`` that are no path.
FRESH, PRETRAINED = 'none', 'pretrained'


def _timm() -> Any:
    declare_missing_operators()
    try:
        import timm  # after the operators it looks up are declared
    except ImportError as error:
        raise MissingDependencyError(
            'backbones by name need timm: pip install timm') from error
    return timm


def _check_name(timm: Any, name: str) -> None:
    """See that timm knows a model, and the tag of its weights if one is given."""
    plain, _, tag = name.partition('.')
    if not timm.is_model(plain):
        known = ['vit', *timm.list_models()]
        near = (get_close_matches(plain, known, 3, 0.6)
                or [item for item in known if plain and plain.lower() in item][:5])
        hint = f'; did you mean {", ".join(map(repr, near))}?' if near else (
            '; timm.list_models() lists them')
        raise ConfigError(
            f'network.backbone is {name!r}: neither "vit" nor a model that timm knows{hint}')
    tags = [item.partition('.')[2] for item in timm.list_models(f'{plain}.*', pretrained=True)]
    if tag and tag not in tags:
        raise ConfigError(
            f'network.backbone is {name!r}: timm knows no weights {tag!r} of {plain}'
            f'{"; it has " + ", ".join(tags) if tags else ""}')


def _source(timm: Any, name: str, init: str) -> dict[str, Any]:
    """Arguments of ``timm.create_model`` that say where the weights come from."""
    if init == FRESH:
        return {'pretrained': False}
    if init == PRETRAINED:
        return {'pretrained': True}
    path = Path(init)
    if not path.is_file():
        raise ConfigError(
            f'network.init is {init!r}: there is no such file; give a .safetensors file with '
            f'weights of {name}, a run of ours, "none" or "pretrained"')
    if path.suffix != '.safetensors':
        raise ConfigError(
            f'network.init is {init!r}: only .safetensors is read, since other formats may run '
            'code when they are opened; convert it with safetensors.torch.save_file')
    known = timm.models.get_pretrained_cfg(name)
    classifiers = known.classifier if known is not None else None
    classifiers = (classifiers,) if isinstance(classifiers, str) else classifiers or ()
    # As downloaded, a file has the classifier that this trunk goes without; all else must fit.
    weights = {key: value for key, value in load_file(path).items()
               if not any(key.startswith(f'{layer}.') for layer in classifiers)}
    if not weights:
        raise ConfigError(f'network.init is {init!r}: not the weights of {name} (it is empty)')
    # An overlay lets timm fit position embeddings and names of layers to this model.
    return {'pretrained': True, 'pretrained_cfg_overlay': {
        'state_dict': weights, 'num_classes': 0, 'label_offset': 0}}


def make_timm(name: str, height: int, width: int, init: str) -> Any:
    """
    Build a timm model without classifier for pictures of one size.

    Raises
    ------
    ConfigError
        If there is no such model, it cannot take this size, or the weights cannot be had.

    """
    timm = _timm()
    _check_name(timm, name)
    try:
        wanted = {**_source(timm, name, init), 'num_classes': 0}
        try:
            model = timm.create_model(name, img_size=(height, width), **wanted)
        except TypeError as error:
            if 'img_size' not in str(error):
                raise
            model = timm.create_model(name, **wanted)  # convolutions take any size
        # Or the file's weights would stay in memory, and be copied with every teacher.
        model.pretrained_cfg.pop('state_dict', None)
        return model
    except (AssertionError, ValueError, TypeError) as error:
        raise ConfigError(
            f'network.backbone is {name!r}, which cannot be built for pictures of '
            f'{height}x{width}: {error}; choose sizes that are multiples of its patch') from error
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(_unreachable(name, init, error)) from error


def _unreachable(name: str, init: str, error: Exception) -> str:
    said = shorten(f'{type(error).__name__}: {error}', 240, placeholder=' …')
    if init == PRETRAINED:
        return (f'network.init is pretrained, but the weights of {name} cannot be had ({said}); '
                'download them elsewhere and give their .safetensors file as network.init, or '
                'start fresh with network.init=none')
    if init == FRESH:
        return f'network.backbone is {name!r}, which cannot be built ({said}); choose another'
    return f'network.init is {init!r}: not the weights of {name} ({said})'


def _statistics(model: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of colours that a model takes, for values 0 … 255."""
    config = model.pretrained_cfg
    mean, std = config.get('mean') or (0.5,) * 3, config.get('std') or (0.5,) * 3
    return 255.0 * torch.tensor(mean), 255.0 * torch.tensor(std)


class TimmTrunk(Trunk):
    """
    Any timm model: the last map of a convolutional network, or the tokens of a transformer.

    Raises
    ------
    ConfigError
        As ``make_timm``, or if its features are neither a map nor tokens of a grid.

    """

    def __init__(self, name: str, height: int, width: int, model: Any) -> None:
        prefix = int(getattr(model, 'num_prefix_tokens', 0))
        rows, columns, channels, last = _grid_of(
            name, _features_of_nothing(name, height, width, model), prefix, height / width)
        super().__init__(rows, columns, channels, prefix)
        self._channels_last = last
        self.model = model
        mean, std = _statistics(model)
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Tokens (n, prefix + rows · columns, width)."""
        rows = (pictures.float() - self.get_buffer('mean')) / self.get_buffer('std')
        found: Tensor = self.model.forward_features(rows.permute(0, 3, 1, 2))
        if found.ndim == 3:
            return found
        return found.flatten(1, 2) if self._channels_last else found.flatten(2).transpose(1, 2)


def _features_of_nothing(name: str, height: int, width: int, model: Any) -> Any:
    """Features of a black picture: the one way that tells their shape for every model."""
    was = model.training
    try:
        with torch.no_grad():
            return model.eval().forward_features(torch.zeros(1, 3, height, width))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f'network.backbone is {name!r}, which takes no pictures of {height}x{width}: '
            f'{error}; choose another size, or another backbone') from error
    finally:
        model.train(was)


def _grid_of(name: str, found: Any, prefix: int, proportion: float
             ) -> tuple[int, int, int, bool]:
    """
    Rows, columns and channels of features, and whether channels come last in a map.

    A map may have its channels first or, as Swin's, last: the grid is the pair of axes that is
    nearer to the picture's proportion (height / width).
    """
    shape = tuple(found.shape) if isinstance(found, Tensor) else ()
    if len(shape) == 4:
        def off(rows: int, columns: int) -> float:
            return abs(math.log(rows / columns / proportion))
        _, one, two, three = shape
        return (one, two, three, True) if off(one, two) < off(two, three) else (
            two, three, one, False)
    count = shape[1] - prefix if len(shape) == 3 else 0
    rows = round((count * proportion) ** 0.5)
    if rows < 1 or rows * (count // rows) != count:
        raise ConfigError(
            f'network.backbone is {name!r}, whose features {shape or type(found).__name__} are '
            'neither a map nor tokens of a grid; choose another')
    return rows, count // rows, shape[2], False


class TimmViT(PatchTrunk):
    """
    A timm ``VisionTransformer`` (ViT, DeiT, CLIP, DINOv2), of which patches can be left out.

    Raises
    ------
    ValueError
        If pictures are not made of whole patches.

    """

    def __init__(self, height: int, width: int, cameras: int, model: Any) -> None:
        patch = int(model.patch_embed.patch_size[0])
        if height % patch or width % patch:
            raise ValueError(
                f'backbone has patches of {patch} pixels, but height and width ({height}, '
                f'{width}) must be multiples of it')
        super().__init__(height // patch, width // patch, int(model.embed_dim),
                         int(model.num_prefix_tokens), patch, cameras)
        # So that a pretrained network starts as what it is.
        nn.init.zeros_(self.camera)
        self.model = model
        mean, std = _statistics(model)
        self.register_buffer('mean', mean, persistent=False)
        self.register_buffer('std', std, persistent=False)

    def patches(self, pictures: Tensor) -> Tensor:
        """Patches, normalised by the statistics that the weights were trained with."""
        return patchify(
            (pictures.float() - self.get_buffer('mean')) / self.get_buffer('std'), self.patch)

    def embed(self, patches: Tensor) -> Tensor:
        """Patch embedding: the convolution's weights on patches that are already cut."""
        layer = self.model.patch_embed.proj
        weight = layer.weight.permute(0, 2, 3, 1).flatten(1)
        tokens: Tensor = self.model.patch_embed.norm(
            nn.functional.linear(patches, weight, layer.bias))
        return tokens

    def positions(self, rows: int, columns: int) -> Tensor:
        """Learned positions, spread over another grid where the picture's is another."""
        model = self.model
        if model.pos_embed is None:
            return self.camera.new_zeros(rows * columns, self.width)
        known = model.pos_embed[0, 0 if model.no_embed_class else self.prefix:]
        return resized_positions(known, (self.rows, self.columns), (rows, columns))

    def attend(self, tokens: Tensor) -> Tensor:
        """Class token and registers first, then all blocks."""
        model = self.model
        first = [part for part in (model.cls_token, model.reg_token) if part is not None]
        if first:
            prefix = torch.cat(first, dim=1)
            if model.pos_embed is not None and not model.no_embed_class:
                prefix = prefix + model.pos_embed[:, :self.prefix]
            tokens = torch.cat(
                [prefix.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        found: Tensor = model.norm(model.blocks(model.norm_pre(model.pos_drop(tokens))))
        return found


def make_timm_trunk(name: str, height: int, width: int, cameras: int, init: str) -> Trunk:
    """
    Build a trunk by timm name; one whose patches can be left out where the model allows it.

    Raises
    ------
    ConfigError
        As ``make_timm``.

    """
    model = make_timm(name, height, width, init)
    from timm.layers.patch_embed import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer
    # Neither heirs, which may have further tokens (DeiT's for distillation), nor hybrids, whose
    # patches are those of a convolutional network's map.
    plain = (type(model) is VisionTransformer and type(model.patch_embed) is PatchEmbed
             and isinstance(model.patch_drop, nn.Identity))
    if plain and model.patch_embed.patch_size[0] == model.patch_embed.patch_size[1]:
        return TimmViT(height, width, cameras, model)
    return TimmTrunk(name, height, width, model)
