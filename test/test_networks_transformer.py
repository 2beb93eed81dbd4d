# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks see what they may; position embeddings are the written-out waves."""

from __future__ import annotations

import math

import pytest
from ssl_vla_ros.networks.transformer import attend, Block, sincos_positions
import torch
from torch.nn import functional


@pytest.mark.parametrize('causal', [True, False])
def test_a_causal_block_sees_no_later_token(causal: bool) -> None:
    torch.manual_seed(0)
    block = Block(8, 2, causal=causal).eval()
    tokens = torch.randn(1, 5, 8)
    changed = tokens.clone()
    changed[0, 3] = torch.randn(8)
    with torch.no_grad():
        same = torch.isclose(block(tokens), block(changed), atol=1e-7).all(-1)[0]
    assert same.tolist() == ([True] * 3 + [False] * 2 if causal else [False] * 5)


@pytest.mark.parametrize('causal', [True, False])
def test_attention_is_the_fused_kernel_s(causal: bool) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 3, 7, 4, dtype=torch.float64)
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
    torch.testing.assert_close(
        attend(query, key, value, causal), expected, rtol=1e-6, atol=1e-6)
    # Negative control: unscaled, it is another function.
    assert not torch.allclose(attend(2.0 * query, key, value, causal), expected, atol=1e-3)


def test_positions_are_the_written_out_waves_row_by_row() -> None:
    found = sincos_positions(3, 5, 8)
    assert found.shape == (15, 8)
    for row in range(3):
        for column in range(5):
            expected = []
            for place in (row, column):
                angles = [place / 10000.0 ** (k / 2) for k in range(2)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(found[5 * row + column], torch.tensor(expected))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r'width is 10, must be a multiple of heads \(3\)'):
        Block(10, 3)
    with pytest.raises(ValueError, match='heads is 0, must be at least 1'):
        Block(8, 0)
    with pytest.raises(ValueError, match='width is 6, must be a multiple of 4'):
        sincos_positions(2, 2, 6)
