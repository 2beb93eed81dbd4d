# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""BEiT: "BERT Pre-Training of Image Transformers" (Bao et al., 2022)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.losses.masked import masked_token_entropy
from ssl_vla_ros.networks.codebook import Codebook
from ssl_vla_ros.networks.transformer import Block
from ssl_vla_ros.networks.trunk import PatchTrunk
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Objective
from ssl_vla_ros.objectives.masking import block_patches
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class BeitConfig:
    """Settings of masked token prediction."""

    tokens: int = 512          # of the visual vocabulary
    centred: bool = True       # words of patches without their mean colour: not of the light
    mask_ratio: float = 0.4
    smallest_block: int = 4    # patches
    head_depth: int = 0        # blocks between the encoder and the classifier
    head_heads: int = 3
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


class Beit(Objective):
    """
    Name the visual token of each hidden patch.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). The paper's tokenizer is a discrete
    VAE trained on other pictures; ours is a codebook of the training split's own patches, found
    once by k-means and then frozen: it needs no download and no word is left unused. All patches
    pass through the encoder, hidden ones as a learned token; the classifier stays behind, and so
    do ``head_depth`` blocks before it.

    Words are of the picture as it came, before its light is changed. By default the mean colour of
    each patch is taken off first: of raw patches, k-means spends nearly all words on shades of a
    plain table in changing light, and features of an encoder that names those are worse than
    untrained ones (docs/benchmarks.md).
    """

    def __init__(self, shape: DataShape, config: BeitConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        trunk = encoder.patch_trunk('beit')
        block_patches(1, trunk.rows, trunk.columns, config.mask_ratio, torch.Generator(),
                      torch.device('cpu'), config.smallest_block)
        self.codebook = Codebook(config.tokens, 3 * trunk.patch**2)
        self.hidden = nn.Parameter(0.02 * torch.randn(trunk.width))
        if config.head_depth < 0:
            raise ValueError(f'head_depth is {config.head_depth}, must be at least 0')
        self.blocks = nn.ModuleList(
            Block(trunk.width, config.head_heads) for _ in range(config.head_depth))
        self.classify = nn.Linear(trunk.width, config.tokens)

    def prepare(self, rows: Batch) -> None:
        """Find the vocabulary in patches of the training split."""
        trunk = self.encoder.patch_trunk('beit')
        with torch.no_grad():
            patches = self._worded(trunk.patches(rows['images'].flatten(0, 1)))
            self.codebook.fit(patches.flatten(0, 1))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Cross-entropy over the hidden patches."""
        seen = photometric(batch['images'], self.config.photometric, generator)
        trunk = self.encoder.patch_trunk('beit')
        patches = trunk.patches(seen.flatten(0, 1))
        words = self.codebook(self._worded(trunk.patches(batch['images'].flatten(0, 1))))
        mask = block_patches(
            len(patches), trunk.rows, trunk.columns, self.config.mask_ratio, generator,
            patches.device, self.config.smallest_block)
        tokens = self.encoder.each(self._masked, patches, mask)
        for block in self.blocks:
            tokens = block(tokens)
        logits = self.classify(tokens[:, trunk.prefix:])
        loss = masked_token_entropy(logits, words, mask)
        known = self._entropy(words[mask])
        return {'loss': loss, 'beit': loss, 'beit_chance': known, 'beit_words_used': known.exp()}

    def _worded(self, patches: Tensor) -> Tensor:
        """Give what a word is about, of patches (n, patches, patch² · 3)."""
        if not self.config.centred:
            return patches
        pixels = patches.unflatten(-1, (-1, 3))
        centred: Tensor = (pixels - pixels.mean(dim=-2, keepdim=True)).flatten(-2)
        # Rounding errors are no difference: plain patches of two colours are the same.
        return (centred * 1e4).round() * 1e-4

    def _masked(self, trunk: PatchTrunk, patches: Tensor, mask: Tensor) -> Tensor:
        tokens = trunk.embed(patches)
        tokens = torch.where(mask[..., None], self.hidden.to(tokens.dtype), tokens)
        return trunk.attend(trunk.place(tokens, trunk.rows, trunk.columns))

    def _entropy(self, words: Tensor) -> Tensor:
        """
        Entropy of the words (N,) that are asked: what it costs to know how frequent each is.

        Not ln K: on a plain table few words are frequent, and a network that looks at nothing
        soon costs far less. Its exponential says how many words are in use; 1 is a collapse.
        """
        share = torch.bincount(words, minlength=self.config.tokens).float() / len(words)
        return -(share * share.clamp_min(1e-12).log()).sum()
