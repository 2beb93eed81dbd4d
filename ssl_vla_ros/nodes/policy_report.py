# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy node tells about itself: its latched status and its diagnostics."""

from __future__ import annotations

from collections.abc import Mapping
import json
from typing import Any

from rclpy.node import Node
from ssl_vla_ros.nodes.common import Diagnostics, JsonPublisher
from ssl_vla_ros.runtime.manifest import Manifest
from ssl_vla_ros.runtime.timing import LatencyWindow
from ssl_vla_ros.safety import Latch


class PolicyReport:
    """
    Counts and latencies since the node was configured.

    Attributes
    ----------
    latency
        From the features' stamp to the command's publication.
    head
        Of one chunk.

    """

    def __init__(self, node: Node) -> None:
        self._status = JsonPublisher(node, '~/status')
        self._diagnostics = Diagnostics(node)
        self.latency, self.head = LatencyWindow(), LatencyWindow()

    def clear(self) -> None:
        """Begin anew."""
        self.latency.clear()
        self.head.clear()

    def status(self, latch: Latch, counts: Mapping[str, Any]) -> dict[str, Any]:
        """Publish the status, and return it."""
        latency, head = self.latency.summary(), self.head.summary()
        report = {
            'state': latch.state, 'reason': latch.reason, **counts,
            'latency_p50_ms': 1e3 * latency.p50_s, 'latency_p99_ms': 1e3 * latency.p99_s,
            'head_p50_ms': 1e3 * head.p50_s, 'head_p99_ms': 1e3 * head.p99_s}
        self._status.publish(report)
        return report

    def diagnostics(self, latch: Latch, report: Mapping[str, Any]) -> None:
        """Publish the same as diagnostics; a halt is an error."""
        errors = [f'halted: {latch.reason}'] if latch.state == 'halted' else []
        self._diagnostics.publish(report, errors=errors, summary=latch.state)


def instance_of(model_info: str) -> str:
    """Name the node that told this; '' if it does not say."""
    try:
        return str(json.loads(model_info)['instance'])
    except (ValueError, KeyError, TypeError):
        return ''


def foreign_encoder(model_info: str, manifest: Manifest) -> str:
    """Why the inference node's features are not those the head was trained on; '' if they are."""
    try:
        found = str(json.loads(model_info)['encoder_sha256'])
    except (ValueError, KeyError, TypeError):
        return 'inference/model_info names no encoder_sha256; start inference from this package'
    wanted = manifest.files[manifest.encoder.file]
    if found == wanted:
        return ''
    return (f'inference runs an encoder with SHA-256 {found[:12]}, this head was trained on '
            f'{wanted[:12]}: start both nodes with the same bundle')
