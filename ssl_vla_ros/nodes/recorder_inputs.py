# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder's subscriptions with their books and their health."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
import time
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.subscription import Subscription

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.episodes.books import Books
from ssl_vla_ros.episodes.health import Figures, LOOK, TopicHealth
from ssl_vla_ros.episodes.intake import Fate, NO_SEQUENCE, TopicIntake
from ssl_vla_ros.episodes.preroll import Change, Heard, PreRoll
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import header_stamp_ns
from ssl_vla_ros.nodes.common import input_qos, ManagedNode
from ssl_vla_ros.nodes.recorder_topics import recorded_topics
from ssl_vla_ros.nodes.taking import take_events, Unscheduled

#: Messages of a latched topic that every episode begins with.
_LATCHED = 64
#: A topic of numbers stands still only after this long, however fast it comes (seconds).
_QUIET_S = 0.2

#: topic, serialized bytes, receive time, publisher's time (nanoseconds), whether from before the
#: start.
Handler = Callable[[str, bytes, int, int, bool], None]


class Inputs:
    """
    Every topic of a contract, raw.

    Messages wait in the middleware, with the time at which they came, until ``poll`` takes all of
    them at once: an executor that wakes for each of some 700 messages a second takes most of a
    core. Under simulated time each is taken by a callback, because only then is it known what
    time it was.

    Parameters
    ----------
    node
        The recorder.
    contract
        What to subscribe to.
    handler
        Called for every message that belongs in the open episode.
    pre_roll
        Keeps what comes while no episode is open.

    Raises
    ------
    EpisodeError, MissingDependencyError
        If a message type is not installed.

    """

    def __init__(self, node: ManagedNode, contract: Contract, handler: Handler,
                 pre_roll: PreRoll) -> None:
        self.contract = contract
        self._node = node
        self._handler = handler
        self._pre_roll = pre_roll
        self._topics = recorded_topics(contract)
        self.books = Books(
            {topic: item.stamped for topic, item in self._topics.items()},
            {topic: item.reliability == 'reliable' for topic, item in self._topics.items()})
        self._cameras = [camera.topic for camera in contract.cameras]
        self._needed = dict.fromkeys((
            *self._cameras, *(stream.topic for stream in contract.state)))
        #: Names in the bag: with namespace and remappings.
        self.resolved = {topic: node.resolve_topic_name(topic) for topic in self._topics}
        self.health = {topic: TopicHealth(0.0 if topic in self._cameras else _QUIET_S)
                       for topic in self._topics}
        self._latched: dict[str, deque[Heard]] = {
            topic: deque(maxlen=_LATCHED) for topic, item in self._topics.items()
            if item.durability == 'transient_local'}
        self._subscriptions: list[tuple[str, Subscription]] = []
        self._group = Unscheduled()
        self._polled = not node.value('use_sim_time')
        self._mismatched: dict[str, int] = {}
        #: Whether an episode has begun that the disk has not made yet.
        self._starting = False

    @property
    def clock_name(self) -> str:
        """``sim`` if the node's time comes from /clock, otherwise ``system``."""
        return 'sim' if self._node.value('use_sim_time') else 'system'

    def subscribe(self) -> None:
        """Connect to every topic."""
        for topic, item in self._topics.items():
            self._subscriptions.append((topic, self._node.create_subscription(
                item.kind, topic, partial(self._on_message, topic),
                input_qos(item.reliability, item.depth, item.durability), raw=True,
                callback_group=self._group if self._polled else None,
                event_callbacks=SubscriptionEventCallbacks(
                    message_lost=partial(self._on_lost, topic),
                    matched=partial(self._on_matched, topic),
                    incompatible_qos=partial(self._on_mismatch, topic)))))

    def poll(self) -> None:
        """Take everything that has come."""
        if not self._polled:
            return
        for topic, subscription in self._subscriptions:
            # First: a publisher must be known before its messages are counted.
            take_events(subscription)
            handle = subscription.handle
            with handle:
                # Not without end: services wait meanwhile.
                for _ in range(self._topics[topic].depth):
                    taken = handle.take_message(subscription.msg_type, True)
                    if taken is None:
                        break
                    self._on_message(topic, *taken)

    def unsubscribe(self) -> None:
        """Disconnect; what is known of the publishers' sequences is out of date with that."""
        for _, subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        self._mismatched = {}
        self._starting = False
        self._pre_roll.clear()
        for topic, intake in self.books.intakes.items():
            intake.publishers_changed(0, 0)
            self.health[topic].forget()
        for kept in self._latched.values():
            kept.clear()

    def not_ready(self) -> str:
        """Say what an episode would lack if it started now; '' if nothing."""
        if self._node.value('use_sim_time') and not self._node.get_clock().now().nanoseconds:
            return 'use_sim_time is set and nothing came on /clock yet; start the simulator'
        silent = [topic for topic in self._needed if not self.books.intakes[topic].publishers]
        if not silent:
            return ''
        words = [self.resolved[topic] + (
            f' (a publisher is there, but not {self._topics[topic].reliability} as the contract '
            'says)' if self._mismatched.get(topic) else '') for topic in silent]
        return f'no publisher yet on {", ".join(words)}; start the driver, or correct the contract'

    def begins_ns(self) -> int | None:
        """When an episode that starts now begins (our system clock), if that is earlier."""
        self._pre_roll.forget_before(time.time_ns())
        return self._pre_roll.begins_ns

    def forget(self) -> None:
        """Keep nothing for an episode that starts later: a clock jumped, and stamps with it."""
        self._pre_roll.clear()

    def begin(self) -> None:
        """
        Take what came before the start into the episode that was just opened.

        That is what is kept of the last seconds, and what latched topics sent. It stays at hand
        until ``begun``: where the disk refuses, the next start must find it.
        """
        self._starting = True
        items, before = self._pre_roll.look()
        for topic, sequence in before.items():
            self.books.intakes[topic].rewind(sequence)
        heard = [item for item in items if isinstance(item, Heard)]
        self._carry_over({(item.topic, item.sequence, item.source_ns) for item in heard})
        for item in items:
            if isinstance(item, Heard):
                self._take(item, before=True)
            else:
                item.change(self.books.intakes[item.topic])

    def begun(self, *, opened: bool) -> None:
        """Note whether the episode could be made; if so, what came before belongs to it alone."""
        self._starting = False
        if opened:
            self._pre_roll.clear()

    def carry_over(self) -> None:
        """Give the episode that was just opened what latched topics sent before it."""
        self._carry_over(set())

    def _carry_over(self, coming: set[tuple[str, int, int]]) -> None:
        for topic, kept in self._latched.items():
            for item in kept:
                if (topic, item.sequence, item.source_ns) not in coming:
                    self.books.intakes[topic].carry_over()
                    self._handler(topic, item.cdr, item.log_ns, item.source_ns, True)

    def _on_message(self, topic: str, cdr: bytes, info: dict[str, int | None]) -> None:
        received = info.get('received_timestamp') or time.time_ns()
        log_ns = received
        clock: Any = self._node.get_clock()
        if clock.ros_time_is_active:
            # The same clock as the stamps', because unstamped messages are aligned by it.
            log_ns = clock.now().nanoseconds
        # Middleware that numbers nothing (CycloneDDS) says None.
        sequence = info.get('publication_sequence_number')
        item = Heard(topic, NO_SEQUENCE if sequence is None else sequence,
                     info.get('source_timestamp') or received, cdr, received, log_ns)
        self.books.heard(topic)
        # How long it has waited to be taken is no delay of the topic's.
        waited_ns = max(0, time.time_ns() - received)
        self.health[topic].came(
            time.monotonic_ns() - waited_ns, self._stamp(topic, cdr), log_ns)
        if topic in self._latched:
            self._latched[topic].append(item)
        self._remember(item)
        self._take(item, before=False)

    def _stamp(self, topic: str, cdr: bytes) -> int | None:
        if not self._topics[topic].stamped:
            return None
        try:
            return header_stamp_ns(cdr) or None
        except MessageError:
            return None

    def _take(self, item: Heard, *, before: bool) -> None:
        fate, _ = self.books.intakes[item.topic].take(
            item.sequence, item.source_ns, item.cdr, received_ns=item.received_ns,
            paused=self.books.paused)
        if fate is Fate.KEEP:
            self._handler(item.topic, item.cdr, item.log_ns, item.source_ns, before)

    def _remember(self, item: Heard | Change) -> None:
        if self._pre_roll.wanted and (self._starting or not self.books.running):
            self._pre_roll.keep(item, self.books.intakes[item.topic].last_sequence)

    def _changed(self, topic: str, change: Callable[[TopicIntake], None]) -> None:
        self._remember(Change(topic, time.time_ns(), change))
        change(self.books.intakes[topic])

    def _on_lost(self, topic: str, info: Any) -> None:
        count = int(info.total_count_change)
        self._changed(topic, lambda intake: intake.transport_lost(count))

    def _on_matched(self, topic: str, info: Any) -> None:
        current, added = int(info.current_count), max(0, int(info.total_count_change))
        if added or not current:
            self.health[topic].forget()
        self._changed(topic, lambda intake: intake.publishers_changed(current, added))

    def _on_mismatch(self, topic: str, info: Any) -> None:
        self._mismatched[topic] = info.total_count
        item = self._topics[topic]
        self._node.get_logger().warning(
            f'{self.resolved[topic]}: a publisher does not offer {item.reliability} '
            f'{item.durability} delivery, so nothing comes from it; set reliability: best_effort '
            'or durability: volatile for this topic in the contract, or change the driver')

    # -- health ----------------------------------------------------------------------------

    def look_s(self) -> float:
        """How often to look for a standstill, so that it is told within two periods."""
        usual = [found for topic in self._cameras
                 if (found := self.health[topic].usual_ns) is not None]
        return LOOK * min(usual) / 1e9 if usual else 1.0

    def standstills(self) -> list[tuple[str, float]]:
        """Topics that have just stopped (and for how many seconds) or come back (0.0)."""
        now = time.monotonic_ns()
        return [(topic, silent) for topic in self._needed
                if (silent := self.health[topic].look(now)) is not None]

    def figures(self, period_s: float) -> dict[str, Figures]:
        """Sum up every topic over the period since the last call."""
        clock = next((topic for topic in self._needed if self._topics[topic].stamped), None)
        reference = [] if clock is None else self.health[clock].stamps()
        return {topic: health.figures(period_s, reference)
                for topic, health in self.health.items()}

    def warnings(self, figures: Mapping[str, Figures]) -> list[str]:
        """Say what deserves a warning in this period."""
        found = []
        for topic, intake in self.books.intakes.items():
            account = intake.account
            if topic in self._needed and not figures[topic].rate_hz:
                found.append(f'{topic} is silent')
            elif self.health[topic].stalled:
                found.append(f'{topic} stands still')
            if self.books.running and (account.lost or account.dropped or account.rejected):
                causes = ''.join(f', {count} {cause}'
                                 for cause, count in account.rejected_by_cause.items())
                found.append(f'{topic}: {account.lost} lost, {account.dropped} dropped, '
                             f'{account.rejected} rejected{causes}')
            if intake.late:
                found.append(f'{topic}: {intake.late} messages came after their episode')
        return found
