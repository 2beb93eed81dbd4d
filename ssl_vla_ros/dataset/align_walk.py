# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The records of an MCAP file in the order of the file, up to its end or the first damage."""

from __future__ import annotations

from collections.abc import Collection, Iterator
import io
import struct
from typing import Any, BinaryIO

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Schema
from mcap.summary import Summary

from ssl_vla_ros.dataset.align_chunk import DamageError, read_chunk
from ssl_vla_ros.dataset.align_recording import Place

MAGIC = b'\x89MCAP0\r\n'
#: Opcode and length, which every record begins with.
RECORD = struct.Struct('<BQ')
#: Channel, sequence, log time and publish time, which every message begins with.
MESSAGE = struct.Struct('<HIQQ')
#: Messages outside of chunks have this for the chunk of their place.
NO_CHUNK = -1

Found = tuple[Place, Channel, int, memoryview]


class Walk:
    """
    A way through a file.

    Attributes
    ----------
    channels, schemas
        Those met so far, by their numbers in the file.

    """

    def __init__(self) -> None:
        self.channels: dict[int, Channel] = {}
        self.schemas: dict[int, Schema] = {}

    def learn(self, summary: Summary) -> None:
        """Take channels and schemas from where they are repeated at the end."""
        self.channels.update(summary.channels)
        self.schemas.update(summary.schemas)

    def through(self, file: BinaryIO, size: int, skip: Collection[int],
                topics: Collection[str] | None) -> Iterator[Found]:
        """
        Yield the messages of a file.

        Parameters
        ----------
        file
            Open at its beginning.
        size
            Its length in bytes.
        skip
            Where chunks begin that need not be looked into.
        topics
            Which messages are wanted; None: all.

        Raises
        ------
        DamageError
            Where the file is cut off or altered.

        """
        file.seek(len(MAGIC))
        where_cut = f'it is cut off at byte {size}'
        while True:
            start = file.tell()
            head = file.read(RECORD.size)
            if len(head) < RECORD.size:
                raise DamageError(f'it ends at byte {size} without the end that MCAP files have')
            opcode, length = RECORD.unpack(head)
            end = start + RECORD.size + length
            cut = end > size
            if opcode == Opcode.FOOTER and not cut:
                file.seek(end)
                if file.read(len(MAGIC) + 1) == MAGIC:
                    return
                raise DamageError(f'it ends at byte {size} without the end that MCAP files have')
            if opcode == Opcode.CHUNK and start not in skip:
                try:
                    records, incomplete = read_chunk(
                        file, min(end, size) - file.tell(), check=True)
                except DamageError as error:
                    raise DamageError(f'{where_cut}, within a chunk' if cut else
                                      f'the chunk at byte {start} is damaged: {error}') from error
                yield from self._messages_of(records, incomplete, start, topics)
            elif opcode == Opcode.MESSAGE and not cut:
                message = self._message(file.read(length), topics)
                if message is not None:
                    yield (Place(0, NO_CHUNK, start), *message)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL) and not cut:
                self._define(opcode, file.read(length))
            if cut:
                raise DamageError(f'{where_cut}, within a record')
            file.seek(end)

    def _messages_of(self, records: memoryview, incomplete: bool, start: int,
                     topics: Collection[str] | None
                     ) -> Iterator[Found]:
        offset = 0
        while offset + RECORD.size <= len(records):
            opcode, length = RECORD.unpack_from(records, offset)
            body = offset + RECORD.size
            if body + length > len(records):
                break
            if opcode == Opcode.MESSAGE:
                message = self._message(records[body:body + length], topics)
                if message is not None:
                    yield (Place(0, start, offset), *message)
            elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL):
                self._define(opcode, bytes(records[body:body + length]))
            offset = body + length
        if offset != len(records) and not incomplete:
            raise DamageError(f'the chunk at byte {start} ends within a record')

    def _message(self, record: bytes | memoryview, topics: Collection[str] | None
                 ) -> tuple[Channel, int, memoryview] | None:
        number, _, log_time_ns, _ = MESSAGE.unpack_from(record)
        channel = self.channels.get(number)
        if channel is None:
            raise DamageError(f'a message belongs to channel {number}, which is not declared')
        if topics is not None and channel.topic not in topics:
            return None
        return channel, log_time_ns, memoryview(record)[MESSAGE.size:]

    def _define(self, opcode: int, record: bytes) -> None:
        stream: Any = ReadDataStream(io.BytesIO(record))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self.schemas[schema.id] = schema
        else:
            channel = Channel.read(stream)
            self.channels[channel.id] = channel
