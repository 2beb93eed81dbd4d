# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""SimCLR: "A Simple Framework for Contrastive Learning" (Chen et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.views import view, ViewConfig
from ssl_vla_ros.losses.contrastive import nt_xent
from ssl_vla_ros.losses.gather import gather_rows, world
from ssl_vla_ros.networks.projection import check_parts, Projection
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Objective
import torch
from torch import Tensor


@dataclass(frozen=True)
class SimCLRConfig:
    """Settings of SimCLR."""

    hidden: int = 512
    projection: int = 128
    temperature: float = 0.1
    memory: int = 0           # embeddings of earlier batches, as further negatives
    chunk: int = 0            # samples computed at once (gradient caching); 0: all
    views: ViewConfig = field(default_factory=ViewConfig)


class SimCLR(Objective):
    """
    Find the other view of the same moment among all others.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). A moment is one sample, with all
    its cameras. What is probed and exported is the encoder; the projection stays behind.
    """

    def __init__(self, shape: DataShape, config: SimCLRConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        if not config.temperature > 0.0:
            raise ValueError(f'temperature is {config.temperature}, must be above 0')
        if config.memory < 0:
            raise ValueError(f'memory is {config.memory}, must be at least 0')
        check_parts(config.chunk, None if encoder.config.frozen else encoder.trunks)
        self.config = config
        self.encoder = encoder
        self.projection = Projection(encoder.row_width, config.hidden, config.projection)
        self.register_buffer('memory', torch.zeros(config.memory, config.projection))
        self.register_buffer('remembered', torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """NT-Xent over two views of each moment."""
        config, images = self.config, batch['images']
        # Without a name, so that nothing holds the views when the backward pass begins.
        first, second = self.projection(self.encoder.rows(
            torch.cat([view(images, config.views, generator) for _ in range(2)]),
            chunk=config.chunk)).chunk(2)
        _, processes = world()
        known = min(int(self.get_buffer('remembered')), config.memory)
        bank = self.get_buffer('memory')[:known] if known else None
        loss = nt_xent(first, second, config.temperature, gather=processes > 1, bank=bank)
        if config.memory and self.training:
            self._remember(gather_rows(first.detach()))
        return {'loss': loss, 'simclr': loss,
                'simclr_chance': chance(2 * len(images) * processes - 1 + known, loss)}

    def _remember(self, rows: Tensor) -> None:
        """Put embeddings in the place of the oldest ones."""
        memory, count = self.get_buffer('memory'), self.get_buffer('remembered')
        places = (int(count) + torch.arange(len(rows), device=rows.device)) % len(memory)
        memory[places[-len(memory):]] = rows[-len(memory):].to(memory.dtype)
        count += len(rows)
