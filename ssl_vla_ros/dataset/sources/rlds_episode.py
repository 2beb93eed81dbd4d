# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One episode of an RLDS dataset: a record of a shard becomes rows and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.pictures import decode, EncodedPictures, is_black
from ssl_vla_ros.dataset.sources.rlds_schema import (
    count_steps, RldsCamera, RldsSchema, RldsVector, TEXTS)
from ssl_vla_ros.dataset.sources.rows import even_rows, finite_rows
from ssl_vla_ros.dataset.sources.tfrecord import Example, read_record, Record
from ssl_vla_ros.errors import DatasetError


@dataclass(frozen=True)
class RldsJob:
    """One record of a shard; see ``EpisodeJob``."""

    name: str
    root: Path
    record: Record
    schema: RldsSchema
    task: str

    def fingerprint(self) -> str:
        """See ``EpisodeJob``; the record's place and checksum stand for its content."""
        place = (self.record.offset, self.record.length, self.record.crc)
        return fingerprint(self.root, [self.record.path], place, asdict(self.schema), self.task)

    def load(self, contract: Contract) -> LoadedEpisode:
        """See ``EpisodeJob``."""
        where = self.record.where
        example = Example(read_record(self.record), where)
        steps = count_steps(example, where)
        notes: list[str] = []
        _check_flags(example, where, notes)
        state = _read_vectors(example, self.schema.state, steps, where)
        action = _read_vectors(example, self.schema.action, steps, where)
        rows = steps - _ends_with_dummy(action)
        if rows < steps:
            notes.append('the last step has an action of zeros, as RLDS fills the one after the '
                         'last action: it is left out')
        pictures = {}
        for camera in contract.cameras:
            source = next((one for one in self.schema.cameras if one.name == camera.name), None)
            if source is None:
                continue
            data = encoded_pictures(example, source, steps, where)[:rows]
            if shows_nothing(data, f'{where}: {source.key}'):
                notes.append(f'{camera.name} is black')
            pictures[camera.name] = EncodedPictures(
                f'{where}: {source.key}', data, (source.height, source.width),
                (camera.height, camera.width))
        aligned = even_rows(
            contract, where,
            {part: {name: column[:rows] for name, column in columns.items()}
             for part, columns in (('state', state), ('action', action))}, pictures, rows)
        return LoadedEpisode(
            aligned, _task(example, self.task, where, notes),
            notes=tuple(notes))


def encoded_pictures(example: Example, camera: RldsCamera, steps: int, where: str
                     ) -> list[bytes]:
    """
    Pictures of an episode as they are stored.

    Raises
    ------
    DatasetError
        If there is not one for each step.

    """
    if camera.key not in example or example.kind(camera.key) != 'bytes':
        raise DatasetError(f'{where}: there are no pictures of {camera.key}')
    if example.count(camera.key) != steps:
        raise DatasetError(f'{where}: {camera.key} has {example.count(camera.key)} pictures, the '
                           f'episode {steps} steps')
    return [bytes(data) for data in example[camera.key]]


def shows_nothing(data: Sequence[bytes], where: str) -> bool:
    """Whether the first and the last of an episode's pictures are black."""
    return is_black(decode(data[0], f'{where}: picture 0')) and is_black(
        decode(data[-1], f'{where}: picture {len(data) - 1}'))


def _read_vectors(example: Example, vectors: Sequence[RldsVector], steps: int, where: str
                  ) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    for vector in vectors:
        if vector.key not in example or example.kind(vector.key) not in ('float', 'int64'):
            raise DatasetError(f'{where}: there are no numbers in {vector.key}')
        if example.count(vector.key) != steps * vector.width:
            raise DatasetError(
                f'{where}: {vector.key} has {example.count(vector.key)} values, {steps} steps of '
                f'{vector.width} make {steps * vector.width}')
        values = np.asarray(example[vector.key]).reshape(steps, vector.width)
        rows = finite_rows(values, f'{where}: {vector.key}')
        found.update(zip(vector.names, rows.T, strict=True))
    return found


def _ends_with_dummy(action: Mapping[str, NDArray[np.float32]]) -> bool:
    if not action:
        return False
    values = np.stack(list(action.values()), axis=1)
    return len(values) > 1 and not values[-1].any() and bool(values[-2].any())


def _check_flags(example: Example, where: str, notes: list[str]) -> None:
    flags: dict[str, NDArray[Any]] = {}
    for key in ('steps/is_first', 'steps/is_last'):
        if key in example and example.kind(key) == 'int64':
            flags[key] = np.asarray(example[key]) != 0
    first, last = flags.get('steps/is_first'), flags.get('steps/is_last')
    if first is not None and first[1:].any():
        raise DatasetError(f'{where}: steps/is_first is set at step '
                           f'{int(np.flatnonzero(first[1:])[0]) + 1}: there are two episodes in '
                           'one record')
    if last is not None and not last[-1]:
        notes.append('steps/is_last is not set at the last step: the episode may be cut off')
    if last is not None and last[:-1].any():
        notes.append('steps/is_last is set before the last step')


def _task(example: Example, fallback: str, where: str, notes: list[str]) -> str:
    texts: list[str] = []
    for key in (key for key in TEXTS if key in example and not texts):
        texts = list(dict.fromkeys(
            text for value in example[key] if isinstance(value, bytes)
            and (text := value.decode('utf-8', errors='replace').strip())))
    if not texts:
        if not fallback.strip():
            raise DatasetError(f'{where}: there is no instruction; say what was done with --task')
        return fallback
    if len(texts) > 1:
        notes.append('the instruction changes in the episode: its first is taken, not '
                     + ', '.join(repr(text) for text in texts[1:]))
    return texts[0]
