# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
DINO with iBOT and KoLeo, as DINOv2 joins them.

"Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021), "iBOT: Image
BERT Pre-Training with Online Tokenizer" (Zhou et al., 2022), "DINOv2: Learning Robust Visual
Features without Supervision" (Oquab et al., 2023).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ssl_vla_ros.augment.views import resized_crops, view, ViewConfig
from ssl_vla_ros.losses.distillation import (
    across_crops, assignment_entropy, centred_assignments, koleo, sinkhorn_assignments)
from ssl_vla_ros.losses.gather import world
from ssl_vla_ros.networks.momentum import cosine_between, Momentum
from ssl_vla_ros.networks.projection import Prototypes
from ssl_vla_ros.networks.trunk import PatchTrunk, Trunk
from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, chance, DataShape, Needs, Objective
from ssl_vla_ros.objectives.masking import block_patches
import torch
from torch import distributed, nn, Tensor

_STUDENT_TEMPERATURE = 0.1


@dataclass(frozen=True)
class DinoConfig:
    """Settings of DINO."""

    prototypes: int = 1024
    hidden: int = 512
    bottleneck: int = 128
    local_crops: int = 4
    local_size: int = 48              # pixels; a multiple of the patch
    local_smallest: float = 0.1       # share of the picture; that of large crops is in views
    local_largest: float = 0.4
    teacher_temperature: float = 0.04
    last_teacher_temperature: float = 0.07
    warmup_share: float = 0.3         # of the training, in which that temperature rises
    momentum: float = 0.992           # of the teacher, rising to 0.9999
    centre_momentum: float = 0.9
    sinkhorn: bool = False            # balance assignments (DINOv2) instead of centring (DINO)
    frozen_share: float = 0.05        # of the training, in which the prototypes do not move
    ibot_weight: float = 1.0
    mask_ratio: float = 0.3           # of the patches that the student does not see
    koleo_weight: float = 0.1
    views: ViewConfig = field(default_factory=ViewConfig)


def dino_needs(config: DinoConfig) -> Needs:
    """Say what a sample must hold."""
    return Needs(pairs=2)


