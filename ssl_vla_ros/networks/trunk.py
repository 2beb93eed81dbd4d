# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Trunks: from pictures to tokens.

Every trunk takes pictures (n, height, width, 3) with values 0 … 255 and gives (n, tokens, width).
One that is made of patches can leave some of them out, or put others in their place: what masked
objectives need.
"""

from __future__ import annotations

from ssl_vla_ros.networks.transformer import Block, sincos_positions
import torch
from torch import nn, Tensor
from torch.nn import functional


def patchify(pictures: Tensor, patch: int) -> Tensor:
    """
    Cut pictures (batch, height, width, 3) into patches (batch, patches, patch² · 3).

    Patches come row by row; within one, pixels row by row and colours innermost.

    Raises
    ------
    ValueError
        If the picture is not made of whole patches.

    """
    batch, height, width, colours = pictures.shape
    if height % patch or width % patch:
        raise ValueError(
            f'pictures are {height}x{width}, not made of whole patches of {patch} pixels')
    cut = pictures.reshape(batch, height // patch, patch, width // patch, patch, colours)
    return cut.permute(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * colours)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (batch, kept, width) at ``index`` (batch, kept) of tokens (batch, all, width)."""
    # Rows as a whole: ``gather`` goes number by number.
    first = tokens.shape[1] * torch.arange(len(tokens), device=index.device)
    rows = tokens.flatten(0, 1).index_select(0, (index + first[:, None]).flatten())
    found: Tensor = rows.unflatten(0, index.shape)
    return found


class Trunk(nn.Module):
    """
    Base of all trunks.

    Attributes
    ----------
    rows, columns
        Grid of the tokens of a full picture.
    width
        Of a token.
    prefix
        Tokens before those of the grid: class tokens and registers.

    """

    def __init__(self, rows: int, columns: int, width: int, prefix: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns
        self.width = width
        self.prefix = prefix

    def forward(self, pictures: Tensor) -> Tensor:
        """Tokens (n, prefix + rows · columns, width) of pictures (n, height, width, 3)."""
        raise TypeError(f'{type(self).__name__} must define forward')


class PatchTrunk(Trunk):
    """
    Base of transformers over patches, taken apart into the steps that masking needs.

    A plain pass is ``attend(place(embed(patches(pictures))))``. Pictures of several cameras come
    with the cameras innermost: sample i is of camera i modulo ``cameras``.

    Attributes
    ----------
    patch
        Edge of a patch, pixels.
    cameras
        How many share this trunk; each has a learned embedding.

    """

    def __init__(self, rows: int, columns: int, width: int, prefix: int, patch: int,
                 cameras: int) -> None:
        super().__init__(rows, columns, width, prefix)
        self.patch = patch
        self.cameras = cameras
        self.camera = nn.Parameter(0.02 * torch.randn(cameras, width))

    def patches(self, pictures: Tensor) -> Tensor:
        """Patches (n, patches, patch² · 3), normalised as this trunk takes them."""
        raise TypeError(f'{type(self).__name__} must define patches')

    def embed(self, patches: Tensor) -> Tensor:
        """Tokens (n, patches, width) of patches, without position."""
        raise TypeError(f'{type(self).__name__} must define embed')

    def positions(self, rows: int, columns: int) -> Tensor:
        """Position embedding (rows · columns, width) of a grid."""
        raise TypeError(f'{type(self).__name__} must define positions')

    def attend(self, tokens: Tensor) -> Tensor:
        """Put the prefix before placed tokens (n, some, width) and run all blocks."""
        raise TypeError(f'{type(self).__name__} must define attend')

    def place(self, tokens: Tensor, rows: int, columns: int, keep: Tensor | None = None) -> Tensor:
        """
        Add position and camera to tokens.

        Parameters
        ----------
        tokens
            (n, patches, width), or (n, kept, width) with ``keep``.
        rows, columns
            Grid that the patches come from.
        keep
            (n, kept) numbers of the patches that the tokens are of.

        """
        position = self.positions(rows, columns)
        placed = tokens + (position if keep is None else position[keep])
        if self.cameras == 1:
            return placed + self.camera
        by_camera: Tensor = placed.unflatten(0, (-1, self.cameras)) + self.camera[:, None]
        return by_camera.flatten(0, 1)

    def visible(self, patches: Tensor, keep: Tensor) -> Tensor:
        """
        Tokens (n, prefix + kept, width) of the patches at ``keep`` (n, kept) of a full picture.

        The others are not computed at all, and cannot leak.
        """
        return self.attend(self.place(
            self.embed(gather_tokens(patches, keep)), self.rows, self.columns, keep))

    def forward(self, pictures: Tensor) -> Tensor:
        """Tokens (n, prefix + patches, width) of pictures of any size in whole patches."""
        rows, columns = pictures.shape[1] // self.patch, pictures.shape[2] // self.patch
        return self.attend(self.place(self.embed(self.patches(pictures)), rows, columns))


class PatchTransformer(PatchTrunk):
    """
    Vision transformer of our own: fixed positions, one class token, values −1 … 1.

    Raises
    ------
    ValueError
        If sizes do not fit.

    """

    def __init__(self, cameras: int, height: int, width: int, *, patch: int, channels: int,
                 depth: int, heads: int) -> None:
        for name, value in (('patch', patch), ('depth', depth)):
            if value < 1:
                raise ValueError(f'{name} is {value}, must be at least 1')
        if height % patch or width % patch:
            raise ValueError(
                f'patch is {patch}, but height and width ({height}, {width}) must be multiples '
                'of it')
        super().__init__(height // patch, width // patch, channels, 1, patch, cameras)
        self.project = nn.Linear(patch * patch * 3, channels)
        self.cls = nn.Parameter(0.02 * torch.randn(1, 1, channels))
        self.register_buffer(
            'position', sincos_positions(self.rows, self.columns, channels), persistent=False)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def patches(self, pictures: Tensor) -> Tensor:
        """Patches of values −1 … 1."""
        return patchify(pictures.float() / 127.5 - 1.0, self.patch)

    def embed(self, patches: Tensor) -> Tensor:
        """One linear layer."""
        tokens: Tensor = self.project(patches)
        return tokens

    def positions(self, rows: int, columns: int) -> Tensor:
        """Waves of rows and columns; a smaller picture is a crop that was enlarged or shrunk."""
        return resized_positions(
            self.get_buffer('position'), (self.rows, self.columns), (rows, columns))

    def attend(self, tokens: Tensor) -> Tensor:
        """Class token first; normalised at the end."""
        tokens = torch.cat([self.cls.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        found: Tensor = self.norm(tokens)
        return found


def resized_positions(positions: Tensor, grid: tuple[int, int], wanted: tuple[int, int]
                      ) -> Tensor:
    """
    Position embedding (rows · columns, width) of a grid, spread over another one.

    Bicubic and against aliasing, as timm does it where it loads weights of another size.
    """
    if grid == wanted:
        return positions
    picture = positions.unflatten(0, grid).permute(2, 0, 1)[None].float()
    spread = functional.interpolate(
        picture, size=wanted, mode='bicubic', align_corners=False, antialias=True)
    return spread[0].flatten(1).T.to(positions.dtype)
