# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A director waits for nodes that are still loading, and names the ones that never come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
import threading

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from ssl_vla_ros.nodes import director  # noqa: E402
from ssl_vla_ros.nodes.reporting import LATCHED_QOS  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

pytestmark = pytest.mark.ros


class Slow(Node):
    """An arm whose services are there at once, and which works only after a while."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__('arm', context=context)
        self.told = self.create_publisher(String, '~/state', LATCHED_QOS)
        self.at_work = False
        self.too_early = 0
        self.create_service(Trigger, '~/go', self._go)

    def begin(self) -> None:
        self.at_work = True
        self.told.publish(String(data=json.dumps({'start': 3})))

    def _go(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.too_early += not self.at_work
        response.success, response.message = self.at_work, 'gone'
        return response


@contextmanager
def slow_node() -> Iterator[Slow]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = Slow(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ended = threading.Event()

    def live() -> None:
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.02)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield node
    finally:
        ended.set()
        thread.join()
        node.destroy_node()
        rclpy.shutdown(context=context)


@pytest.fixture
def conductor(ros_domain: int) -> Iterator[director.Director]:
    rclpy.init()
    node = director.Director('conductor')
    node.make_clients(Trigger, 'arm/go')
    node.watch('arm/state')
    yield node
    node.destroy_node()
    rclpy.shutdown()


def test_nothing_is_asked_of_a_node_that_is_still_loading(conductor: director.Director) -> None:
    with slow_node() as arm:
        loaded = threading.Timer(1.5, arm.begin)
        loaded.start()
        conductor.wait_for_state('arm/state')
        assert arm.at_work and conductor.state('arm/state') == {'start': 3}
        assert conductor.trigger('arm/go') == 'gone'
        assert arm.too_early == 0
        loaded.join()


def test_a_refusal_is_told_as_the_node_worded_it(conductor: director.Director) -> None:
    with slow_node() as arm:
        arm.begin()
        conductor.wait_for_state('arm/state')
        for _ in range(3):
            assert conductor.trigger('arm/go') == 'gone'
        arm.at_work = False
        with pytest.raises(director.RefusedError, match='arm/go refused: gone'):
            conductor.trigger('arm/go')


def test_a_node_that_is_missing_or_mute_is_named(
        conductor: director.Director, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, '_appear_s', 0.5)
    with pytest.raises(director.DirectorError, match=r'nobody publishes arm/state .*running'):
        conductor.wait_for_state('arm/state')
    monkeypatch.setattr(conductor, '_appear_s', 20.0)
    monkeypatch.setattr(director, 'READY_S', 0.5)
    with slow_node(), pytest.raises(director.DirectorError,
                                    match='arm/state has a publisher, which told nothing for'):
        conductor.wait_for_state('arm/state')


def test_a_client_made_after_a_watch_would_be_discovered_too_late(
        conductor: director.Director) -> None:
    with pytest.raises(RuntimeError, match='before the first watch'):
        conductor.make_clients(Trigger, 'arm/stop')
