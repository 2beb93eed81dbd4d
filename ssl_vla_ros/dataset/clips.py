# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Clips: several rows of one episode, a stride apart, with pictures and columns of the same rows.

    clips = Clips(pictures, length=8, stride=2, columns={'action': dataset.column('action')})
    batch = clips.read(np.array([3, 141, 59]))      # images (3, 8, cameras, H, W, 3)

No clip crosses the border of an episode. What happens there is said with ``padding``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import nearest
from ssl_vla_ros.dataset.pictures import Pictures, Rows
from ssl_vla_ros.errors import DatasetError

#: ``none``: only clips that lie inside their episode. ``repeat``: one clip for every row; before
#: the episode the first row is repeated and after it the last, marked as not ``valid``.
PADDING = ('none', 'repeat')


@dataclass(frozen=True)
class ClipBatch:
    """
    Some clips.

    Attributes
    ----------
    images
        (B, T, cameras, H, W, 3) uint8.
    columns
        By name, (B, T, …) each.
    rows
        (B, T) int64: which rows of the dataset these are.
    valid
        (B, T) bool: False where a row was repeated because the episode had no other.

    """

    images: NDArray[np.uint8]
    columns: dict[str, NDArray[Any]]
    rows: Rows
    valid: NDArray[np.bool_]


class Clips:
    """
    All clips of a dataset, numbered.

    Parameters
    ----------
    pictures
        A ``FrameCache`` or a ``FrameStream``.
    length
        T, rows of a clip.
    stride
        Rows from one to the next; 1 takes every row.
    before
        How many of the T rows come before the clip's own row: 0 (the default) starts a clip at
        its row, T - 1 ends it there, as a policy's history does.
    padding
        One of ``PADDING``.
    columns
        Further values by name, (N, …) each with a value a row: ``dataset.column(…)``, a table of
        features.
    cameras
        Which, and in which order; by default all. None of them for clips without pictures.
    episodes
        Of these alone; by default of all.

    Raises
    ------
    DatasetError
        If a value is out of range, a column has another number of rows, or there is no clip.

    """

    def __init__(self, pictures: Pictures, *, length: int, stride: int = 1, before: int = 0,
                 padding: str = 'none', columns: Mapping[str, NDArray[Any]] | None = None,
                 cameras: Sequence[str] | None = None, episodes: Sequence[int] | None = None
                 ) -> None:
        for name, value in (('length', length), ('stride', stride)):
            if value < 1:
                raise DatasetError(f'{name} of clips is {value}, must be at least 1')
        if not 0 <= before < length:
            raise DatasetError(f'before of clips is {before}, must be 0 to length - 1 = '
                               f'{length - 1}')
        if padding not in PADDING:
            raise DatasetError(f'padding of clips is {padding!r}, must be none or repeat'
                               f'{nearest(padding, PADDING)}')
        self.pictures = pictures
        self._columns = dict(columns or {})
        rows = pictures.shape[0]
        for name, values in self._columns.items():
            if name in ('images', 'rows', 'valid'):
                raise DatasetError(f'a column of clips is called {name!r}, as what every batch '
                                   'has; choose another name')
            if len(values) != rows:
                raise DatasetError(
                    f'column {name!r} of clips has {len(values)} rows, the dataset {rows}')
        self.cameras = pictures.camera_names if cameras is None else tuple(cameras)
        for camera in self.cameras:
            pictures.frames(camera)  # names an unknown camera now, not at the first batch
        self.length = length
        self._offsets = stride * np.arange(-before, length - before, dtype=np.int64)
        self._own, self._first, self._last = self._anchors(pictures.lengths, episodes, padding)
        if not len(self._own):
            longest = max(pictures.lengths, default=0)
            raise DatasetError(
                f'there is no clip of {length} rows with stride {stride}: it spans '
                f'{(length - 1) * stride + 1} rows and the longest episode has {longest}; shorten '
                'length or stride, or choose padding repeat')

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._own)

    def rows(self, pick: Rows) -> tuple[Rows, NDArray[np.bool_]]:
        """
        Which rows clips consist of.

        Parameters
        ----------
        pick
            (B,) numbers of clips, 0 to ``len(self) - 1``.

        Returns
        -------
        tuple
            ``rows`` (B, T) and ``valid`` (B, T), as in ``ClipBatch``.

        Raises
        ------
        DatasetError
            If there is no such clip.

        """
        pick = np.asarray(pick, dtype=np.int64)
        if len(pick) and not 0 <= int(pick.min()) <= int(pick.max()) < len(self):
            wrong = int(pick.min()) if pick.min() < 0 else int(pick.max())
            raise DatasetError(f'there is no clip {wrong}; there are clips 0 to {len(self) - 1}')
        wanted = self._own[pick, None] + self._offsets
        rows = np.clip(wanted, self._first[pick, None], self._last[pick, None])
        return rows, rows == wanted

    def read(self, pick: Rows) -> ClipBatch:
        """
        Gather clips, all pictures of a camera at once.

        Parameters
        ----------
        pick
            (B,) numbers of clips.

        Raises
        ------
        DatasetError
            If there is no such clip, or a picture cannot be read.

        """
        rows, valid = self.rows(pick)
        return ClipBatch(
            images=self.pictures.gather(rows, self.cameras),
            columns={name: np.asarray(values[rows]) for name, values in self._columns.items()},
            rows=rows, valid=valid)

    def _anchors(self, lengths: Sequence[int], episodes: Sequence[int] | None, padding: str
                 ) -> tuple[Rows, Rows, Rows]:
        """Each clip's own row, and the first and last row of its episode."""
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        chosen = range(len(lengths)) if episodes is None else episodes
        own: list[Rows] = [np.zeros(0, np.int64)]
        first: list[Rows] = [np.zeros(0, np.int64)]
        last: list[Rows] = [np.zeros(0, np.int64)]
        for episode in chosen:
            if not 0 <= episode < len(lengths):
                raise DatasetError(f'there is no episode {episode}; the dataset has episodes 0 to '
                                   f'{len(lengths) - 1}')
            begin, end = int(starts[episode]), int(starts[episode + 1])
            rows = np.arange(begin, end, dtype=np.int64)
            if padding == 'none':
                rows = rows[(rows + self._offsets[0] >= begin) & (rows + self._offsets[-1] < end)]
            own.append(rows)
            first.append(np.full(len(rows), begin, np.int64))
            last.append(np.full(len(rows), end - 1, np.int64))
        return np.concatenate(own), np.concatenate(first), np.concatenate(last)
