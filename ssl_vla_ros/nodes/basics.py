# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What lifecycle nodes and plain nodes share: parameters, steady timers, a life until a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import difflib
import math
from pathlib import Path
import signal
import sys
from types import FrameType
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
import rclpy
from rclpy.clock import Clock
from rclpy.clock import ClockType  # type: ignore[attr-defined]
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.timer import Timer
from rclpy.utilities import ok

from ssl_vla_ros.errors import UserError

#: How long a signal may wait for the executor, in seconds: the period of its idle wake-up.
_WAKE_UP_S = 0.1


def declare_described(node: Node, name: str, default: Any, description: str, *,
                      read_only: bool = False, low: float | None = None,
                      high: float | None = None) -> None:
    """
    Declare a parameter; ``low`` and ``high`` are its range, both ends included.

    Raises
    ------
    UserError
        If the value from the command line or a file has another type, or lies outside the range.

    """
    try:
        node.declare_parameter(name, default, describe(
            default, description, read_only=read_only, low=low, high=high))
    except InvalidParameterTypeException as error:
        hint = (' (with a decimal point: 2.0, not 2)' if isinstance(default, float) else
                f" (a text: {name}: '2' in a file, {name}:=\"'2'\" on a command line)"
                if isinstance(default, str) else '')
        raise UserError(f'{node.get_name()}: {error}{hint}') from error
    except InvalidParameterValueException as error:
        span = f'from {low} to {high}' if high is not None else f'at least {low}'
        raise UserError(f'{node.get_name()}: parameter {name} must be {span}: {error}') from error


def describe(default: Any, description: str, *, read_only: bool = False,
             low: float | None = None, high: float | None = None) -> ParameterDescriptor:
    """Describe a parameter; ``low`` and ``high`` are its range, both ends included."""
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if low is None and high is None:
        return descriptor
    if isinstance(default, int):
        descriptor.integer_range = [IntegerRange(
            from_value=-2**63 if low is None else int(low),
            to_value=2**63 - 1 if high is None else int(high), step=0)]
    else:
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=-math.inf if low is None else float(low),
            to_value=math.inf if high is None else float(high), step=0.0)]
    return descriptor


def make_steady_timer(node: Node, period_s: float, callback: Callable[[], None]) -> Timer:
    """Make a timer that a jump of ROS time does not touch."""
    return node.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))


def tell_unknown_parameters(nodes: Sequence[Node]) -> None:
    """Warn of parameters that were given and that none of these nodes has: ROS ignores them."""
    given = {name for node in nodes for name in getattr(node, '_parameter_overrides', ())}
    known = {name for node in nodes for name in node.get_parameters_by_prefix('')}
    for name in sorted(given - known):
        near = difflib.get_close_matches(name, known, 1)
        nodes[0].get_logger().warning(
            f'parameter {name} was given and has no effect: there is none of that name here'
            + (f'; did you mean {near[0]}?' if near else
               '; config/ has a file for each node with all of them'))


def print_help(args: Sequence[str] | None, factory: Callable[..., Any]) -> bool:
    """Print what a node is and how it is started, if the command line asks for that."""
    given = sys.argv[1:] if args is None else args
    if not {'-h', '--help'} & set(given):
        return False
    module = sys.modules[factory.__module__]
    name = Path(module.__file__ or '').stem
    print((module.__doc__ or '').strip())
    print(f"""
usage: {name} [--ros-args [-p NAME:=VALUE] … [-r FROM:=TO] … [--params-file FILE]]
Every parameter with its default is in config/{name}.yaml of the package, where it has any.""")
    return True


@contextmanager
def ros_until_signal(args: Sequence[str] | None) -> Iterator[list[int]]:
    """
    Hold rclpy and take SIGINT and SIGTERM; yields the list of signals that have come.

    They are taken before rclpy starts, so that a signal during start-up ends the process cleanly,
    too, and until the very end, so that a second one does not interrupt that. rclpy's own handlers
    would invalidate the context at once.

    Raises
    ------
    UserError
        If the command line is none that ROS can read.

    """
    stopping: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stopping.append(number)

    previous = {number: signal.signal(number, on_signal)
                for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            rclpy.init(args=None if args is None else list(args),
                       signal_handler_options=SignalHandlerOptions.NO)
        except Exception as error:  # a class of rclpy's C++ half, for which there is no name
            raise UserError(
                f'ROS cannot start: {" ".join(str(error).split())}; is a parameter or remapping '
                'on the command line mistyped?') from error
        yield stopping
    finally:
        if ok():
            rclpy.shutdown()
        for number, handler in previous.items():
            signal.signal(number, handler)


def awake_executor(node: Node) -> SingleThreadedExecutor:
    """
    Make the executor of one node, which wakes up now and then without any work.

    Python runs signal handlers between two bytecodes, never inside the executor's wait.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    make_steady_timer(node, _WAKE_UP_S, lambda: None)
    return executor
