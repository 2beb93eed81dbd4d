# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading an MCAP file twice: once from end to end, then single messages at their places.

The first reading checks every chunk against its CRC and counts against the file's own statistics,
and skips chunks that hold nothing that is wanted. The second one keeps the last few chunks:
cameras that are read in turns share them. Memory does not grow with the file's length.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
import io
from pathlib import Path
import threading

from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel
from mcap.summary import Summary

from ssl_vla_ros.dataset.align_chunk import DamageError, read_chunk
from ssl_vla_ros.dataset.align_recording import Message, Place, TopicInfo
from ssl_vla_ros.dataset.align_walk import Found, MAGIC, MESSAGE, NO_CHUNK, RECORD, Walk
from ssl_vla_ros.episodes.mend import BROKEN_FILE
from ssl_vla_ros.errors import EpisodeError

#: Decompressed chunks kept for the next reader, in bytes; the newest is kept whatever its size.
_CACHE_BYTES = 16 * 2**20


class McapFile:
    """
    An MCAP file; opened anew for each reading.

    Parameters
    ----------
    path
        The file.
    known_as
        What the user calls it, where it is a decompressed copy.

    Attributes
    ----------
    path
        The file as the user knows it.
    damage
        After ``messages`` has ended: where and why the file ends before its end, '' if it is
        whole.

    """

    def __init__(self, path: Path, known_as: Path | None = None) -> None:
        self.path = known_as or path
        self._real = path
        self.damage = ''
        self._walker = Walk()
        self._cache: OrderedDict[int, memoryview] = OrderedDict()
        self._lock = threading.Lock()
        self._known: tuple[dict[int, int], tuple[int, int] | None] | None = None
        self._state = self._file_state()

    def topics(self) -> dict[str, TopicInfo]:
        """
        Every topic of the file, by its name in the file.

        Counts are those of the file's statistics; a file without them is read from end to end.

        Raises
        ------
        EpisodeError
            If it is no MCAP file or cannot be read at all.

        """
        counts, _ = self._said_or_counted()
        found: dict[str, TopicInfo] = {}
        for channel in self._walker.channels.values():
            info = self._describe(channel, counts.get(channel.id, 0))
            if channel.topic in found:
                info = found[channel.topic].joined(info)
            found[channel.topic] = info
        return found

    def span(self) -> tuple[int, int] | None:
        """First and last receive time (ns), None without messages."""
        return self._said_or_counted()[1]

    def _said_or_counted(self) -> tuple[dict[int, int], tuple[int, int] | None]:
        """Messages by channel, and first and last receive time."""
        if self._known is not None:
            return self._known
        summary = self._summary()
        counts: dict[int, int] = {}
        first = last = None
        if summary is not None and summary.statistics is not None:
            said = summary.statistics
            self._walker.learn(summary)
            counts = dict(said.channel_message_counts)
            if said.message_count:
                first, last = said.message_start_time, said.message_end_time
        else:
            for _, channel, log_time_ns, _ in self._walk(None, None):
                counts[channel.id] = counts.get(channel.id, 0) + 1
                first = log_time_ns if first is None else min(first, log_time_ns)
                last = log_time_ns if last is None else max(last, log_time_ns)
        self._known = counts, None if first is None or last is None else (first, last)
        return self._known

    def _describe(self, channel: Channel, count: int) -> TopicInfo:
        schema = self._walker.schemas.get(channel.schema_id)
        return TopicInfo(
            name=channel.topic, type=schema.name if schema else '', count=count,
            encodings=(channel.message_encoding,),
            definition=schema.data.decode(errors='replace')
            if schema and schema.encoding == 'ros2msg' else '')

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """
        Read the file from end to end.

        Parameters
        ----------
        topics
            Which messages are wanted, by the topics' names in the file.

        Yields
        ------
        Message
            In the order of the file. Its data is good until the next is asked for.

        Raises
        ------
        EpisodeError
            If it is no MCAP file, or holds another number of messages than it says.

        """
        summary = self._summary()
        counts: dict[int, int] = {}
        for place, channel, log_time_ns, data in self._walk(summary, topics):
            counts[channel.id] = counts.get(channel.id, 0) + 1
            yield Message(channel.topic, log_time_ns, place, data)
        if not self.damage and summary is not None and summary.statistics is not None:
            for number, said in summary.statistics.channel_message_counts.items():
                known = self._walker.channels.get(number)
                name = known.topic if known is not None else ''
                if name in topics and counts.get(number, 0) != said:
                    raise EpisodeError(
                        f'{self.path}: holds {counts.get(number, 0)} messages of {name}, its '
                        f'statistics say {said}; the file is damaged: use another copy')

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """
        Read one message again.

        Returns
        -------
        tuple
            Its receive time (ns) and its data.

        Raises
        ------
        EpisodeError
            If the file has changed since, or the message is not there.

        """
        if self._file_state() != self._state:
            raise EpisodeError(f'{self.path}: was changed while it was read; start again')
        try:
            if place.chunk == NO_CHUNK:
                with self._real.open('rb') as file:
                    file.seek(place.offset)
                    opcode, length = RECORD.unpack(file.read(RECORD.size))
                    body = memoryview(file.read(length))
            else:
                chunk = self._chunk(place.chunk)
                opcode, length = RECORD.unpack_from(chunk, place.offset)
                body = chunk[place.offset + RECORD.size:][:length]
            number, _, log_time_ns, _ = MESSAGE.unpack_from(body)
        except (OSError, DamageError, *BROKEN_FILE) as error:
            raise EpisodeError(f'{self.path}: cannot be read again: {error!r}') from error
        channel = self._walker.channels.get(number)
        if opcode != Opcode.MESSAGE or channel is None or channel.topic != topic:
            raise EpisodeError(f'{self.path}: holds no message of {topic} at {place} any more')
        return log_time_ns, body[MESSAGE.size:]

    def _chunk(self, start: int) -> memoryview:
        with self._lock:
            if start in self._cache:
                self._cache.move_to_end(start)
                return self._cache[start]
            with self._real.open('rb') as file:
                file.seek(start)
                _, length = RECORD.unpack(file.read(RECORD.size))
                chunk, _ = read_chunk(
                    file, min(length, self._state[0] - file.tell()), check=False)
            self._cache[start] = chunk
            while (len(self._cache) > 1
                   and sum(len(item) for item in self._cache.values()) > _CACHE_BYTES):
                self._cache.popitem(last=False)
            return chunk

    def _file_state(self) -> tuple[int, int]:
        try:
            state = self._real.stat()
        except OSError as error:
            raise EpisodeError(f'{self.path}: cannot be read: {error.strerror}') from error
        return state.st_size, state.st_mtime_ns

    def _summary(self) -> Summary | None:
        try:
            with self._real.open('rb') as file:
                if file.read(len(MAGIC)) != MAGIC:
                    raise EpisodeError(f'{self.path}: is no MCAP file (it begins otherwise)')
                file.seek(-len(MAGIC), io.SEEK_END)
                if file.read() != MAGIC:
                    return None
                file.seek(0)
                summary: Summary | None = make_reader(file).get_summary()
                return summary
        except OSError as error:
            raise EpisodeError(f'{self.path}: cannot be read: {error.strerror}') from error
        except BROKEN_FILE:
            return None

    def _walk(self, summary: Summary | None, topics: Collection[str] | None
              ) -> Iterator[Found]:
        """Messages of some topics (None: all) up to the end or the first damage."""
        self.damage = ''
        if summary is not None:
            self._walker.learn(summary)
        skip = _unwanted_chunks(summary, topics)
        try:
            with self._real.open('rb') as file:
                yield from self._walker.through(file, self._state[0], skip, topics)
        except (DamageError, *BROKEN_FILE) as error:
            self.damage = str(error) or repr(error)
        except OSError as error:
            raise EpisodeError(f'{self.path}: cannot be read: {error.strerror}') from error


def _unwanted_chunks(summary: Summary | None, topics: Collection[str] | None) -> set[int]:
    """Where chunks begin whose index says that they hold none of the topics."""
    # Skipping is only safe where statistics tell afterwards whether a message was missed.
    if (topics is None or summary is None or summary.statistics is None
            or len(summary.chunk_indexes) != summary.statistics.chunk_count):
        return set()
    wanted = {channel.id for channel in summary.channels.values() if channel.topic in topics}
    return {index.chunk_start_offset for index in summary.chunk_indexes
            if index.message_index_offsets and not wanted & index.message_index_offsets.keys()}
