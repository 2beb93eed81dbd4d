# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""R3M: "A Universal Visual Representation for Robot Manipulation" (Nair et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssl_vla_ros.augment.views import view, ViewConfig
from ssl_vla_ros.losses.precision import full, without_autocast
from ssl_vla_ros.losses.temporal import sparsity, time_contrast
from ssl_vla_ros.networks.projection import check_parts, Projection
from ssl_vla_ros.networks.text import make_text_tower
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Needs, Objective
import torch
from torch import Tensor


@dataclass(frozen=True)
class R3MConfig:
    """Settings of R3M."""

    frames: int = 6              # of a clip, of which an early, a middle and a late one are drawn
    stride: int = 4              # rows from one to the next
    time_weight: float = 1.0
    language_weight: float = 1.0
    sparsity: float = 1e-5       # of the L1 and of the L2 norm
    hidden: int = 512            # of the reward head
    text: str = 'bytes'          # one of networks.text.TEXT_TOWERS
    text_settings: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 0               # pictures computed at once (gradient caching); 0: all
    views: ViewConfig = field(default_factory=ViewConfig)


def r3m_needs(config: R3MConfig) -> Needs:
    """Say what a sample must hold."""
    return Needs(frames=config.frames, stride=config.stride, text=config.language_weight > 0.0,
                 episode=True, pairs=2)


class R3M(Objective):
    """
    Near in time is near in features; progress towards the instruction can be read off.

    Batch: ``images`` uint8 (batch, frames, cameras, height, width, 3) and, with a language weight,
    ``instruction`` (batch,), and ``episode`` (batch,). The loss is on the encoder's own features.
    Of each clip four frames are used: a start, and i < j < k, the start never after i. The other
    video is another row of the batch, drawn anew in each step; where it is of the same episode,
    the contrast with it is left out.
    """

    def __init__(self, shape: DataShape, config: R3MConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        if config.frames < 3:
            raise ValueError(f'frames is {config.frames}, must be at least 3: an early, a middle '
                             'and a late one')
        for name in ('time_weight', 'language_weight', 'sparsity'):
            if not getattr(config, name) >= 0.0:
                raise ValueError(f'{name} is {getattr(config, name)}, must be at least 0')
        check_parts(config.chunk, None if encoder.config.frozen else encoder.trunks)
        self.config = config
        self.encoder = encoder
        if config.language_weight > 0.0:
            if not shape.tasks:
                raise ValueError('r3m needs instructions, the dataset has none; set '
                                 'model.language_weight=0 to learn from time alone')
            self.text = make_text_tower(config.text, shape.tasks, config.text_settings)
            self.reward = Projection(
                2 * encoder.row_width + self.text.width, config.hidden, 1, layers=3)

    def prepare(self, rows: Batch) -> None:
        """Read the instructions."""
        if self.config.language_weight > 0.0:
            self.text.prepare()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted sum of contrast over time, reward and sparsity."""
        config, images = self.config, batch['images']
        places = draw_places(len(images), images.shape[1], generator, images.device)
        # The losses take the row before for the other video, and a batch comes in the order of the
        # dataset: that row would mostly be of the same episode.
        order = torch.randperm(len(images), generator=generator, device=images.device)
        seen = view(images[order[:, None], places], config.views, generator)
        moments = full(self.encoder.rows(seen, chunk=config.chunk))
        start, early, middle, late = moments.unbind(dim=1)
        episode = batch['episode'][order]
        time = time_contrast(early, middle, late, episode)
        sparse = sparsity(moments.flatten(0, 1), config.sparsity, config.sparsity)
        parts = {'r3m_time': time, 'r3m_time_chance': chance(3, time), 'r3m_sparsity': sparse}
        loss = config.time_weight * time + sparse
        if config.language_weight > 0.0:
            numbers = batch['instruction'][order]
            same = (numbers == numbers.roll(1)) | (episode == episode.roll(1))
            language = self._language(start, (early, middle, late), self.text(numbers), same)
            parts |= {'r3m_language': language}
            loss = loss + config.language_weight * language
        return {'loss': loss, **parts}

    def _language(self, start: Tensor, frames: tuple[Tensor, Tensor, Tensor], text: Tensor,
                  same: Tensor) -> Tensor:
        """
        Cross-entropy of the later frame being further towards the instruction (equation 2).

        Wrong answers are the earlier frame, and the start and later frame of another video; that
        one is left out where it is ``same`` (batch,), of the same instruction: it is as right.
        """
        early, middle, late = frames
        losses = []
        for before, after in ((early, middle), (middle, late), (early, late)):
            right = self._score(start, after, text)
            other = self._score(start.roll(1, 0), after.roll(1, 0), text)
            scores = torch.cat([right, self._score(start, before, text),
                                other.masked_fill(same[:, None], -torch.inf)], dim=1)
            losses.append((scores.logsumexp(dim=1) - right[:, 0]).mean())
        return torch.stack(losses).mean()

    @without_autocast
    def _score(self, start: Tensor, now: Tensor, text: Tensor) -> Tensor:
        score: Tensor = self.reward(torch.cat([start, now, text.to(now.dtype)], dim=1))
        return score


def draw_places(batch: int, frames: int, generator: torch.Generator, device: torch.device
                ) -> Tensor:
    """Draw (batch, 4) places in a clip: a start, and i < j < k, the start at or before i."""
    order = torch.rand(batch, frames, generator=generator, device=device).argsort(dim=1)
    chosen = order[:, :3].sort(dim=1).values
    share = torch.rand(batch, generator=generator, device=device)
    start = (share * (chosen[:, 0] + 1)).long().clamp(max=frames - 1)
    return torch.cat([torch.minimum(start, chosen[:, 0])[:, None], chosen], dim=1)
