# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Bags as other recorders write them, of the messages of a ``Recording``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
import sqlite3
from typing import Any

from dataset_episodes import Recording
from mcap.writer import CompressionType, IndexType, Writer

from ssl_vla_ros.episodes.schemas import full_type, message_schema
import yaml
import zstandard

Messages = Sequence[tuple[int, str, bytes]]
_TOPICS = ('CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, '
           'serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)')
_MESSAGES = ('CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, '
             'timestamp INTEGER NOT NULL, data BLOB NOT NULL)')
_DEFINITIONS = ('CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, '
                'encoding TEXT, encoded_message_definition TEXT, type_description_hash TEXT)')


def write_mcap(path: Path, recording: Recording, messages: Messages | None = None, *,
               compression: CompressionType = CompressionType.ZSTD, chunk_size: int = 20_000,
               use_chunking: bool = True, index: bool = True, summary: bool = True,
               encoding: str = 'cdr', schemas: bool = True) -> Path:
    """Write an MCAP file, whole or without what a reader might count on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as stream:
        writer = Writer(
            stream, compression=compression, chunk_size=chunk_size, use_chunking=use_chunking,
            index_types=IndexType.ALL if index else IndexType.NONE, use_statistics=summary,
            use_summary_offsets=summary, repeat_channels=summary, repeat_schemas=summary)
        writer.start(profile='ros2', library='someone else')
        channels = {}
        for topic, kind in recording.contract.topics().items():
            schema = message_schema(kind)
            number = writer.register_schema(
                schema.name, 'ros2msg' if schemas else '', schema.definition.encode())
            channels[topic] = writer.register_channel(f'/{topic}', encoding, number)
        for received, topic, data in sort(recording.messages if messages is None else messages):
            writer.add_message(channels[topic], received, data, received)
        writer.finish()
    return path


def write_sqlite(path: Path, recording: Recording, messages: Messages | None = None, *,
                 definitions: bool = False, compress: bool = False, encoding: str = 'cdr') -> Path:
    """Write a sqlite3 file as rosbag2 does, before Iron or since."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packer = zstandard.ZstdCompressor()
    with closing(sqlite3.connect(path)) as base:
        base.execute(_TOPICS)
        base.execute(_MESSAGES)
        base.execute('CREATE INDEX timestamp_idx ON messages (timestamp ASC)')
        if definitions:
            base.execute(_DEFINITIONS)
        numbers = {}
        for number, (topic, kind) in enumerate(recording.contract.topics().items(), 1):
            numbers[topic] = number
            base.execute('INSERT INTO topics VALUES (?, ?, ?, ?, ?)',
                         (number, f'/{topic}', full_type(kind), encoding, ''))
            if definitions:
                base.execute(
                    'INSERT INTO message_definitions VALUES (?, ?, ?, ?, ?)',
                    (number, full_type(kind), 'ros2msg', message_schema(kind).definition, ''))
        for received, topic, data in sort(recording.messages if messages is None else messages):
            base.execute(
                'INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)',
                (numbers[topic], received, packer.compress(data) if compress else data))
        base.commit()
    return path


def write_metadata(folder: Path, recording: Recording, files: Iterable[Path], **changes: Any
                   ) -> Path:
    """Write a metadata.yaml; ``changes`` replace keys of it, ``counts`` numbers of messages."""
    counts = dict.fromkeys(recording.contract.topics(), 0)
    for _, topic, _ in recording.messages:
        counts[topic] += 1
    counts |= changes.pop('counts', {})
    encoding = changes.pop('encoding', 'cdr')
    path = folder / 'metadata.yaml'
    path.write_text(yaml.safe_dump({'rosbag2_bagfile_information': {
        'version': 5, 'storage_identifier': 'any', 'message_count': sum(counts.values()),
        'compression_format': '', 'compression_mode': '',
        'relative_file_paths': [file.name for file in files],
        'topics_with_message_count': [
            {'topic_metadata': {'name': f'/{topic}', 'type': full_type(kind),
                                'serialization_format': encoding, 'offered_qos_profiles': ''},
             'message_count': counts[topic]}
            for topic, kind in recording.contract.topics().items()]} | changes}))
    return path


def pack(path: Path) -> Path:
    """Compress a file as rosbag2's file mode does, and remove the plain one."""
    packed = path.with_name(path.name + '.zstd')
    packed.write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
    path.unlink()
    return packed


def sort(messages: Messages) -> list[tuple[int, str, bytes]]:
    """By receive time."""
    return sorted(messages, key=lambda item: item[0])


def split(recording: Recording, at_ns: int) -> tuple[Messages, Messages]:
    """Messages received before a moment, and from it on."""
    return ([item for item in recording.messages if item[0] < at_ns],
            [item for item in recording.messages if item[0] >= at_ns])
