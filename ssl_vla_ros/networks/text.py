# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Text towers by name: ``bytes`` is trained from scratch, ``minilm`` is pretrained and frozen.

``TEXT_TOWERS`` maps the name used in configuration files to the tower and its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from dataclasses import dataclass
from typing import Any

from ssl_vla_ros.contract import suggestion
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.sentence import as_texts, FrozenSentenceEncoder, TextTower
from ssl_vla_ros.networks.transformer import Block
import torch
from torch import nn, Tensor

__all__ = [
    'byte_tokens', 'ByteTransformer', 'ByteTransformerConfig', 'FrozenSentenceEncoder',
    'FrozenSentenceEncoderConfig', 'make_text_tower', 'TEXT_TOWERS', 'TextTower',
    'TextTowerSpec']

#: Token of padding, and the one that ends a text; between them lie byte + 1.
_PADDING, _END = 0, 257


def byte_tokens(texts: Sequence[str], length: int) -> Tensor:
    """
    Tokens (texts, longest + 1) of the texts' UTF-8 bytes: byte + 1, then 257 as the end; 0 pads.

    With a token for its end even an empty text has one.

    Raises
    ------
    ValueError
        If a text has more than ``length`` bytes: cut off, two texts could become the same.

    """
    rows = [text.encode() for text in texts]
    longest = max(map(len, rows), default=0)
    for text, row in zip(texts, rows, strict=True):
        if len(row) == longest > length:
            raise ValueError(
                f'the instruction {text[:60]!r} has {longest} bytes, more than length '
                f'({length}): set length to {longest} or more')
    tokens = torch.full((len(rows), longest + 1), _PADDING)
    for number, row in enumerate(rows):
        tokens[number, :len(row) + 1] = torch.tensor([*(byte + 1 for byte in row), _END])
    return tokens


def _through(block: Block, x: Tensor, real: Tensor) -> Tensor:
    """
    Pass x (batch, steps, width) through ``block``, with padding that no token sees.

    ``real`` (batch, steps) is true where there is no padding. The softmax is taken in float32.
    """
    batch, steps, width = x.shape
    qkv = block.qkv(block.norm1(x)).view(batch, steps, 3, block.heads, width // block.heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(-2, -1)).float() * query.shape[-1] ** -0.5
    scores = scores.masked_fill(~real[:, None, None], -torch.inf)
    mixed = scores.softmax(dim=-1).to(value.dtype) @ value
    x = x + block.out(mixed.transpose(1, 2).reshape(batch, steps, width))
    added: Tensor = x + block.mlp(block.norm2(x))
    return added


@dataclass(frozen=True)
class ByteTransformerConfig:
    """Settings of the byte transformer."""

    width: int = 128
    depth: int = 2
    heads: int = 4
    length: int = 96   # bytes of the longest instruction; letters beyond ASCII have 2 to 4


class ByteTransformer(TextTower):
    """
    A small transformer over the UTF-8 bytes of an instruction, trained from scratch.

    Bytes need no word list and know every language ("ByT5", Xue et al., 2022). Positions are
    learned, attention is bidirectional, features are the mean over the tokens. Padding is neither
    attended to nor in the mean, so nothing depends on how long the other instructions are. The
    instructions are not part of a checkpoint: it fits those of another dataset, too.

    Raises
    ------
    ValueError
        If an instruction is longer than ``length``, or the sizes do not fit.

    """

    def __init__(self, tasks: Sequence[str], config: ByteTransformerConfig) -> None:
        for name in ('depth', 'length'):
            if getattr(config, name) < 1:
                raise ValueError(f'{name} is {getattr(config, name)}, must be at least 1')
        super().__init__(tasks, config.width)
        self.length = config.length
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads) for _ in range(config.depth))
        self.embed = nn.Embedding(_END + 1, config.width)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.position = nn.Parameter(0.02 * torch.randn(config.length + 1, config.width))
        self.norm = nn.LayerNorm(config.width)
        self.register_buffer(
            'tokens', byte_tokens(self.tasks, config.length), persistent=False)

    def _pooled(self, tokens: Tensor) -> Tensor:
        real = tokens != _PADDING
        x = self.embed(tokens) + self.position[:tokens.shape[1]]
        for block in self.blocks:
            assert isinstance(block, Block)
            x = _through(block, x, real)
        shown: Tensor = self.norm(x).float() * real[..., None]
        return shown.sum(dim=1) / real.sum(dim=1, keepdim=True)

    def features(self, numbers: Tensor) -> Tensor:
        """Features (n, width), float32."""
        return self._pooled(self.get_buffer('tokens')[numbers])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """
        Features (n, width) of any texts, float32.

        Raises
        ------
        ValueError
            If a text is longer than ``length``.

        """
        tokens = byte_tokens(as_texts(texts, 'texts'), self.length)
        return self._pooled(tokens.to(self.position.device))


@dataclass(frozen=True)
class FrozenSentenceEncoderConfig:
    """The frozen sentence encoder has no settings."""


@dataclass(frozen=True)
class TextTowerSpec:
    """A text tower as the registry knows it: what builds it, and its settings."""

    build: Callable[[Sequence[str], Any], TextTower]
    settings: type


TEXT_TOWERS: dict[str, TextTowerSpec] = {
    'bytes': TextTowerSpec(ByteTransformer, ByteTransformerConfig),
    'minilm': TextTowerSpec(
        lambda tasks, config: FrozenSentenceEncoder(tasks), FrozenSentenceEncoderConfig),
}


def make_text_tower(name: str, tasks: Sequence[str], settings: Mapping[str, object]) -> TextTower:
    """
    Build a text tower by its name.

    Parameters
    ----------
    name
        A key of ``TEXT_TOWERS``.
    tasks
        Every instruction of the dataset, in the order of their numbers.
    settings
        Fields of the tower's settings; what is not given keeps its default.

    Raises
    ------
    ConfigError
        If there is no such tower or setting, a value is no whole number, or the settings do not
        fit each other or the instructions.

    """
    spec = TEXT_TOWERS.get(name)
    if spec is None:
        raise ConfigError(
            f'the text tower is {name!r}, must be one of {", ".join(TEXT_TOWERS)}'
            f'{suggestion(name, TEXT_TOWERS)}')
    known = [field.name for field in dataclasses.fields(spec.settings)]
    for key, value in settings.items():
        if key not in known:
            hint = suggestion(key, known) if known else '; it has no settings'
            raise ConfigError(
                f'text tower {name!r}: unknown key {key!r} (value {value!r}){hint}')
        if not isinstance(value, int) or isinstance(value, bool):
            raise ConfigError(f'text tower {name!r}: {key} is {value!r}, must be a whole number')
    try:
        return spec.build(tasks, spec.settings(**settings))
    except ValueError as error:
        raise ConfigError(f'text tower {name!r}: {error}') from error
