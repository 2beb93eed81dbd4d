# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The rows of one LeRobot episode, held against what the dataset says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import layout
from ssl_vla_ros.dataset.aligned import stream_labels
from ssl_vla_ros.dataset.sources.lerobot_common import (
    ACTION, Described, EVALUATION, STANDARD, STATE, SUCCESS)
from ssl_vla_ros.dataset.sources.rows import finite_rows
from ssl_vla_ros.errors import DatasetError

_SECOND = 1_000_000_000
#: 2255 AD: later times are no seconds, and would not fit the stamps.
_LAST_S = 9e9
#: Spread below which a value counts as never changing.
_STILL = 1e-9


@dataclass
class Rows:
    """
    One episode's rows.

    Attributes
    ----------
    path
        The file they come from.
    table
        The rows, columns as they are there.
    present
        Names of all columns of the file, read or not.
    described
        What the dataset says about them.
    odd
        What is odd about them, in words.

    """

    path: Path
    table: pa.Table
    present: Sequence[str]
    described: Described
    odd: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.table.column_names

    def vector(self, name: str, wanted: Sequence[str]) -> NDArray[np.float32]:
        """
        Values of a vector by the names the contract wants, (T, len(wanted)) float32.

        Raises
        ------
        DatasetError
            If the column is missing, of another width, or holds something that is no number.

        """
        if not wanted:
            return np.empty((len(self), 0), np.float32)
        values = self.values(name)
        names = self.described.vectors[name]
        if values.shape[1] != len(names):
            raise DatasetError(
                f'{self.path}: {name} has {values.shape[1]} values a row, meta/info.json says '
                f'{len(names)}')
        chosen = values[:, [names.index(wish) for wish in wanted]]
        if name == EVALUATION:  # may hold NaN: not recorded
            return chosen.astype(np.float32)
        return finite_rows(chosen, f'{self.path}: {name}')

    def values(self, name: str) -> NDArray[np.float64]:
        """
        One column of numbers, (T, D) float64.

        Raises
        ------
        DatasetError
            If it is missing, or is none.

        """
        if not self.has(name):
            raise DatasetError(f'{self.path}: there is no column {name!r}')
        try:
            kind = self.table.schema.field(name).type
            if pa.types.is_list(kind) or pa.types.is_large_list(kind):
                # Different lengths may still add up to a whole number of rows.
                lengths = pc.unique(pc.list_value_length(self.table.column(name)))
                if len(lengths) > 1:
                    raise DatasetError('has rows of different lengths')
            return layout.column_values(self.table, name).astype(np.float64)
        except (DatasetError, TypeError, ValueError, pa.ArrowException) as error:
            raise DatasetError(f'{self.path}: {name}: {error}') from error

    def whole(self, name: str) -> NDArray[np.int64]:
        """
        One column of whole numbers, (T,).

        Raises
        ------
        DatasetError
            If a row has none.

        """
        column = self.table.column(name)
        if column.null_count or not pa.types.is_integer(column.type):
            raise DatasetError(
                f'{self.path}: {name} must be whole numbers without gaps, is {column.type} with '
                f'{column.null_count} gaps')
        return layout.column_values(self.table, name)[:, 0].astype(np.int64)

    def check_columns(self, number: int) -> None:
        """Note what is declared and missing, or there and not declared."""
        for name in dict.fromkeys((*self.described.columns, *STANDARD)):
            if name not in self.present:
                self.odd.append(f'the rows lack the column {name!r}')
        for name in self.present:
            if name not in self.described.columns:
                self.odd.append(
                    f'the rows have a column {name!r} that info.json does not declare')
        if self.has('episode_index'):
            found = set(self.whole('episode_index').tolist())
            if found != {number}:
                self.odd.append(f'episode_index in the rows is {sorted(found)}')
        if self.has('frame_index') and (
                self.whole('frame_index') != np.arange(len(self))).any():
            self.odd.append('frame_index does not count the rows of the episode from 0')

    def check_moves(self, state: NDArray[np.float32], action: NDArray[np.float32],
                    contract: Contract) -> None:
        """Note where not a single value changes; an import says it of single ones as a whole."""
        for name, values, names in ((STATE, state, contract.state_names),
                                    (ACTION, action, contract.action_names)):
            if len(values) < 2 or not names:
                continue
            if (values.max(axis=0) - values.min(axis=0) <= _STILL).all():
                self.odd.append(f'{name}: not one of its {len(names)} values changes in the '
                                'whole episode: is this recording dead?')

    def stamps(self) -> NDArray[np.int64]:
        """
        Row stamps from the source's own time; what is odd about it is noted.

        Returns
        -------
        numpy.ndarray
            (T,) int64 nanoseconds.

        Raises
        ------
        DatasetError
            If the times do not rise.

        """
        fps = self.described.fps
        even = np.arange(len(self)) / fps
        if not self.has('timestamp'):
            return np.asarray(np.rint(even * _SECOND), dtype=np.int64)
        times = self.values('timestamp')[:, 0]
        # "not greater" rather than "less or equal": it holds for NaN too.
        bad = np.flatnonzero(~(np.diff(times, prepend=-np.inf) > 0))
        if len(bad):
            raise DatasetError(f'{self.path}: timestamp does not rise at row {int(bad[0])}')
        if times[-1] > _LAST_S:
            raise DatasetError(f'{self.path}: timestamp ends at {times[-1]:g}, which cannot be '
                               'seconds')
        if abs(times[0]) > 1e-4:
            self.odd.append(f'timestamp starts at {times[0]:.4f} s instead of 0: written anew '
                            'as frame_index / fps')
        off = float(np.abs(times - times[0] - even).max())
        if off > 0.5 / fps:
            self.odd.append('timestamp leaves frame_index / fps by more than half a row: the '
                            'recording was not regular')
        elif off > 1e-4:
            self.odd.append('timestamp drifts from frame_index / fps by more than 0.1 ms')
        return np.asarray(np.rint(times * _SECOND), dtype=np.int64)

    def success(self) -> bool | None:
        """Whether the episode's last row says that the task was achieved; None if none does."""
        if not self.has(SUCCESS):
            return None
        last = layout.column_values(self.table, SUCCESS)[-1, 0]
        return None if last is None or last != last else bool(last)

    def task(self, sentences: Mapping[int, str], listed: Sequence[str], otherwise: str,
             where: str) -> str:
        """
        Say what was done, in words.

        Parameters
        ----------
        sentences
            By task index.
        listed
            What the dataset's list of episodes says.
        otherwise
            What the user says of episodes without words.
        where
            The file of the sentences, for messages.

        Raises
        ------
        DatasetError
            If the rows name more than one, or none and nobody else does.

        """
        if not self.has('task_index'):
            if len(listed) == 1 and listed[0].strip():
                return listed[0]
            return self._otherwise(otherwise, 'there is no column task_index')
        indices = sorted(set(self.whole('task_index').tolist()))
        if len(indices) != 1 or not sentences.get(indices[0], '').strip():
            text = f'task_index has the values {indices}, must be one that {where} has'
            if len(indices) != 1:
                raise DatasetError(f'{self.path}: {text}')
            return self._otherwise(otherwise, text)
        task = sentences[indices[0]]
        extra = [text for text in listed if text != task]
        if task not in listed:
            self.odd.append(
                f'the list of episodes does not name the task of its rows, {task!r}')
        elif extra:
            self.odd.append('the list of episodes has beside the task of its rows also '
                            + ', '.join(repr(text) for text in extra) + ', which no row has')
        return task

    def _otherwise(self, task: str, why: str) -> str:
        if not task:
            raise DatasetError(f'{self.path}: {why}: nothing says what was done; give --task TEXT '
                               'for episodes without words of their own')
        self.odd.append(f'{why}: the task is the one given with --task')
        return task


def read_rows(path: Path, described: Described, *more: str) -> Rows:
    """
    Read the columns of a file that an import needs, never the pictures that it may hold.

    Parameters
    ----------
    path
        The file.
    described
        What the dataset says about it.
    *more
        Columns beside the usual ones, read where they are there.

    Raises
    ------
    DatasetError
        If the file is missing or broken.

    """
    try:
        # ParquetFile, not read_table: that one would take part of the path for a column.
        with pq.ParquetFile(path) as file:
            present = list(file.schema_arrow.names)
            return Rows(path, file.read(columns=needed(described, present, *more)), present,
                        described)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f'{path}: cannot read this Parquet file: {error}') from error


def needed(described: Described, present: Sequence[str], *more: str) -> list[str]:
    """Return the columns that an import reads, of those that are there."""
    return [name for name in (*described.vectors, *STANDARD, SUCCESS, *more) if name in present]


def unknown_skews(contract: Contract, rows: int) -> dict[str, NDArray[np.float32]]:
    """Skews of a recording whose rows do not tell them."""
    unknown = np.full(rows, np.nan, dtype=np.float32)
    return {label: unknown for label, _, _ in stream_labels(contract)}
