# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Record episodes: every topic of a robot contract, raw, one bag each, with every message accounted.

Policy, and why:

- Subscriptions live from activation on, not from the start of an episode: the publishers'
  sequence numbers are known before the first message, so that losses are counted exactly.
- What has come is taken a hundred times a second: the header stamp is judged, the bytes queued.
  Compression and the disk are on the writer thread.
- An episode ends at the time of the stop request. What was published before it and is still on
  its way is waited for; the answer comes when the episode is finished on the disk.
- A jump of a clock, too little disk, deactivation and a signal finish the episode as
  ``incomplete``, with the reason. Only an operator's stop makes it ``complete``, and only if
  there is something of every camera, state and action in it.
"""

from __future__ import annotations

from collections.abc import Sequence
import sys
import time
from typing import Any

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.episodes.books import ClockWatch
from ssl_vla_ros.episodes.control import EpisodeControl, RecordingLimits
from ssl_vla_ros.episodes.preroll import PreRoll
from ssl_vla_ros.episodes.recording import Outcome
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.common import JsonPublisher, ManagedNode, run
from ssl_vla_ros.nodes.recorder_disk import Session
from ssl_vla_ros.nodes.recorder_inputs import Inputs
from ssl_vla_ros.nodes.recorder_parameters import check_parameters, declare_parameters
from ssl_vla_ros.nodes.recorder_report import describe_state, Reporter
from ssl_vla_ros.nodes.recorder_services import EpisodeServices, Parts
from std_msgs.msg import String

#: How often messages are taken; the shorter the faster the cameras, so that a standstill is seen.
_TICK_S, _SHORTEST_TICK_S = 0.02, 0.004
#: A longer delay of a tick, in seconds, is a pause of our own.
_LATE_S = 0.01
#: After a new episode could not be made, time until it is tried again, in seconds.
_SPLIT_AGAIN_S = 10.0
_REPORT_S = 1.0


class RecorderNode(ManagedNode):
    """The ``recorder`` node."""

    def __init__(self) -> None:
        super().__init__('recorder')
        declare_parameters(self)
        self._parts: Parts | None = None
        self._jump = ''
        self._jump_handle: Any = None
        self._watch = ClockWatch(5.0)
        self._tick_timer: Timer | None = None
        self._report_timer: Timer | None = None
        self._instructions: Subscription | None = None
        self._ticked_at = self._split_again_at = 0.0
        self._state = JsonPublisher(self, '~/state')
        # The operator is answered as soon as the disk is ready, not with the next tick.
        self._opened = self.create_guard_condition(lambda: self._episode_services.look())
        self._episode_services = EpisodeServices(
            self, lambda: self._parts, self._publish_state, self._opened.trigger)
        self._publish_state()

    # -- lifecycle -------------------------------------------------------------------------

    def configure(self) -> None:
        """Read the contract, finish what a killed recorder left, find the message types."""
        check_parameters(self)
        contract = load_contract(self.value('contract'))
        session = Session.open(self.value('session_dir'), self.value('min_free_bytes'))
        for found in recover_session(session.path):
            self.get_logger().warning(
                f'{found.path}: {found.status} with {found.messages} messages: {found.reason}')
        inputs = Inputs(self, contract, self._on_message, PreRoll(
            self.value('pre_roll_s'), self.value('pre_roll_bytes')))
        control = EpisodeControl(inputs.books, RecordingLimits(
            **{name: self.value(name) for name in (
                'queue_size', 'queue_bytes', 'min_free_bytes', 'drain_s')}), self._opened.trigger)
        self._parts = Parts(inputs, session, control, Reporter(self, self.value('status_line')))
        self._watch = ClockWatch(self.value('clock_jump_s'))

    def activate(self) -> None:
        """Subscribe to everything the contract names."""
        assert self._parts is not None
        self._jump = ''
        self._parts.inputs.subscribe()
        if self.value('instruction_topic'):
            self._instructions = self.create_subscription(
                String, self.value('instruction_topic'), self._on_instruction, 10)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=self.value('clock_jump_s')),
                min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_clock_jump)
        self._tick_timer = self.steady_timer(_TICK_S, self._tick)
        self._report_timer = self.steady_timer(_REPORT_S, self._report)
        self._publish_state('active')

    def deactivate(self) -> None:
        """Finish an open episode as incomplete, and let go of the topics."""
        try:
            self._finish_now('deactivated while recording')
        finally:  # also where the disk does not answer
            self._let_go()
        self._publish_state('inactive')

    def _let_go(self) -> None:
        for timer in (self._tick_timer, self._report_timer):
            if timer is not None:
                self.destroy_timer(timer)
        self._tick_timer = self._report_timer = None
        if self._jump_handle is not None:
            self._jump_handle.unregister()
            self._jump_handle = None
        if self._instructions is not None:
            self.destroy_subscription(self._instructions)
            self._instructions = None
        if self._parts is not None:
            self._parts.inputs.unsubscribe()

    def cleanup(self) -> None:
        """Forget the contract and the session."""
        self._episode_services.give_up('the recorder was cleaned up before the disk answered')
        self._parts = None
        self._publish_state('unconfigured')

    def close(self) -> None:
        """Finish an episode that an error left open; nothing is published any more."""
        self._finish_now('ended by an error')

    # -- messages --------------------------------------------------------------------------

    def _on_message(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int,
                    before: bool) -> None:
        assert self._parts is not None
        self._parts.control.put(topic, cdr, log_time_ns, publish_time_ns, before=before)

    def _on_instruction(self, message: String) -> None:
        text = message.data.strip()
        if not text:
            self.get_logger().warning(
                f'{self.value("instruction_topic")}: an empty instruction is no task; the task '
                f'stays {self.value("task")!r}')
            return
        self.set_parameters([Parameter('task', value=text)])
        # From the start on, though the disk may still be making it.
        if self._parts is not None and self._parts.control.phase in (
                'starting', 'recording', 'paused'):
            control = self._parts.control
            control.task = text
            control.notes.setdefault('instructions', []).append(
                {'received_ns': time.time_ns(), 'text': text})

    def _on_clock_jump(self, jump: Any) -> None:
        self._jump = f'ROS time jumped by {jump.delta.nanoseconds / 1e9:.3f} s'

    # -- what is done again and again ------------------------------------------------------

    def _tick(self) -> None:
        assert self._parts is not None
        inputs, control = self._parts.inputs, self._parts.control
        inputs.poll()
        moved = self._watch.jump_s()
        if moved:
            self._jump = f'the system clock jumped by {moved:.3f} s'
        jump, self._jump = self._jump, ''
        phase = control.phase
        if jump and phase in ('idle', 'starting'):
            inputs.forget()
        outcome = control.step(inputs.clock_name, jump)
        if outcome is not None:
            self._announce(outcome)
        self._split_if_due(self._parts)
        self._episode_services.look()
        self._look(self._parts)
        if control.phase != phase:
            self._publish_state()

    def _look(self, parts: Parts) -> None:
        """Tell of a camera that stands still within two of its periods."""
        now, before = time.monotonic(), self._ticked_at
        self._ticked_at = now
        period_s = min(_TICK_S, max(_SHORTEST_TICK_S, parts.inputs.look_s()))
        # After a pause of our own, what came meanwhile waits to be taken: no camera's fault.
        if now - before < 2 * period_s + _LATE_S:
            parts.reporter.standstills(parts.inputs, parts.control)
        timer = self._tick_timer
        if timer is not None and abs(timer.timer_period_ns - period_s * 1e9) > 1e6:
            timer.timer_period_ns = round(period_s * 1e9)

    def _split_if_due(self, parts: Parts) -> None:
        control = parts.control
        longest, largest = self.value('split_duration_s'), self.value('split_bytes')
        why = ('split_duration_s' if 0 < longest <= control.elapsed_s else
               'split_bytes' if 0 < largest <= control.size_bytes else '')
        try:
            name = control.switch(parts.inputs.clock_name)
        except UserError as error:
            # The episode goes on: nothing is lost by a part that is longer than it should be.
            self._split_again_at = time.monotonic() + _SPLIT_AGAIN_S
            self.get_logger().error(f'cannot go on in a new episode: {error}')
            return
        if name:
            parts.inputs.carry_over()
            self.get_logger().info(f'{why} was reached: goes on in {name}')
        elif why and control.may_split and time.monotonic() >= self._split_again_at:
            control.split(parts.writer_maker(self), f'{why} was reached')

    def _announce(self, outcome: Outcome) -> None:
        if outcome.error:
            self.get_logger().error(outcome.error)
        elif outcome.told:
            self.get_logger().warning(outcome.told)
        self._episode_services.ended(outcome)

    def _finish_now(self, reason: str) -> None:
        if self._parts is not None:
            self._parts.inputs.poll()
            for outcome in self._parts.control.finish_now(reason, self._parts.inputs.clock_name):
                self._announce(outcome)

    def _publish_state(self, lifecycle: str = '') -> None:
        parts = self._parts
        self._state.publish(describe_state(
            lifecycle or self.state_label, None if parts is None else parts.inputs,
            None if parts is None else parts.control))

    def _report(self) -> None:
        assert self._parts is not None
        parts = self._parts
        parts.reporter.report(parts.inputs, parts.session, parts.control, _REPORT_S)
        self._publish_state()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; see ``ssl_vla_ros.nodes.common.run``."""
    return run(RecorderNode, args)


if __name__ == '__main__':
    sys.exit(main())
