# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of pictures, single or in clips, with what else an objective asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.dataset.clips import Clips
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.pictures import Pictures
from ssl_vla_ros.errors import DatasetError
from ssl_vla_ros.objectives.base import Needs
import torch
from torch import Tensor

#: Rows that statistics of actions and state are taken of, at most, and pictures.
_STATISTICS_ROWS, _STATISTICS_PICTURES = 200_000, 512


class ClipSource:
    """
    Random moments of the training episodes, each clip inside its episode.

    An epoch shows every clip once, in an order of its own, but for the last clips of that order
    that do not fill a batch. No clip is twice in a batch: a contrastive loss would hold
    it against itself. With several processes each takes its part of the same batch.

    Parameters
    ----------
    dataset, pictures
        Rows, and their pictures at the encoder's size.
    episodes
        Of the training split.
    needs
        What a sample must hold.
    batch_size
        Of all processes together.
    seed
        Of the order.
    rank, ranks
        Which of how many processes this is.

    Raises
    ------
    DatasetError
        If there are fewer clips than a batch holds, or no clip at all.

    """

    def __init__(self, dataset: Dataset, pictures: Pictures, episodes: Sequence[int],
                 needs: Needs, *, batch_size: int, seed: int, rank: int = 0, ranks: int = 1
                 ) -> None:
        longest = max((dataset.lengths[episode] for episode in episodes), default=0)
        span = (needs.frames - 1) * needs.stride + 1
        if span > longest:
            raise DatasetError(
                f'a clip of {needs.frames} frames with stride {needs.stride} spans {span} rows, '
                f'and the longest episode of the training split has {longest}; lower '
                'model.frames or model.stride, or record longer episodes')
        self._clips = Clips(pictures, length=needs.frames, stride=needs.stride, episodes=episodes)
        if len(self._clips) < batch_size:
            raise DatasetError(
                f'batch_size is {batch_size}, but the training split has only '
                f'{len(self._clips)} clips of {needs.frames} frames; lower batch_size, or record '
                'more')
        self._needs = needs
        self._batch_size = batch_size
        self._seed = seed
        self._rank, self._ranks = rank, ranks
        self._dataset = dataset
        self._known: dict[str, NDArray[np.float32]] = {}
        self._ends = np.repeat(np.cumsum(dataset.lengths) - 1, dataset.lengths)
        names = {task: number for number, task in enumerate(dataset.tasks)}
        self._instruction = np.array(
            [names[task] for task in dataset.episode_tasks], np.int64)[dataset.episode_index]
        self._episodes = episodes
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def _column(self, name: str) -> NDArray[np.float32]:
        if name not in self._known:
            contract = self._dataset.contract
            names = contract.action_names if name == 'action' else contract.state_names
            # Videos of people have neither; a column of nothing says so.
            self._known[name] = (self._dataset.column(name).astype(np.float32) if names else
                                 np.zeros((self._dataset.num_rows, 0), np.float32))
        return self._known[name]

    def _picks(self, step: int) -> NDArray[np.int64]:
        """Clips of a batch: those of this process, ascending, so that pictures lie in a row."""
        each = len(self._clips) // self._batch_size
        epoch, place = divmod(step, each)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            self._order = (epoch, rng.permutation(len(self._clips)))
        begin = place * self._batch_size
        picked = np.sort(self._order[1][begin:begin + self._batch_size])
        return picked[self._rank::self._ranks]

    def batch(self, step: int) -> dict[str, Tensor]:
        """Give what ``Needs`` says, for batch number ``step``."""
        return self._gather(self._picks(step))

    def _gather(self, picks: NDArray[np.int64]) -> dict[str, Tensor]:
        needs = self._needs
        found = self._clips.read(picks)
        single = needs.frames == 1
        images = found.images[:, 0] if single else found.images
        batch = {'images': torch.from_numpy(images)}
        if needs.state:
            state = self._column('observation.state')[found.rows]
            batch['state'] = torch.from_numpy(state[:, 0] if single else state)
        if needs.actions:
            first = found.rows[:, :1]
            wanted = first + np.arange(needs.actions)
            rows = np.minimum(wanted, self._ends[first])
            batch['actions'] = torch.from_numpy(self._column('action')[rows])
            batch['valid'] = torch.from_numpy(rows == wanted)
        if needs.episode:
            batch['episode'] = torch.from_numpy(
                self._dataset.episode_index[found.rows[:, 0]].astype(np.int64))
        if needs.text:
            batch['instruction'] = torch.from_numpy(self._instruction[found.rows[:, 0]])
        return batch

    def statistics_rows(self) -> dict[str, Tensor]:
        """Pictures, state and actions spread over the training split."""
        rows = np.concatenate([
            np.arange(self._dataset.rows(e).start, self._dataset.rows(e).stop)
            for e in self._episodes])
        spread = rows[np.linspace(
            0, len(rows) - 1, min(_STATISTICS_ROWS, len(rows))).astype(np.int64)]
        picks = np.unique(np.linspace(
            0, len(self._clips) - 1, min(_STATISTICS_PICTURES, len(self._clips))
        ).astype(np.int64))
        first = self._clips.rows(picks)[0][:, 0]
        return {'images': torch.from_numpy(self._clips.pictures.gather(first)),
                'state': torch.from_numpy(self._column('observation.state')[spread]),
                'actions': torch.from_numpy(self._column('action')[spread])}
