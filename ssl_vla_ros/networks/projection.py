# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Small networks between an encoder and a loss; none of them leaves training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn, Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Projection(nn.Sequential):
    """
    MLP from features to the space that a loss compares in.

    Layer normalisation stands where the papers have batch normalisation: it keeps samples apart,
    so nothing can leak between the views of a batch, and a batch may be computed in parts.
    """

    def __init__(self, size: int, hidden: int, out: int, layers: int = 2) -> None:
        for name, value in (('hidden', hidden), ('out', out), ('layers', layers)):
            if value < 1:
                raise ValueError(f'{name} of a projection is {value}, must be at least 1')
        parts: list[nn.Module] = []
        for _ in range(layers - 1):
            parts += [nn.Linear(size, hidden), nn.LayerNorm(hidden), nn.GELU()]
            size = hidden
        super().__init__(*parts, nn.Linear(size, out))


class Prototypes(nn.Module):
    """
    Head of DINO: an MLP to a short unit vector, and its products with K unit prototypes.

    Source: "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021),
    section 3.1 and appendix C.
    """

    def __init__(self, size: int, hidden: int, bottleneck: int, count: int) -> None:
        super().__init__()
        if count < 2:
            raise ValueError(f'prototypes is {count}, must be at least 2')
        self.layers = Projection(size, hidden, bottleneck, 3)
        self.prototypes = nn.Parameter(torch.randn(count, bottleneck))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (n, K) of features (n, size)."""
        rows = functional.normalize(self.layers(features).float(), dim=-1)
        # Divided by a temperature of 0.04, a product in bfloat16 would be noise.
        with torch.autocast(rows.device.type, enabled=False):
            return rows @ functional.normalize(self.prototypes.float(), dim=-1).T


def in_parts(work: Callable[..., Tensor], size: int, *inputs: Tensor) -> Tensor:
    """
    Compute ``work(*inputs)`` in parts of ``size`` samples, keeping activations of one part alone.

    A contrastive loss wants many samples, and memory holds few: forward, only the results are
    kept; backward, each part is computed again when its gradient is known, with the same random
    numbers of torch (a backbone may leave paths out). Gradients are those of the whole batch
    ("Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup", Gao et al., 2021,
    section 3), as long as samples do not see each other within ``work``: see ``check_parts``.

    Parameters
    ----------
    work
        From (n, …) tensors to one (n, …) tensor.
    size
        Samples of a part; 0 computes all at once, and keeps everything.
    inputs
        Tensors with as many rows each.

    Raises
    ------
    ValueError
        If the size is negative.

    """
    check_parts(size)
    count = len(inputs[0])
    if size == 0 or size >= count:
        return work(*inputs)
    parts = []
    for start in range(0, count, size):
        rows = [item[start:start + size] for item in inputs]
        parts.append(checkpoint(work, *rows, use_reentrant=False)
                     if torch.is_grad_enabled() else work(*rows))
    return torch.cat(parts)


def mixes_samples(module: nn.Module) -> bool:
    """Whether a module has batch normalisation: in training, samples then see each other."""
    return any(isinstance(part, _BATCH_NORMS) for part in module.modules())


def check_parts(size: int, trained: nn.Module | None = None) -> None:
    """
    See that ``in_parts`` would give the gradients of the whole batch.

    Batch normalisation would take the statistics of each part, and count them twice.

    Parameters
    ----------
    size
        Samples of a part; 0: all at once.
    trained
        What runs in parts, in training; None if it is frozen.

    Raises
    ------
    ValueError
        If the size is negative, or parts would have statistics of their own.

    """
    if size < 0:
        raise ValueError(f'chunk is {size}, must be at least 0')
    if size and trained is not None and mixes_samples(trained):
        raise ValueError(
            f'chunk is {size}, but network.backbone has batch normalisation, whose statistics '
            'would be those of each part, not of the batch; set chunk to 0, or use a backbone '
            'without it (vit, convnext_atto, resnet50_gn)')
