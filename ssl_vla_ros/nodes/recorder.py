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
import dataclasses
import sys
import time
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.parameter import Parameter
from rclpy.subscription import Subscription
from rclpy.task import Future
from rclpy.timer import Timer

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.episodes.books import ClockWatch
from ssl_vla_ros.episodes.control import EpisodeControl, RecordingLimits
from ssl_vla_ros.episodes.discard import discard_finished
from ssl_vla_ros.episodes.preroll import PreRoll
from ssl_vla_ros.episodes.recording import Outcome
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import UserError
from ssl_vla_ros.nodes.common import JsonPublisher, ManagedNode, run
from ssl_vla_ros.nodes.recorder_disk import Session
from ssl_vla_ros.nodes.recorder_inputs import Inputs
from ssl_vla_ros.nodes.recorder_parameters import check_parameters, declare_parameters
from ssl_vla_ros.nodes.recorder_report import describe_state, Reporter
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

#: How often messages are taken; the shorter the faster the cameras, so that a standstill is seen.
_TICK_S, _SHORTEST_TICK_S = 0.02, 0.01
#: After a new episode could not be made, time until it is tried again, in seconds.
_SPLIT_AGAIN_S = 10.0
_REPORT_S = 1.0


class RecorderNode(ManagedNode):
    """The ``recorder`` node."""

    def __init__(self) -> None:
        super().__init__('recorder')
        declare_parameters(self)
        self._inputs: Inputs | None = None
        self._session: Session | None = None
        self._control: EpisodeControl | None = None
        self._waiting: list[tuple[str, Future]] = []
        self._jump = ''
        self._jump_handle: Any = None
        self._watch = ClockWatch(5.0)
        self._timers_made: list[Timer] = []
        self._instructions: Subscription | None = None
        self._ticked_at = self._split_again_at = 0.0
        self._state = JsonPublisher(self, '~/state')
        self._reporter: Reporter | None = None
        # Of their own: a stop waits for its messages, and must not keep them from coming.
        group = ReentrantCallbackGroup()
        for name, handler in (
                ('start_episode', self._on_start), ('stop_episode', self._on_stop),
                ('discard_episode', self._on_discard), ('mark_success', self._on_success),
                ('mark_failure', self._on_failure), ('rerecord_episode', self._on_rerecord)):
            self.create_service(Trigger, f'~/{name}', handler, callback_group=group)
        self.create_service(SetBool, '~/pause', self._on_pause, callback_group=group)
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
        self._inputs = Inputs(self, contract, self._on_message, PreRoll(
            self.value('pre_roll_s'), self.value('pre_roll_bytes')))
        self._control = EpisodeControl(self._inputs.books, RecordingLimits(
            **{name: self.value(name) for name in (
                'queue_size', 'queue_bytes', 'min_free_bytes', 'drain_s')}))
        self._session = session
        self._watch = ClockWatch(self.value('clock_jump_s'))
        self._reporter = Reporter(self, self.value('status_line'))

    def activate(self) -> None:
        """Subscribe to everything the contract names."""
        assert self._inputs is not None
        self._inputs.subscribe()
        if self.value('instruction_topic'):
            self._instructions = self.create_subscription(
                String, self.value('instruction_topic'), self._on_instruction, 10)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=self.value('clock_jump_s')),
                min_backward=Duration(nanoseconds=-1), on_clock_change=True),
            post_callback=self._on_clock_jump)
        self._timers_made = [self.steady_timer(_TICK_S, self._tick),
                             self.steady_timer(_REPORT_S, self._report)]
        self._publish_state('active')

    def deactivate(self) -> None:
        """Finish an open episode as incomplete, and let go of the topics."""
        self._finish_now('deactivated while recording')
        for timer in self._timers_made:
            self.destroy_timer(timer)
        self._timers_made = []
        if self._jump_handle is not None:
            self._jump_handle.unregister()
            self._jump_handle = None
        if self._instructions is not None:
            self.destroy_subscription(self._instructions)
            self._instructions = None
        if self._inputs is not None:
            self._inputs.unsubscribe()
        self._publish_state('inactive')

    def cleanup(self) -> None:
        """Forget the contract and the session."""
        self._inputs = self._control = self._session = self._reporter = None
        self._publish_state('unconfigured')

    def close(self) -> None:
        """Finish an episode that an error left open; nothing is published any more."""
        self._finish_now('ended by an error')

    # -- messages and the end of an episode ------------------------------------------------

    def _on_message(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int,
                    before: bool) -> None:
        assert self._control is not None
        self._control.put(topic, cdr, log_time_ns, publish_time_ns, before=before)

    def _on_instruction(self, message: String) -> None:
        text = message.data.strip()
        if not text:
            self.get_logger().warning(
                f'{self.value("instruction_topic")}: an empty instruction is no task; the task '
                f'stays {self.value("task")!r}')
            return
        self.set_parameters([Parameter('task', value=text)])
        if self._control is not None and self._control.running:
            self._control.task = text
            self._control.notes.setdefault('instructions', []).append(
                {'received_ns': time.time_ns(), 'text': text})

    def _on_clock_jump(self, jump: Any) -> None:
        self._jump = f'ROS time jumped by {jump.delta.nanoseconds / 1e9:.3f} s'

    def _tick(self) -> None:
        assert self._control is not None and self._inputs is not None
        self._inputs.poll()
        moved = self._watch.jump_s()
        if moved:
            self._jump = f'the system clock jumped by {moved:.3f} s'
        jump, self._jump = self._jump, ''
        phase = self._control.phase
        outcome = self._control.step(self._inputs.clock_name, jump)
        if outcome is not None:
            self._announce(outcome)
        self._split_if_due()
        self._look()
        if self._control.phase != phase:
            self._publish_state()

    def _look(self) -> None:
        """Tell of a camera that stands still within two of its periods."""
        assert self._control is not None and self._inputs is not None
        assert self._reporter is not None
        now, before = time.monotonic(), self._ticked_at
        self._ticked_at = now
        period_s = min(_TICK_S, max(_SHORTEST_TICK_S, self._inputs.look_s()))
        # After a pause of our own, what came meanwhile waits to be taken: no camera's fault.
        if now - before < 2 * period_s + _SHORTEST_TICK_S:
            self._reporter.standstills(self._inputs, self._control)
        if abs(self._timers_made[0].timer_period_ns - period_s * 1e9) > 1e6:
            self._timers_made[0].timer_period_ns = round(period_s * 1e9)

    def _split_if_due(self) -> None:
        control, inputs = self._control, self._inputs
        assert control is not None and inputs is not None
        longest, largest = self.value('split_duration_s'), self.value('split_bytes')
        why = ('split_duration_s' if 0 < longest <= control.elapsed_s else
               'split_bytes' if 0 < largest <= control.size_bytes else '')
        if control.phase != 'recording' or not why or time.monotonic() < self._split_again_at:
            return
        try:
            name = control.split(self._open_writer, inputs.clock_name, f'{why} was reached')
        except UserError as error:
            # The episode goes on: nothing is lost by a part that is longer than it should be.
            self._split_again_at = time.monotonic() + _SPLIT_AGAIN_S
            self.get_logger().error(f'cannot go on in a new episode: {error}')
            return
        inputs.carry_over()
        self.get_logger().info(f'{why} was reached: goes on in {name}')

    def _announce(self, outcome: Outcome) -> None:
        if outcome.error:
            self.get_logger().error(outcome.error)
        elif outcome.told:
            self.get_logger().warning(outcome.told)
        for name, future in self._waiting:
            if name == outcome.name:
                future.set_result(outcome)
        self._waiting = [item for item in self._waiting if item[0] != outcome.name]

    def _finish_now(self, reason: str) -> None:
        if self._control is not None and self._inputs is not None:
            self._inputs.poll()
            for outcome in self._control.finish_now(reason, self._inputs.clock_name):
                self._announce(outcome)

    def _open_writer(self) -> EpisodeWriter:
        inputs, session = self._inputs, self._session
        assert inputs is not None and session is not None
        return EpisodeWriter(
            session.path, inputs.contract, task=self.value('task'),
            operator=self.value('operator'), topics=inputs.contract.topics(),
            fsync_interval_s=self.value('fsync_interval_s'), bag_topics=inputs.resolved,
            compression=self.value('compression'))

    # -- services --------------------------------------------------------------------------

    def _on_start(self, _request: Any, response: Any) -> Any:
        if self.state_label != 'active':
            response.message = (
                f'the recorder is {self.state_label}; configure and activate it first')
            return response
        inputs, session, control = self._inputs, self._session, self._control
        assert inputs is not None and session is not None and control is not None
        response.message = '' if control.running else inputs.not_ready() or session.room()[1]
        if response.message:
            return response
        begins_ns = inputs.begins_ns()
        try:
            response.message = control.start(self._open_writer, begins_ns)
        except UserError as error:
            response.message = str(error)
            return response
        if begins_ns is not None:
            control.notes['pre_roll_s'] = (time.time_ns() - begins_ns) / 1e9
        inputs.begin()
        self._jump = ''
        response.success = True
        self._publish_state()
        return response

    def _running(self, response: Any) -> EpisodeControl | None:
        """Give the control of an episode being recorded, or say in the response that none is."""
        if self._control is None or not self._control.running:
            last = None if self._control is None else self._control.last
            response.message = 'no episode is being recorded; start one first' + (
                f' (the last one: {last.told})' if last is not None and last.told else '')
            return None
        response.message = str(self._control.name)
        return self._control

    async def _on_stop(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=False)

    async def _on_discard(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=True)

    async def _end_episode(self, response: Any, *, discard: bool) -> Any:
        control = self._running(response)
        if control is None:
            return response
        control.stop(reason='discarded by the operator' if discard else '', discard=discard)
        self._publish_state()
        future = Future()
        self._waiting.append((str(control.name), future))
        outcome: Outcome = await future
        response.success = outcome.status == ('discarded' if discard else 'complete')
        if not response.success:
            response.message = outcome.told
        return response

    async def _on_rerecord(self, request: Any, response: Any) -> Any:
        """Throw the open episode away, or the last one if none is open, and start the next."""
        control = self._control
        if control is not None and control.running:
            name = str(control.name)
            if not (await self._end_episode(response, discard=True)).success:
                return response
        else:
            response.message = self._discard_last()
            if response.message:
                return response
            assert control is not None and control.last is not None
            name = control.last.name
        response.success = False
        if self._on_start(request, response).success:
            self.get_logger().info(f'{name} is discarded; {response.message} takes its place')
        else:
            response.message = f'{name} is discarded; no new one was started: {response.message}'
        return response

    def _discard_last(self) -> str:
        """Throw the last finished episode away; says why not, if so."""
        control, session = self._control, self._session
        last = None if control is None else control.last
        if session is None or control is None or control.phase != 'idle' or last is None or (
                last.status not in ('complete', 'incomplete')):
            return ('there is no episode of this recorder to be recorded again; start one with '
                    'start_episode')
        try:
            discard_finished(session.path / last.name, 'recorded again')
        except UserError as error:
            return str(error)
        control.last = dataclasses.replace(last, status='discarded', reason='recorded again')
        return ''

    def _on_success(self, _request: Any, response: Any) -> Any:
        return self._mark(response, True)

    def _on_failure(self, _request: Any, response: Any) -> Any:
        return self._mark(response, False)

    def _mark(self, response: Any, success: bool) -> Any:
        control = self._running(response)
        if control is not None:
            control.success, response.success = success, True
            self._publish_state()
        return response

    def _on_pause(self, request: Any, response: Any) -> Any:
        control = self._running(response)
        if control is not None and self._inputs is not None:
            self._inputs.poll()  # what has come already is not meant
            control.books.paused = bool(request.data)
            response.success = True
            self._publish_state()
        return response

    # -- reports ---------------------------------------------------------------------------

    def _publish_state(self, lifecycle: str = '') -> None:
        self._state.publish(describe_state(
            lifecycle or self.state_label, self._inputs, self._control))

    def _report(self) -> None:
        inputs, session, control = self._inputs, self._session, self._control
        assert inputs is not None and session is not None and control is not None
        assert self._reporter is not None
        self._reporter.report(inputs, session, control, _REPORT_S)
        self._publish_state()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; see ``ssl_vla_ros.nodes.common.run``."""
    return run(RecorderNode, args)


if __name__ == '__main__':
    sys.exit(main())
