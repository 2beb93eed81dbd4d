# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How the recorder subscribes to the topics of a contract."""

from __future__ import annotations

from dataclasses import dataclass
import importlib
from typing import Any

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.episodes.schemas import message_schema
from ssl_vla_ros.errors import MissingDependencyError

#: What a subscription may keep while the executor is busy (a burst of services, a slow fsync).
_DEPTH_IMAGES = 60
_DEPTH_STREAMS = 1000


@dataclass(frozen=True)
class RecordedTopic:
    """How one topic is subscribed to."""

    kind: Any
    stamped: bool
    reliability: str
    durability: str
    depth: int


def recorded_topics(contract: Contract) -> dict[str, RecordedTopic]:
    """
    Describe every topic of a contract, in its order.

    Raises
    ------
    EpisodeError, MissingDependencyError
        If a message type is not installed.

    """
    reliability = {camera.topic: camera.reliability for camera in contract.cameras}
    reliability |= {item.topic: item.reliability for item in contract.extra}
    for stream in (*contract.state, *contract.action, *contract.evaluation):
        # Two streams may share a topic: the weaker wish connects to every publisher.
        if reliability.get(stream.topic) != 'best_effort':
            reliability[stream.topic] = stream.reliability
    durability = {item.topic: item.durability for item in contract.extra}
    cameras = {camera.topic for camera in contract.cameras}
    return {topic: RecordedTopic(
        message_class(kind), message_schema(kind).stamped, reliability[topic],
        durability.get(topic, 'volatile'), _DEPTH_IMAGES if topic in cameras else _DEPTH_STREAMS)
        for topic, kind in contract.topics().items()}


def message_class(name: str) -> Any:
    """
    Find the Python class of a message type such as ``sensor_msgs/Image``.

    Raises
    ------
    MissingDependencyError
        If its package is not installed.

    """
    package, _, kind = name.partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f'message type {name} is not installed for Python: {error}; install the package '
            f'{package} or source the ROS setup file that has it') from error
