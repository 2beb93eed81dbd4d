# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Record episodes: every topic of a robot contract, raw, one bag each, with every message accounted.

Policy, and why:

- Subscriptions live from activation on, not from the start of an episode: the publishers'
  sequence numbers are known before the first message, so that losses are counted exactly.
- A callback judges the header stamp and queues the bytes; compression and the disk are on the
  writer thread.
- An episode ends at the time of the stop request. What was published before it and is still on
  its way is waited for; the answer comes when the episode is finished on the disk.
- A jump of a clock, too little disk, deactivation and a signal finish the episode as
  ``incomplete``, with the reason. Only an operator's stop makes it ``complete``, and only if
  there is something of every camera, state and action in it.
"""

from __future__ import annotations

from collections.abc import Sequence
import sys
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.task import Future
from rclpy.timer import Timer

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.episodes.books import ClockWatch
from ssl_vla_ros.episodes.control import EpisodeControl, RecordingLimits
from ssl_vla_ros.episodes.recording import Outcome
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.writer import EpisodeWriter
from ssl_vla_ros.errors import ConfigError, UserError
from ssl_vla_ros.nodes.common import JsonPublisher, ManagedNode, run
from ssl_vla_ros.nodes.recorder_inputs import Inputs, Session
from ssl_vla_ros.nodes.reporting import Diagnostics
from std_srvs.srv import SetBool, Trigger

_TICK_S = 0.05
_REPORT_S = 1.0


class RecorderNode(ManagedNode):
    """The ``recorder`` node."""

    def __init__(self) -> None:
        super().__init__('recorder')
        self.declare('contract', '', 'robot contract (YAML file)', fixed=True)
        self.declare('session_dir', '', 'directory that episodes are written to', fixed=True)
        self.declare('task', '', 'what is being done, in words; read when an episode starts')
        self.declare('operator', '', 'who teleoperates; read when an episode starts')
        self.declare('queue_size', 2000, 'messages that may wait for the disk',
                     fixed=True, low=1, high=1_000_000)
        self.declare('queue_bytes', 256 * 2**20, 'bytes that may wait for the disk',
                     fixed=True, low=2**20, high=2**40)
        self.declare('fsync_interval_s', 1.0, 'time a power cut may cost, in seconds',
                     fixed=True, low=0.05, high=60.0)
        self.declare('min_free_bytes', 512 * 2**20, 'free disk below which nothing is recorded',
                     fixed=True, low=0, high=2**50)
        self.declare('drain_s', 1.0, 'longest wait for messages on their way at the stop, in '
                     'seconds', fixed=True, low=0.2, high=60.0)
        self.declare('clock_jump_s', 5.0, 'forward jump of a clock that ends an episode, in '
                     'seconds (of the system clock: in either direction)',
                     fixed=True, low=0.1, high=3600.0)
        self._inputs: Inputs | None = None
        self._session: Session | None = None
        self._control: EpisodeControl | None = None
        self._waiting: list[Future] = []
        self._jump = ''
        self._jump_handle: Any = None
        self._watch = ClockWatch(5.0)
        self._timers_made: list[Timer] = []
        self._state = JsonPublisher(self, '~/state')
        self._diagnostics = Diagnostics(self)
        # Of their own: a stop waits for its messages, and must not keep them from coming.
        group = ReentrantCallbackGroup()
        for name, handler in (
                ('start_episode', self._on_start), ('stop_episode', self._on_stop),
                ('discard_episode', self._on_discard), ('mark_success', self._on_success),
                ('mark_failure', self._on_failure)):
            self.create_service(Trigger, f'~/{name}', handler, callback_group=group)
        self.create_service(SetBool, '~/pause', self._on_pause, callback_group=group)
        self._publish_state()

    # -- lifecycle -------------------------------------------------------------------------

    def configure(self) -> None:
        """Read the contract, finish what a killed recorder left, find the message types."""
        if not self.value('contract'):
            raise ConfigError(
                'the parameter contract is empty; give the robot contract, for example '
                '-p contract:=config/robots/sim_ur5e.yaml')
        if not self.value('session_dir'):
            raise ConfigError(
                'the parameter session_dir is empty; give a directory for the episodes')
        contract = load_contract(self.value('contract'))
        session = Session.open(self.value('session_dir'), self.value('min_free_bytes'))
        for found in recover_session(session.path):
            self.get_logger().warning(
                f'{found.path}: {found.status} with {found.messages} messages: {found.reason}')
        self._inputs = Inputs(self, contract, self._on_message)
        self._control = EpisodeControl(self._inputs.books, RecordingLimits(
            **{name: self.value(name) for name in (
                'queue_size', 'queue_bytes', 'min_free_bytes', 'drain_s')}))
        self._session = session
        self._watch = ClockWatch(self.value('clock_jump_s'))

    def activate(self) -> None:
        """Subscribe to everything the contract names."""
        assert self._inputs is not None
        self._inputs.subscribe()
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
        if self._inputs is not None:
            self._inputs.unsubscribe()
        self._publish_state('inactive')

    def cleanup(self) -> None:
        """Forget the contract and the session."""
        self._inputs = self._control = self._session = None
        self._publish_state('unconfigured')

    def close(self) -> None:
        """Finish an episode that an error left open; nothing is published any more."""
        self._finish_now('ended by an error')

    # -- messages and the end of an episode ------------------------------------------------

    def _on_message(self, topic: str, cdr: bytes, log_time_ns: int, publish_time_ns: int
                    ) -> None:
        assert self._control is not None
        self._control.put(topic, cdr, log_time_ns, publish_time_ns)

    def _on_clock_jump(self, jump: Any) -> None:
        self._jump = f'ROS time jumped by {jump.delta.nanoseconds / 1e9:.3f} s'

    def _tick(self) -> None:
        assert self._control is not None and self._inputs is not None
        moved = self._watch.jump_s()
        if moved:
            self._jump = f'the system clock jumped by {moved:.3f} s'
        jump, self._jump = self._jump, ''
        phase = self._control.phase
        outcome = self._control.step(self._inputs.clock_name, jump)
        if outcome is not None:
            self._announce(outcome)
        if self._control.phase != phase:
            self._publish_state()

    def _announce(self, outcome: Outcome) -> None:
        if outcome.error:
            self.get_logger().error(outcome.error)
        elif outcome.told:
            self.get_logger().warning(outcome.told)
        for future in self._waiting:
            future.set_result(outcome)
        self._waiting = []

    def _finish_now(self, reason: str) -> None:
        if self._control is not None and self._inputs is not None:
            outcome = self._control.finish_now(reason, self._inputs.clock_name)
            if outcome is not None:
                self._announce(outcome)

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
        try:
            response.message = control.start(lambda: EpisodeWriter(
                session.path, inputs.contract, task=self.value('task'),
                operator=self.value('operator'), topics=inputs.contract.topics(),
                fsync_interval_s=self.value('fsync_interval_s'), bag_topics=inputs.resolved))
        except UserError as error:
            response.message = str(error)
            return response
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
        self._waiting.append(future)
        outcome: Outcome = await future
        response.success = outcome.status == ('discarded' if discard else 'complete')
        if not response.success:
            response.message = outcome.told
        return response

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
        if control is not None:
            control.books.paused = bool(request.data)
            response.success = True
            self._publish_state()
        return response

    # -- reports ---------------------------------------------------------------------------

    def _publish_state(self, lifecycle: str = '') -> None:
        control = self._control
        last = None if control is None else control.last
        self._state.publish({
            'lifecycle': lifecycle or self.state_label,
            'state': 'idle' if control is None else control.phase,
            'episode': None if control is None else control.name,
            'success': None if control is None or not control.running else control.success,
            'counts': {} if control is None else control.counts(),
            'queue_depth': 0 if control is None else control.depth,
            'waiting_for': '' if self._inputs is None else self._inputs.not_ready(),
            'last': None if last is None else {
                'episode': last.name, 'status': last.status, 'reason': last.reason,
                'error': last.error,
                'counts': {topic: item.to_dict() for topic, item in last.accounts.items()}}})

    def _report(self) -> None:
        inputs, session, control = self._inputs, self._session, self._control
        assert inputs is not None and session is not None and control is not None
        values, warnings = inputs.diagnose(_REPORT_S, control.running)
        free, no_room = session.room()
        values |= {'free_disk_bytes': free, 'queue_depth': control.depth,
                   'episode': control.name or ''}
        errors = [no_room, '' if control.last is None else control.last.error]
        self._diagnostics.publish(values, warnings=warnings, errors=list(filter(None, errors)),
                                  summary=control.phase)
        self._publish_state()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; see ``ssl_vla_ros.nodes.common.run``."""
    return run(RecorderNode, args)


if __name__ == '__main__':
    sys.exit(main())
