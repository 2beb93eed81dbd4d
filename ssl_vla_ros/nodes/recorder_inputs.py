# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder's subscriptions with their books, and the disk it writes to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import importlib
from pathlib import Path
import shutil
import time
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.subscription import Subscription

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.episodes.books import Books
from ssl_vla_ros.episodes.intake import Fate, NO_SEQUENCE
from ssl_vla_ros.episodes.schemas import message_schema
from ssl_vla_ros.errors import ConfigError, MissingDependencyError
from ssl_vla_ros.nodes.common import input_qos, ManagedNode

#: What a subscription may keep while the executor is busy (a burst of services, a slow fsync).
_DEPTH_IMAGES = 60
_DEPTH_STREAMS = 1000
_AGES = 1000

#: topic, serialized bytes, receive time, publisher's time (nanoseconds).
Handler = Callable[[str, bytes, int, int], None]


@dataclass(frozen=True)
class Session:
    """The session directory and the room it must keep."""

    path: Path
    min_free_bytes: int

    @classmethod
    def open(cls, path: str, min_free_bytes: int) -> Session:  # noqa: A003
        """
        Make the directory and see that it can be written.

        Raises
        ------
        ConfigError
            If it cannot.

        """
        session = cls(Path(path).expanduser(), min_free_bytes)
        probe = session.path / '.writable'
        try:
            session.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f'the parameter session_dir is {path!r}, which cannot be written: {error}; '
                'give a directory that can') from error
        return session

    def room(self) -> tuple[int, str]:
        """Measure the free bytes, and say why they are too few; '' if there are enough."""
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            # Not made anew: where a disk was mounted, that would fill the one below it.
            return 0, (f'{self.path}: the session directory is gone: {error}; bring it back, or '
                       'the disk that it is on, or configure the recorder anew')
        if free >= self.min_free_bytes:
            return free, ''
        return free, (f'{self.path}: {free} bytes are free, fewer than min_free_bytes '
                      f'{self.min_free_bytes}; make room, or lower the parameter')


