# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Predict features, not pixels.

``hidden`` predicts the features of hidden tubes of a clip ("V-JEPA 2", Assran et al., 2025,
section 2.1). ``next`` predicts those of the next frames, given the actions ("LeJEPA", Balestriero
and LeCun, 2025, and its world-model form; "V-JEPA 2", section 3.1). Both keep from collapsing in
one of two ways: targets of a slow teacher, or features that are held to a normal distribution.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

from ssl_vla_ros.augment.image import photometric, PhotometricConfig
from ssl_vla_ros.contract import nearest
from ssl_vla_ros.losses.gather import world
from ssl_vla_ros.losses.joint_embedding import normalised_l1, sketched_gaussian
from ssl_vla_ros.losses.precision import full
from ssl_vla_ros.networks.momentum import cosine_between, Momentum
from ssl_vla_ros.networks.predictors import LatentPredictor, TubePredictor
from ssl_vla_ros.networks.projection import Projection
from ssl_vla_ros.networks.trunk import gather_tokens
from ssl_vla_ros.networks.tubes import TubeEncoder
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, DataShape, Needs, Objective
from ssl_vla_ros.objectives.masking import block_patches, kept_of
import torch
from torch import nn, Tensor
from torch.nn import functional

PREDICTIONS = ('hidden', 'next')
TARGETS = ('teacher', 'gaussian')
#: Pictures that the scale of fresh latents is taken from, at most.
_SPREAD_PICTURES = 128


@dataclass(frozen=True)
class JepaConfig:
    """Settings of the prediction of features."""

    predict: str = 'hidden'       # one of PREDICTIONS
    target: str = 'teacher'       # one of TARGETS
    frames: int = 4               # of a clip; even for hidden
    stride: int = 2               # rows from one to the next
    actions: bool = True          # of next: whether the predictor sees the actions in between
    rollout: int = 2              # of next: frames predicted from predictions
    mask_ratio: float = 0.75      # of hidden
    width: int = 128              # of the predictor, and of the latents of next
    depth: int = 2
    heads: int = 4
    momentum: float = 0.992       # of the teacher, rising to 0.9999
    gaussian_weight: float = 0.1  # of the distance to a normal distribution
    directions: int = 64          # that it is measured along
    photometric: PhotometricConfig = field(default_factory=PhotometricConfig)


def jepa_needs(config: JepaConfig) -> Needs:
    """Say what a sample must hold."""
    acting = config.predict == 'next' and config.actions
    return Needs(frames=config.frames, stride=config.stride, pairs=2,
                 actions=(config.frames - 1) * config.stride if acting else 0)


