# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Contrast over time: "Contrastive Predictive Coding" (van den Oord et al., 2018), with a GRU."""

from __future__ import annotations

from dataclasses import dataclass, field

from ssl_vla_ros.augment.temporal import temporal_crop
from ssl_vla_ros.augment.views import view, ViewConfig
from ssl_vla_ros.losses.gather import world
from ssl_vla_ros.losses.precision import unit, without_autocast
from ssl_vla_ros.losses.temporal import future_nce
from ssl_vla_ros.networks.projection import check_parts, mixes_samples
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Needs, Objective
import torch
from torch import nn, Tensor
from torch.nn import functional


@dataclass(frozen=True)
class TemporalConfig:
    """Settings of the prediction of later features."""

    frames: int = 8          # of a clip
    stride: int = 2          # rows from one to the next
    crop: float = 1.0        # share of the frames that is kept, from a random one on; 1: all
    horizon: int = 3         # frames ahead, each 1 … horizon
    width: int = 128         # of features and of the GRU
    temperature: float = 0.1
    order_weight: float = 0.0    # of the same loss among the moments of each clip alone
    chunk: int = 0           # frames computed at once (gradient caching); 0: all
    views: ViewConfig = field(default_factory=ViewConfig)


def temporal_needs(config: TemporalConfig) -> Needs:
    """Say what a sample must hold."""
    return Needs(frames=config.frames, stride=config.stride)


class Temporal(Objective):
    """
    From what was seen so far, find what is seen k frames later, among all frames of the batch.

    Batch: ``images`` uint8 (batch, frames, cameras, height, width, 3). Other moments of the same
    clip are among the wrong answers at every horizon: between episodes the background would tell.
    No statistics are shared over time (a backbone with batch normalisation is refused), and the
    GRU starts anew with each clip, which never crosses the end of an episode.
    ``temporal_right_k`` is the share of right answers, ``temporal_order_k`` the loss among the
    moments of the same clip alone: where it stays at its chance, the background is all that was
    learned, and ``order_weight`` makes it count.
    """

    def __init__(self, shape: DataShape, config: TemporalConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        for name in ('horizon', 'width'):
            if getattr(config, name) < 1:
                raise ValueError(f'{name} is {getattr(config, name)}, must be at least 1')
        if not 0.0 < config.crop <= 1.0:
            raise ValueError(f'crop is {config.crop}, must lie above 0 and be at most 1')
        if round(config.crop * config.frames) < config.horizon + 2:
            cut = '' if config.crop == 1.0 else f' and crop {config.crop}'
            raise ValueError(f'frames is {config.frames}{cut}, must be at least horizon + 2 = '
                             f'{config.horizon + 2}: with fewer, no other moment of the same clip '
                             'is among the wrong answers, and the background tells clips apart')
        if not config.order_weight >= 0.0:
            raise ValueError(f'order_weight is {config.order_weight}, must be at least 0')
        if not config.temperature > 0.0:
            raise ValueError(f'temperature is {config.temperature}, must be above 0')
        trained = None if encoder.config.frozen else encoder.trunks
        if trained is not None and mixes_samples(trained):
            raise ValueError(
                f'temporal cannot train network.backbone {encoder.config.backbone!r}: its batch '
                'normalisation shares statistics over time, so what comes later leaks into what '
                'was seen before; use a backbone without it (vit, convnext_atto, resnet50_gn), or '
                'set network.frozen to true')
        check_parts(config.chunk, trained)
        self.config = config
        self.encoder = encoder
        self.features = nn.Sequential(
            nn.Linear(encoder.row_width, config.width), nn.LayerNorm(config.width))
        self.context = nn.GRU(config.width, config.width, batch_first=True)
        self.predict = nn.ModuleList(
            nn.Linear(config.width, config.width) for _ in range(config.horizon))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean over the horizons."""
        config = self.config
        if config.crop < 1.0:
            batch = temporal_crop(batch, config.crop, generator,
                                  [key for key in ('images', 'state') if key in batch])
        seen = view(batch['images'], config.views, generator)
        features = self.features(
            self.encoder.rows(seen, batch.get('state'), generator, config.chunk))
        context, _ = self.context(features)
        _, processes = world()
        losses, orders = [], []
        parts: dict[str, Tensor] = {}
        for ahead, predict in enumerate(self.predict, start=1):
            expected, found = predict(context[:, :-ahead]), features[:, ahead:]
            losses.append(future_nce(
                expected, found, config.temperature, gather=processes > 1))
            parts[f'temporal_{ahead}'] = losses[-1]
            parts[f'temporal_{ahead}_chance'] = chance(
                processes * found.shape[0] * found.shape[1], found)
            # Knowing the clip alone already costs less than guessing: this is what is left then.
            orders.append(_order(expected, found, config.temperature))
            parts[f'temporal_order_{ahead}'] = orders[-1].detach()
            parts[f'temporal_order_{ahead}_chance'] = chance(found.shape[1], found)
            parts[f'temporal_right_{ahead}'] = _right(expected, found)
        loss = torch.stack(losses).mean()
        if config.order_weight > 0.0:
            loss = loss + config.order_weight * torch.stack(orders).mean()
        return {'loss': loss, **parts}


@without_autocast
def _order(expected: Tensor, found: Tensor, temperature: float) -> Tensor:
    """Cross-entropy to the right moment, of the moments of the same clip."""
    scores = unit(expected) @ unit(found).transpose(1, 2) / temperature
    right = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape[:2])
    return functional.cross_entropy(scores.flatten(0, 1), right.flatten())


@torch.no_grad()
@without_autocast
def _right(expected: Tensor, found: Tensor) -> Tensor:
    """Share of predictions (clips, moments, dim) whose nearest moment of all is the right one."""
    one, two = unit(expected).flatten(0, 1), unit(found).flatten(0, 1)
    nearest = (one @ two.T).argmax(dim=1)
    return (nearest == torch.arange(len(one), device=one.device)).float().mean()
