# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Message definitions as bags carry them, read from the installed message packages.

A bag must be readable without the packages it was recorded with: it carries each definition with
all it depends on (``ros2msg``, the format of rosbag2 and Foxglove) and the type's RIHS01 hash.
"""

from __future__ import annotations

from dataclasses import dataclass
import functools
import json
import os
from pathlib import Path
import re
import sys

from ssl_vla_ros.errors import EpisodeError

_BASIC = frozenset((
    'bool', 'byte', 'char', 'float32', 'float64', 'int8', 'uint8', 'int16', 'uint16', 'int32',
    'uint32', 'int64', 'uint64', 'string', 'wstring'))
_RULE = '=' * 80
# A field or a constant: the type, its array and bound suffixes, and the name.
_FIELD = re.compile(r'^(?P<type>[A-Za-z][A-Za-z0-9_/]*)[^\s]*\s+[A-Za-z]')


@dataclass(frozen=True)
class MessageSchema:
    """
    One message type.

    Attributes
    ----------
    name
        The full name, ``sensor_msgs/msg/Image``.
    definition
        The ros2msg text with every dependency.
    type_hash
        ``RIHS01_…``, or '' if the package does not ship it (before Iron).
    stamped
        Whether the first field is a header, so that the stamp can be read from the bytes.

    """

    name: str
    definition: str
    type_hash: str
    stamped: bool


def full_type(name: str) -> str:
    """``sensor_msgs/Image`` and ``sensor_msgs/msg/Image`` alike as the latter."""
    package, _, rest = name.partition('/')
    return f'{package}/msg/{rest.rpartition("/")[2]}'


def short_type(name: str) -> str:
    """``sensor_msgs/Image``, as robot contracts write it."""
    package, _, rest = name.partition('/')
    return f'{package}/{rest.rpartition("/")[2]}'


def share_directories() -> list[Path]:
    """Where message packages are looked for: the ament prefixes, then this environment."""
    prefixes = [prefix for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
                if prefix]
    return [Path(prefix) / 'share' for prefix in (*prefixes, sys.prefix)]


def message_schema(name: str) -> MessageSchema:
    """
    Find the schema of a message type.

    Parameters
    ----------
    name
        ``pkg/Type`` or ``pkg/msg/Type``.

    Raises
    ------
    EpisodeError
        If the type, or one it depends on, is not installed.

    """
    return _message_schema(full_type(name), tuple(share_directories()))


@functools.cache
def _message_schema(name: str, shares: tuple[Path, ...]) -> MessageSchema:
    path = _find(name, shares, asked_by='')
    root = path.read_text(encoding='utf-8')
    seen = {short_type(name)}
    parts = [root]
    pending = _dependencies(root, short_type(name))
    for dependency in pending:
        if dependency in seen:
            continue
        seen.add(dependency)
        text = _find(full_type(dependency), shares, asked_by=name).read_text(encoding='utf-8')
        parts.append(f'{_RULE}\nMSG: {dependency}\n{text}')
        pending.extend(_dependencies(text, dependency))
    return MessageSchema(
        name=name, definition='\n'.join(part.rstrip('\n') + '\n' for part in parts),
        type_hash=_type_hash(path.with_suffix('.json'), name),
        stamped=starts_with_header(root))


@functools.lru_cache(maxsize=64)
def starts_with_header(definition: str) -> bool:
    """Whether the first field of a definition is the header, so that bytes start with it."""
    fields = _fields(definition)
    return bool(fields) and fields[0] in ('std_msgs/Header', 'std_msgs/msg/Header')


def _find(name: str, shares: tuple[Path, ...], asked_by: str) -> Path:
    package, _, kind = name.split('/')
    for share in shares:
        path = share / package / 'msg' / f'{kind}.msg'
        if path.is_file():
            return path
    needed = f', which {asked_by} needs,' if asked_by else ''
    raise EpisodeError(
        f'message type {short_type(name)}{needed} is not installed (no share/{package}/msg/'
        f'{kind}.msg in {", ".join(str(share.parent) for share in shares)}); install the package '
        f'{package} or source the ROS setup file that has it')


def _fields(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        match = _FIELD.match(line.partition('#')[0].strip())
        if match:
            found.append(match['type'])
    return found


def _dependencies(text: str, owner: str) -> list[str]:
    package = owner.partition('/')[0]
    return [short_type(kind) if '/' in kind else f'{package}/{kind}'
            for kind in _fields(text) if kind not in _BASIC]


def _type_hash(path: Path, name: str) -> str:
    if not path.is_file():
        return ''
    data = json.loads(path.read_text(encoding='utf-8'))
    return next((str(item['hash_string']) for item in data['type_hashes']
                 if item['type_name'] == name), '')
