# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One sqlite3 file of a rosbag2, read with the standard library; never written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
import shutil
import sqlite3
from typing import Any

from ssl_vla_ros.dataset.align_recording import Message, Place, TopicInfo
from ssl_vla_ros.errors import EpisodeError

#: What a recorder that was killed leaves beside the file: messages that are not in it yet.
_UNFINISHED = ('-wal', '-journal')


class SqliteFile:
    """
    A sqlite3 file with the tables ``topics`` and ``messages``.

    Parameters
    ----------
    path
        The file.
    scratch
        Gives a directory for a copy, where the file was left unfinished.
    known_as
        What the user calls it, where it is a decompressed copy.

    Attributes
    ----------
    path
        The file as the user knows it.
    damage
        Always '': a damaged database raises instead.

    """

    def __init__(self, path: Path, scratch: Callable[[], Path], known_as: Path | None = None
                 ) -> None:
        self.path = known_as or path
        self.damage = ''
        self._real = path
        try:
            left = [path.with_name(path.name + ending) for ending in _UNFINISHED]
            if any(item.is_file() and item.stat().st_size for item in left):
                # Opening it mends it, and the source is not ours to change.
                folder = scratch()
                for item in (path, *left):
                    if item.is_file():
                        shutil.copyfile(item, folder / item.name)
                self._real = folder / path.name
                with closing(sqlite3.connect(self._real)) as mended:
                    mended.execute('SELECT COUNT(*) FROM sqlite_master').fetchone()
                    mended.execute('PRAGMA journal_mode=DELETE').fetchone()
        except (OSError, sqlite3.Error) as error:
            raise EpisodeError(f'{self.path}: cannot be read: {error}') from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # Immutable: no lock and no file is made beside the source.
        address = f'{self._real.resolve().as_uri()}?mode=ro&immutable=1'
        try:
            with closing(sqlite3.connect(address, uri=True)) as base:
                base.text_factory = lambda raw: raw.decode(errors='replace')
                yield base
        except (OSError, sqlite3.Error) as error:
            hint = '' if self._real.is_file() else '; the file is missing'
            raise EpisodeError(f'{self.path}: cannot be read: {error}{hint}') from error

    def topics(self) -> dict[str, TopicInfo]:
        """
        Every topic of the file with the number of messages that are there.

        Raises
        ------
        EpisodeError
            If it is no rosbag2 database, or damaged.

        """
        found: dict[str, TopicInfo] = {}
        with self._open() as base:
            counts = dict(base.execute(
                'SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id').fetchall())
            definitions = _definitions(base)
            for number, name, kind, encoding in base.execute(
                    'SELECT id, name, type, serialization_format FROM topics ORDER BY id'):
                info = TopicInfo(name, kind, counts.pop(number, 0), (encoding,),
                                 definitions.get(kind, ''))
                found[name] = found[name].joined(info) if name in found else info
            if counts:
                raise EpisodeError(
                    f'{self.path}: has {sum(counts.values())} messages of topics that it does '
                    'not list; it is damaged: use another copy')
        return found

    def span(self) -> tuple[int, int] | None:
        """First and last receive time (ns), None without messages."""
        with self._open() as base:
            first, last = base.execute(
                'SELECT MIN(timestamp), MAX(timestamp) FROM messages').fetchone()
        return None if first is None else (int(first), int(last))

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """
        Read the file from end to end, in the order of writing.

        Raises
        ------
        EpisodeError
            If it is damaged, or fewer messages come than it has.

        """
        with self._open() as base:
            names = {number: name for number, name in base.execute('SELECT id, name FROM topics')
                     if name in topics}
            marks = ', '.join('?' * len(names))
            where = f'WHERE topic_id IN ({marks})'
            (expected,) = base.execute(
                f'SELECT COUNT(*) FROM messages {where}', [*names]).fetchone()
            read = 0
            for row, topic, stamp, data in base.execute(
                    f'SELECT id, topic_id, timestamp, data FROM messages {where} '
                    'ORDER BY id', [*names]):
                read += 1
                yield Message(names[topic], int(stamp), Place(0, 0, row), _bytes(data))
            if read != expected:
                raise EpisodeError(
                    f'{self.path}: holds {expected} messages, {read} could be read; it is '
                    'damaged: use another copy')

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """
        Read one message again: receive time (ns) and data.

        Raises
        ------
        EpisodeError
            If it is not there any more.

        """
        with self._open() as base:
            row = base.execute(
                'SELECT m.timestamp, m.data, t.name FROM messages m JOIN topics t '
                'ON t.id = m.topic_id WHERE m.id = ?', [place.offset]).fetchone()
        if row is None or row[2] != topic:
            raise EpisodeError(f'{self.path}: holds no message of {topic} at {place} any more')
        return int(row[0]), _bytes(row[1])


def _bytes(data: Any) -> memoryview:
    return memoryview(data if isinstance(data, bytes) else str(data).encode())


def _definitions(base: sqlite3.Connection) -> dict[str, str]:
    """Definitions by type; bags have them since Iron."""
    if base.execute("SELECT 1 FROM sqlite_master WHERE name = 'message_definitions'"
                    ).fetchone() is None:
        return {}
    return {kind: text for kind, encoding, text in base.execute(
        'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions')
        if encoding == 'ros2msg'}
