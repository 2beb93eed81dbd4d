# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Clips under torch's ``DataLoader``, with workers and ranks.

    data = ClipStream(clips, Epochs(len(clips), 64, seed=0, ranks=ranks), rank=rank)
    loader = DataLoader(data, batch_size=None, num_workers=4)
    for epoch in range(epochs):
        data.set_epoch(epoch)
        for batch in loader: ...
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ssl_vla_ros.dataset.clips import ClipBatch, Clips
from ssl_vla_ros.dataset.sharding import Epochs
from ssl_vla_ros.errors import DatasetError
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info, IterableDataset


def as_tensors(batch: ClipBatch) -> dict[str, Tensor]:
    """
    Give a batch of clips as tensors that share its memory.

    Returns
    -------
    dict
        ``images`` uint8 (B, T, cameras, H, W, 3), ``valid`` bool and ``rows`` int64 (B, T), and
        each column (B, T, …) by its name.

    """
    return {'images': torch.from_numpy(batch.images), 'valid': torch.from_numpy(batch.valid),
            'rows': torch.from_numpy(batch.rows),
            **{name: torch.from_numpy(values) for name, values in batch.columns.items()}}


class ClipStream(IterableDataset[dict[str, Tensor]]):
    """
    Whole batches of clips; give the ``DataLoader`` ``batch_size=None``.

    Batches are made in the workers, by one gather each. A rank sees the same batches in the same
    order with any number of workers, and all ranks together each clip once (``Epochs`` says
    what becomes of batches that the ranks do not divide).

    Parameters
    ----------
    clips
        What to read.
    epochs
        The plan, made for ``len(clips)`` samples.
    rank
        Which of ``epochs.ranks`` processes this is.

    Raises
    ------
    DatasetError
        If the plan is for another number of clips, or has no such rank.

    """

    def __init__(self, clips: Clips, epochs: Epochs, rank: int = 0) -> None:
        super().__init__()
        if epochs.samples != len(clips):
            raise DatasetError(
                f'the epochs are planned for {epochs.samples} samples, there are {len(clips)} '
                'clips')
        self._length = epochs.num_batches(rank)
        self._clips = clips
        self._epochs = epochs
        self._rank = rank
        # In shared memory: workers that outlive an epoch (persistent_workers) see it, too.
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is iterated next."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        """Count this rank's batches in an epoch."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Batches of this worker."""
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        for pick in self._epochs.batches(int(self._epoch[0]), self._rank, worker, workers):
            yield as_tensors(self._clips.read(pick))


class ClipTable(Dataset[dict[str, Tensor]]):
    """Clips by number, for samplers of torch's own; a batch is read by one gather."""

    def __init__(self, clips: Clips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._clips)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Give one clip: as ``as_tensors`` gives them, without the first axis."""
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[dict[str, Tensor]]:
        """Several clips at once, as ``DataLoader`` asks for them."""
        pick: Any = np.asarray(numbers, dtype=np.int64)
        found = as_tensors(self._clips.read(pick))
        return [{name: values[index] for name, values in found.items()}
                for index in range(len(pick))]
