# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the aligner reads: messages by topic, and single ones again.

An episode of ours is one such recording, a rosbag2 that others recorded another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol


class Place(NamedTuple):
    """Where a message lies: which file, where in it, and where in the chunk there."""

    file: int
    chunk: int
    offset: int


class Message(NamedTuple):
    """A message while it passes; ``data`` (CDR) is good until the next is asked for."""

    topic: str
    log_time_ns: int
    place: Place
    data: memoryview


@dataclass(frozen=True)
class TopicInfo:
    """
    A topic as a file declares it.

    Attributes
    ----------
    name, type
        ``/joint_states`` and ``sensor_msgs/msg/JointState``; several types are joined by ``, ``.
    count
        Messages.
    encodings
        How the messages are serialized, by each who says so.
    definition
        The type in ros2msg with all it depends on; '' if the file has it not.

    """

    name: str
    type: str  # noqa: A003
    count: int
    encodings: tuple[str, ...]
    definition: str

    def joined(self, other: TopicInfo) -> TopicInfo:
        """Take another part of the same topic's messages into account."""
        kinds = [self.type] if self.type == other.type else [*self.type.split(', '), other.type]
        return replace(
            self, type=', '.join(dict.fromkeys(kinds)), count=self.count + other.count,
            encodings=tuple(dict.fromkeys((*self.encodings, *other.encodings))),
            definition=self.definition or other.definition)


class Inventory(Protocol):
    """
    Which topics a recording has.

    Attributes
    ----------
    path
        The recording, for error messages.

    """

    @property
    def path(self) -> Path:
        """Give the path."""
        ...

    def recorded(self) -> Mapping[str, str]:
        """List the topics there are, as the contract names them, with what to call each."""
        ...

    def type_of(self, topic: str) -> str:
        """Give a topic's type as contracts write it."""
        ...


class Recording(Inventory, Protocol):
    """A recording that can be aligned."""

    def messages(self, topics: Collection[str]) -> Iterator[Message]:
        """
        Read messages, each topic's in the order in which they were written.

        Raises
        ------
        UserError
            If the recording is broken.

        """
        ...

    def read(self, place: Place, topic: str) -> tuple[int, memoryview]:
        """
        Read one message again: receive time and data.

        Raises
        ------
        UserError
            If it is not there any more.

        """
        ...

    def definition(self, topic: str) -> str:
        """
        Give the ros2msg text of a topic's type, with all it depends on.

        Raises
        ------
        UserError
            If there is none.

        """
        ...
