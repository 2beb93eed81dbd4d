# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
One training step of ours and of the reference implementation: same sizes, batch and data.

Each builder gives a function that takes one step. Pictures are ready on both sides from the first
step on, without augmentation, as uint8 for ours (normalising is a part of the encoder) and as
normalised float32, channels first, for the reference. Both sides step the same fused AdamW.
"""

from __future__ import annotations

from collections.abc import Callable
import copy
from dataclasses import dataclass
import functools
from typing import Any

from ssl_vla_ros.augment.image import PhotometricConfig
from ssl_vla_ros.augment.views import ViewConfig
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
from ssl_vla_ros.objectives import Objective
from ssl_vla_ros.objectives.base import DataShape
from ssl_vla_ros.objectives.clip import Clip, ClipConfig
from ssl_vla_ros.objectives.dino import Dino, DinoConfig
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.moco import MoCo, MoCoConfig
from ssl_vla_ros.objectives.simclr import SimCLR, SimCLRConfig
from ssl_vla_ros.objectives.videomae import VideoMAE, VideoMAEConfig
import torch
from torch import nn, Tensor

declare_missing_operators()

Step = Callable[[], float]
STILL = PhotometricConfig(0.0, 0.0, 0.0)
SAME = ViewConfig(crop_smallest=1.0, crop_longest_side=1.0, jitter_share=0.0, grey_share=0.0,
                  blur_share=0.0)
TASKS = tuple(f'put the {thing} into the {place}' for thing in ('cup', 'cube', 'spoon', 'pan')
              for place in ('sink', 'drawer'))


@dataclass(frozen=True)
class Size:
    """What is trained: a vision transformer with patches of 16 pixels (ViT-Ti by default)."""

    batch: int = 32
    pixels: int = 96
    channels: int = 192
    depth: int = 12
    heads: int = 3
    frames: int = 8
    decoder_channels: int = 128
    decoder_depth: int = 2
    decoder_heads: int = 4

    @property
    def shape(self) -> DataShape:
        """As objectives take it: one camera."""
        return DataShape(1, self.pixels, self.pixels, 7, 7, tasks=TASKS)

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return (self.pixels // 16) ** 2


def pictures(size: Size, *lead: int) -> Tensor:
    """Draw uint8 noise of shape (*lead, 1, pixels, pixels, 3)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (*lead, 1, size.pixels, size.pixels, 3), dtype=torch.uint8,
                         generator=generator)


