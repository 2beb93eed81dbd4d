# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""TFRecord files and ``tf.train.Example`` by hand: no library that the package reads them with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import json
from pathlib import Path
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

REAL = Path(__file__).parents[2] / 'shared' / 'data' / 'rlds_widowx_bridge'
Features = Mapping[str, Sequence[bytes] | NDArray[Any]]


def _table() -> list[int]:
    found = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return found


_CRC = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), a byte at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)


def record(data: bytes) -> bytes:
    """Frame one record."""
    length = struct.pack('<Q', len(data))
    return length + _masked(length) + data + _masked(data)


def frames(content: bytes) -> Iterator[bytes]:
    """Yield the data of each record, checksums unread."""
    while content:
        (length,) = struct.unpack_from('<Q', content)
        yield content[12:12 + length]
        content = content[16 + length:]


def _varint(value: int) -> bytes:
    value %= 2**64
    found = b''
    while value >= 0x80:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def example(features: Features) -> bytes:
    """Serialize a ``tf.train.Example``: lists are bytes, arrays floats or whole numbers."""
    entries = b''
    for key, values in features.items():
        if not isinstance(values, np.ndarray):
            kind, content = 1, b''.join(_field(1, bytes(value)) for value in values)
        elif values.dtype.kind == 'f':
            kind, content = 2, _field(1, values.astype('<f4').tobytes())
        else:
            kind, content = 3, _field(1, b''.join(_varint(int(value)) for value in values.flat))
        entries += _field(1, _field(1, key.encode()) + _field(2, _field(kind, content)))
    return _field(1, entries)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        assert tag & 7 == 2, 'an Example has fields with a length alone'
        length, at = _read_varint(data, at)
        yield tag >> 3, data[at:at + length]
        at += length


def walk(data: bytes) -> dict[str, list[bytes] | NDArray[Any]]:
    """Read a ``tf.train.Example`` whose numbers are packed."""
    found: dict[str, list[bytes] | NDArray[Any]] = {}
    for _, features in _fields(data):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            for kind, content in _fields(parts[2]):
                values = [value for _, value in _fields(content)]
                if kind == 1:
                    found[parts[1].decode()] = values
                elif kind == 2:
                    found[parts[1].decode()] = np.frombuffer(b''.join(values), '<f4')
                else:
                    packed, at, numbers = b''.join(values), 0, []
                    while at < len(packed):
                        number, at = _read_varint(packed, at)
                        numbers.append(number - 2**64 if number >= 2**63 else number)
                    found[parts[1].decode()] = np.array(numbers, dtype=np.int64)
    return found


def encoded(image: NDArray[Any], suffix: str = '.png') -> bytes:
    """Encode an RGB or grey picture."""
    done, data = cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image)
    assert done
    return data.tobytes()


def picture(episode: int, step: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """Draw a picture that no other step has."""
    image = np.full((height, width, 3), 20 + 10 * step, dtype=np.uint8)
    image[:8, :, 0] = 30 + 5 * episode
    return image


def episode(number: int, steps: int = 5, **changes: Any) -> dict[str, Any]:
    """Features of a faultless episode; ``changes`` replace some, '__' stands for a slash."""
    rng = np.random.default_rng(number)
    counts = np.arange(steps)
    features: dict[str, Any] = {
        'steps/observation/state': rng.normal(size=steps * 3).astype(np.float32),
        'steps/observation/image': [encoded(picture(number, step)) for step in range(steps)],
        'steps/action': rng.normal(size=steps * 2).astype(np.float32),
        'steps/language_instruction': [b'open the drawer'] * steps,
        'steps/is_first': (counts == 0).astype(np.int64),
        'steps/is_last': (counts == steps - 1).astype(np.int64),
        'steps/is_terminal': (counts == steps - 1).astype(np.int64),
        'steps/reward': np.zeros(steps, np.float32),
        'steps/discount': np.ones(steps, np.float32),
        'episode_metadata/file_path': [b'/somewhere']}
    features |= {key.replace('__', '/'): value for key, value in changes.items()}
    return {key: value for key, value in features.items() if value is not None}


def write(path: Path, *episodes: Mapping[str, Any]) -> Path:
    """Write a shard."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b''.join(record(example(features)) for features in episodes))
    return path


def shard(root: Path, number: int = 0, total: int = 1, split: str = 'train') -> Path:
    """Name a shard as TFDS does."""
    return root / f'toy-{split}.tfrecord-{number:05d}-of-{total:05d}'


def write_features(root: Path, **shapes: list[int]) -> None:
    """Write a features.json of TFDS's form; an image has three sides."""
    steps: dict[str, Any] = {}
    for key, sides in shapes.items():
        *parents, leaf = key.split('__')
        into = steps
        for parent in parents:
            into = into.setdefault(parent, {'featuresDict': {'features': {}}})
            into = into['featuresDict']['features']
        shape = {'dimensions': [str(side) for side in sides]} if sides else {}
        kind = 'image' if len(sides) == 3 else 'tensor'
        into[leaf] = {kind: {'shape': shape, 'dtype': 'float32'}}
    (root / 'features.json').write_text(json.dumps({'featuresDict': {'features': {
        'steps': {'sequence': {'feature': {'featuresDict': {'features': steps}}}}}}}))
