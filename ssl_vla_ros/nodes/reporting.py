# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service of inputs, and how a node tells its state: latched JSON and diagnostics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

#: For what a late subscriber must still learn: the last message is kept and delivered.
LATCHED_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)


def input_qos(reliability: str, depth: int, durability: str = 'volatile') -> QoSProfile:
    """
    Give the quality of service of an input as the contract declares it.

    Parameters
    ----------
    reliability
        ``reliable`` or ``best_effort``, from a contract's camera or stream.
    depth
        Messages kept for a callback that is late: 1 where the newest counts (inference).
    durability
        ``transient_local`` for a latched topic, whose last message a late subscriber wants.

    """
    policy = (ReliabilityPolicy.BEST_EFFORT if reliability == 'best_effort'
              else ReliabilityPolicy.RELIABLE)
    lasting = (DurabilityPolicy.TRANSIENT_LOCAL if durability == 'transient_local'
               else DurabilityPolicy.VOLATILE)
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=policy,
                      durability=lasting)


def plain(value: Any) -> Any:
    """Give the value as JSON takes it: numbers that are not finite become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


class JsonPublisher:
    """A latched topic of JSON in ``std_msgs/String``: ``~/state``, ``~/model_info``."""

    def __init__(self, node: Node, topic: str) -> None:
        self._publisher = node.create_publisher(String, topic, LATCHED_QOS)

    def publish(self, data: Mapping[str, Any]) -> None:
        """Publish a mapping of JSON-ready values."""
        self._publisher.publish(String(data=json.dumps(plain(data), allow_nan=False)))


class Diagnostics:
    """One node's line on ``/diagnostics``; call ``publish`` once a second."""

    def __init__(self, node: Node, hardware_id: str = '') -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)

    def publish(self, values: Mapping[str, Any], *, warnings: Sequence[str] = (),
                errors: Sequence[str] = (), summary: str = 'running') -> None:
        """Publish values by name; what is wrong gives the level, and the message if any is."""
        level = (DiagnosticStatus.ERROR if errors else
                 DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK)
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.status = [DiagnosticStatus(
            level=level, name=self._node.get_fully_qualified_name().lstrip('/'),
            message='; '.join([*errors, *warnings]) or summary,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=str(key), value=_text(value)) for key, value in values.items()])]
        self._publisher.publish(message)

    def destroy(self) -> None:
        """End the line."""
        self._node.destroy_publisher(self._publisher)


def _text(value: Any) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)
