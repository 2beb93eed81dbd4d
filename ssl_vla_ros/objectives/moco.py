# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""MoCo: "Momentum Contrast for Unsupervised Visual Representation Learning" (He et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.views import view, ViewConfig
from ssl_vla_ros.losses.contrastive import queue_nce
from ssl_vla_ros.losses.gather import gather_rows
from ssl_vla_ros.losses.precision import unit
from ssl_vla_ros.networks.momentum import Momentum
from ssl_vla_ros.networks.projection import Projection
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Objective
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class MoCoConfig:
    """Settings of MoCo."""

    hidden: int = 512
    projection: int = 128
    temperature: float = 0.1
    queue: int = 2048          # keys of earlier batches
    momentum: float = 0.99     # of the key encoder; long runs want 0.999
    views: ViewConfig = field(default_factory=ViewConfig)


class MoCo(Objective):
    """
    Find a moment's key among those of earlier batches.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). Keys come from a slow copy of the
    encoder. Both views are query and key in turn; the queue takes the keys of a step after both
    halves: between them, the second half would meet its own positives as negatives.
    """

    def __init__(self, shape: DataShape, config: MoCoConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        if config.queue < 1:
            raise ValueError(f'queue is {config.queue}, must be at least 1')
        if not config.temperature > 0.0:
            raise ValueError(f'temperature is {config.temperature}, must be above 0')
        if not 0.0 <= config.momentum < 1.0:
            raise ValueError(f'momentum is {config.momentum}, must be at least 0 and below 1')
        self.config = config
        self.encoder = encoder
        self.projection = Projection(encoder.row_width, config.hidden, config.projection)
        self.teacher = Momentum(encoder, self.projection)
        # Unit rows, like the keys that replace them: rows as they are drawn, in a loss that takes
        # them as they are, hold it above ln(K + 1) until the last of them is gone.
        self.register_buffer('queue', unit(torch.randn(config.queue, config.projection)))
        self.register_buffer('place', torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean of both directions."""
        config = self.config
        views = torch.cat([view(batch['images'], config.views, generator) for _ in range(2)])
        # Keys first: what they take is free again before the queries fill the memory.
        keys = self._keys(views).chunk(2)
        queries = self.projection(self.encoder.rows(views)).chunk(2)
        del views  # or they would be held through the backward pass
        queue = self.get_buffer('queue').clone()
        loss = (queue_nce(queries[0], keys[1], queue, config.temperature)
                + queue_nce(queries[1], keys[0], queue, config.temperature)) / 2
        if self.training:
            self._enqueue(torch.cat(keys))
        return {'loss': loss, 'moco': loss, 'moco_chance': chance(len(queue) + 1, loss)}

    @torch.no_grad()
    def _keys(self, views: Tensor) -> Tensor:
        encoder, projection = self.teacher.copies
        assert isinstance(encoder, VisionEncoder)
        return unit(projection(encoder.rows(views)))

    def _enqueue(self, keys: Tensor) -> None:
        """First in, first out; every process puts the keys of all."""
        queue, place = self.get_buffer('queue'), self.get_buffer('place')
        keys = gather_rows(keys)[-len(queue):]
        places = (int(place) + torch.arange(len(keys), device=keys.device)) % len(queue)
        queue[places] = keys.to(queue.dtype)
        place.copy_((place + len(keys)) % len(queue))

    def end_step(self) -> None:
        """Let the key encoder follow."""
        self.teacher.follow([self.encoder, self.projection], self.config.momentum)

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Give encoder and key encoder."""
        return {'moco': (self.encoder, self.teacher.copies[0])}
