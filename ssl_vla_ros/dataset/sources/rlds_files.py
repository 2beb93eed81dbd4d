# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The files of an RLDS dataset: its shards, and the JSON that TFDS puts beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
import re
from typing import Any

from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.tfrecord import index_records, Record
from ssl_vla_ros.errors import DatasetError

INFO, FEATURES, METADATA = 'dataset_info.json', 'features.json', 'metadata.json'
_SHARD = re.compile(r'(.+)-(\w+)\.tfrecord-(\d{5})-of-(\d{5})')
#: What a dataset may call its rate in metadata.json; RLDS itself has no word for it.
_RATE_KEYS = ('rate_hz', 'control_frequency', 'control_freq', 'control_hz', 'fps')


@dataclass(frozen=True)
class Shard:
    """One TFRecord file and what its name says; a name of another form says nothing."""

    path: Path
    dataset: str = ''
    split: str = ''
    number: int = 0
    total: int = 1


@dataclass
class RldsFiles:
    """
    What was found.

    Attributes
    ----------
    root
        The directory.
    shards
        The train split first, in order.
    records
        Name and place of every episode, in order; the names count on over shards and splits.
    refused
        Episodes that are cut off and shards that cannot be read.
    info, metadata
        ``dataset_info.json`` and ``metadata.json``, empty without them.

    """

    root: Path
    shards: list[Shard] = field(default_factory=list)
    records: list[tuple[str, Record]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """Return the dataset's name, '' if nothing says it."""
        return str(self.info.get('name') or next(
            (shard.dataset for shard in self.shards if shard.dataset), ''))

    @property
    def rate(self) -> tuple[object, str]:
        """Return the rate that metadata.json has, None without one, and where it is."""
        for key in _RATE_KEYS:
            if key in self.metadata:
                return self.metadata[key], f'{self.root / METADATA}: {key}'
        return None, ''


def is_rlds(path: Path) -> bool:
    """Whether a file, or a file in a directory, is named like a TFRecord file."""
    return bool(_find(path))


def _find(path: Path) -> list[Path]:
    files = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    return [file for file in files if '.tfrecord' in file.name.lower()
            and not file.name.startswith('.') and file.is_file()]


def find_files(path: Path, problems: Notes) -> RldsFiles:
    """
    Find the shards of a dataset and the episodes in them.

    Parameters
    ----------
    path
        The directory that holds the shards, or one of them.
    problems
        Takes notes about shards that are missing, empty, or not as long as declared.

    Raises
    ------
    DatasetError
        If there is no shard, or no record in any of them.

    """
    found = RldsFiles(path.parent if path.is_file() else path)
    for file in _find(path):
        parts = _SHARD.fullmatch(file.name)
        found.shards.append(Shard(file) if parts is None else Shard(
            file, parts[1], parts[2], int(parts[3]), int(parts[4])))
    if not found.shards:
        raise DatasetError(_nothing(path))
    found.shards.sort(key=lambda shard: (
        shard.split != 'train', shard.split, shard.dataset, shard.number, shard.path.name))
    for name, into in ((INFO, found.info), (METADATA, found.metadata)):
        if (found.root / name).is_file():
            into.update(read_json(found.root / name))
    _note_missing(found, path.is_file(), problems)
    for shard in found.shards:
        _read_index(found, shard, problems)
    if not found.records:
        raise DatasetError(found.refused[0][1] if found.refused
                           else f'{path}: there is no record in any shard')
    return found


def _nothing(path: Path) -> str:
    if not path.exists():
        return f'{path}: does not exist'
    below = sorted(folder for folder in path.glob('*') if _find(folder)) if path.is_dir() else []
    return (f'{path}: there is no .tfrecord file here'
            + (f'; did you mean {below[-1]}?' if below else ''))


def _note_missing(found: RldsFiles, single: bool, problems: Notes) -> None:
    groups: dict[tuple[str, str, int], set[int]] = {}
    for shard in found.shards:
        groups.setdefault((shard.dataset, shard.split, shard.total), set()).add(shard.number)
    for (dataset, split, total), numbers in groups.items():
        missing = [str(number) for number in range(total) if number not in numbers]
        if missing and single:
            problems.add(f'this is one of {total} shards of {dataset}-{split}: only it is read')
        elif missing:
            problems.add(f'{dataset}-{split}: of {total} shards these are missing: '
                         f'{", ".join(missing)}')


def _read_index(found: RldsFiles, shard: Shard, problems: Notes) -> None:
    try:
        records, wrong = index_records(shard.path)
    except DatasetError as error:
        found.refused.append((shard.path.name, str(error)))
        return
    count = len(found.records) + len(found.refused)
    for number, record in enumerate(records, count):
        found.records.append((f'{shard.split} episode {number}'.lstrip(), record))
    if wrong:
        found.refused.append((f'{shard.split} episode {count + len(records)}'.lstrip(),
                              f'{shard.path}: {wrong}'))
    elif not records:
        problems.add(f'{shard.path.name} is empty')
    said = dict(_shard_lengths(found.info)).get((shard.split, shard.number))
    if said is not None and said != len(records):
        problems.add(f'{INFO}: {shard.path.name} has {said} episodes, {len(records)} can be read')


def _shard_lengths(info: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int], int]]:
    splits = info.get('splits')
    for split in splits if isinstance(splits, list) else ():
        lengths = split.get('shardLengths') if isinstance(split, dict) else None
        for number, length in enumerate(lengths if isinstance(lengths, list) else ()):
            if str(length).isdecimal():
                yield (str(split.get('name')), number), int(length)
