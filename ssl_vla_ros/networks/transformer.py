# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The transformer block that every network here is made of."""

from __future__ import annotations

import torch
from torch import nn, Tensor
from torch.nn import functional


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """
    Scaled dot-product attention of (batch, heads, steps, width), the softmax in float32.

    On a CPU written out: for the few dozen tokens of a small picture, the fused kernel's backward
    pass in bfloat16 took five times as long (128 x 3 heads x 37 tokens x 64: 40 ms and 8 ms).
    """
    if query.device.type != 'cpu':
        return functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    scores = (query @ key.transpose(-2, -1)).float() * query.shape[-1] ** -0.5
    if causal:
        steps = scores.shape[-1]
        later = torch.ones(steps, steps, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    mixed: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return mixed


class Block(nn.Module):
    """
    One pre-norm transformer block ("An Image is Worth 16x16 Words", Dosovitskiy et al., 2021).

    Parameters
    ----------
    width, heads
        Of the attention; the width must be a multiple of the heads.
    causal
        Whether a token sees only itself and those before it.

    Raises
    ------
    ValueError
        If width and heads do not fit.

    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        for name, value in (('width', width), ('heads', heads)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        if width % heads:
            raise ValueError(f'width is {width}, must be a multiple of heads ({heads})')
        self.heads = heads
        self.causal = causal
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (batch, steps, width) to tokens of the same shape."""
        batch, steps, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, steps, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = attend(query, key, value, self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, steps, width))
        added: Tensor = x + self.mlp(self.norm2(x))
        return added


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """
    Make the fixed position embedding (rows · columns, width) of a grid, row by row.

    Half of the channels hold sines and cosines of the row, the other half those of the column, at
    wavelengths from 2π to 20000π ("Masked Autoencoders", He et al., 2022, appendix A.1).

    Raises
    ------
    ValueError
        If the width is no multiple of 4.

    """
    if width % 4:
        raise ValueError(f'width is {width}, must be a multiple of 4')
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))

    def waves(count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float64)[:, None] * frequency
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    down = waves(rows)[:, None].expand(rows, columns, -1)
    across = waves(columns)[None].expand(rows, columns, -1)
    return torch.cat([down, across], dim=-1).flatten(0, 1).float()