class Jepa(Objective):
    """
    Predict the features of what is hidden, or of what comes next.

    Batch: ``images`` uint8 (batch, frames, cameras, height, width, 3) and, for ``next`` with
    actions, ``actions``: those of skipped frames are joined to one. With target ``teacher`` the
    error is L1 between normalised features and no gradient flows into the target. With
    ``gaussian`` it is the mean square, gradients flow into both sides, and SIGReg holds the
    features of the batch to a normal distribution; without it they would collapse.
    """

    def __init__(self, shape: DataShape, config: JepaConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        _check(config, shape)
        self.config = config
        self.encoder = encoder
        if config.predict == 'hidden':
            trunk = encoder.patch_trunk('jepa with model.predict=hidden')
            block_patches(1, trunk.rows, trunk.columns, config.mask_ratio, torch.Generator(),
                          torch.device('cpu'))
            self.tubes = TubeEncoder(encoder, config.frames, 'jepa with model.predict=hidden')
            self.predictor: TubePredictor | LatentPredictor = TubePredictor(
                trunk.width, self.tubes.length, trunk.rows, trunk.columns, encoder.cameras,
                width=config.width, depth=config.depth, heads=config.heads)
            followed: nn.Module = self.tubes.change
        else:
            self.latent = Projection(encoder.row_width, 2 * config.width, config.width)
            size = shape.action_size * config.stride if config.actions else 0
            self.predictor = LatentPredictor(
                config.width, size, config.frames - 1, depth=config.depth, heads=config.heads,
                normalised=config.target == 'teacher')
            followed = self.latent
            self.register_buffer('action_mean', torch.zeros(shape.action_size))
            self.register_buffer('action_std', torch.ones(shape.action_size))
        self._followed = (encoder, followed)
        self.teacher = Momentum(encoder, followed) if config.target == 'teacher' else None

    def prepare(self, rows: Batch) -> None:
        """Take the statistics of actions, and of fresh latents, of the training split."""
        if self.config.predict != 'next':
            return
        if self.config.actions:
            self.get_buffer('action_mean').copy_(rows['actions'].mean(dim=0))
            self.get_buffer('action_std').copy_(rows['actions'].std(dim=0).clamp_min(1e-3))
        if self.config.target == 'gaussian':
            images = rows['images']
            self._begin_spread(images[::math.ceil(len(images) / _SPREAD_PICTURES)])

    @torch.no_grad()
    def _begin_spread(self, images: Tensor) -> None:
        """
        Scale the latents, by their last layer, to mean 0 and deviation 1 over pictures.

        A fresh transformer says nearly the same of all pictures, and where features are equal the
        distance to a normal distribution has no slope: toy latents that began with a deviation of
        0.014 stayed below 0.01 for 250 of 400 steps.
        """
        latents = torch.cat([self.latent(self.encoder.rows(part)) for part in images.split(32)])
        last = self.latent[-1]
        assert isinstance(last, nn.Linear)
        std, mean = torch.std_mean(latents.float(), dim=0)
        std.clamp_min_(1e-3)
        last.weight.div_(std[:, None])
        last.bias.sub_(mean).div_(std)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Error of the prediction, and what keeps features apart."""
        images = batch['images']
        # One light for all frames of a clip: cameras do not flicker.
        clips = images.transpose(1, 2)
        seen = photometric(clips.flatten(2, 3), self.config.photometric, generator)
        clips = seen.view(clips.shape)
        if self.config.predict == 'hidden':
            return self._hidden(clips.flatten(0, 1), generator)
        return self._next(clips.transpose(1, 2), batch, generator)

    # -- hidden tubes ----------------------------------------------------------------------

    def _hidden(self, clips: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        trunk = self.encoder.patch_trunk('jepa')
        patches = self.tubes.patches(clips)
        mask = block_patches(len(patches), trunk.rows, trunk.columns, self.config.mask_ratio,
                             generator, patches.device)
        shown, asked = (self.tubes.keep_of(kept_of(part)) for part in (mask, ~mask))
        tokens = self.tubes(patches, shown)[:, trunk.prefix:]
        prediction = self.predictor(tokens, shown, asked)
        target = gather_tokens(self._whole(patches), asked)
        return self._errors(prediction, target, tokens.mean(dim=1), generator)

    def _whole(self, patches: Tensor) -> Tensor:
        """Features (n, tubes, width) of all tubes, from whoever makes the targets."""
        every = torch.arange(patches.shape[1] * patches.shape[2], device=patches.device)
        every = every.expand(len(patches), -1)
        if self.teacher is None:
            tokens: Tensor = self.tubes(patches, every)
        else:
            encoder, change = self.teacher.copies
            assert isinstance(encoder, VisionEncoder)
            with torch.no_grad():
                tokens = self.tubes(patches, every, (encoder, change))
        return tokens[:, self.encoder.trunk.prefix:]

    # -- next frames -----------------------------------------------------------------------

    def _next(self, clips: Tensor, batch: Batch, generator: torch.Generator
              ) -> dict[str, Tensor]:
        state = batch.get('state')
        latents = self.latent(self.encoder.rows(clips, state, generator))
        target = latents
        if self.teacher is not None:
            # What the predictor sees is on the scale of what it predicts, as in V-JEPA 2-AC: a
            # rollout feeds it both.
            latents = functional.layer_norm(latents, latents.shape[-1:])
            target = self._slow_latents(clips, state)
        joined = None
        if self.config.actions:
            mean, std = self.get_buffer('action_mean'), self.get_buffer('action_std')
            normal = (batch['actions'] - mean) / std
            joined = normal.unflatten(1, (self.config.frames - 1, -1)).flatten(2)
        assert isinstance(self.predictor, LatentPredictor)
        one_step = self.predictor(latents[:, :-1], joined)
        parts = self._errors(one_step, target[:, 1:], latents.flatten(0, 1), generator)
        if self.config.rollout > 1:
            ahead = self.predictor.rollout(latents[:, :1], joined, self.config.rollout)
            # The first step of a rollout is one of those above.
            far = self._error(ahead[:, 1:], target[:, 2:self.config.rollout + 1])
            parts |= {'loss': parts['loss'] + far, 'jepa_rollout': far}
        return parts

    @torch.no_grad()
    def _slow_latents(self, clips: Tensor, state: Tensor | None) -> Tensor:
        assert self.teacher is not None
        encoder, latent = self.teacher.copies
        assert isinstance(encoder, VisionEncoder)
        found: Tensor = latent(encoder.rows(clips, state))
        return found

    # -- both ------------------------------------------------------------------------------

    def _error(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.teacher is not None:
            return normalised_l1(prediction, target)
        return (full(prediction) - full(target)).square().mean()

    def _errors(self, prediction: Tensor, target: Tensor, features: Tensor,
                generator: torch.Generator) -> dict[str, Tensor]:
        error = self._error(prediction, target)
        if self.teacher is not None:
            return {'loss': error, 'jepa': error}
        directions = torch.randn(features.shape[1], self.config.directions, generator=generator,
                                 device=features.device)
        spread = sketched_gaussian(full(features), directions, gather=world()[1] > 1)
        return {'loss': error + self.config.gaussian_weight * spread, 'jepa': error,
                'jepa_gaussian': spread}

    def end_step(self) -> None:
        """Let the teacher follow, if there is one."""
        if self.teacher is not None:
            self.teacher.follow(
                list(self._followed), cosine_between(self.config.momentum, 0.9999, self.progress))

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Student and teacher."""
        if self.teacher is None:
            return {}
        return {'jepa': (self.encoder, self.teacher.copies[0])}


def _check(config: JepaConfig, shape: DataShape) -> None:
    for name, known in (('predict', PREDICTIONS), ('target', TARGETS)):
        value = getattr(config, name)
        if value not in known:
            raise ValueError(f'{name} is {value!r}, must be {" or ".join(known)}'
                             f'{nearest(value, known)}')
    if not 0.0 <= config.momentum < 1.0:
        raise ValueError(f'momentum is {config.momentum}, must be at least 0 and below 1')
    if config.stride < 1 or config.directions < 1:
        raise ValueError(f'stride is {config.stride} and directions is {config.directions}, both '
                         'must be at least 1')
    if not config.gaussian_weight >= 0.0:
        raise ValueError(f'gaussian_weight is {config.gaussian_weight}, must be at least 0')
    if config.predict != 'next':
        return
    if config.frames < 2:
        raise ValueError(f'frames is {config.frames}, must be at least 2: one to see, one to '
                         'predict')
    if not 1 <= config.rollout < config.frames:
        raise ValueError(f'rollout is {config.rollout}, must lie between 1 and frames - 1 = '
                         f'{config.frames - 1}')
    if config.actions and not shape.action_size:
        raise ValueError('jepa with model.actions needs actions, the dataset has none; set '
                         'model.actions=false to predict without them')
