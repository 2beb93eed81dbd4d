# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Clips through an encoder of single pictures: tokens of two frames and one patch.

VideoMAE embeds a tube by W₀x₀ + W₁x₁. Written as W(x₀ + x₁)/2 + D(x₁ − x₀)/2, with W = W₀ + W₁
the picture's own embedding and D = W₁ − W₀, it is the same set of functions, and on a clip that
stands still it gives the picture's token: what is learned from clips serves pictures.
"""

from __future__ import annotations

from ssl_vla_ros.networks.trunk import gather_tokens, PatchTrunk
from ssl_vla_ros.networks.vision import VisionEncoder
import torch
from torch import nn, Tensor


def time_positions(length: int, width: int) -> Tensor:
    """
    Make the fixed position embedding (length, width) of time: zero at first, as for a picture.

    It is added to that of the grid, so its waves fill all channels at frequencies of their own
    (10000^(−2i/width)). With those of the rows, time and row could be swapped: tube 1 of row 2
    would stand where tube 2 of row 1 stands, and no decoder could tell which of the two is asked.

    Raises
    ------
    ValueError
        If the width is odd.

    """
    if width % 2:
        raise ValueError(f'width is {width}, must be even')
    frequency = 10000.0 ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    waves = torch.cat([angle.sin(), angle.cos()], dim=-1)
    return (waves - waves[:1]).float()


class TubeEncoder(nn.Module):
    """
    Joint attention over the tubes of a clip, by the trunk of a shared encoder.

    Parameters
    ----------
    encoder
        Whose trunk runs; not a part of this module.
    frames
        Of a clip; even.
    objective
        Who needs it, for error messages.

    Attributes
    ----------
    length
        Tubes along time.

    Raises
    ------
    ValueError
        If the number of frames is odd, or the encoder's trunk cannot leave patches out.

    """

    def __init__(self, encoder: VisionEncoder, frames: int, objective: str) -> None:
        super().__init__()
        if frames < 2 or frames % 2:
            raise ValueError(f'frames is {frames}, must be even: a tube is two frames deep')
        trunk = encoder.patch_trunk(objective)
        self.length = frames // 2
        self.change = nn.Linear(3 * trunk.patch**2, trunk.width, bias=False)
        nn.init.zeros_(self.change.weight)
        # A tuple keeps the encoder out of this module's own parameters.
        self._encoder = (encoder,)
        self._grid = trunk.rows * trunk.columns
        self.register_buffer(
            'time', time_positions(self.length, trunk.width), persistent=False)

    def patches(self, clips: Tensor) -> Tensor:
        """
        Tubes (n, tubes, patches, 2 · patch² · 3), the first frame's pixels first.

        Parameters
        ----------
        clips
            (n, frames, height, width, 3), values 0 … 255, cameras innermost in n.

        """
        encoder = self._encoder[0]
        frames = clips.shape[1]

        def cut(trunk: PatchTrunk, rows: Tensor) -> Tensor:
            single: Tensor = trunk.patches(rows.flatten(0, 1)).unflatten(0, (-1, frames))
            return single

        found: Tensor = encoder.each(cut, clips).unflatten(1, (self.length, 2))
        return found.permute(0, 1, 3, 2, 4).flatten(-2)

    def keep_of(self, keep: Tensor) -> Tensor:
        """Numbers (n, tubes · kept) in a clip of patches (n, kept) that stay in every frame."""
        offsets = self._grid * torch.arange(self.length, device=keep.device)
        return (offsets[:, None] + keep[:, None]).flatten(1)

    def forward(self, patches: Tensor, keep: Tensor,
                slow: tuple[VisionEncoder, nn.Module] | None = None) -> Tensor:
        """
        Tokens (n, prefix + kept, width) of the tubes at ``keep``; others are never computed.

        Parameters
        ----------
        patches
            Of ``self.patches``.
        keep
            (n, kept) numbers of tubes, time first.
        slow
            A teacher's encoder and its copy of ``change``; None: the shared encoder and ours.

        """
        chosen = gather_tokens(patches.flatten(1, 2), keep)
        encoder, change = slow or (self._encoder[0], self.change)

        def run(trunk: PatchTrunk, tubes: Tensor, places: Tensor) -> Tensor:
            first, second = tubes.chunk(2, dim=-1)
            tokens = trunk.embed((first + second) / 2) + change((second - first) / 2)
            tokens = tokens + self.get_buffer('time')[places // self._grid]
            return trunk.attend(
                trunk.place(tokens, trunk.rows, trunk.columns, places % self._grid))

        return encoder.each(run, chosen, keep)
