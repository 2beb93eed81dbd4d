# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What every encoder is: pictures of all cameras in, tokens of features out."""

from __future__ import annotations

from torch import nn, Tensor


class Encoder(nn.Module):
    """
    Base of all encoders.

    ``forward`` takes images uint8 (batch, cameras, height, width, 3), normalises them itself (so
    that the exported graph does), and returns float32 features (batch, tokens, dim).

    Attributes
    ----------
    cameras, height, width
        What a batch must look like.
    tokens, dim
        Shape of the features.
    rows_at_once
        Batch that tables of features are computed with. Small on a CPU: large intermediate maps
        leave the cache, and ImageNet features at batch 64 took 5 times as long for a row as at 1.

    """

    rows_at_once = 8

    def __init__(self, cameras: int, height: int, width: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.cameras = cameras
        self.height = height
        self.width = width
        self.tokens = tokens
        self.dim = dim

    def check(self, images: Tensor) -> None:
        """
        Raise ``ValueError`` unless ``images`` has this encoder's shape.

        A wrong size would otherwise be stretched over position embeddings without a word.
        """
        want = (self.cameras, self.height, self.width, 3)
        if tuple(images.shape[1:]) != want:
            raise ValueError(f'images are {tuple(images.shape[1:])}, this encoder takes {want}')

    def maps(self, images: Tensor) -> Tensor:
        """Give what is seen where: (batch · cameras, rows, columns, channels) of images."""
        raise TypeError(f'{type(self).__name__} must define maps')

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, tokens, dim) of images (batch, cameras, height, width, 3)."""
        raise TypeError(f'{type(self).__name__} must define forward')
