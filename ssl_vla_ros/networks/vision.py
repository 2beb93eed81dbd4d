# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The encoder that objectives share: a trunk for each camera or for all, fused, and read out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ssl_vla_ros.contract import nearest
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.fusion import AttentionFusion, Concatenation, FUSIONS, Proprioception
from ssl_vla_ros.networks.keypoints import channel_keypoints
from ssl_vla_ros.networks.projection import in_parts
from ssl_vla_ros.networks.timm_trunk import FRESH, make_timm_trunk
from ssl_vla_ros.networks.trunk import PatchTransformer, PatchTrunk, Trunk
import torch
from torch import nn, Tensor

#: What an encoder gives: where each channel is most active; the mean token of each camera; its
#: class token; all tokens; the fused vector.
READOUTS = ('keypoints', 'mean', 'cls', 'tokens', 'fused')


@dataclass(frozen=True)
class VitConfig:
    """Sizes of our own vision transformer."""

    patch: int = 8          # pixels
    channels: int = 192
    depth: int = 4
    heads: int = 3


@dataclass(frozen=True)
class VisionConfig:
    """The encoder's architecture: ``network`` of a training configuration."""

    backbone: str = 'vit'             # ours, or a name of timm: resnet18, vit_tiny_patch16_224, …
    init: str = FRESH                 # none | pretrained (a hub) | FILE.safetensors | a run
    vit: VitConfig = field(default_factory=VitConfig)   # of backbone vit alone
    shared: bool = True               # one trunk for all cameras; false: one for each
    fusion: str = 'concat'            # or attention: how cameras become one vector
    proprioception: bool = False      # whether objectives see the robot's state beside pictures
    readout: str = 'keypoints'        # one of READOUTS: what heads and world models get
    sharpness: float = 2.0            # of the softmax of the readout keypoints
    frozen: bool = False              # train the objective's own layers alone
    learning_rate_scale: float = 1.0  # of the trunk, beside everything else


def check_vision(config: VisionConfig) -> None:
    """
    See that settings are known and fit each other.

    Raises
    ------
    ValueError
        Naming the key.

    """
    for name, value, known in (('fusion', config.fusion, FUSIONS),
                               ('readout', config.readout, READOUTS)):
        if value not in known:
            raise ValueError(f'network.{name} is {value!r}, must be one of {", ".join(known)}'
                             f'{nearest(value, known)}')
    if config.backbone != 'vit' and config.vit != VitConfig():
        raise ValueError(f'network.vit sizes our own transformer, but network.backbone is '
                         f'{config.backbone!r}; leave vit out, or set backbone to vit')
    if config.backbone == 'vit' and config.init != FRESH:
        raise ValueError(f'network.init is {config.init!r}, but our own transformer (backbone '
                         'vit) starts from none or from a run; give the directory of a run, or '
                         'name a backbone of timm')
    if not config.learning_rate_scale >= 0.0:
        raise ValueError(f'network.learning_rate_scale is {config.learning_rate_scale}, must be '
                         'at least 0')


