# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The files of a rosbag2 as they lie on the disk: opened, decompressed where they have to be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
import shutil
import tempfile
from typing import Protocol
import weakref

from ssl_vla_ros.dataset.align_mcap import McapFile
from ssl_vla_ros.dataset.align_recording import Message, Place, TopicInfo
from ssl_vla_ros.dataset.sources.rosbag2_sqlite import SqliteFile
from ssl_vla_ros.errors import EpisodeError
import zstandard

#: Endings of the files that hold messages; each also with a further ``.zstd`` (or ``.zst``).
STORAGES: Mapping[str, str] = {'.mcap': 'mcap', '.db3': 'sqlite3'}
_COMPRESSED = ('.zstd', '.zst')


class StoredFile(Protocol):
    """An opened file; ``damage`` says after ``messages`` where it ends before its end."""

    damage: str

    @property
    def path(self) -> Path:
        """Give the file as the user knows it."""
        ...

    def topics(self) -> dict[str, TopicInfo]:
        """Every topic of the file."""
        ...

    def span(self) -> tuple[int, int] | None:
        """First and last receive time (ns)."""
        ...

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Read the file from end to end."""
        ...

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """Read one message again."""
        ...


class Scratch:
    """A directory for copies, made when it is wanted and gone when nobody refers to it."""

    def __init__(self) -> None:
        self._path: Path | None = None

    def folder(self) -> Path:
        """Give the directory."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix='ssl_vla_bag_'))
            weakref.finalize(self, shutil.rmtree, self._path, ignore_errors=True)
        return self._path


def storage_of(path: Path) -> str:
    """Tell from its name what a file stores messages in; '' if it is no bag file."""
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return next((kind for ending, kind in STORAGES.items() if name.endswith(ending)), '')


def is_compressed(path: Path) -> bool:
    """Whether the whole file is compressed."""
    return path.name.lower().endswith(_COMPRESSED)


def open_file(path: Path, scratch: Scratch) -> StoredFile:
    """
    Open a bag file.

    Parameters
    ----------
    path
        The file.
    scratch
        Where a compressed file is decompressed to. It must live as long as the file is read.

    Raises
    ------
    EpisodeError
        If it cannot be read.

    """
    real = _decompressed(path, scratch.folder()) if is_compressed(path) else path
    if storage_of(path) == 'mcap':
        return McapFile(real, path)
    return SqliteFile(real, scratch.folder, path)


def _decompressed(path: Path, folder: Path) -> Path:
    target = folder / path.stem
    try:
        with path.open('rb') as packed, target.open('wb') as plain:
            zstandard.ZstdDecompressor().copy_stream(packed, plain)
    except zstandard.ZstdError as error:
        raise EpisodeError(
            f'{path}: does not decompress with zstd: {error}; it is damaged: use another copy'
        ) from error
    except FileNotFoundError as error:
        raise EpisodeError(f'{path}: the file is missing') from error
    return target


@dataclass(frozen=True)
class Overview:
    """
    What a file says of itself.

    Attributes
    ----------
    topics
        By name.
    span_ns
        First and last receive time, None without messages.
    damage
        Where and why it ends before its end, if that is known without reading it.
    problem
        Why it cannot be read at all; '' if it can.

    """

    topics: Mapping[str, TopicInfo]
    span_ns: tuple[int, int] | None
    damage: str = ''
    problem: str = ''

    @property
    def count(self) -> int:
        """Messages in the file."""
        return sum(info.count for info in self.topics.values())


def look_into(path: Path) -> Overview:
    """Open a file for a moment."""
    scratch = Scratch()
    try:
        opened = open_file(path, scratch)
        return Overview(opened.topics(), opened.span(), opened.damage)
    except EpisodeError as error:
        return Overview({}, None, problem=str(error))
