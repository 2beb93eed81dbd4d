# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What ``collect`` and ``evaluate`` share: a node that conducts others, step by step.

Unlike the other nodes these have a script to follow. The script runs in the main thread and spins
the executor while it waits, so that nothing happens behind its back.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import sys
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.basics import ros_until_signal
from ssl_vla_ros.nodes.plain import PlainNode
from ssl_vla_ros.nodes.reporting import LATCHED_QOS
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

#: Longest wait for a node to appear, to get ready, and for a service to answer (seconds).
APPEAR_S = 30.0
READY_S = 60.0
ANSWER_S = 15.0
#: The same at the script's end: whoever stops this node does not wait long for it.
FINISH_APPEAR_S = 2.0
FINISH_ANSWER_S = 8.0


class DirectorError(UserError):
    """Another node did not do its part; the message names it and says what it answered."""


class RefusedError(DirectorError):
    """A node answered, with a no."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came: stop the script in an orderly way."""


class Director(PlainNode):
    """A node with a script."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._states: dict[str, dict[str, Any]] = {}
        self._told: dict[str, int] = {}
        self._diagnosed: dict[str, dict[str, str]] = {}
        self._asked: dict[str, Client] = {}
        self._watched = False
        self._appear_s, self._answer_s = APPEAR_S, ANSWER_S
        self._finishing = False
        #: Signals that have come.
        self.stopping: list[int] = []

    # -- watching --------------------------------------------------------------------------

    def watch(self, topic: str) -> None:
        """Keep the newest JSON published on a latched String topic."""

        def take(message: String) -> None:
            self._states[topic] = json.loads(message.data)
            self._told[topic] = self._told.get(topic, 0) + 1

        self._watched = True
        self.create_subscription(String, topic, take, LATCHED_QOS)

    def watch_diagnostics(self) -> None:
        """Keep the newest diagnostics of every node."""

        def take(message: DiagnosticArray) -> None:
            for status in message.status:
                self._diagnosed[status.name] = {item.key: item.value for item in status.values}

        self._watched = True
        self.create_subscription(DiagnosticArray, '/diagnostics', take, 20)

    def state(self, topic: str) -> dict[str, Any]:
        """Newest JSON of a watched topic; empty before the first."""
        return self._states.get(topic, {})

    def told(self, topic: str) -> int:
        """How many messages of a watched topic have come."""
        return self._told.get(topic, 0)

    def diagnosed(self, node: str) -> dict[str, str]:
        """Newest diagnostics whose name contains ``node``."""
        for name, values in self._diagnosed.items():
            if node in name:
                return values
        return {}

    # -- waiting ---------------------------------------------------------------------------

    def spin_for(self, seconds: float) -> None:
        """Let callbacks run for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))
            self.check()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Let callbacks run until ``condition`` holds; False if it never did."""
        end = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
            self.check()
        return True

    def check(self) -> None:
        """Raise ``Interrupted`` after a signal, unless the script has ended already."""
        if self.stopping and not self._finishing:
            raise Interrupted

    def begin_finish(self) -> None:
        """From now on signals do not interrupt, and nobody is waited for any longer."""
        self._finishing = True
        self._appear_s, self._answer_s = FINISH_APPEAR_S, FINISH_ANSWER_S

    def wait_for_state(self, topic: str) -> None:
        """
        Wait until a watched topic has told something: only then is its node to be asked.

        A simulator or a model takes seconds to load, longer on a busy machine, and the services
        of its node are there before it has; see also ``make_clients``.
        """
        if not self.wait_until(lambda: self.count_publishers(topic) > 0, self._appear_s):
            raise DirectorError(
                f'nobody publishes {topic} (waited {self._appear_s:.0f} s): is that node '
                'running, in the same namespace and ROS_DOMAIN_ID?')
        if not self.wait_until(lambda: self.told(topic) > 0, READY_S):
            raise DirectorError(
                f'{topic} has a publisher, which told nothing for {READY_S:.0f} s: the log of '
                'that node says what it waits for')

    # -- asking ----------------------------------------------------------------------------

    def make_clients(self, kind: Any, *services: str) -> None:
        """
        Make the clients of services; all of them before the first ``watch``.

        An answer to a client that the server has not discovered within 100 ms is thrown away by
        rmw_fastrtps, and no client can ask whether it has been discovered (ros2/rmw_fastrtps issue
        842). But a participant's readers are announced in the order in which they were made: a
        node whose latched topic arrives here has discovered every reader made before that
        topic's, those of answers included. So ``wait_for_state`` before the first question closes
        the gap.
        """
        if self._watched:
            raise RuntimeError('make clients before the first watch')
        for service in services:
            self._asked[service] = self.create_client(kind, service)

    def _ask(self, service: str, request: Any) -> Any:
        client = self._asked[service]
        if not self.wait_until(client.service_is_ready, self._appear_s):
            raise DirectorError(
                f'nobody offers the service {service} (waited {self._appear_s:.0f} s): is '
                'that node running, in the same namespace and ROS_DOMAIN_ID?')
        future = client.call_async(request)
        if not self.wait_until(future.done, self._answer_s):
            client.remove_pending_request(future)
            raise DirectorError(f'{service} did not answer within {self._answer_s:.0f} s')
        return future.result()

    def trigger(self, service: str) -> str:
        """Call a Trigger service; its message, or ``DirectorError`` with it."""
        answer = self._ask(service, Trigger.Request())
        if not answer.success:
            raise RefusedError(f'{service} refused: {answer.message}')
        return str(answer.message)

    def switch(self, service: str, on: bool) -> str:
        """Call a SetBool service; its message, or ``DirectorError`` with it."""
        answer = self._ask(service, SetBool.Request(data=on))
        if not answer.success:
            raise RefusedError(f'{service} refused: {answer.message}')
        return str(answer.message)

    def set_remote(self, node: str, name: str, value: Any) -> None:
        """Set a parameter of another node."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()])
        answer = self._ask(f'{node}/set_parameters', request)
        if not answer.results[0].successful:
            raise RefusedError(
                f'{node} refused {name}={value!r}: {answer.results[0].reason}')

    def undo(self, service: str, request: Callable[[str], object]) -> None:
        """
        Call a service of ``finish``: one that fails keeps no other from its turn.

        A refusal is no failure: there was nothing to undo.
        """
        try:
            request(service)
        except RefusedError:
            pass
        except DirectorError as error:
            print(f'warning: {error}', file=sys.stderr, flush=True)

    def finish(self) -> None:
        """Put right what was begun; called at the end, also after an error or a signal."""

    def script(self) -> None:
        """Do what this node is for."""
        raise NotImplementedError(f'{type(self).__name__} has no script')


def direct(factory: Callable[[], Director], args: list[str] | None = None) -> int:
    """
    Run a director's script.

    Returns
    -------
    int
        0 when the script ended, 130 when a signal stopped it, 2 for a mistake that the user can
        mend (one sentence on stderr), 1 for any other error (a traceback).

    """
    node: Director | None = None
    try:
        with ros_until_signal(args) as stopping:
            try:
                node = factory()
                node.stopping = stopping
                return _play(node)
            finally:
                if node is not None:
                    Node.destroy_node(node)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2


def _play(node: Director) -> int:
    """Run script and finish; the first error is told at once, whatever comes after it."""
    try:
        status = 0
        node.check()
        node.script()
    except Interrupted:
        status = 130
    except UserError as error:
        status = 2
        print(f'error: {error}', file=sys.stderr, flush=True)
    except Exception:
        status = 1
        traceback.print_exc()
    node.begin_finish()
    node.finish()
    return status
