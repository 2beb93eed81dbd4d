# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Write an MCAP file in chunks, with a chosen compression level and few copies.

The MCAP library's own writer compresses with zstd at level 3: three cameras of 640x480 take more
than half a core, and a busy machine drops pictures. Level 1 takes a third of that for files a
tenth larger (docs/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
import struct
from typing import Any, BinaryIO
import zlib

import lz4.frame
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel, ChunkIndex, DataEnd, Footer, Header, MessageIndex, Metadata, MetadataIndex, Schema,
    Statistics, SummaryOffset)
from mcap.writer import MCAP0_MAGIC
import zstandard

#: Level of zstd; see the module's text.
ZSTD_LEVEL = 1
#: Bytes of messages from which on a chunk is ended.
CHUNK_BYTES = 2**20
COMPRESSIONS = ('zstd', 'lz4', 'none')
# opcode, length; channel, sequence, log time, publish time
_MESSAGE = struct.Struct('<BQHIQQ')
_MESSAGE_FIELDS = 2 + 4 + 8 + 8
# opcode, length; start time, end time, uncompressed size, CRC
_CHUNK = struct.Struct('<BQQQQI')
_CHUNK_FIELDS = 8 + 8 + 8 + 4


class ChunkWriter:
    """
    An MCAP file being written.

    Parameters
    ----------
    stream
        Where to; owned by the caller, who closes it.
    compression
        One of ``COMPRESSIONS``.

    """

    def __init__(self, stream: BinaryIO, compression: str) -> None:
        self._stream = stream
        self._name = '' if compression == 'none' else compression
        self._compress = _compressor(compression)
        # One and the same for all chunks: fresh memory would cost as much as the copy.
        self._buffer = bytearray(2 * CHUNK_BYTES)
        self._used = 0
        self._entries: dict[int, list[tuple[int, int]]] = {}
        self._start_time = self._end_time = 0
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        # Serialized at once: as objects, an hour's chunks would take 120 MB, not 20.
        self._chunks = RecordBuilder()
        self._chunk_count = 0
        self._metadata: list[MetadataIndex] = []
        self._counts: dict[int, int] = {}
        self._first_time = self._last_time = 0

    def start(self, profile: str, library: str) -> None:
        """Write the beginning of the file."""
        self._stream.write(MCAP0_MAGIC)
        self._write(Header(profile, library))

    def add_metadata(self, name: str, data: Mapping[str, str]) -> None:
        """Embed text by key."""
        self._end_chunk()
        offset = self._stream.tell()
        length = self._write(Metadata(name=name, metadata=dict(data)))
        self._metadata.append(MetadataIndex(offset=offset, length=length, name=name))

    def register_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Add a message type; gives its number."""
        schema = Schema(id=len(self._schemas) + 1, data=data, encoding=encoding, name=name)
        self._schemas.append(schema)
        self._put_record(schema)
        return schema.id

    def register_channel(self, topic: str, message_encoding: str, schema_id: int,
                         metadata: Mapping[str, str]) -> int:
        """Add a topic; gives its number."""
        channel = Channel(id=len(self._channels) + 1, topic=topic, schema_id=schema_id,
                          message_encoding=message_encoding, metadata=dict(metadata))
        self._channels.append(channel)
        self._put_record(channel)
        return channel.id

    def add_message(self, channel_id: int, *, log_time: int, data: bytes, publish_time: int,
                    sequence: int) -> None:
        """Append a message; ends the chunk when it is full."""
        if not self._entries:
            self._start_time = self._end_time = log_time
        self._start_time = min(self._start_time, log_time)
        self._end_time = max(self._end_time, log_time)
        self._entries.setdefault(channel_id, []).append((log_time, self._used))
        self._counts[channel_id] = self._counts.get(channel_id, 0) + 1
        self._put(_MESSAGE.pack(Opcode.MESSAGE, _MESSAGE_FIELDS + len(data), channel_id, sequence,
                                log_time, publish_time))
        self._put(data)
        if self._used > CHUNK_BYTES:
            self._end_chunk()

    def flush(self) -> None:
        """End the chunk and hand everything to the operating system."""
        self._end_chunk()
        self._stream.flush()

    def finish(self) -> None:
        """Write the index; the file is complete when the stream is flushed."""
        self._end_chunk()
        self._write(DataEnd(0))
        start = self._stream.tell()
        summary = RecordBuilder()
        offsets: list[SummaryOffset] = []
        for opcode, records in (
                (Opcode.SCHEMA, self._schemas), (Opcode.CHANNEL, self._channels),
                (Opcode.STATISTICS, [self._statistics()]),
                (Opcode.METADATA_INDEX, self._metadata), (Opcode.CHUNK_INDEX, ())):
            group = summary.count
            for record in records:
                record.write(summary)
            if opcode == Opcode.CHUNK_INDEX:
                summary.write(self._chunks.end())
            if summary.count > group:
                offsets.append(SummaryOffset(opcode, start + group, summary.count - group))
        offsets_start = start + summary.count
        for offset in offsets:
            offset.write(summary)
        data = summary.end()
        crc = zlib.crc32(struct.pack('<BQQQ', Opcode.FOOTER, 8 + 8 + 4, start, offsets_start),
                         zlib.crc32(data))
        self._stream.write(data)
        self._write(Footer(
            summary_start=start, summary_offset_start=offsets_start, summary_crc=crc))
        self._stream.write(MCAP0_MAGIC)

    def _put(self, data: bytes) -> None:
        end = self._used + len(data)
        if end > len(self._buffer):
            self._buffer.extend(bytes(end - len(self._buffer)))
        self._buffer[self._used:end] = data
        self._used = end

    def _put_record(self, record: Schema | Channel) -> None:
        # In the chunk, as the MCAP library does it: a file without its end is read from there.
        builder = RecordBuilder()
        record.write(builder)
        self._put(builder.end())

    def _write(self, record: Any) -> int:
        builder = RecordBuilder()
        record.write(builder)
        data = builder.end()
        self._stream.write(data)
        return len(data)

    def _end_chunk(self) -> None:
        if not self._entries:
            return
        with memoryview(self._buffer)[:self._used] as messages:
            crc = zlib.crc32(messages)
            data = self._compress(messages)
        name = self._name.encode()
        head = b''.join((
            _CHUNK.pack(Opcode.CHUNK, _CHUNK_FIELDS + 4 + len(name) + 8 + len(data),
                        self._start_time, self._end_time, self._used, crc),
            struct.pack('<I', len(name)), name, struct.pack('<Q', len(data))))
        offset = self._stream.tell()
        self._stream.write(head)
        self._stream.write(data)
        end = offset + len(head) + len(data)
        builder = RecordBuilder()
        index_offsets = {}
        for channel, entries in self._entries.items():
            index_offsets[channel] = end + builder.count
            MessageIndex(channel, entries).write(builder)
        index = builder.end()
        self._stream.write(index)
        if not self._chunk_count:
            self._first_time, self._last_time = self._start_time, self._end_time
        self._first_time = min(self._first_time, self._start_time)
        self._last_time = max(self._last_time, self._end_time)
        ChunkIndex(
            chunk_length=end - offset, chunk_start_offset=offset, compression=self._name,
            compressed_size=len(data), message_end_time=self._end_time,
            message_index_length=len(index), message_index_offsets=index_offsets,
            message_start_time=self._start_time, uncompressed_size=self._used).write(self._chunks)
        self._chunk_count += 1
        self._entries, self._used = {}, 0

    def _statistics(self) -> Statistics:
        return Statistics(
            attachment_count=0, channel_count=len(self._channels),
            channel_message_counts=self._counts, chunk_count=self._chunk_count,
            message_count=sum(self._counts.values()), message_start_time=self._first_time,
            message_end_time=self._last_time, metadata_count=len(self._metadata),
            schema_count=len(self._schemas))


def _compressor(name: str) -> Callable[[memoryview], bytes]:
    if name == 'zstd':
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress
    if name == 'lz4':
        compress: Callable[[memoryview], bytes] = lz4.frame.compress
        return compress
    return bytes