def as_floats(images: Tensor) -> Tensor:
    """Convert to (n, 3, pixels, pixels), −1 … 1, as references take pictures."""
    return (images.flatten(0, -4).permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous()


def our_encoder(size: Size, backbone: str = 'vit_tiny_patch16_224') -> VisionEncoder:
    """Timm's own ViT-Ti by default: the module that the references are given, too."""
    vit = VitConfig(16, size.channels, size.depth, size.heads)
    config = VisionConfig(backbone=backbone, vit=vit if backbone == 'vit' else VitConfig())
    return VisionEncoder(1, size.pixels, size.pixels, 7, config)


def timm_vit(size: Size, **more: Any) -> Any:
    """Build the reference's backbone."""
    import timm
    return timm.create_model('vit_tiny_patch16_224', num_classes=0, img_size=size.pixels, **more)


def ready(size: Size, *lead: int) -> Callable[[], Tensor]:
    """Give pictures as references take them; made when they are first asked for."""
    return functools.cache(lambda: as_floats(pictures(size, *lead)))


def two_views(size: Size) -> Callable[[], tuple[Tensor, Tensor]]:
    """Give two views of a batch; two pictures in memory, as augmentation makes them."""
    return functools.cache(lambda: (as_floats(pictures(size, size.batch)),
                                    as_floats(pictures(size, size.batch))))


def our_step(objective: Objective, size: Size, *lead: int, **more: Tensor) -> Step:
    """Step an objective as the trainer does, on pictures (*lead, …) and ``more``."""
    optimiser = torch.optim.AdamW(
        [value for value in objective.parameters() if value.requires_grad], lr=1e-4, fused=True)
    generator = torch.Generator().manual_seed(0)

    batch = functools.cache(lambda: {'images': pictures(size, *lead)} | more)

    def step() -> float:
        objective.begin_step(0.5)
        loss = objective(batch(), generator)['loss']
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        objective.end_step()
        return float(loss.detach())

    return step


def their_step(module: nn.Module, loss_of: Callable[[], Tensor],
               after: Callable[[], None] = lambda: None) -> Step:
    """Step a reference."""
    optimiser = torch.optim.AdamW(
        [value for value in module.parameters() if value.requires_grad], lr=1e-4, fused=True)

    def step() -> float:
        loss = loss_of()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        after()
        return float(loss.detach())

    return step


def our_simclr(size: Size) -> Step:
    """Step SimCLR of ours."""
    objective = SimCLR(size.shape, SimCLRConfig(views=SAME), our_encoder(size))
    return our_step(objective, size, size.batch)


def their_simclr(size: Size) -> Step:
    """Step SimCLR of lightly."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    model = nn.Sequential(timm_vit(size), SimCLRProjectionHead(192, 512, 128))
    views, criterion = two_views(size), NTXentLoss(0.1)
    return their_step(model, lambda: criterion(*(model(images) for images in views())))


def our_moco(size: Size) -> Step:
    """Step MoCo of ours."""
    objective = MoCo(size.shape, MoCoConfig(views=SAME), our_encoder(size))
    return our_step(objective, size, size.batch)


def their_moco(size: Size) -> Step:
    """Step MoCo of lightly, both views as queries in turn as ours has it."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import MoCoProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    model = nn.Sequential(timm_vit(size), MoCoProjectionHead(192, 512, 128))
    slow = copy.deepcopy(model)
    deactivate_requires_grad(slow)
    views = two_views(size)
    criterion = NTXentLoss(0.1, memory_bank_size=(2048, 128))

    def loss() -> Tensor:
        update_momentum(model, slow, 0.99)
        both = []
        for query, key in (views(), views()[::-1]):
            with torch.no_grad():
                keys = slow(key)
            both.append(criterion(model(query), keys))
        return (both[0] + both[1]) / 2

    return their_step(model, loss)


def our_clip(size: Size) -> Step:
    """Step CLIP of ours: picture and instruction."""
    config = ClipConfig(modalities=('image', 'text'), views=SAME, text='bytes')
    objective = Clip(size.shape, config, our_encoder(size))
    numbers = torch.arange(size.batch) % len(TASKS)
    return our_step(objective, size, size.batch, instruction=numbers)


def their_clip(size: Size) -> Step:
    """Step CLIP of open_clip, with a text transformer of the size of ours."""
    import open_clip
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg
    model = open_clip.CLIP(
        128, CLIPVisionCfg(layers=1, width=64, image_size=size.pixels),
        CLIPTextCfg(context_length=77, width=128, heads=4, layers=2), output_dict=True)
    # The very backbone of the others, whose size open_clip's wrapper of timm does not pass on.
    model.visual = nn.Sequential(timm_vit(size), nn.Linear(192, 128))
    criterion = open_clip.ClipLoss()
    tokens = open_clip.tokenize([TASKS[row % len(TASKS)] for row in range(size.batch)])
    images = ready(size, size.batch)

    def loss() -> Tensor:
        found = model(images(), tokens)
        value: Tensor = criterion(
            found['image_features'], found['text_features'], found['logit_scale'])
        return value

    return their_step(model, loss)


def our_mae(size: Size) -> Step:
    """Step MAE of ours, on our own transformer."""
    config = MaskedAutoencoderConfig(
        decoder_channels=size.decoder_channels, decoder_depth=size.decoder_depth,
        decoder_heads=size.decoder_heads, photometric=STILL)
    objective = MaskedAutoencoder(size.shape, config, our_encoder(size, 'vit'))
    return our_step(objective, size, size.batch)


def transformers_mae(size: Size) -> Step:
    """Step MAE of transformers."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining
    model = ViTMAEForPreTraining(ViTMAEConfig(
        hidden_size=size.channels, num_hidden_layers=size.depth, num_attention_heads=size.heads,
        intermediate_size=4 * size.channels, image_size=size.pixels, patch_size=16,
        decoder_hidden_size=size.decoder_channels, decoder_num_hidden_layers=size.decoder_depth,
        decoder_num_attention_heads=size.decoder_heads,
        decoder_intermediate_size=4 * size.decoder_channels, norm_pix_loss=True))
    images = ready(size, size.batch)
    return their_step(model, lambda: model(images()).loss)


def lightly_mae(size: Size) -> Step:
    """Step MAE of lightly."""
    from lightly.models import utils
    from lightly.models.modules import MAEDecoderTIMM, MaskedVisionTransformerTIMM
    backbone = MaskedVisionTransformerTIMM(timm_vit(size))
    decoder = MAEDecoderTIMM(
        num_patches=size.patches, patch_size=16, embed_dim=size.channels,
        decoder_embed_dim=size.decoder_channels, decoder_depth=size.decoder_depth,
        decoder_num_heads=size.decoder_heads)
    model = nn.ModuleList([backbone, decoder])
    images = ready(size, size.batch)
    tokens = size.patches + 1

    def loss() -> Tensor:
        keep, mask = utils.random_token_mask((size.batch, tokens), mask_ratio=0.75)
        encoded = decoder.embed(backbone.encode(images(), idx_keep=keep))
        grid = utils.repeat_token(decoder.mask_token, (size.batch, tokens))
        grid = utils.set_at_index(grid, keep, encoded.type_as(grid))
        drawn = decoder.predict(utils.get_at_index(decoder.decode(grid), mask))
        target = utils.get_at_index(utils.patchify(images(), 16), mask - 1)
        return nn.functional.mse_loss(drawn, utils.normalize_mean_var(target, dim=-1))

    return their_step(model, loss)


def our_videomae(size: Size) -> Step:
    """Step VideoMAE of ours, on our own transformer."""
    config = VideoMAEConfig(
        frames=size.frames, decoder_channels=size.decoder_channels,
        decoder_depth=size.decoder_depth, decoder_heads=size.decoder_heads, photometric=STILL)
    objective = VideoMAE(size.shape, config, our_encoder(size, 'vit'))
    return our_step(objective, size, max(1, size.batch // 4), size.frames)


def their_videomae(size: Size) -> Step:
    """Step VideoMAE of transformers."""
    from transformers import VideoMAEConfig as TheirConfig, VideoMAEForPreTraining
    model = VideoMAEForPreTraining(TheirConfig(
        hidden_size=size.channels, num_hidden_layers=size.depth, num_attention_heads=size.heads,
        intermediate_size=4 * size.channels, image_size=size.pixels, patch_size=16,
        num_frames=size.frames, tubelet_size=2, decoder_hidden_size=size.decoder_channels,
        decoder_num_hidden_layers=size.decoder_depth,
        decoder_num_attention_heads=size.decoder_heads,
        decoder_intermediate_size=4 * size.decoder_channels, norm_pix_loss=True))
    clips = max(1, size.batch // 4)
    images = ready(size, clips, size.frames)
    hidden = round(0.9 * size.patches)

    def loss() -> Tensor:
        order = torch.rand(clips, size.patches).argsort(1)
        mask = torch.zeros(clips, size.patches, dtype=torch.bool).scatter_(
            1, order[:, :hidden], True).repeat(1, size.frames // 2)
        value: Tensor = model(
            images().unflatten(0, (clips, size.frames)), bool_masked_pos=mask).loss
        return value

    return their_step(model, loss)


def our_dino(size: Size) -> Step:
    """Step DINO of ours, without the parts that the reference has not."""
    config = DinoConfig(prototypes=1024, hidden=512, bottleneck=128, local_crops=2, local_size=48,
                        ibot_weight=0.0, koleo_weight=0.0, views=SAME)
    objective = Dino(size.shape, config, our_encoder(size))
    return our_step(objective, size, size.batch)


def their_dino(size: Size) -> Step:
    """Step DINO of lightly, with two whole pictures and two small crops."""
    from lightly.loss import DINOLoss
    from lightly.models.modules import DINOProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    def head() -> Any:
        return DINOProjectionHead(192, 512, 128, 1024)

    student, teacher = (
        nn.Sequential(timm_vit(size, dynamic_img_size=True), head()) for _ in range(2))
    teacher.load_state_dict(student.state_dict())
    deactivate_requires_grad(teacher)
    criterion = DINOLoss(output_dim=1024)
    views = two_views(size)
    small = functools.cache(lambda: [view[:, :, :48, :48].contiguous() for view in views()])

    def loss() -> Tensor:
        update_momentum(student, teacher, 0.992)
        with torch.no_grad():
            wanted = [teacher(images) for images in views()]
        found = [student(images) for images in (*views(), *small())]
        value: Tensor = criterion(wanted, found, epoch=1)
        return value

    return their_step(student, loss)


#: By objective: ours, and the references by name.
STEPS: dict[str, tuple[Callable[[Size], Step], dict[str, Callable[[Size], Step]]]] = {
    'simclr': (our_simclr, {'lightly': their_simclr}),
    'moco': (our_moco, {'lightly': their_moco}),
    'clip': (our_clip, {'open_clip': their_clip}),
    'mae': (our_mae, {'transformers': transformers_mae, 'lightly': lightly_mae}),
    'videomae': (our_videomae, {'transformers': their_videomae}),
    'dino': (our_dino, {'lightly': their_dino}),
}
