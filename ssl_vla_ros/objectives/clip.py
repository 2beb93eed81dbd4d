# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Vision, language and action embedded together.

Image and text as "Learning Transferable Visual Models From Natural Language Supervision" (CLIP,
Radford et al., 2021); the chunk of actions that follows a picture is a third modality, contrasted
with both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
import math
from typing import Any

from ssl_vla_ros.augment.robot import action_noise
from ssl_vla_ros.augment.views import view, ViewConfig
from ssl_vla_ros.contract import nearest
from ssl_vla_ros.losses.contrastive import paired_nce
from ssl_vla_ros.losses.gather import world
from ssl_vla_ros.networks.actions import ActionEncoder
from ssl_vla_ros.networks.projection import check_parts, Projection
from ssl_vla_ros.networks.text import make_text_tower, TextTower
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Needs, Objective, require_tasks
import torch
from torch import nn, Tensor

MODALITIES = ('image', 'text', 'action')
#: CLIP, section 2.5: the scale begins at 1/0.07 and never exceeds 100.
_FIRST_LOG_SCALE = math.log(1 / 0.07)
_LARGEST_LOG_SCALE = math.log(100.0)


@dataclass(frozen=True)
class ClipConfig:
    """Settings of the contrast between modalities."""

    modalities: tuple[str, ...] = MODALITIES   # image, and one or both of the others
    hidden: int = 512
    projection: int = 128
    actions: int = 8             # steps of the action chunk
    action_noise: float = 0.05   # in standard deviations
    text: str = 'bytes'          # one of networks.text.TEXT_TOWERS
    text_settings: Mapping[str, Any] = field(default_factory=dict)
    chunk: int = 0               # samples computed at once (gradient caching); 0: all
    views: ViewConfig = field(default_factory=ViewConfig)

    def names(self) -> tuple[str, ...]:
        """
        Modalities, in the order of ``MODALITIES``.

        Raises
        ------
        ValueError
            If one is unknown, there are fewer than two, or the image is left out.

        """
        for name in self.modalities:
            if name not in MODALITIES:
                raise ValueError(f'modalities has {name!r}, must be of {", ".join(MODALITIES)}'
                                 f'{nearest(name, MODALITIES)}')
        found = set(self.modalities)
        if len(found) < 2:
            raise ValueError(f'modalities is {list(self.modalities)}, must name two or three of '
                             f'{", ".join(MODALITIES)}')
        if 'image' not in found:
            raise ValueError(f'modalities is {list(self.modalities)}, must have image: without it '
                             'the encoder would learn nothing')
        return tuple(name for name in MODALITIES if name in found)


def clip_needs(config: ClipConfig) -> Needs:
    """Say what a sample must hold."""
    names = config.names()
    return Needs(actions=config.actions if 'action' in names else 0, text='text' in names, pairs=2)


class Clip(Objective):
    """
    Find each moment's instruction and actions among those of the batch, and the other way round.

    Batch: ``images`` (batch, cameras, height, width, 3); ``instruction`` (batch,); ``actions``
    (batch, actions, action) with ``valid``. Samples with the same instruction are positives of
    each other in the pairs with text: on a robot the same sentence stands beside many pictures.
    Each pair has a scale of its own, learned.
    """

    def __init__(self, shape: DataShape, config: ClipConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        if not 0.0 <= config.action_noise < math.inf:
            raise ValueError(f'action_noise is {config.action_noise}, must be at least 0 and '
                             'finite')
        check_parts(config.chunk, None if encoder.config.frozen else encoder.trunks)
        self.config = config
        self.names = config.names()
        self.encoder = encoder
        towers: dict[str, nn.Module] = {}
        widths = {'image': encoder.row_width}
        if 'text' in self.names:
            rest = ', '.join(name for name in self.names if name != 'text')
            require_tasks(
                shape, 'clip with text',
                f'leave text out (model.modalities=[{rest}])' if len(self.names) == 3
                else 'use another objective')
            text = make_text_tower(config.text, shape.tasks, config.text_settings)
            towers['text'], widths['text'] = text, text.width
        if 'action' in self.names:
            if not shape.action_size:
                raise ValueError('clip with action needs actions, the dataset has none; leave '
                                 'action out (model.modalities=[image, text])')
            acting = ActionEncoder(shape.action_size, config.actions)
            towers['action'], widths['action'] = acting, acting.width
        self.towers = nn.ModuleDict(towers)
        self.projections = nn.ModuleDict({
            name: Projection(widths[name], config.hidden, config.projection)
            for name in self.names})
        self.log_scale = nn.ParameterDict({
            f'{one}_{two}': nn.Parameter(torch.tensor([_FIRST_LOG_SCALE]))
            for one, two in combinations(self.names, 2)})

    def prepare(self, rows: Batch) -> None:
        """Take the statistics of actions of the training split, and read the instructions."""
        if 'text' in self.names:
            text = self.towers['text']
            assert isinstance(text, TextTower)
            text.prepare()
        if 'action' in self.names:
            tower = self.towers['action']
            assert isinstance(tower, ActionEncoder)
            tower.actions.fit(rows['actions'])

    def _embeddings(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        seen = view(batch['images'], self.config.views, generator)
        features = {'image': self.encoder.rows(
            seen, batch.get('state'), generator, self.config.chunk)}
        if 'text' in self.names:
            features['text'] = self.towers['text'](batch['instruction'])
        if 'action' in self.names:
            tower = self.towers['action']
            assert isinstance(tower, ActionEncoder)
            noisy = action_noise(tower.actions(batch['actions']), self.config.action_noise,
                                 generator, batch['valid'])
            features['action'] = tower(noisy, batch['valid'])
        return {name: self.projections[name](value) for name, value in features.items()}

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Mean over the pairs of modalities."""
        found = self._embeddings(batch, generator)
        _, processes = world()
        parts: dict[str, Tensor] = {}
        for one, two in combinations(self.names, 2):
            pair = f'{one}_{two}'
            same = batch['instruction'] if 'text' in (one, two) else None
            parts[pair] = paired_nce(found[one], found[two], self.log_scale[pair].exp(), same,
                                     gather=processes > 1)
        loss = torch.stack(list(parts.values())).mean()
        parts |= {f'{pair}_chance': chance(len(batch['images']) * processes, loss)
                  for pair in tuple(parts)}
        return {'loss': loss, **parts}

    @torch.no_grad()
    def end_step(self) -> None:
        """Keep the scales where the paper keeps them."""
        for scale in self.log_scale.values():
            scale.clamp_(max=_LARGEST_LOG_SCALE)
