# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Take messages past the executor.

Before it waits again, and again when it wakes, an executor goes through all that its nodes have:
with 14 services and 13 events that is 0.3 to 0.7 ms of Python for each message, in which the
thread that the message was for cannot run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
import threading
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.subscription import Subscription

#: How often a thread that nothing comes to looks whether the process still lives, in nanoseconds.
_LOOK_NS = 500_000_000


class Unscheduled(ReentrantCallbackGroup):
    """
    Keeps subscriptions and their events out of the executor: they wait until they are taken.

    The events, too: a wait for an event of a subscription returns for each of its messages, with
    nothing to do, and the executor turns without end (measured: 0.6 of a core).
    """

    def can_execute(self, entity: Any) -> bool:
        return False


def take_events(subscription: Subscription) -> None:
    """Take what an executor would have taken, had it waited for the subscription's events."""
    events: Any = subscription.event_handlers  # a list, whatever rclpy's stubs say
    for event in events:
        # rclpy has no public way to poll an event: this is what is_ready notes.
        event._ready_to_take_data = True
        info = event.take_data()
        # Without news, it is what was told last, with changes of 0.
        if info is not None and (
                info.total_count_change or getattr(info, 'current_count_change', 0)):
            event.callback(info)


class Taker:
    """
    Takes messages and events as they come, in a thread of its own, and calls back there.

    Parameters
    ----------
    node
        Whose subscriptions they are.
    failed
        Called with what a callback raised, or a message that cannot be taken; the next one is
        taken all the same.

    """

    def __init__(self, node: Node, failed: Callable[[Exception], None]) -> None:
        self._context: Any = node.context   # its handle is there, whatever rclpy's stubs say
        self._failed = failed
        self._callbacks: list[tuple[Subscription, Callable[[Any, Any], None]]] = []
        self._closed = False
        self._error: Exception | None = None
        self._guard = GuardCondition(None, None, context=self._context)
        self._thread = threading.Thread(target=self._work, name='taking')

    def add(self, subscription: Subscription, callback: Callable[[Any, Any], None]) -> None:
        """
        Take from a subscription, too; before ``start``.

        Parameters
        ----------
        subscription
            In the callback group ``Unscheduled``.
        callback
            Called with the message and what the middleware says of it, as rclpy's are.

        """
        self._callbacks.append((subscription, callback))

    def start(self) -> None:
        """Begin to take."""
        self._thread.start()

    def check(self) -> None:
        """Raise what ended the thread, if it waits no more: in a callback it ends the node."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End after the callback at hand; the subscriptions may be destroyed after that."""
        self._closed = True
        if self._thread.ident is not None:
            self._guard.trigger()
            self._thread.join()
        self._guard.destroy()

    def _work(self) -> None:
        try:
            self._wait_and_take()
        except Exception as error:
            # A context that ends may break a wait: that is no fault.
            if not self._closed and self._context.ok():
                self._error = error

    def _wait_and_take(self) -> None:
        with ExitStack() as held:
            held.enter_context(self._context.handle)
            held.enter_context(self._guard.handle)
            for subscription, _ in self._callbacks:
                held.enter_context(subscription.handle)
            wait_set = _rclpy.WaitSet(
                len(self._callbacks), 1, 0, 0, 0, 0, self._context.handle)
            while (not self._closed and self._context.ok()
                   # One that ended by an error closes nobody.
                   and threading.main_thread().is_alive()):
                wait_set.clear_entities()
                wait_set.add_guard_condition(self._guard.handle)
                for subscription, _ in self._callbacks:
                    wait_set.add_subscription(subscription.handle)
                wait_set.wait(_LOOK_NS)
                ready = wait_set.get_ready_entities('subscription')
                for subscription, callback in self._callbacks:
                    # With Fast DDS a wait for messages returns for an event, too, at once and
                    # until somebody takes it.
                    if not ready:
                        self._try(partial(take_events, subscription))
                    elif subscription.handle.pointer in ready:
                        self._try(partial(self._take, subscription, callback))

    def _take(self, subscription: Subscription, callback: Callable[[Any, Any], None]) -> None:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
        if taken is not None:
            callback(*taken)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            # Nobody looks after this thread: it must outlive whatever one message does to it.
            self._failed(error)
