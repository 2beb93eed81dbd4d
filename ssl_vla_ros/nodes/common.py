# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What every node of this package shares: safe transitions and a clean end on signals.

Policy, and why:

- A transition that raises is logged and answered with FAILURE, because rclpy swallows exceptions
  of transitions; what a half-done ``configure`` or ``activate`` made is undone by its opposite, so
  that a retry starts from nothing.
- A lifecycle request that is not possible now is answered with ``success: false``; rclpy's own
  handler lets an exception through the executor, which ends the process.
- SIGINT and SIGTERM are taken here and not by rclpy, because rclpy's handlers invalidate the
  context at once: here the node is deactivated and cleaned up with a living context, a second
  signal does not interrupt that, and the process exits with 0.
- Timers run on the steady clock, so that a jump of ROS time stalls nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
import sys
import threading
import traceback
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.timer import Timer

from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.basics import (
    awake_executor, declare_described, make_steady_timer, print_help, ros_until_signal,
    tell_unknown_parameters)
from ssl_vla_ros.nodes.reporting import Diagnostics, input_qos, JsonPublisher, LATCHED_QOS

__all__ = ['LATCHED_QOS', 'Diagnostics', 'JsonPublisher', 'ManagedNode', 'input_qos', 'run',
           'run_together']
#: How often the main thread looks whether others still live, in seconds.
_LOOK_S = 0.1


class ManagedNode(LifecycleNode):
    """
    A lifecycle node whose transitions cannot go wrong in silence.

    Subclasses override ``configure``, ``activate``, ``deactivate``, ``cleanup`` and ``close``,
    and raise to fail: a ``UserError`` is logged as its sentence, anything else with a traceback.
    ``deactivate`` and ``cleanup`` must cope with a start that got half way. ``close`` is the last
    call before the process ends, whatever happened; it must not publish.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._fixed: set[str] = set()
        self._plain_change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        self.add_on_set_parameters_callback(self._on_fixed_parameters)
        self.declare('autostart', False, 'configure and activate without being asked',
                     read_only=True)
        self.declare('exit_on_failure', False, 'end with status 2 if autostart fails, instead of '
                     'waiting to be configured again', read_only=True)

    def configure(self) -> None:
        """Make what the node needs, from its parameters."""

    def activate(self) -> None:
        """Start working; must be fast."""

    def deactivate(self) -> None:
        """Undo ``activate``."""

    def cleanup(self) -> None:
        """Undo ``configure``."""

    def close(self) -> None:
        """Finish files and threads at the end of the process; must not publish."""

    # -- parameters ------------------------------------------------------------------------

    def declare(self, name: str, default: Any, description: str, *, read_only: bool = False,
                fixed: bool = False, low: float | None = None,
                high: float | None = None) -> None:
        """
        Declare a parameter with description and range.

        Parameters
        ----------
        name, default, description
            As they appear in ``ros2 param describe``; the default fixes the type.
        read_only
            Only a launch file or the command line may set it.
        fixed
            It takes effect in ``configure``: setting it later is refused, not ignored.
        low, high
            Range of a number, both ends included.

        """
        if fixed:
            self._fixed.add(name)
        declare_described(
            self, name, default, description, read_only=read_only, low=low, high=high)

    def value(self, name: str) -> Any:
        """Value of a parameter."""
        return self.get_parameter(name).value

    def _on_fixed_parameters(self, parameters: Sequence[Any]) -> SetParametersResult:
        if self.state_label != 'unconfigured':
            for parameter in parameters:
                if parameter.name in self._fixed:
                    return SetParametersResult(successful=False, reason=(
                        f'{parameter.name} takes effect when the node is configured, and it is '
                        f'{self.state_label}: clean it up first'))
        return SetParametersResult(successful=True)

    # -- transitions -----------------------------------------------------------------------

    @property
    def state_label(self) -> str:
        """``unconfigured``, ``inactive``, ``active``, ``finalized`` or a transition's name."""
        return str(self._state_machine.current_state[1])

    def start(self) -> bool:
        """Configure and activate; False, with the reason logged, if either fails."""
        return bool(self.trigger_configure() == TransitionCallbackReturn.SUCCESS
                    and self.trigger_activate() == TransitionCallbackReturn.SUCCESS)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Configure, or say why not and undo it."""
        return self._guarded('configure', self.configure, super().on_configure, state,
                             undo=self.cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Activate, or say why not and undo it."""
        return self._guarded('activate', self.activate, super().on_activate, state,
                             undo=self.deactivate)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate; the node counts as inactive even if that raised."""
        self._guarded('deactivate', self.deactivate, super().on_deactivate, state)
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up; the node counts as unconfigured even if that raised."""
        self._guarded('clean up', self.cleanup, super().on_cleanup, state)
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and clean up as far as the node had come."""
        if state.label == 'active':
            self.on_deactivate(state)
        if state.label in ('active', 'inactive'):
            self.on_cleanup(state)
        return TransitionCallbackReturn.SUCCESS

    def _guarded(self, what: str, work: Callable[[], None],
                 entities: Callable[[LifecycleState], TransitionCallbackReturn],
                 state: LifecycleState, undo: Callable[[], None] | None = None
                 ) -> TransitionCallbackReturn:
        try:
            work()
            return entities(state)
        except Exception as error:
            self.log_failure(f'cannot {what}', error)
            if undo is None:
                # On the way down the publishers must go silent all the same.
                entities(state)
        if undo is not None:
            try:
                undo()
            except Exception as error:
                self.log_failure(f'cannot undo a failed {what}', error)
        return TransitionCallbackReturn.FAILURE

    def log_failure(self, what: str, error: BaseException) -> None:
        """Log an error: a user's mistake as one sentence, anything else with its traceback."""
        if isinstance(error, UserError):
            self.get_logger().error(f'{what}: {error}')
        else:
            lines = ''.join(traceback.format_exception(error))
            self.get_logger().error(f'{what}: {error!r}\n{lines}')

    def _on_change_state(self, request: Any, response: Any) -> Any:
        wanted = request.transition
        available = {item[0]: item[1] for item in self._state_machine.available_transitions}
        possible = (wanted.label in available.values() if wanted.label
                    else wanted.id in available)
        if not possible:
            self.get_logger().warning(
                f'refused lifecycle transition {wanted.label or wanted.id!r} in state '
                f'{self.state_label}; possible: {", ".join(sorted(available.values())) or "none"}')
            response.success = False
            return response
        return self._plain_change_state(request, response)

    def steady_timer(self, period_s: float, callback: Callable[[], None]) -> Timer:
        """Timer that a jump of ROS time does not touch."""
        return make_steady_timer(self, period_s, callback)


