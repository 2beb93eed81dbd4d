# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One chunk of an MCAP file, decompressed; of one that is cut off, what is left of it."""

from __future__ import annotations

import struct
from typing import BinaryIO
import zlib

from mcap.exceptions import UnsupportedCompressionError
from mcap.records import Chunk as ChunkRecord
from mcap.stream_reader import get_chunk_data_stream

from ssl_vla_ros.errors import EpisodeError
import zstandard

#: Message start and end, uncompressed size, CRC, length of the compression's name.
_HEAD = struct.Struct('<QQQII')
_LENGTH = struct.Struct('<Q')
#: No writer makes chunks like this: a damaged size would ask for any amount of memory.
_MAX_BYTES = 4 * 2**30


class DamageError(Exception):
    """The file is not what its writer left: cut off or altered."""


def read_chunk(file: BinaryIO, available: int, *, check: bool) -> tuple[memoryview, bool]:
    """
    Read the records of a chunk.

    Parameters
    ----------
    file
        Standing at the content of the chunk record.
    available
        Bytes of the record that the file has: less than the record's length where it is cut off.
    check
        Whether to hold the records against the chunk's CRC, where it has one.

    Returns
    -------
    tuple
        The records, and whether the file ends within the chunk: what is left of it cannot be
        checked, and the last record may be incomplete.

    Raises
    ------
    DamageError
        If the chunk is not what its writer left.
    EpisodeError
        If its compression is not installed.

    """
    try:
        _, _, size, crc, name = _HEAD.unpack(file.read(_HEAD.size))
        if name > available:
            raise DamageError(f'its compression has a name of {name} bytes')
        compression = file.read(name).decode()
        (length,) = _LENGTH.unpack(file.read(_LENGTH.size))
    except (struct.error, UnicodeDecodeError) as error:
        raise DamageError('its head is not that of a chunk') from error
    if size > _MAX_BYTES:
        raise DamageError(f'it says that it is {size} bytes long')
    left = available - _HEAD.size - name - _LENGTH.size
    data = file.read(max(min(length, left), 0))
    if length > left:
        return memoryview(_what_is_left(data, compression)), True
    records = _decompress(data, compression, size)
    if len(records) != size or check and crc and zlib.crc32(records) != crc:
        raise DamageError('it is not what its CRC and length say')
    return memoryview(records), False


def _decompress(data: bytes, compression: str, size: int) -> bytes:
    if not compression:
        return data
    try:
        if compression == 'zstd':
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        stream, length = get_chunk_data_stream(ChunkRecord(
            compression=compression, data=data, message_start_time=0, message_end_time=0,
            uncompressed_crc=0, uncompressed_size=size))
        return bytes(stream.read(length))
    except UnsupportedCompressionError as error:
        raise EpisodeError(
            f'chunks are compressed with {compression!r}, which cannot be read here; run: pip '
            f'install {compression}') from error
    except (RuntimeError, zstandard.ZstdError) as error:
        raise DamageError(f'it does not decompress: {error}') from error


def _what_is_left(data: bytes, compression: str) -> bytes:
    if compression == 'zstd':
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except zstandard.ZstdError:
            return b''
    return b'' if compression else data
