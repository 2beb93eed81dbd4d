# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Messages are taken past the executor: at once, whatever one of them does, until it is closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy')
from rclpy.event_handler import SubscriptionEventCallbacks  # noqa: E402, I100
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from ssl_vla_ros.nodes import taking  # noqa: E402
from ssl_vla_ros.nodes.taking import take_events, Taker, Unscheduled  # noqa: E402
from std_msgs.msg import String  # noqa: E402

pytestmark = pytest.mark.ros
ROOT = Path(__file__).parents[1]
WAIT_S = 10.0


@contextmanager
def two_nodes() -> Iterator[tuple[Node, Node]]:
    """Give a node that takes and one that sends, each in a context of its own."""
    contexts = [rclpy.Context(), rclpy.Context()]
    nodes = []
    for name, context in zip(('takes', 'sends'), contexts, strict=True):
        rclpy.init(context=context)
        nodes.append(rclpy.create_node(name, context=context))
    try:
        yield nodes[0], nodes[1]
    finally:
        for node, context in zip(nodes, contexts, strict=True):
            node.destroy_node()
            rclpy.shutdown(context=context)


def until(condition: Callable[[], Any], what: str, between: Callable[[], Any]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, f'waited in vain for {what}'
        between()
        time.sleep(0.02)


def subscribe(node: Node, callback: Callable[[Any, Any], None], **given: Any) -> Any:
    return node.create_subscription(
        String, 'words', callback, given.pop('qos', 100), callback_group=Unscheduled(), **given)


def test_messages_are_called_back_in_their_order_in_a_thread_of_their_own(
        ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that closing by the look around alone would be seen.
    monkeypatch.setattr(taking, '_LOOK_NS', 60 * 10**9)
    with two_nodes() as (takes, sends):
        greetings, words, threads, failed = [], [], set(), []

        def heard(message: Any, info: Any) -> None:
            threads.add(threading.current_thread())
            assert info['received_timestamp'] > 0
            if message.data == 'bad':
                raise ValueError('this word is bad')
            (greetings if message.data == 'hello' else words).append(message.data)

        subscription = subscribe(takes, heard)
        taker = Taker(takes, failed.append)
        taker.add(subscription, heard)
        taker.start()
        # Beside it an executor of the same node, which is not woken by any of it.
        executor = SingleThreadedExecutor(context=takes.context)
        executor.add_node(takes)
        spins, done = 0, threading.Event()

        def spin() -> None:
            nonlocal spins
            while not done.is_set():
                executor.spin_once(timeout_sec=0.5)
                spins += 1

        spinning = threading.Thread(target=spin)
        spinning.start()
        try:
            sender = sends.create_publisher(String, 'words', 100)
            until(lambda: greetings, 'a first word',
                  lambda: sender.publish(String(data='hello')))
            before, began = spins, time.monotonic()
            for number in range(20):
                sender.publish(String(data='bad' if number == 10 else str(number)))
                time.sleep(0.02)
            until(lambda: len(words) == 19, 'the words', lambda: None)
            turns, took_s = spins - before, time.monotonic() - began
        finally:
            done.set()
            spinning.join()
            began_s = time.monotonic()
            taker.close()
            closed_s = time.monotonic() - began_s
            executor.shutdown()
        assert words == [str(number) for number in range(20) if number != 10]
        assert [str(error) for error in failed] == ['this word is bad']
        assert len(threads) == 1 and threading.main_thread() not in threads
        assert turns <= 2 + took_s / 0.5, 'the executor woke for messages that are not its own'
        assert closed_s < WAIT_S, 'closing must not wait for the next look around'


def mismatch(takes: Node, sends: Node) -> tuple[Any, list[Any]]:
    """Make a subscription, a publisher that it cannot hear, and a list of what is told of that."""
    mismatched: list[Any] = []
    subscription = subscribe(
        takes, lambda message, info: None, qos=QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE),
        event_callbacks=SubscriptionEventCallbacks(incompatible_qos=mismatched.append))
    sends.create_publisher(String, 'words', QoSProfile(
        depth=1, reliability=ReliabilityPolicy.BEST_EFFORT))
    return subscription, mismatched


def test_events_are_told_when_they_are_taken(ros_domain: int) -> None:
    with two_nodes() as (takes, sends):
        subscription, mismatched = mismatch(takes, sends)
        until(lambda: mismatched, 'the event', lambda: take_events(subscription))
        assert mismatched[0].total_count_change == 1
        for _ in range(3):
            take_events(subscription)
        assert len(mismatched) == 1, 'what was told once is no news'


def test_an_event_is_told_at_once_and_does_not_keep_the_thread_awake(
        ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is taken, each wait for a message returns at once: a core would be gone."""
    taken = []

    def counted(subscription: Any) -> None:
        taken.append(time.monotonic())
        take_events(subscription)

    monkeypatch.setattr(taking, 'take_events', counted)
    with two_nodes() as (takes, sends):
        subscription, mismatched = mismatch(takes, sends)
        taker = Taker(takes, lambda error: mismatched.append(error))
        taker.add(subscription, lambda message, info: None)
        taker.start()
        try:
            until(lambda: mismatched, 'the event', lambda: None)
            time.sleep(2.0)
        finally:
            taker.close()
        assert len(mismatched) == 1 and mismatched[0].total_count_change == 1
        assert len(taken) <= 30, 'the thread turns without end'


def test_a_wait_that_fails_is_told_to_whoever_asks(
        ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:

        def __init__(self, *_: Any) -> None:
            raise RuntimeError('no room for a wait set')

    monkeypatch.setattr(taking, '_rclpy', SimpleNamespace(WaitSet=Broken))
    with two_nodes() as (takes, _):
        taker = Taker(takes, print)
        taker.check()
        taker.start()

        def told() -> bool:
            try:
                taker.check()
            except RuntimeError as error:
                return 'no room' in str(error)
            return False

        until(told, 'what ended the thread', lambda: None)
        taker.close()


def test_one_that_was_never_started_is_closed_all_the_same(ros_domain: int) -> None:
    with two_nodes() as (takes, _):
        Taker(takes, print).close()


@pytest.mark.parametrize('ending', [
    'raise ValueError("of the main thread")',
    # The thread must end by that alone, with the main thread still there.
    'rclpy.shutdown(); taker._thread.join()'])
def test_no_process_stays_because_nobody_closed_it(ros_domain: int, ending: str) -> None:
    code = f"""
import rclpy
from std_msgs.msg import String
from ssl_vla_ros.nodes.taking import Taker, Unscheduled
rclpy.init()
node = rclpy.create_node('takes')
def heard(message, info):
    pass
taker = Taker(node, print)
taker.add(node.create_subscription(String, 'w', heard, 1, callback_group=Unscheduled()), heard)
taker.start()
{ending}
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          timeout=60.0, cwd=ROOT)
    assert done.returncode == (1 if 'raise' in ending else 0), done.stderr
    assert ('of the main thread' in done.stderr) == ('raise' in ending)
    assert done.stdout == ''
