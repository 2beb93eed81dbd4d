# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""An episode of ours as the aligner reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ssl_vla_ros.dataset.align_mcap import McapFile
from ssl_vla_ros.dataset.align_recording import Message, Place, TopicInfo
from ssl_vla_ros.episodes import session as sessions
from ssl_vla_ros.episodes.reader import Episode
from ssl_vla_ros.episodes.schemas import short_type
from ssl_vla_ros.errors import EpisodeError


class EpisodeRecording:
    """
    A finished episode.

    Parameters
    ----------
    episode
        The episode; its file must be whole.

    Raises
    ------
    EpisodeError
        If its file cannot be read.

    """

    def __init__(self, episode: Episode) -> None:
        self.path = episode.path
        self._names: dict[str, str] = dict(episode.info['topics'])
        self._file = McapFile(_file_of(episode))
        self._topics = self._file.topics()
        self._whole()

    def recorded(self) -> Mapping[str, str]:
        """List its topics."""
        return {topic: topic for topic in self._names}

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """Read it from end to end; raises EpisodeError where it is damaged."""
        ours = {self._names[topic]: topic for topic in topics}
        for message in self._file.messages(ours):
            yield message._replace(topic=ours[message.topic])
        self._whole()

    def _whole(self) -> None:
        if self._file.damage:
            raise EpisodeError(
                f'{self._file.path}: cannot be read: {self._file.damage}; if the disk is sound, '
                'record this episode again')

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """Read one message again."""
        return self._file.read(place, self._names[topic])

    def type_of(self, topic: str) -> str:
        """Give a topic's type."""
        return short_type(self._info(topic).type)

    def definition(self, topic: str) -> str:
        """Give the definition that was recorded with a topic."""
        info = self._info(topic)
        if not info.definition or info.encodings != ('cdr',):
            raise EpisodeError(
                f'{self._file.path}: {topic} is {", ".join(info.encodings)} '
                f'{"with" if info.definition else "without"} a ros2msg schema; only cdr with '
                'ros2msg can be decoded')
        return info.definition

    def _info(self, topic: str) -> TopicInfo:
        info = self._topics.get(self._names[topic])
        if info is None:
            raise EpisodeError(
                f'{self._file.path}: has no channel for {topic}, which episode.json lists')
        return info


def _file_of(episode: Episode) -> Path:
    file = episode.path / sessions.mcap_name(episode.info['episode'])
    # A directory that the user renamed still has the file, under its first name.
    return file if file.is_file() else next(iter(episode.path.glob('*.mcap')), file)