def run(factory: Callable[[], ManagedNode], args: Sequence[str] | None = None) -> int:
    """
    Run one node until a signal, and end it cleanly.

    Parameters
    ----------
    factory
        Makes the node.
    args
        Command line, ``sys.argv`` if None.

    Returns
    -------
    int
        Exit status: 0 after SIGINT or SIGTERM, 1 if the node could not be made or a callback
        raised (the reason is on stderr or in the log), 2 if it could not start itself and was to
        end then (``exit_on_failure``).

    """
    if print_help(args, factory):
        return 0
    return _run(lambda: [factory()], args)


def run_together(factory: Callable[[], Sequence[ManagedNode]],
                 args: Sequence[str] | None = None) -> int:
    """
    Run several nodes in one process, as ``run`` does one.

    Each has an executor and a thread of its own: while one opens its networks, which takes
    seconds, or minutes on a GPU, another must go on watching over an arm. The last one has the
    main thread.
    """
    if print_help(args, factory):
        return 0
    return _run(factory, args)


def _run(factory: Callable[[], Sequence[ManagedNode]], args: Sequence[str] | None) -> int:
    try:
        with ros_until_signal(args) as stopping:
            return _live(factory, stopping)
    except Exception as error:  # a wrong command line, for rclpy
        print(f'cannot start: {error}', file=sys.stderr)
        return 1


def _live(factory: Callable[[], Sequence[ManagedNode]], stopping: list[int]) -> int:
    try:
        nodes = factory()
    except Exception as error:
        print(f'cannot start: {error}', file=sys.stderr)
        return 1
    tell_unknown_parameters(nodes)
    statuses: list[int] = []
    threads = [threading.Thread(target=_spin, args=(node, stopping, statuses),
                                name=node.get_name()) for node in nodes[:-1]]
    try:
        for thread in threads:
            thread.start()
        _spin(nodes[-1], stopping, statuses)
        while any(thread.is_alive() for thread in threads):
            threads[0].join(_LOOK_S)    # not for ever: signals are taken in between
            threads.sort(key=lambda thread: not thread.is_alive())
    finally:
        stopping.append(0)
        for thread in threads:
            thread.join()
        # The last first: it lives on what the others give.
        for node in reversed(nodes):
            _end(node)
    return statuses[0] if statuses else 0


def _spin(node: ManagedNode, stopping: list[int], statuses: list[int]) -> None:
    """Live until a signal, the node's own end, or that of another by an error."""
    try:
        executor = awake_executor(node)
        if not stopping and node.value('autostart') and not node.start() and (
                node.value('exit_on_failure')):
            statuses.append(2)
            stopping.append(0)
        while not stopping and node.state_label != 'finalized':
            executor.spin_once()
    except Exception as error:
        node.log_failure('ended by an error', error)
        statuses.append(1)
        stopping.append(0)


def _end(node: ManagedNode) -> None:
    """Bring a node down from wherever it is; nothing here may keep ``close`` from its turn."""
    try:
        if node.state_label in ('unconfigured', 'inactive', 'active'):
            node.trigger_shutdown()
    except Exception as error:
        node.log_failure('cannot shut down', error)
    try:
        node.close()
    except Exception as error:
        node.log_failure('cannot close', error)
    finally:
        node.destroy_node()
