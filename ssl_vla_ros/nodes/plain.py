# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the simulated driver and the teleoperator share: nodes without a lifecycle.

They stand for things outside the package, a robot's driver and a person's hand, which are there
or are not. Signals are taken as for the other nodes: the context lives until all is finished, and
the process exits with 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import sys
import traceback
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.timer import Timer

from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.basics import (
    awake_executor, declare_described, make_steady_timer, print_help, ros_until_signal,
    tell_unknown_parameters)


def time_message(stamp_ns: int) -> Time:
    """Convert nanoseconds to a stamp."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)


class PlainNode(Node):
    """A node with described parameters and steady timers, whose ``close`` is always called."""

    def close(self) -> None:
        """Finish threads at the end of the process."""

    def declare(self, name: str, default: Any, description: str, *, read_only: bool = False,
                low: float | None = None, high: float | None = None) -> None:
        """Declare a parameter; ``low`` and ``high`` are its range, both ends included."""
        declare_described(
            self, name, default, description, read_only=read_only, low=low, high=high)

    def warn(self, text: str) -> None:
        """Log a warning; the same place at most every other second."""
        Node.get_logger(self).warning(text, throttle_duration_sec=2.0)

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Timer that a jump of ROS time does not touch."""
        return make_steady_timer(self, period_s, callback)


def run_plain(factory: Callable[[], PlainNode], args: Sequence[str] | None = None) -> int:
    """
    Run one node until a signal, and end it cleanly.

    Returns
    -------
    int
        Exit status: 0 after SIGINT or SIGTERM, 2 after a mistake of the user's (one sentence on
        stderr), 1 after any other error (a traceback on stderr).

    """
    if print_help(args, factory):
        return 0
    try:
        with ros_until_signal(args) as stopping:
            return _live(factory, stopping)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except Exception:
        traceback.print_exc()
        return 1


def _live(factory: Callable[[], PlainNode], stopping: list[int]) -> int:
    node = factory()
    tell_unknown_parameters([node])
    try:
        executor = awake_executor(node)
        while not stopping:
            executor.spin_once()
    finally:
        node.close()
        Node.destroy_node(node)
    return 0
