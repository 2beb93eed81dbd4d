# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Give an MCAP file without its end an end: cut it after the last sound chunk and write the index.

The file is mended where it lies. Writing it anew would need as much room again, and a full disk
is one of the reasons why files have no end. Mending twice gives the same, so a kill in between
costs nothing. Each chunk is checked against its CRC; the first damage is where the file is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
import os
from pathlib import Path
import struct
from typing import BinaryIO

from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import (
    Channel, Chunk, ChunkIndex, DataEnd, Footer, Message, MessageIndex, Schema, Statistics)
from mcap.stream_reader import get_chunk_data_stream, read_magic
from mcap.writer import MCAP0_MAGIC

from ssl_vla_ros.episodes.bag import BagSummary, TopicStatistics
from ssl_vla_ros.episodes.schemas import MessageSchema, starts_with_header
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns
import zstandard

#: What the MCAP library lets through when a file is cut off or altered.
#: (RuntimeError is what the lz4 library raises.)
BROKEN_FILE = (
    McapError, EOFError, ValueError, KeyError, struct.error, zstandard.ZstdError, RuntimeError)
_RECORD_HEADER = 9


class NothingReadableError(Exception):
    """The file has no sound chunk."""


@dataclass
class _Part:
    """A sound chunk: where it lies, and what is in it."""

    start: int
    end: int
    chunk: Chunk
    entries: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    index_offsets: dict[int, int] = field(default_factory=dict)
    index_end: int = 0
    stamps: list[int] = field(default_factory=list)

    @property
    def indexed(self) -> bool:
        return set(self.index_offsets) == set(self.entries)


@dataclass
class _Scan:
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    parts: list[_Part] = field(default_factory=list)
    metadata: int = 0


def mend(path: Path, topics: Mapping[str, str]) -> BagSummary:
    """
    Cut the file after its last sound chunk and write a new end.

    Parameters
    ----------
    path
        The MCAP file; a whole one comes out with the same messages.
    topics
        The contract's topic for each topic of the bag.

    Raises
    ------
    NothingReadableError
        If there is no sound chunk; the file is left as it is.
    OSError
        If the disk does not take the new end.

    """
    scan = _scan(path)
    if not scan.parts:
        raise NothingReadableError(f'no readable message in {path.name}')
    with path.open('r+b') as file:
        while True:
            try:
                _write_end(file, scan)
                break
            except OSError:
                # A full disk: the last chunk makes room for the index of the others.
                if len(scan.parts) == 1:
                    raise
                scan.parts.pop()
    return _summary(scan, topics, path.name)


def readable_messages(path: Path) -> int:
    """
    Count the messages that ``mend`` would keep; the file is only read.

    Raises
    ------
    OSError
        If the file cannot be read.

    """
    return sum(_counts(_scan(path)).values())


def _scan(path: Path) -> _Scan:
    scan = _Scan()
    size = path.stat().st_size
    with path.open('rb') as file:
        stream = ReadDataStream(file)
        try:
            read_magic(stream)
            while file.tell() + _RECORD_HEADER <= size:
                start = file.tell()
                opcode, length = stream.read1(), stream.read8()
                end = file.tell() + length
                # Checked before reading: a damaged length would ask for any amount of memory.
                if end > size or opcode in (Opcode.DATA_END, Opcode.FOOTER):
                    break
                if opcode == Opcode.CHUNK:
                    part = _Part(start, end, Chunk.read(stream))
                    _scan_chunk(part, scan)
                    scan.parts.append(part)
                elif opcode == Opcode.MESSAGE_INDEX and scan.parts:
                    index = MessageIndex.read(stream)
                    scan.parts[-1].index_offsets[index.channel_id] = start
                    scan.parts[-1].index_end = end
                else:
                    scan.metadata += opcode == Opcode.METADATA
                file.seek(end)
        except BROKEN_FILE:
            pass
    return scan