class Inputs:
    """
    Every topic of a contract, raw.

    Parameters
    ----------
    node
        The recorder.
    contract
        What to subscribe to.
    handler
        Called for every message that belongs in the open episode.

    Raises
    ------
    EpisodeError, MissingDependencyError
        If a message type is not installed.

    """

    def __init__(self, node: ManagedNode, contract: Contract, handler: Handler) -> None:
        self.contract = contract
        self._node = node
        self._handler = handler
        topics = contract.topics()
        reliability = {camera.topic: camera.reliability for camera in contract.cameras}
        for stream in (*contract.state, *contract.action, *contract.evaluation):
            # Two streams may share a topic: the weaker wish connects to every publisher.
            if reliability.get(stream.topic) != 'best_effort':
                reliability[stream.topic] = stream.reliability
        self._reliability = reliability
        self._types = {topic: _message_class(kind) for topic, kind in topics.items()}
        self.books = Books(
            {topic: message_schema(kind).stamped for topic, kind in topics.items()},
            {topic: wish == 'reliable' for topic, wish in reliability.items()})
        self._needed = {camera.topic for camera in contract.cameras} | {
            stream.topic for stream in contract.state}
        self._depths = dict.fromkeys(topics, _DEPTH_STREAMS) | {
            camera.topic: _DEPTH_IMAGES for camera in contract.cameras}
        #: Names in the bag: with namespace and remappings.
        self.resolved = {topic: node.resolve_topic_name(topic) for topic in topics}
        self._subscriptions: list[Subscription] = []
        self._mismatched: dict[str, int] = {}
        self._ages_ns: deque[int] = deque(maxlen=_AGES)
        self._received = dict.fromkeys(topics, 0)

    @property
    def clock_name(self) -> str:
        """``sim`` if the node's time comes from /clock, otherwise ``system``."""
        return 'sim' if self._node.value('use_sim_time') else 'system'

    def subscribe(self) -> None:
        """Connect to every topic."""
        for topic, message_type in self._types.items():
            self._subscriptions.append(self._node.create_subscription(
                message_type, topic, partial(self._on_message, topic),
                input_qos(self._reliability[topic], self._depths[topic]), raw=True,
                event_callbacks=SubscriptionEventCallbacks(
                    message_lost=partial(self._on_lost, topic),
                    matched=partial(self._on_matched, topic),
                    incompatible_qos=partial(self._on_mismatch, topic))))

    def unsubscribe(self) -> None:
        """Disconnect; what is known of the publishers' sequences is out of date with that."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self._mismatched = {}
        for intake in self.books.intakes.values():
            intake.publishers_changed(0, 0)

    def not_ready(self) -> str:
        """Say what an episode would lack if it started now; '' if nothing."""
        if self._node.value('use_sim_time') and not self._node.get_clock().now().nanoseconds:
            return 'use_sim_time is set and nothing came on /clock yet; start the simulator'
        silent = [topic for topic in self._types
                  if topic in self._needed and not self.books.intakes[topic].publishers]
        if not silent:
            return ''
        words = [self.resolved[topic] + (
            f' (a publisher is there, but not {self._reliability[topic]} as the contract says)'
            if self._mismatched.get(topic) else '') for topic in silent]
        return f'no publisher yet on {", ".join(words)}; start the driver, or correct the contract'

    def _on_message(self, topic: str, cdr: bytes, info: dict[str, int]) -> None:
        received = info.get('received_timestamp') or time.time_ns()
        source = info.get('source_timestamp') or received
        intake = self.books.intakes[topic]
        self.books.heard(topic)
        self._received[topic] += 1
        fate, stamp = intake.take(
            info.get('publication_sequence_number', NO_SEQUENCE), source, cdr,
            received_ns=received, paused=self.books.paused)
        if fate is not Fate.KEEP:
            return
        clock: Any = self._node.get_clock()
        if clock.ros_time_is_active:
            # The same clock as the stamps', because unstamped messages are aligned by it.
            received = clock.now().nanoseconds
        if stamp is not None:
            self._ages_ns.append(received - stamp)
        self._handler(topic, cdr, received, source)

    def _on_lost(self, topic: str, info: Any) -> None:
        self.books.intakes[topic].transport_lost(info.total_count_change)

    def _on_matched(self, topic: str, info: Any) -> None:
        self.books.intakes[topic].publishers_changed(
            info.current_count, max(0, info.total_count_change))

    def _on_mismatch(self, topic: str, info: Any) -> None:
        self._mismatched[topic] = info.total_count
        self._node.get_logger().warning(
            f'{self.resolved[topic]}: a publisher does not offer {self._reliability[topic]} '
            'delivery, so nothing comes from it; set reliability: best_effort for this topic in '
            'the contract, or change the driver')

    def diagnose(self, period_s: float, recording: bool) -> tuple[dict[str, Any], list[str]]:
        """Values for /diagnostics over the period, and what deserves a warning."""
        values: dict[str, Any] = {}
        warnings = []
        for topic, intake in self.books.intakes.items():
            rate = self._received[topic] / period_s
            self._received[topic] = 0
            values[f'{topic} rate_hz'] = rate
            if topic in self._needed and not rate:
                warnings.append(f'{topic} is silent')
            account = intake.account
            if recording:
                values[f'{topic} lost'] = account.lost
                values[f'{topic} dropped'] = account.dropped
                values[f'{topic} rejected'] = account.rejected
                if account.lost or account.dropped or account.rejected:
                    warnings.append(
                        f'{topic}: {account.lost} lost, {account.dropped} dropped, '
                        f'{account.rejected} rejected')
            if intake.late:
                warnings.append(f'{topic}: {intake.late} messages came after their episode')
        if self._ages_ns:
            ages = sorted(self._ages_ns)
            values['age_p50_ms'] = ages[len(ages) // 2] / 1e6
            values['age_p99_ms'] = ages[len(ages) * 99 // 100] / 1e6
            self._ages_ns.clear()
        return values, warnings


def _message_class(name: str) -> Any:
    package, _, kind = name.partition('/')
    try:
        return getattr(importlib.import_module(f'{package}.msg'), kind)
    except (ImportError, AttributeError) as error:
        raise MissingDependencyError(
            f'message type {name} is not installed for Python: {error}; install the package '
            f'{package} or source the ROS setup file that has it') from error
