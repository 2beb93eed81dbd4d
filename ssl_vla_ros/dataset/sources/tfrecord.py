# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
TFRecord files of ``tf.train.Example``, read without TensorFlow.

A record is its length (uint64), the checksum of that length, the data and the data's checksum,
all little-endian; checksums are CRC-32C, rotated and offset. An index is made from lengths alone,
so opening a file of many gigabytes costs one short read a record; a record's data is checked when
it is read. Nothing after a wrong length can be found again, everything before it can be used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
import os
from pathlib import Path
import struct
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import DatasetError

#: Length and its checksum before the data, the data's checksum behind.
_HEAD, _TAIL = 12, 4
_MASK = 0xA282EAD8
_GZIP = b'\x1f\x8b'
#: First bytes of a zlib stream with a window of 32 KiB, by its level.
_ZLIB = (b'\x78\x01', b'\x78\x5e', b'\x78\x9c', b'\x78\xda')

Values = NDArray[np.float32] | NDArray[np.int64] | list[bytes]


@dataclass(frozen=True)
class Record:
    """Where a record's data is, how long it is, and the checksum the file has for it."""

    path: Path
    index: int
    offset: int
    length: int
    crc: int

    @property
    def where(self) -> str:
        """For error messages."""
        return f'{self.path}: record {self.index}'


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord stores it."""
    crc = int(google_crc32c.value(data))
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


def index_records(path: Path) -> tuple[list[Record], str]:
    """
    Find the records of a file, without reading their data.

    Returns
    -------
    tuple
        The records, and what is wrong with the file after the last of them ('' if nothing is).

    Raises
    ------
    DatasetError
        If the file cannot be read or is no uncompressed TFRecord file.

    """
    found: list[Record] = []
    try:
        with path.open('rb', buffering=0) as file:
            size, start = os.fstat(file.fileno()).st_size, 0
            while start < size:
                head = os.pread(file.fileno(), _HEAD, start)
                where = f'record {len(found)} at byte {start}'
                if len(head) < _HEAD:
                    return found, f'{where} is cut off: {len(head)} bytes are there'
                length, crc = struct.unpack('<QI', head)
                if masked_crc(head[:8]) != crc:
                    if not found:
                        raise DatasetError(f'{path}: {_not_a_record(head)}')
                    return found, (f'{where} has a wrong checksum of its length: it and all '
                                   'after it cannot be read')
                end = start + _HEAD + length + _TAIL
                if end > size:
                    return found, (f'{where} is cut off: it has {end - start} bytes, '
                                   f'{size - start} are there')
                tail = os.pread(file.fileno(), _TAIL, end - _TAIL)
                found.append(Record(path, len(found), start + _HEAD, length,
                                    struct.unpack('<I', tail)[0]))
                start = end
    except OSError as error:
        raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error
    return found, ''


def _not_a_record(head: bytes) -> str:
    for name, magic in (('gzip', (_GZIP,)), ('zlib', _ZLIB)):
        if head.startswith(magic):
            return (f'is compressed as a whole with {name}, so no episode in it can be found '
                    'without unpacking all before it; unpack the file first')
    return 'is no TFRecord file: the checksum of its first length is wrong'


def read_record(record: Record) -> bytes:
    """
    Read a record's data.

    Raises
    ------
    DatasetError
        If the file is not as it was indexed, or the data does not fit its checksum.

    """
    try:
        with record.path.open('rb') as file:
            file.seek(record.offset)
            data = file.read(record.length)
    except OSError as error:
        raise DatasetError(f'{record.path}: cannot read it: {error.strerror}') from error
    if len(data) != record.length:
        raise DatasetError(f'{record.where}: has {len(data)} of its {record.length} bytes: the '
                           'file became shorter while it was read')
    if masked_crc(data) != record.crc:
        raise DatasetError(f'{record.where}: the data does not fit its checksum')
    return data


@cache
def _example_class() -> Any:
    """``tf.train.Example``, described here so that no generated code is needed."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name='ssl_vla_ros/example.proto', package='ssl_vla_ros.example', syntax='proto3')

    def declare(into: Any, name: str, *fields: tuple[str, int, bool, str]) -> Any:
        into.name = name
        for number, (label, kind, repeated, other) in enumerate(fields, 1):
            into.field.add(
                name=label, number=number, type=kind,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type_name=f'.{file.package}.{other}' if other else None)
        return into

    for name, kind in (('BytesList', field.TYPE_BYTES), ('FloatList', field.TYPE_FLOAT),
                       ('Int64List', field.TYPE_INT64)):
        declare(file.message_type.add(), name, ('value', kind, True, ''))
    kinds = declare(
        file.message_type.add(), 'Feature',
        ('bytes_list', field.TYPE_MESSAGE, False, 'BytesList'),
        ('float_list', field.TYPE_MESSAGE, False, 'FloatList'),
        ('int64_list', field.TYPE_MESSAGE, False, 'Int64List'))
    kinds.oneof_decl.add(name='kind')
    for one in kinds.field:
        one.oneof_index = 0
    features = declare(file.message_type.add(), 'Features',
                       ('feature', field.TYPE_MESSAGE, True, 'Features.FeatureEntry'))
    entry = declare(features.nested_type.add(), 'FeatureEntry',
                    ('key', field.TYPE_STRING, False, ''),
                    ('value', field.TYPE_MESSAGE, False, 'Feature'))
    entry.options.map_entry = True
    declare(file.message_type.add(), 'Example',
            ('features', field.TYPE_MESSAGE, False, 'Features'))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f'{file.package}.Example'))


class Example(Mapping[str, Values]):
    """
    The features of one ``tf.train.Example``, converted when they are asked for.

    Numbers come as a flat float32 or int64 array, bytes as a list; a feature without a kind is an
    empty list.

    Raises
    ------
    DatasetError
        If ``data`` is no Example.

    """

    def __init__(self, data: bytes, where: str) -> None:
        try:
            self._features = _example_class().FromString(data).features.feature
        except message.DecodeError as error:
            raise DatasetError(f'{where}: is no tf.train.Example: {error}') from error

    def __getitem__(self, key: str) -> Values:
        if key not in self._features:
            raise KeyError(key)
        feature = self._features[key]
        kind = feature.WhichOneof('kind')
        if kind == 'float_list':
            return np.array(feature.float_list.value, dtype=np.float32)
        if kind == 'int64_list':
            return np.array(feature.int64_list.value, dtype=np.int64)
        return list(feature.bytes_list.value)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._features))

    def __len__(self) -> int:
        return len(self._features)

    def kind(self, key: str) -> str:
        """``bytes``, ``float``, ``int64``, or '' for a feature without values of any kind."""
        found: str | None = self._features[key].WhichOneof('kind')
        return (found or '').removesuffix('_list')

    def count(self, key: str) -> int:
        """How many values a feature has; they are not converted."""
        found: str | None = self._features[key].WhichOneof('kind')
        return len(getattr(self._features[key], found).value) if found else 0
