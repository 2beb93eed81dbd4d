# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Whether inference runs the encoder that the policy's head was trained on, by its model_info."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription
from ssl_vla_ros.nodes.common import LATCHED_QOS
from ssl_vla_ros.nodes.policy_report import foreign_encoder
from ssl_vla_ros.runtime.manifest import Manifest
from std_msgs.msg import String

_TOPIC = 'inference/model_info'
#: What is said until the latched message has come: no news is no good news.
_UNKNOWN = (f'no {_TOPIC} yet: nothing says which encoder the features come from; start '
            'inference, or remap its model_info together with its features')


class EncoderCheck:
    """
    Listen to ``inference/model_info`` and remember what speaks against the features.

    What was heard holds for as long as its publishers are there. When one of them goes, everything
    is forgotten and the topic subscribed anew: being latched, it is told again by whoever is left.

    Parameters
    ----------
    node
        Whose subscription it is.
    manifest
        Of the bundle with the head.
    on_foreign
        Called with the reason when inference says that it runs another encoder.

    """

    def __init__(self, node: Node, manifest: Manifest, on_foreign: Callable[[str], None]) -> None:
        self._node = node
        self._manifest = manifest
        self._on_foreign = on_foreign
        self._publishers: set[bytes] = set()
        #: Why the features must not be used; '' once they are known to be those of the head.
        self.doubt = _UNKNOWN
        self._subscription = self._subscribe()

    def recheck(self) -> str:
        """Look whether whoever told is still there, and return the doubt."""
        present = self._present()
        if not self._publishers <= present:
            self._node.destroy_subscription(self._subscription)
            self.doubt = _UNKNOWN
            self._subscription = self._subscribe()
        self._publishers = present
        return self.doubt

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Subscription:
        return self._node.create_subscription(String, _TOPIC, self._on_info, LATCHED_QOS)

    def _present(self) -> set[bytes]:
        # By their ids and not by their number: one may have taken another's place.
        return {bytes(found.endpoint_gid) for found in self._node.get_publishers_info_by_topic(
            self._subscription.topic_name)}

    def _on_info(self, message: Any) -> None:
        # Whoever told this may be gone before the next look.
        self._publishers |= self._present()
        self.doubt = foreign_encoder(message.data, self._manifest)
        if self.doubt:
            self._on_foreign(self.doubt)