class VisionEncoder(Encoder):
    """
    Trunks, fusion and readout over the pictures of all cameras.

    Parameters
    ----------
    cameras, height, width
        Of the pictures.
    state_size
        Numbers of the robot's state, for ``proprioception``.
    config
        The architecture.

    Attributes
    ----------
    trunks
        One, or one for each camera.
    row_width
        Length of the fused vector.

    Raises
    ------
    ValueError, ConfigError
        If sizes do not fit, or a backbone or its weights cannot be had.

    """

    def __init__(self, cameras: int, height: int, width: int, state_size: int,
                 config: VisionConfig) -> None:
        check_vision(config)
        sharing = cameras if config.shared else 1
        trunks = [_make_trunk(config, height, width, sharing)
                  for _ in range(1 if config.shared else cameras)]
        tokens, dim = _shape(config, cameras, trunks[0], state_size)
        super().__init__(cameras, height, width, tokens=tokens, dim=dim)
        self.config = config
        self.trunks = nn.ModuleList(trunks)
        channels = trunks[0].width
        self.proprioception = (Proprioception(state_size, channels)
                               if config.proprioception else None)
        self.fusion: nn.Module = (
            AttentionFusion(cameras, channels) if config.fusion == 'attention'
            else Concatenation())
        self.row_width = _row_width(config, cameras, channels)
        if config.frozen:
            self.trunks.requires_grad_(False)

    @property
    def trunk(self) -> Trunk:
        """Give the trunk, or that of the first camera."""
        found = self.trunks[0]
        assert isinstance(found, Trunk)
        return found

    def patch_trunk(self, objective: str) -> PatchTrunk:
        """
        Give the trunk if it can leave patches out.

        Raises
        ------
        ValueError
            If it cannot, naming the objective that needs it.

        """
        if not isinstance(self.trunk, PatchTrunk):
            raise ValueError(
                f'{objective} hides patches, which network.backbone {self.config.backbone!r} '
                'cannot leave out; use vit, or a plain vision transformer of timm such as '
                'vit_tiny_patch16_224')
        return self.trunk

    def prepare(self, state: Tensor) -> None:
        """Take the statistics of the states (N, state) of the training split."""
        if self.proprioception is not None:
            self.proprioception.state.fit(state)

    def train(self, mode: bool = True) -> VisionEncoder:
        """Set the mode; a frozen trunk stays in evaluation: its statistics are frozen, too."""
        nn.Module.train(self, mode)
        if self.config.frozen:
            self.trunks.eval()
        return self

    def each(self, work: Callable[..., Tensor], samples: Tensor, *more: Tensor) -> Tensor:
        """
        Run ``work(trunk, samples, …)`` with the right trunk for each sample.

        Parameters
        ----------
        work
            Takes a trunk and (n, …) tensors, gives (n, …).
        samples, more
            (n · cameras, …) with the cameras innermost.

        """
        count = len(self.trunks)
        if count == 1:
            return work(self.trunk, samples, *more)
        found = [work(trunk, *(item[place::count] for item in (samples, *more)))
                 for place, trunk in enumerate(self.trunks)]
        return torch.stack(found, dim=1).flatten(0, 1)

    def all_tokens(self, images: Tensor) -> Tensor:
        """
        Tokens (n · cameras, prefix + patches, width) of every picture.

        Parameters
        ----------
        images
            (…, cameras, h, w, 3), values 0 … 255, of any size that the trunk takes.

        """
        return self.each(lambda trunk, rows: trunk(rows), images.flatten(0, -4))

    def vectors(self, tokens: Tensor) -> Tensor:
        """Mean token of the grid, (n · cameras, width): the class token is left to its readout."""
        return tokens[:, self.trunk.prefix:].mean(dim=1)

    def rows(self, images: Tensor, state: Tensor | None = None,
             generator: torch.Generator | None = None, chunk: int = 0) -> Tensor:
        """
        One fused vector of each moment, (…, row_width).

        Parameters
        ----------
        images
            (…, cameras, h, w, 3), values 0 … 255.
        state
            (…, state) in the contract's units; used if the encoder has such a branch.
        generator
            Says which samples go without their state, in training.
        chunk
            Moments whose activations are kept at once (``projection.in_parts``); 0: all.

        """
        vectors = in_parts(self._camera_vectors, chunk, images.flatten(0, -5))
        found: Tensor = self.fuse(vectors, state, generator).unflatten(0, images.shape[:-4])
        return found

    def _camera_vectors(self, images: Tensor) -> Tensor:
        found: Tensor = self.vectors(self.all_tokens(images)).unflatten(0, (-1, self.cameras))
        return found

    def fuse(self, vectors: Tensor, state: Tensor | None = None,
             generator: torch.Generator | None = None) -> Tensor:
        """One vector (n, row_width) of the cameras' vectors (n, cameras, width)."""
        token = None
        if self.proprioception is not None:
            rows = None if state is None else state.flatten(0, -2)
            # Not len(): an exported graph would be for one batch size alone.
            token = self.proprioception(rows, vectors.shape[0], generator)
        found: Tensor = self.fusion(vectors, token)
        return found

    def maps(self, images: Tensor) -> Tensor:
        """Give the tokens of the grid, (batch · cameras, rows, columns, width)."""
        self.check(images)
        tokens = self.all_tokens(images)[:, self.trunk.prefix:]
        grid: Tensor = tokens.unflatten(1, (self.trunk.rows, self.trunk.columns))
        return grid.float()

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, tokens, dim) of images (batch, cameras, height, width, 3)."""
        self.check(images)
        trunk, readout = self.trunk, self.config.readout
        tokens = self.all_tokens(images)
        if readout == 'keypoints':
            maps = tokens[:, trunk.prefix:].transpose(1, 2)
            maps = maps.unflatten(2, (trunk.rows, trunk.columns))
            return channel_keypoints(maps, self.config.sharpness).view(-1, self.tokens, 2)
        if readout == 'tokens':
            return tokens[:, trunk.prefix:].reshape(-1, self.tokens, self.dim).float()
        first = tokens[:, 0] if readout == 'cls' else self.vectors(tokens)
        vectors: Tensor = first.unflatten(0, (-1, self.cameras))
        return (self.fuse(vectors)[:, None] if readout == 'fused' else vectors).float()


def _make_trunk(config: VisionConfig, height: int, width: int, cameras: int) -> Trunk:
    if config.backbone != 'vit':
        return make_timm_trunk(config.backbone, height, width, cameras, config.init)
    sizes = config.vit
    return PatchTransformer(cameras, height, width, patch=sizes.patch, channels=sizes.channels,
                            depth=sizes.depth, heads=sizes.heads)


def _row_width(config: VisionConfig, cameras: int, channels: int) -> int:
    if config.fusion == 'attention':
        return channels
    return channels * (cameras + int(config.proprioception))


def _shape(config: VisionConfig, cameras: int, trunk: Trunk, state_size: int) -> tuple[int, int]:
    """Tokens and dim of the readout."""
    if config.proprioception and not state_size:
        raise ValueError('network.proprioception is true, but the dataset has no state')
    if config.readout == 'keypoints':
        if trunk.rows * trunk.columns < 4:
            raise ValueError(
                f'network.readout is keypoints, but the maps of backbone {config.backbone!r} have '
                f'{trunk.rows}x{trunk.columns} places; use larger pictures, or readout mean')
        return cameras * trunk.width, 2
    if config.readout == 'tokens':
        return cameras * trunk.rows * trunk.columns, trunk.width
    if config.readout == 'cls' and not trunk.prefix:
        raise ValueError(f'network.readout is cls, but backbone {config.backbone!r} has no class '
                         'token; use mean')
    if config.readout == 'fused':
        return 1, _row_width(config, cameras, trunk.width)
    return cameras, trunk.width
