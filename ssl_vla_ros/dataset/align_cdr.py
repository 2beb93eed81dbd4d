# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
From serialized messages (CDR) to objects with the message's fields.

A definition is read once and becomes a chain of small readers. Arrays are read in one step and
bytes are never copied: a picture's pixels stay where they are, and joint states at 500 Hz cost
little. Numbers of an array come as a tuple, ``uint8[]`` as a view of the message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import re
import struct
from types import SimpleNamespace
from typing import Any

from ssl_vla_ros.episodes.schemas import full_type, short_type
from ssl_vla_ros.errors import EpisodeError

Decoder = Callable[[memoryview], Any]
_Read = Callable[['_Cursor'], Any]

_ENCAPSULATION = 4
_CODES = {
    'bool': '?', 'byte': 'B', 'char': 'b', 'int8': 'b', 'uint8': 'B', 'int16': 'h', 'uint16': 'H',
    'int32': 'i', 'uint32': 'I', 'int64': 'q', 'uint64': 'Q', 'float32': 'f', 'float64': 'd'}
_BYTES = ('byte', 'uint8')
# The type, the bound of a string, the brackets of an array, the name; then a default value.
_FIELD = re.compile(
    r'(?P<type>[A-Za-z][A-Za-z0-9_/]*)(<=\d+)?(?P<array>\[(?P<size>(<=)?\d*)\])?'
    r'\s+(?P<name>[A-Za-z][A-Za-z0-9_]*)\s*(?P<rest>.*)')


@dataclass
class _Cursor:
    """Where in a message the next reader stands; positions count from after the encapsulation."""

    data: memoryview
    order: str
    at: int = 0


def make_decoder(kind: str, definition: str, where: str) -> Decoder:
    """
    Make what decodes the messages of one type.

    Parameters
    ----------
    kind
        ``sensor_msgs/Image``, with or without ``/msg``.
    definition
        Its ros2msg text with every dependency.
    where
        For the error message.

    Raises
    ------
    EpisodeError
        If the definition lacks a type or cannot be understood.

    """
    parts = {short_type(full_type(name or kind)): text for name, text in _parts(definition)}
    try:
        read = _structure(short_type(full_type(kind)), parts)
    except (KeyError, ValueError, RecursionError) as error:
        raise EpisodeError(
            f'{where}: the definition of {kind} in it cannot be understood: {error!r}'
        ) from error

    def decode(data: memoryview) -> Any:
        if len(data) < _ENCAPSULATION or data[0] != 0:
            raise ValueError('it does not begin as CDR does')
        return read(_Cursor(data[_ENCAPSULATION:], '<' if data[1] & 1 else '>'))

    return decode


def field_names(definition: str) -> list[str]:
    """Names of a definition's own fields; empty for a text that is none."""
    matches = [_FIELD.fullmatch(line) for line in _parts(definition)[0][1]]
    return [match['name'] for match in matches
            if match is not None and not match['rest'].startswith('=')]


def _parts(definition: str) -> list[tuple[str, list[str]]]:
    """Type and lines of each part of a definition, without comments; the root's type is ''."""
    found: list[tuple[str, list[str]]] = [('', [])]
    for line in definition.splitlines():
        text = line.partition('#')[0].strip()
        if text.startswith('MSG:'):
            found.append((text.removeprefix('MSG:').strip(), []))
        elif text and not text.startswith('==='):
            found[-1][1].append(text)
    return found


def _structure(name: str, parts: dict[str, list[str]]) -> _Read:
    if name not in parts:
        raise ValueError(f'{name} is not defined')
    fields: list[tuple[str, _Read]] = []
    for line in parts[name]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise ValueError(f'{name} has the line {line!r}')
        if not match['rest'].startswith('='):  # else a constant, which is not in the message
            fields.append((match['name'], _field(match, name, parts)))
    if not fields:
        fields = [('structure_needs_at_least_one_member', _number('B'))]

    def read(cursor: _Cursor) -> Any:
        return SimpleNamespace(**{field: reader(cursor) for field, reader in fields})

    return read


def _field(match: re.Match[str], owner: str, parts: dict[str, list[str]]) -> _Read:
    kind, size = match['type'], match['size'] or ''
    read: _Read
    count = int(size) if size.isdigit() else None
    if kind in _CODES:
        if match['array'] is None:
            return _number(_CODES[kind])
        return _bytes(count) if kind in _BYTES else _numbers(_CODES[kind], count)
    if kind == 'string':
        read = _text
    elif kind == 'wstring':
        raise ValueError(f'{owner}.{match["name"]} is a wstring, which is not supported')
    else:
        package = owner.partition('/')[0]
        kind = 'std_msgs/Header' if kind == 'Header' else kind
        read = _structure(short_type(full_type(kind)) if '/' in kind else f'{package}/{kind}',
                          parts)
    return read if match['array'] is None else _sequence(read, count)


def _number(code: str) -> _Read:
    layouts = {order: struct.Struct(order + code) for order in '<>'}
    size = layouts['<'].size

    def read(cursor: _Cursor) -> Any:
        at = cursor.at + -cursor.at % size
        cursor.at = at + size
        return layouts[cursor.order].unpack_from(cursor.data, at)[0]

    return read


_length = _number('I')


def _numbers(code: str, count: int | None) -> _Read:
    size = struct.calcsize('<' + code)

    def read(cursor: _Cursor) -> Any:
        number = _length(cursor) if count is None else count
        if not number:
            return ()
        at = cursor.at + -cursor.at % size
        cursor.at = at + number * size
        return struct.unpack_from(f'{cursor.order}{number}{code}', cursor.data, at)

    return read


def _bytes(count: int | None) -> _Read:
    def read(cursor: _Cursor) -> Any:
        number = _length(cursor) if count is None else count
        at, cursor.at = cursor.at, cursor.at + number
        return cursor.data[at:cursor.at]

    return read


def _text(cursor: _Cursor) -> str:
    # The length counts the closing zero; some writers leave both away for an empty string.
    number = _length(cursor)
    at, cursor.at = cursor.at, cursor.at + number
    if cursor.at > len(cursor.data):
        raise ValueError('it ends within a string')
    return str(cursor.data[at:max(at, cursor.at - 1)], 'utf-8')


def _sequence(read_one: _Read, count: int | None) -> _Read:
    def read(cursor: _Cursor) -> Any:
        number = _length(cursor) if count is None else count
        if number > len(cursor.data):
            raise ValueError(f'it says that an array has {number} elements')
        return [read_one(cursor) for _ in range(number)]

    return read
