# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which process reads which sample in which epoch.

An epoch's order is a function of seed and epoch alone. It is cut into batches, and batch ``i``
goes to rank ``i mod ranks``; a rank's batches go to its workers in turn. So every sample is in
exactly one batch, and a rank sees the same batches in the same order with any number of workers.

The last batch holds what is left. With ``ranks`` that do not divide the number of batches, some
ranks have one batch more: that is kept as it is unless ``uneven`` says otherwise, and how much is
then left out or read twice can be read off ``dropped`` and ``repeated``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import nearest
from ssl_vla_ros.errors import DatasetError

#: ``keep``: every sample once; ranks may differ by one batch. ``drop``: as many batches for each
#: rank, what is over is left out. ``repeat``: as many for each, filled with the epoch's first.
UNEVEN = ('keep', 'drop', 'repeat')


class Epochs:
    """
    The batches of every epoch.

    Parameters
    ----------
    samples
        How many there are.
    batch_size
        Samples of a batch.
    seed
        Of the shuffle.
    ranks
        Processes that train together.
    shuffle
        False reads in order.
    uneven
        One of ``UNEVEN``.

    Attributes
    ----------
    dropped, repeated
        Samples of each epoch that are left out, or read twice; 0 with ``keep``.

    Raises
    ------
    DatasetError
        If a value is out of range, or ``drop`` would leave nothing.

    """

    def __init__(self, samples: int, batch_size: int, *, seed: int = 0, ranks: int = 1,
                 shuffle: bool = True, uneven: str = 'keep') -> None:
        for name, value in (('samples', samples), ('batch_size', batch_size), ('ranks', ranks)):
            if value < 1:
                raise DatasetError(f'{name} is {value}, must be at least 1')
        if seed < 0:
            raise DatasetError(f'seed is {seed}, must be at least 0')
        if uneven not in UNEVEN:
            raise DatasetError(f'uneven is {uneven!r}, must be one of {", ".join(UNEVEN)}'
                               f'{nearest(uneven, UNEVEN)}')
        self.samples = samples
        self.batch_size = batch_size
        self.ranks = ranks
        self._seed = seed
        self._shuffle = shuffle
        whole = -(-samples // batch_size)
        self._batches = whole
        self.dropped = self.repeated = 0
        if uneven == 'drop' and whole % ranks:
            self._batches = whole - whole % ranks
            if not self._batches:
                raise DatasetError(
                    f'{samples} samples make {whole} batches of {batch_size}, fewer than the '
                    f'{ranks} ranks: with uneven drop nothing is left; make batches smaller')
            self.dropped = samples - self._batches * batch_size
        elif uneven == 'repeat' and whole % ranks:
            self._batches = whole + ranks - whole % ranks
            self.repeated = sum(self._size(index % whole, whole)
                                for index in range(whole, self._batches))
        self._whole = whole

    def order(self, epoch: int) -> NDArray[np.int64]:
        """All samples (samples,) in the epoch's order, the same for every rank and worker."""
        if epoch < 0:
            raise DatasetError(f'epoch is {epoch}, must be at least 0')
        if not self._shuffle:
            return np.arange(self.samples, dtype=np.int64)
        return np.random.default_rng([self._seed, epoch]).permutation(self.samples)

    def num_batches(self, rank: int = 0) -> int:
        """How many batches a rank has in an epoch."""
        self._check('rank', rank, 'ranks', self.ranks)
        return len(range(rank, self._batches, self.ranks))

    def batches(self, epoch: int, rank: int = 0, worker: int = 0, workers: int = 1
                ) -> Iterator[NDArray[np.int64]]:
        """
        Give the samples of one worker of one rank, batch by batch.

        Parameters
        ----------
        epoch
            From 0.
        rank
            0 to ``ranks - 1``.
        worker, workers
            Which of how many processes that load for this rank.

        Yields
        ------
        numpy.ndarray
            (batch_size,) int64, fewer in an epoch's last batch.

        Raises
        ------
        DatasetError
            If a number is out of range.

        """
        self._check('rank', rank, 'ranks', self.ranks)
        self._check('worker', worker, 'workers', workers)
        order = self.order(epoch)
        for index in range(rank + worker * self.ranks, self._batches, self.ranks * workers):
            begin = index % self._whole * self.batch_size
            yield order[begin:begin + self.batch_size]

    def _size(self, index: int, whole: int) -> int:
        if index < whole - 1:
            return self.batch_size
        return self.samples - (whole - 1) * self.batch_size

    @staticmethod
    def _check(name: str, value: int, of: str, limit: int) -> None:
        if not 0 <= value < limit:
            raise DatasetError(f'{name} is {value}, must be 0 to {of} - 1 = {limit - 1}')
