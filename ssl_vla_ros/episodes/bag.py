# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""One MCAP file as rosbag2 writes it, with its metadata.yaml, and durable small files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import errno
import json
import os
from pathlib import Path
from typing import Any

from ssl_vla_ros.episodes.chunks import ChunkWriter
from ssl_vla_ros.episodes.schemas import MessageSchema
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns
import yaml

#: Name of the MCAP metadata record that embeds the robot contract in the bag itself.
CONTRACT_RECORD = 'ssl_vla_ros'
#: Stamps that span this much more or less than what was received say nothing of its length (s).
_ODD_S = 10.0
#: Bytes written between two requests to the system to bring them to the disk.
_PUSH_BYTES = 4 * 2**20


class _Plain(yaml.SafeDumper):
    """Writes equal values out: not every reader of metadata.yaml knows aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


#: Without end, as rmw writes it.
_FOREVER = {'sec': 9223372036, 'nsec': 854775807}
#: How ``ros2 bag play`` must offer a latched topic: whoever comes late gets its messages, too. Any
#: other topic has no profile, and is played reliable and volatile, which suits every subscriber.
_LATCHED = yaml.dump([{
    'history': 'keep_last', 'depth': 64, 'reliability': 'reliable',
    'durability': 'transient_local', 'deadline': _FOREVER, 'lifespan': _FOREVER,
    'liveliness': 'automatic', 'liveliness_lease_duration': _FOREVER,
    'avoid_ros_namespace_conventions': False}], Dumper=_Plain, sort_keys=False)


@dataclass
class TopicStatistics:
    """A topic of a bag as metadata.yaml lists it; ``qos`` is YAML, '' of one without a profile."""

    name: str
    schema: MessageSchema
    count: int = 0
    qos: str = ''


@dataclass
class BagSummary:
    """What metadata.yaml and episode.json say of an MCAP file."""

    file_name: str
    topics: dict[str, TopicStatistics]
    first_log_ns: int = 0
    last_log_ns: int = 0
    first_stamp_ns: int | None = None
    last_stamp_ns: int | None = None

    @property
    def message_count(self) -> int:
        """Messages in the file."""
        return sum(topic.count for topic in self.topics.values())

    def times(self) -> dict[str, Any]:
        """Give an episode.json's span: header stamps, or receive times where those cannot be."""
        first, last = self.first_stamp_ns, self.last_stamp_ns
        if (first is None or last is None) and self.message_count:
            first, last = self.first_log_ns, self.last_log_ns
        duration_s = 0.0 if first is None or last is None else (last - first) / 1e9
        received_s = (self.last_log_ns - self.first_log_ns) / 1e9
        # A single wrong stamp is no hour of recording.
        if abs(duration_s - received_s) > _ODD_S:
            duration_s = received_s
        return {'first_stamp_ns': first, 'last_stamp_ns': last, 'duration_s': duration_s}


