# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Subscribe to a contract's streams of numbers at next to no cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
import threading
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription
from ssl_vla_ros.contract import Contract, Stream
from ssl_vla_ros.errors import ContractError, MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns
from ssl_vla_ros.messages.streams import read_stream
from ssl_vla_ros.nodes.common import input_qos
from ssl_vla_ros.nodes.taking import Unscheduled
from ssl_vla_ros.runtime.history import joined, latest, StreamLog, Vector

#: Messages the middleware keeps between two polls: a control period's worth at 1 kHz and 20 Hz.
_DEPTH = 64


def message_class(kind: str) -> Any:
    """
    Class of a message type such as ``sensor_msgs/Image``.

    Raises
    ------
    ContractError
        If its package is not installed.

    """
    package, name = kind.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise ContractError(f'message type {kind!r} is not installed: {error}; install the ROS 2 '
                            f'package {package}') from error


class StreamInput:
    """
    One stream's messages, logged by stamp as raw bytes.

    Stamped messages wake nobody: they wait in the middleware until ``poll`` takes them, once a
    tick. (An executor that wakes for each of 125 joint states a second costs more than all the
    rest of a node.) Only the stamp is read; a message is deserialized when its values are asked
    for. A message without a header is taken by a callback at once, because the time at which it
    comes is the only one it has.

    Parameters
    ----------
    node
        Whose subscription it is.
    stream
        Which topic and which values.
    on_message
        Called after each message that was kept.

    """

    def __init__(self, node: Node, stream: Stream,
                 on_message: Callable[[], None] | None = None) -> None:
        self.stream = stream
        self._node = node
        self._class = message_class(stream.type)
        self._on_message = on_message
        self._lock = threading.Lock()
        self.log = StreamLog(self._decode)
        #: Messages left out, by cause.
        self.rejected: Counter[str] = Counter()
        self._subscription: Subscription = node.create_subscription(
            self._class, stream.topic, self._take, input_qos(stream.reliability, _DEPTH),
            raw=True, callback_group=Unscheduled() if stream.stamped else None)

    def poll(self) -> None:
        """Take what has come since the last call; from any thread."""
        if not self.stream.stamped:
            return
        handle = self._subscription.handle
        with self._lock, handle:
            while (taken := handle.take_message(self._class, True)) is not None:
                self._take(taken[0])

    def _decode(self, data: bytes) -> Vector:
        return read_stream(self.stream, deserialize_message(data, self._class))

    def _take(self, data: bytes) -> None:
        try:
            stamp = (header_stamp_ns(data) if self.stream.stamped
                     else self._node.get_clock().now().nanoseconds)
        except MessageError as error:
            self.rejected[error.cause] += 1
            return
        verdict = self.log.append(stamp, data)
        if verdict not in ('ok', 'jump'):
            self.rejected[verdict] += 1
        elif self._on_message is not None:
            self._on_message()

    def destroy(self) -> None:
        """End the subscription."""
        with self._lock:
            self._node.destroy_subscription(self._subscription)


class StateInput:
    """
    The state of a contract, over all of its streams.

    Parameters
    ----------
    node
        Whose subscriptions they are.
    contract
        Names the streams, and says how they are brought to a stamp.
    on_message
        Called with the topic after each message that was kept.

    """

    def __init__(self, node: Node, contract: Contract, on_message: Callable[[str], None]) -> None:
        self._names = contract.state_names
        self._sync = contract.sync
        self._inputs = [StreamInput(node, stream, partial(on_message, stream.topic))
                        for stream in contract.state]

    def poll(self) -> None:
        """Take what has come since the last call; everything else looks at what was taken."""
        for stream in self._inputs:
            stream.poll()

    def at(self, stamp_ns: int) -> Vector | None:
        """
        State (S,) at a stamp, as datasets are aligned; None if a stream has nothing near enough.

        Raises
        ------
        MessageError
            If a message that is needed lacks a joint, or is not finite.

        """
        return joined([stream.log.at(stamp_ns, self._sync.state, self._sync.max_skew_s)
                       for stream in self._inputs])

    def latest(self) -> Vector | None:
        """Newest state (S,), whatever its stamps; None if a stream never carried one."""
        return latest([stream.log for stream in self._inputs])

    def named(self, state: Vector | None) -> dict[str, float]:
        """Values of a state by name; none for no state."""
        return {} if state is None else dict(zip(self._names, state.tolist(), strict=True))

    def newest_ns(self) -> dict[str, int]:
        """Newest stamp of each topic; 0 where nothing came."""
        return {stream.stream.topic: stream.log.newest_ns or 0 for stream in self._inputs}

    def rejected(self) -> dict[str, dict[str, int]]:
        """Messages left out, by topic and cause."""
        return {stream.stream.topic: dict(stream.rejected) for stream in self._inputs}

    def destroy(self) -> None:
        """End the subscriptions."""
        for stream in self._inputs:
            stream.destroy()
