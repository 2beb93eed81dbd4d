# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Whether inference runs the encoder that the policy's head was trained on, by its model_info."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from ssl_vla_ros.nodes.policy_report import foreign_encoder, instance_of
from ssl_vla_ros.runtime.manifest import Manifest
from std_msgs.msg import String

_TOPIC = 'inference/model_info'
#: Latched, and deep enough for what several publishers tell at once: with a depth of 1 each
#: message would push out the one before it, whoever sent that.
_EVERY_LAST_ONE = QoSProfile(
    depth=16, reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: What is said until the latched message has come: no news is no good news.
_UNKNOWN = (f'no {_TOPIC} yet: nothing says which encoder the features come from; start '
            'inference, or remap its model_info together with its features')


class EncoderCheck:
    """
    Listen to ``inference/model_info`` and remember what speaks against the features.

    Features are trusted once every publisher of the topic has told which encoder it runs, and all
    of them the right one. When a publisher comes or goes, everything is forgotten and the topic
    subscribed anew: being latched, it is told again by whoever is there. One that was killed
    counts until the middleware has noticed; it tells nothing, so nothing is trusted until then.

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
        #: Who has told: a node tells again after a swap, and must not count for another.
        self._told: set[str] = set()
        self._foreign = ''
        #: Somebody told who was not known to be there: a look is due.
        self._surprised = False
        self._subscription = self._subscribe()

    @property
    def doubt(self) -> str:
        """Why the features must not be used; '' once they are known to be those of the head."""
        if self._foreign:
            return self._foreign
        if self._surprised or not self._told:
            return _UNKNOWN
        if len(self._told) < len(self._publishers):
            return (f'{len(self._told)} of {len(self._publishers)} publishers of {_TOPIC} have '
                    'told their encoder: one may have been killed, which the middleware takes a '
                    'while to notice; try again, or stop the one too many')
        return ''

    def recheck(self) -> str:
        """Look whether the same publishers are there, and return the doubt."""
        present = self._present()
        changed = self._surprised or present != self._publishers
        # A foreign encoder may have been swapped for the right one by the same publisher.
        if changed or self._foreign:
            self._node.destroy_subscription(self._subscription)
            self._publishers, self._told = present, set()
            self._surprised = False
            if changed:
                self._foreign = ''
            self._subscription = self._subscribe()
        return self.doubt

    def destroy(self) -> None:
        """End the subscription."""
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> Subscription:
        return self._node.create_subscription(String, _TOPIC, self._on_info, _EVERY_LAST_ONE)

    def _present(self) -> set[bytes]:
        # By their ids and not by their number: one may have taken another's place.
        return {bytes(found.endpoint_gid) for found in self._node.get_publishers_info_by_topic(
            self._subscription.topic_name)}

    def _on_info(self, message: Any) -> None:
        if not self._told:
            self._foreign = ''      # of before the subscription; this says what is now
        # Whoever does not say who it is counts as somebody new.
        self._told.add(instance_of(message.data) or f'message {len(self._told)}')
        self._surprised = self._surprised or self._present() != self._publishers
        foreign = foreign_encoder(message.data, self._manifest)
        if foreign:
            self._foreign = foreign
            self._on_foreign(foreign)
