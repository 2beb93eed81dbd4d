# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A rosbag2 as the aligner reads it: all files of a bag as one recording."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.align_recording import Message, Place, TopicInfo
from ssl_vla_ros.dataset.aligned import stream_labels
from ssl_vla_ros.dataset.sources.rosbag2_files import open_file, Scratch
from ssl_vla_ros.dataset.sources.rosbag2_find import BagFiles
from ssl_vla_ros.dataset.sources.rosbag2_types import choose_definition
from ssl_vla_ros.episodes.schemas import short_type
from ssl_vla_ros.errors import DatasetError, EpisodeError
import zstandard

#: What a message that is compressed on its own begins with; CDR begins with a zero.
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'


class BagTopics:
    """
    The topics of a bag by the names that a contract gives them.

    Parameters
    ----------
    files
        Where the bag lies.
    topics
        What there is, by the topics' names in the bag.
    contract
        Without one topics have the names that they have in the bag.

    Attributes
    ----------
    path
        The bag's folder, or its only file.

    """

    def __init__(self, files: BagFiles, topics: Mapping[str, TopicInfo],
                 contract: Contract | None) -> None:
        self.path = files.place
        self.topics = dict(topics)
        self._about = files
        self._names = _resolve(self.topics, contract)

    def recorded(self) -> Mapping[str, str]:
        """List the topics of the bag by the names that the contract gives them."""
        found = {wanted: _said(self.topics[name]) for wanted, name in self._names.items()}
        others = self.topics.keys() - set(self._names.values())
        return found | {name: _said(info) for name, info in self.topics.items() if name in others}

    def type_of(self, topic: str) -> str:
        """Give a topic's type; several, if the bag has several under this name."""
        return _types(self.topics[self._names[topic]])

    def require_cdr(self, contract: Contract) -> None:
        """
        Refuse a bag whose messages cannot be decoded.

        Raises
        ------
        DatasetError
            Naming topic and serialization.

        """
        for label, _, source in stream_labels(contract):
            name = self._names.get(source.topic)
            if name is None:
                continue
            said = [*self.topics[name].encodings, self._about.formats.get(name, 'cdr')]
            wrong = [item for item in said if item != 'cdr']
            if wrong:
                raise DatasetError(
                    f'{self.path}: {label} needs {name}, which is serialized as {wrong[0]!r}; '
                    'only cdr can be read: run ros2 bag convert first')


class Bag(BagTopics):
    """
    One bag, opened.

    Parameters
    ----------
    files
        Where it lies.
    contract
        Whose topics are wanted.

    Attributes
    ----------
    remarks
        After ``messages`` has ended: what of the bag could not be read, and what differs from its
        metadata.

    Raises
    ------
    DatasetError
        If the bag is known to be incomplete.
    EpisodeError
        If a file cannot be read.

    """

    def __init__(self, files: BagFiles, contract: Contract | None = None) -> None:
        if files.problem:
            raise DatasetError(files.problem)
        # The files may lie in there, so it must live as long as they are read.
        self._scratch = Scratch()
        self._files = [open_file(path, self._scratch) for path in files.files]
        super().__init__(files, join_topics(opened.topics() for opened in self._files), contract)
        self.remarks: list[str] = []

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """
        Read every file; what is missing is told in ``remarks``.

        Raises
        ------
        EpisodeError
            If a file is damaged so that nobody knows what is missing.

        """
        wanted: dict[str, list[str]] = {}
        for topic in topics:
            wanted.setdefault(self._names[topic], []).append(topic)
        read = dict.fromkeys(wanted, 0)
        self.remarks = []
        for number, opened in enumerate(self._files):
            for message in opened.messages(wanted):
                read[message.topic] += 1
                place, data = message.place._replace(file=number), self._plain(message.data)
                for topic in wanted[message.topic]:
                    yield message._replace(topic=topic, place=place, data=data)
            if opened.damage:
                self.remarks.append(f'{opened.path} is not whole: {opened.damage}; what comes '
                                    'before that was used')
        for name, count in read.items():
            said = self._about.counts.get(name, count)
            if said != count:
                self.remarks.append(f'{self.path}: metadata.yaml says {said} messages of {name}, '
                                    f'the files have {count}')

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """Read one message again."""
        log_time_ns, data = self._files[place.file].read(place, self._names[topic])
        return log_time_ns, self._plain(data)

    def definition(self, topic: str) -> str:
        """Give the definition of a topic's type."""
        info = self.topics[self._names[topic]]
        return choose_definition(info.type, info.definition, str(self.path))

    def _plain(self, data: memoryview) -> memoryview:
        """Decompress a message, if it is compressed on its own."""
        if bytes(data[:4]) != _ZSTD_MAGIC:
            return data
        unpacker = zstandard.ZstdDecompressor().decompressobj()
        try:
            plain = unpacker.decompress(data)
        except zstandard.ZstdError as error:
            raise EpisodeError(
                f'{self.path}: a message does not decompress with zstd: {error}') from error
        if not unpacker.eof:
            raise EpisodeError(f'{self.path}: a message does not decompress with zstd: it is cut '
                               'off')
        return memoryview(plain)


def join_topics(parts: Iterable[Mapping[str, TopicInfo]]) -> dict[str, TopicInfo]:
    """Take the topics of several files together."""
    found: dict[str, TopicInfo] = {}
    for part in parts:
        for name, info in part.items():
            found[name] = found[name].joined(info) if name in found else info
    return found


def normal_name(topic: str) -> str:
    """Give a topic's name as it is written with all that is relative resolved at the root."""
    return '/' + topic.lstrip('~/')


def _resolve(topics: Mapping[str, TopicInfo], contract: Contract | None) -> dict[str, str]:
    """Find which of the bag's topics each of the contract's is."""
    if contract is None:
        return {name: name for name in topics}
    normal = {normal_name(name): name for name in topics}
    found = {}
    for topic in contract.topics():
        name = topic if topic in topics else normal.get(normal_name(topic))
        if name is not None:
            found[topic] = name
    return found


def _types(info: TopicInfo) -> str:
    return ', '.join(short_type(kind) for kind in info.type.split(', '))


def _said(info: TopicInfo) -> str:
    return f'{info.name} ({_types(info)}, {info.count})'
