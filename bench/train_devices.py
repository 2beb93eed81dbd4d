# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a GPU reaches: model FLOP utilisation of MAE ViT-B at 224, and how long it waits."""

from __future__ import annotations

from pathlib import Path
import tempfile
import time

import numpy as np
import torch
from torch.utils.data import DataLoader

from train_steps import Size

_BATCH, _STEPS = 256, 30


def matrix_peak() -> float:
    """Measured FLOP/s of large bfloat16 products."""
    one = torch.randn(8192, 8192, device='cuda', dtype=torch.bfloat16)
    for _ in range(5):
        one @ one
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(20):
        one @ one
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - begin)


def mae_flops(size: Size) -> float:
    """FLOP of a training step for one picture: products alone, backward counted as twice."""
    def blocks(tokens: int, width: int, depth: int) -> float:
        return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

    patches, values = size.patches, 16 * 16 * 3
    shown = patches // 4
    forward = blocks(shown + 1, size.channels, size.depth)
    forward += blocks(patches + 1, size.decoder_channels, size.decoder_depth)
    forward += 2 * shown * values * size.channels
    forward += 2 * patches * values * size.decoder_channels
    forward += 2 * (shown + 1) * size.channels * size.decoder_channels
    return 3.0 * forward


def gpu_figures() -> dict[str, float | None]:
    """Measure ``mfu_mae_vit_b_224`` and ``data_wait_fraction``; None without a GPU."""
    if not torch.cuda.is_available():
        return {'mfu_mae_vit_b_224': None, 'data_wait_fraction': None}
    from ssl_vla_ros.networks.vision import VisionConfig, VisionEncoder, VitConfig
    from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
    from ssl_vla_ros.training.compiling import compile_blocks
    peak = matrix_peak()
    size = Size(batch=_BATCH, pixels=224, channels=768, depth=12, heads=12, decoder_channels=512,
                decoder_depth=8, decoder_heads=16)
    encoder = VisionEncoder(1, 224, 224, 7, VisionConfig(vit=VitConfig(16, 768, 12, 12)))
    objective = MaskedAutoencoder(size.shape, MaskedAutoencoderConfig(
        decoder_channels=512, decoder_depth=8, decoder_heads=16), encoder).cuda()
    compile_blocks(objective)
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    generator = torch.Generator(device='cuda').manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        # As the frame cache has them: uint8 in a memory-mapped file, gathered by row.
        path = Path(folder) / 'frames.npy'
        frames = np.lib.format.open_memmap(
            path, mode='w+', dtype=np.uint8, shape=(8 * _BATCH, 224, 224, 3))
        frames[:] = np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)
        loader = DataLoader(_Batches(path), batch_size=None, num_workers=4, pin_memory=True,
                            prefetch_factor=4)
        waited, began = 0.0, 0.0
        batches = iter(loader)
        for step in range(_STEPS + 10):
            if step == 10:
                torch.cuda.synchronize()
                began, waited = time.perf_counter(), 0.0
            asked = time.perf_counter()
            images = next(batches)
            waited += time.perf_counter() - asked
            images = images.cuda(non_blocking=True)
            with torch.autocast('cuda', torch.bfloat16):
                loss = objective({'images': images}, generator)['loss']
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        torch.cuda.synchronize()
        taken = time.perf_counter() - began
    return {'mfu_mae_vit_b_224': mae_flops(size) * _BATCH * _STEPS / taken / peak,
            'data_wait_fraction': waited / taken, 'matrix_peak_tflops': peak / 1e12,
            'images_per_s': _BATCH * _STEPS / taken}


class _Batches(torch.utils.data.IterableDataset[torch.Tensor]):
    """Random rows of a memory-mapped file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def __iter__(self):  # type: ignore[no-untyped-def]
        frames = np.load(self._path, mmap_mode='r')
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng(0 if info is None else info.id)
        while True:
            rows = np.sort(rng.integers(0, len(frames), _BATCH))
            yield torch.from_numpy(frames[rows][:, None])