def _scan_chunk(part: _Part, scan: _Scan) -> None:
    stream, size = get_chunk_data_stream(part.chunk, validate_crc=True)
    part.chunk.data = b''
    while stream.count < size:
        offset = stream.count
        opcode, length = stream.read1(), stream.read8()
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            scan.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            scan.channels[channel.id] = channel
        elif opcode == Opcode.MESSAGE:
            message = Message.read(stream, length)
            part.entries.setdefault(message.channel_id, []).append((message.log_time, offset))
            schema = scan.schemas[scan.channels[message.channel_id].schema_id]
            if starts_with_header(schema.data.decode()):
                try:
                    part.stamps.append(header_stamp_ns(message.data))
                except MessageError:
                    continue
        else:
            stream.read(length)


def _write_end(file: BinaryIO, scan: _Scan) -> None:
    last = scan.parts[-1]
    cut = last.index_end if last.indexed else last.end
    builder = RecordBuilder()
    if not last.indexed:
        last.index_offsets = {}
        for channel, entries in last.entries.items():
            last.index_offsets[channel] = cut + builder.count
            MessageIndex(channel, entries).write(builder)
        last.index_end = cut + builder.count
    DataEnd(0).write(builder)
    summary_start = cut + builder.count
    for schema in scan.schemas.values():
        schema.write(builder)
    for record in scan.channels.values():
        record.write(builder)
    counts = _counts(scan)
    Statistics(
        attachment_count=0, channel_count=len(scan.channels), channel_message_counts=counts,
        chunk_count=len(scan.parts), message_count=sum(counts.values()),
        message_start_time=min(part.chunk.message_start_time for part in scan.parts),
        message_end_time=max(part.chunk.message_end_time for part in scan.parts),
        metadata_count=scan.metadata, schema_count=len(scan.schemas)).write(builder)
    for part in scan.parts:
        ChunkIndex(
            chunk_length=part.end - part.start, chunk_start_offset=part.start,
            compression=part.chunk.compression,
            compressed_size=part.end - part.start - _chunk_overhead(part.chunk),
            message_end_time=part.chunk.message_end_time,
            message_index_length=part.index_end - part.end,
            message_index_offsets=part.index_offsets,
            message_start_time=part.chunk.message_start_time,
            uncompressed_size=part.chunk.uncompressed_size).write(builder)
    # The CRC of the summary is optional, and 0 says that there is none.
    Footer(summary_start=summary_start, summary_offset_start=0, summary_crc=0).write(builder)
    file.truncate(cut)
    file.seek(cut)
    file.write(builder.end() + MCAP0_MAGIC)
    file.flush()
    os.fsync(file.fileno())


def _chunk_overhead(chunk: Chunk) -> int:
    """Bytes of a chunk record that are not its data: opcode, length and the fields before."""
    return _RECORD_HEADER + 8 + 8 + 8 + 4 + 4 + len(chunk.compression.encode()) + 8


def _counts(scan: _Scan) -> dict[int, int]:
    counts = dict.fromkeys(scan.channels, 0)
    for part in scan.parts:
        for channel, entries in part.entries.items():
            counts[channel] += len(entries)
    return counts


def _summary(scan: _Scan, topics: Mapping[str, str], file_name: str) -> BagSummary:
    counts = _counts(scan)
    found = {}
    for channel in scan.channels.values():
        schema = scan.schemas[channel.schema_id]
        text = schema.data.decode()
        found[topics[channel.topic]] = TopicStatistics(
            channel.topic, MessageSchema(
                schema.name, text, channel.metadata.get('topic_type_hash', ''),
                starts_with_header(text)), counts[channel.id],
            channel.metadata.get('offered_qos_profiles', ''))
    stamps = [stamp for part in scan.parts for stamp in part.stamps]
    return BagSummary(
        file_name=file_name, topics=found,
        first_log_ns=min(part.chunk.message_start_time for part in scan.parts),
        last_log_ns=max(part.chunk.message_end_time for part in scan.parts),
        first_stamp_ns=min(stamps, default=None), last_stamp_ns=max(stamps, default=None))