class BagFile:
    """
    An MCAP file being written: profile ros2, CDR, chunks compressed one by one.

    Parameters
    ----------
    path
        The file, which must not exist.
    topics
        Each topic of the contract with its name in the bag and its schema.
    records
        Text to embed as the metadata record ``CONTRACT_RECORD``.
    compression
        One of ``chunks.COMPRESSIONS``.
    latched
        Topics whose last messages whoever comes late gets, too.

    """

    def __init__(self, path: Path, topics: Mapping[str, tuple[str, MessageSchema]],
                 records: Mapping[str, str], compression: str = 'zstd',
                 latched: Iterable[str] = ()) -> None:
        self.summary = BagSummary(path.name, {})
        self._channels: dict[str, int] = {}
        self._written = False
        self._on_its_way = 0
        self._stream = path.open('xb')
        try:
            self._writer = ChunkWriter(self._stream, compression)
            self._writer.start(profile='ros2', library='ssl_vla_ros')
            self._writer.add_metadata(CONTRACT_RECORD, dict(records))
            schemas: dict[str, int] = {}
            for topic, (bag_name, schema) in topics.items():
                if schema.name not in schemas:
                    schemas[schema.name] = self._writer.register_schema(
                        schema.name, 'ros2msg', schema.definition.encode())
                qos = _LATCHED if topic in latched else ''
                self.summary.topics[topic] = TopicStatistics(bag_name, schema, qos=qos)
                self._channels[topic] = self._writer.register_channel(
                    bag_name, 'cdr', schemas[schema.name],
                    {'offered_qos_profiles': qos, 'topic_type_hash': schema.type_hash})
        except BaseException:
            self._stream.close()
            raise

    def write(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int) -> None:
        """Append one serialized message."""
        summary = self.summary
        statistics = summary.topics[topic]
        self._writer.add_message(
            self._channels[topic], log_time=log_time_ns, data=cdr, publish_time=publish_time_ns,
            sequence=statistics.count)
        self._push()
        if not self._written:
            summary.first_log_ns = summary.last_log_ns = log_time_ns
        summary.first_log_ns = min(summary.first_log_ns, log_time_ns)
        summary.last_log_ns = max(summary.last_log_ns, log_time_ns)
        statistics.count += 1
        self._written = True
        if statistics.schema.stamped:
            self._note_stamp(cdr)

    def _push(self) -> None:
        # Have the system write now, without waiting, and forget what nobody reads again. Left to
        # gather until the sync, a second's pictures hold the writer up for 0.15 to 0.7 s.
        place = self._stream.tell()
        if place - self._on_its_way >= _PUSH_BYTES and hasattr(os, 'posix_fadvise'):
            self._on_its_way = place
            os.posix_fadvise(self._stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def _note_stamp(self, cdr: bytes) -> None:
        try:
            stamp = header_stamp_ns(cdr)
        except MessageError:
            return
        first, last = self.summary.first_stamp_ns, self.summary.last_stamp_ns
        self.summary.first_stamp_ns = stamp if first is None else min(first, stamp)
        self.summary.last_stamp_ns = stamp if last is None else max(last, stamp)

    def sync(self) -> None:
        """End the chunk and bring everything so far to the disk: readable after a power cut."""
        self._writer.flush()
        os.fsync(self._stream.fileno())

    def finish(self) -> None:
        """Write the index, bring it to the disk and close the file."""
        self._writer.finish()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()

    def abandon(self) -> None:
        """Close the file as it is, without an index; never raises for a full disk."""
        # Closing the buffered stream would try to write what is left; the raw file is enough.
        self._stream.raw.close()


def write_metadata(path: Path, summary: BagSummary) -> None:
    """Write rosbag2's metadata.yaml, version 9: ``ros2 bag info`` and ``play`` work."""
    start = {'nanoseconds_since_epoch': summary.first_log_ns}
    duration = {'nanoseconds': summary.last_log_ns - summary.first_log_ns}
    write_durably(path, yaml.dump({'rosbag2_bagfile_information': {
        'version': 9,
        'storage_identifier': 'mcap',
        'duration': duration,
        'starting_time': start,
        'message_count': summary.message_count,
        'topics_with_message_count': [{
            'topic_metadata': {
                'name': topic.name, 'type': topic.schema.name,
                'serialization_format': 'cdr',
                'offered_qos_profiles': yaml.safe_load(topic.qos) or [],
                'type_description_hash': topic.schema.type_hash},
            'message_count': topic.count} for topic in summary.topics.values()],
        'compression_format': '',
        'compression_mode': '',
        'relative_file_paths': [summary.file_name],
        'files': [{
            'path': summary.file_name, 'starting_time': dict(start),
            'duration': dict(duration), 'message_count': summary.message_count}],
        'custom_data': None,
        'ros_distro': os.environ.get('ROS_DISTRO', ''),
    }}, Dumper=_Plain, sort_keys=False))


def write_durably(path: Path, text: str) -> None:
    """Write a small file so that it is there whole or not at all, whenever the power goes."""
    temporary = path.with_name(f'{path.name}.new')
    with temporary.open('w', encoding='utf-8') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def reserve_room(path: Path, size: int) -> None:
    """
    Take room on the disk with an empty file, to be deleted when room is needed.

    Raises
    ------
    OSError
        If there is not that much. A file system that cannot reserve gives an empty file.

    """
    with path.open('xb') as stream:
        if not hasattr(os, 'posix_fallocate'):
            return
        try:
            os.posix_fallocate(stream.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """``write_durably`` for JSON, indented for human readers."""
    write_durably(path, json.dumps(data, indent=2, allow_nan=False) + '\n')


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk: a rename is not durable before that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
