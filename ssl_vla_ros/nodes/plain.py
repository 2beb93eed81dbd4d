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
import math
import signal
import sys
import traceback
from types import FrameType
from typing import Any

from builtin_interfaces.msg import Time
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import rclpy
from rclpy.clock import Clock
from rclpy.clock import ClockType  # type: ignore[attr-defined]
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer
from rclpy.utilities import ok

from ssl_vla_ros.errors import UserError

_WAKE_UP_S = 0.1


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
        descriptor = ParameterDescriptor(description=description, read_only=read_only)
        if isinstance(default, float):
            descriptor.floating_point_range = [FloatingPointRange(
                from_value=-math.inf if low is None else low,
                to_value=math.inf if high is None else high, step=0.0)]
        elif isinstance(default, int) and not isinstance(default, bool):
            descriptor.integer_range = [IntegerRange(
                from_value=-2**63 if low is None else int(low),
                to_value=2**63 - 1 if high is None else int(high), step=0)]
        self.declare_parameter(name, default, descriptor)

    def warn(self, text: str) -> None:
        """Log a warning; the same place at most every other second."""
        Node.get_logger(self).warning(text, throttle_duration_sec=2.0)

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Timer that a jump of ROS time does not touch."""
        return self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def run_plain(factory: Callable[[], PlainNode], args: Sequence[str] | None = None) -> int:
    """
    Run one node until a signal, and end it cleanly.

    Returns
    -------
    int
        Exit status: 0 after SIGINT or SIGTERM, 2 after a mistake of the user's (one sentence on
        stderr), 1 after any other error (a traceback on stderr).

    """
    stopping: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    # Before rclpy starts, so that a signal during start-up ends the process cleanly, too; and
    # until the very end, so that a second one does not interrupt that.
    previous = {number: signal.signal(number, on_signal)
                for number in (signal.SIGINT, signal.SIGTERM)}
    node: PlainNode | None = None
    status = 0
    try:
        rclpy.init(args=None if args is None else list(args),
                   signal_handler_options=SignalHandlerOptions.NO)
        node = factory()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        # Python runs signal handlers between two bytecodes, never inside the executor's wait.
        node.steady_timer(_WAKE_UP_S, lambda: None)
        while not stopping:
            executor.spin_once()
    except UserError as error:
        status = 2
        print(f'error: {error}', file=sys.stderr)
    except Exception:
        status = 1
        traceback.print_exc()
    finally:
        if node is not None:
            node.close()
            Node.destroy_node(node)
        if ok():
            rclpy.shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return status