class Dino(Objective):
    """
    Give parts of a picture the assignment that a slow teacher gives the whole.

    Batch: ``images`` uint8 (batch, cameras, height, width, 3). Every camera's picture is a sample.
    The teacher sees two large crops; the student sees these, with blocks of patches hidden, and
    small ones. For hidden patches it learns the teacher's assignment of that patch (iBOT). A
    collapse shows as a loss of ln K, or as ``dino_prototypes_used`` near 1.
    """

    def __init__(self, shape: DataShape, config: DinoConfig, encoder: VisionEncoder) -> None:
        super().__init__()
        _check(config)
        self.config = config
        self.encoder = encoder
        trunk = encoder.trunk
        if config.ibot_weight > 0.0:
            trunk = encoder.patch_trunk('dino with model.ibot_weight above 0')
            block_patches(1, trunk.rows, trunk.columns, config.mask_ratio, torch.Generator(),
                          torch.device('cpu'))
            self.hidden = nn.Parameter(0.02 * torch.randn(trunk.width))
        if config.local_crops:
            _check_local(config, trunk, encoder.config.backbone)
        self.head = Prototypes(trunk.width, config.hidden, config.bottleneck, config.prototypes)
        self.teacher = Momentum(encoder, self.head)
        self.register_buffer('centre', torch.zeros(config.prototypes))
        self.register_buffer('patch_centre', torch.zeros(config.prototypes))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted sum of the loss on pictures, on patches, and of spreading."""
        config, images = self.config, batch['images']
        whole = torch.cat([view(images, config.views, generator) for _ in range(2)])
        count = 2 * len(images) * self.encoder.cameras
        wanted, wanted_patches = self._teach(whole)
        mask = self._mask(count, generator, images.device)
        tokens = self._student(whole, mask)
        del whole  # or it would be held through the backward pass
        pictures = self._picture(self.encoder, tokens)
        logits = [*self.head(pictures).chunk(2)]
        if config.local_crops:
            local = self.head(self._picture(
                self.encoder, self.encoder.all_tokens(self._local(images, generator))))
            logits += local.chunk(config.local_crops)
        loss = across_crops(logits, wanted.chunk(2), _STUDENT_TEMPERATURE)
        parts = {'dino': loss, 'dino_chance': chance(config.prototypes, loss),
                 'dino_prototypes_used': torch.special.entr(
                     wanted.float().mean(dim=0)).sum().exp()}
        if mask is not None and wanted_patches is not None:
            student = self.head(tokens[:, self.encoder.trunk.prefix:][mask])
            parts['ibot'] = assignment_entropy(
                student, wanted_patches[mask], _STUDENT_TEMPERATURE)
            parts['ibot_chance'] = parts['dino_chance']
            loss = loss + config.ibot_weight * parts['ibot']
        if config.koleo_weight > 0.0:
            # Each view and camera on its own: the views of a picture are meant to be near.
            groups = pictures.unflatten(0, (2, -1, self.encoder.cameras)).transpose(1, 2)
            parts['koleo'] = torch.stack([
                koleo(rows, gather=world()[1] > 1) for rows in groups.flatten(0, 1)]).mean()
            loss = loss + config.koleo_weight * parts['koleo']
        return {'loss': loss, **parts}

    def _local(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Small crops (local_crops · batch, …), in colours of their own, as large ones are."""
        config = self.config
        small = resized_crops(
            images, config.local_crops, config.local_size,
            (config.local_smallest, config.local_largest), generator)
        return view(small, replace(config.views, crop_smallest=1.0, camera_shift=0), generator)

    def _mask(self, count: int, generator: torch.Generator, device: torch.device
              ) -> Tensor | None:
        if self.config.ibot_weight == 0.0:
            return None
        trunk = self.encoder.trunk
        return block_patches(
            count, trunk.rows, trunk.columns, self.config.mask_ratio, generator, device)

    def _student(self, whole: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None:
            return self.encoder.all_tokens(whole)

        def masked(trunk: PatchTrunk, pictures: Tensor, hide: Tensor) -> Tensor:
            tokens = trunk.embed(trunk.patches(pictures))
            tokens = torch.where(hide[..., None], self.hidden.to(tokens.dtype), tokens)
            return trunk.attend(trunk.place(tokens, trunk.rows, trunk.columns))

        return self.encoder.each(masked, whole.flatten(0, -4), mask)

    @staticmethod
    def _picture(encoder: VisionEncoder, tokens: Tensor) -> Tensor:
        """One vector of each picture: the class token, or the mean of the grid."""
        return tokens[:, 0] if encoder.trunk.prefix else encoder.vectors(tokens)

    @torch.no_grad()
    def _teach(self, whole: Tensor) -> tuple[Tensor, Tensor | None]:
        """Give assignments of pictures (n, K) and of their patches (n, patches, K)."""
        encoder, head = self.teacher.copies
        assert isinstance(encoder, VisionEncoder)
        tokens = encoder.all_tokens(whole)
        pictures = self._assign(head(self._picture(encoder, tokens)), self.get_buffer('centre'))
        if self.config.ibot_weight == 0.0:
            return pictures, None
        patches = head(tokens[:, encoder.trunk.prefix:].flatten(0, 1))
        assigned = self._assign(patches, self.get_buffer('patch_centre'))
        return pictures, assigned.unflatten(0, (len(tokens), -1))

    def _assign(self, logits: Tensor, centre: Tensor) -> Tensor:
        config = self.config
        warm = min(1.0, self.progress / config.warmup_share) if config.warmup_share else 1.0
        temperature = config.teacher_temperature + warm * (
            config.last_teacher_temperature - config.teacher_temperature)
        if config.sinkhorn:
            return sinkhorn_assignments(logits, temperature)
        found = centred_assignments(logits, centre, temperature)
        if self.training:
            mean = logits.float().mean(dim=0)
            _, processes = world()
            if processes > 1:
                distributed.all_reduce(mean)
                mean /= processes
            centre.lerp_(mean, 1.0 - config.centre_momentum)
        return found

    def mend_gradients(self) -> None:
        """Hold the prototypes still at first: the teacher's are random, and would be followed."""
        if self.progress < self.config.frozen_share:
            self.head.prototypes.grad = None

    def end_step(self) -> None:
        """Let the teacher follow, ever more slowly."""
        momentum = cosine_between(self.config.momentum, 0.9999, self.progress)
        self.teacher.follow([self.encoder, self.head], momentum)

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Student and teacher."""
        return {'dino': (self.encoder, self.teacher.copies[0])}


def _check(config: DinoConfig) -> None:
    for name in ('ibot_weight', 'koleo_weight', 'warmup_share', 'frozen_share'):
        if not getattr(config, name) >= 0.0:
            raise ValueError(f'{name} is {getattr(config, name)}, must be at least 0')
    for name in ('teacher_temperature', 'last_teacher_temperature'):
        if not getattr(config, name) > 0.0:
            raise ValueError(f'{name} is {getattr(config, name)}, must be above 0')
    for name in ('momentum', 'centre_momentum'):
        if not 0.0 <= getattr(config, name) < 1.0:
            raise ValueError(f'{name} is {getattr(config, name)}, must be at least 0 and below 1')
    if config.local_crops < 0:
        raise ValueError(f'local_crops is {config.local_crops}, must be at least 0')
    if config.local_crops and not 0.0 < config.local_smallest <= config.local_largest <= 1.0:
        raise ValueError(f'local_smallest is {config.local_smallest} and local_largest '
                         f'{config.local_largest}; they must be above 0, rising and up to 1')


def _check_local(config: DinoConfig, trunk: Trunk, backbone: str) -> None:
    """See that a trunk takes the small crops, before training rather than in its first step."""
    size = config.local_size
    if isinstance(trunk, PatchTrunk):
        if size < 1 or size % trunk.patch:
            raise ValueError(
                f'local_size is {size}, must be a multiple of the patch ({trunk.patch})')
        return
    was = trunk.training
    try:
        with torch.no_grad():
            trunk.eval()(torch.zeros(1, size, size, 3))
    except (AssertionError, RuntimeError, ValueError) as error:
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f'local_size is {size}, but network.backbone {backbone!r} takes no pictures of that '
            f'size beside its own ({said}); set model.local_crops=0, or use vit or a '
            'convolutional backbone') from error
    finally:
        trunk.train(was)
