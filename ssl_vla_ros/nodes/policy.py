# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The policy node: features and state in, commands out, inside the contract's limits.

Disabled until ``~/enable``. A fault (stale or broken input, NaN, a joint outside of its limits,
a jump of the clock, an encoder that is unknown or not the one the head was trained on) halts:
velocities ramp to zero, everything else is held, and the halt is latched until somebody enables
again. Stale is what header stamps or a steady clock call so. This is not certified safety.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from sensor_msgs.msg import Image
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.stamps import stamp_ns
from ssl_vla_ros.messages.tensors import read_tensor
from ssl_vla_ros.nodes.commands import CommandOutput
from ssl_vla_ros.nodes.common import input_qos, ManagedNode, run
from ssl_vla_ros.nodes.encoder_check import EncoderCheck
from ssl_vla_ros.nodes.models import bind_thread, declare_model, open_model, wanted_cores
from ssl_vla_ros.nodes.policy_report import PolicyReport
from ssl_vla_ros.nodes.streams import StateInput
from ssl_vla_ros.runtime.bundle import Bundle, Floats, InferenceError
from ssl_vla_ros.runtime.chunks import ChunkRunner
from ssl_vla_ros.runtime.frames import FrameSet, Mailbox
from ssl_vla_ros.safety import CommandRefusedError, Latch, refuse_stale, Watchdog
from std_srvs.srv import SetBool, Trigger

_JOIN_S = 10.0
#: What the watchdog calls a tick from whose inputs a command could be made.
_TICK = 'usable inputs'
#: Longest smooth halt when the node itself goes, in control periods.
_LAST_STEPS = 40


class PolicyNode(ManagedNode):
    """See the module; topics, services and parameters are listed in docs and ``config/``."""

    def __init__(self, joined: bool = False) -> None:
        super().__init__('policy')
        self._joined = joined   # features are handed over by ``take``, in this process
        declare_model(self)
        self.declare('execute', 0, 'actions of a chunk that are run; 0: as in the bundle',
                     fixed=True, low=0, high=1000)
        self.declare('frame_id', 'base_link', 'frame of stamped commands', fixed=True)
        self.declare('zero_on_halt', [''], 'commanded values that are velocities though their '
                     'message does not say so: zero in a halt', fixed=True)
        self._report = PolicyReport(self)
        self._lock = threading.RLock()   # latch, limiter and output: worker, timer and services
        self._latch = Latch()
        self._bundle: Bundle | None = None
        self._runner: ChunkRunner | None = None
        self._output: CommandOutput | None = None
        self._watchdog: Watchdog | None = None
        self._mailbox: Mailbox | None = None
        self._worker: threading.Thread | None = None
        self._state: StateInput | None = None
        self._encoder: EncoderCheck | None = None
        self._features: Any = None
        self._timer: Any = None
        self._enabled_ns, self._fresh, self._skipped = 0, False, ''
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/stop', self._on_stop)
        self.steady_timer(1.0, self._on_report)

    def configure(self) -> None:
        """Verify, open and warm up the head; make the limiter; subscribe."""
        bundle = open_model(self, ('head',))
        self._runner = ChunkRunner(bundle, 1.0 / bundle.contract.rate_hz, self.value('execute'))
        self._output = CommandOutput(self, bundle.contract, self.value('frame_id'),
                                     filter(None, self.value('zero_on_halt')))
        own = f"{bundle.manifest.path} (the bundle's own)"
        self.get_logger().info(f'limits in force: contract {self.value("contract") or own}')
        self._latch = Latch()
        self._report.clear()
        assert bundle.contract.limits is not None
        topics = {stream.topic for stream in bundle.contract.state}
        self._watchdog = watchdog = Watchdog(
            ['features', _TICK, *sorted(topics)], bundle.contract.limits.input_timeout_s)
        self._state = StateInput(self, bundle.contract, watchdog.feed)
        if not self._joined:
            self._features = self.create_subscription(
                Image, 'inference/features', self._on_features, input_qos('reliable', 1))
        self._encoder = EncoderCheck(self, bundle.manifest, self._halt)
        self._bundle = bundle

    def activate(self) -> None:
        """Start the worker; nothing is commanded before ``~/enable``."""
        assert self._bundle is not None
        period_s = 1.0 / self._bundle.contract.rate_hz
        self._mailbox = Mailbox(('features',), period_s, 0.0, 0.0)
        self._latch.disable('not enabled yet')
        self._worker = threading.Thread(target=self._work, args=(self._mailbox,), name='policy')
        self._worker.start()
        self._timer = self.steady_timer(period_s, self._on_timer)
        self._publish_status()

    def deactivate(self) -> None:
        """Stop the worker, and bring the robot to rest before the publishers go."""
        with self._lock:
            moving = self._latch.enabled
            if self._latch.state != 'halted':
                self._latch.disable('the node was deactivated')
        if self._timer is not None:
            self.destroy_timer(self._timer)
        if self._mailbox is not None:
            self._mailbox.close()
        if self._worker is not None:
            self._worker.join(_JOIN_S)
        self._worker = self._mailbox = self._timer = None
        output = self._output
        if output is not None:
            if moving:
                output.stop()
            output.finish(_LAST_STEPS)
            self._publish_status()

    def cleanup(self) -> None:
        """Close the head and end publishers and subscriptions."""
        for part in (self._state, self._encoder, self._output):
            if part is not None:
                part.destroy()
        if self._features is not None:
            self.destroy_subscription(self._features)
        self._bundle = self._runner = self._output = self._watchdog = self._state = None
        self._encoder = self._features = None

    # -- callbacks: keep and return ----------------------------------------------------------

    def _on_features(self, message: Any) -> None:
        self._keep(message.header, message)

    def take(self, header: Any, features: Floats, encoder: str) -> None:
        """
        Keep features (tokens, dim) made in this process; may be called from any thread.

        Those of another ``encoder`` (SHA-256) than the head's halt at once: model_info, which
        says the same, comes through DDS and may be a tick late.
        """
        bundle = self._bundle
        if bundle is None:
            return
        wanted = bundle.manifest.encoder_sha256
        if encoder == wanted:
            self._keep(header, features)
        elif self._latch.enabled:
            self._halt(f'inference runs an encoder with SHA-256 {encoder[:12]}, this head was '
                       f'trained on {wanted[:12]}: swap back, or start both with one bundle')

    def _keep(self, header: Any, features: Any) -> None:
        mailbox, watchdog = self._mailbox, self._watchdog
        if (mailbox is not None and watchdog is not None
                and mailbox.put('features', stamp_ns(header.stamp), features)):
            watchdog.feed('features')

    def _on_timer(self) -> None:
        watchdog, output, state = self._watchdog, self._output, self._state
        if not (watchdog and output and state):
            return
        state.poll()
        with self._lock:
            if self._latch.enabled and (silent := watchdog.silent()):
                self._halt('too long without ' + ', '.join(
                    f'{name} ({seconds:.2f} s)' for name, seconds in silent.items())
                    + self._skipped)
            stopping = output.stopping
            output.stop_step()
            if stopping and not output.stopping:
                self._publish_status()  # for whoever waits until the arm is left alone

    def _on_enable(self, request: Any, response: Any) -> Any:
        with self._lock:
            refusal = self._enable() if request.data else ''
            if refusal:
                self.get_logger().warning(f'not enabled: {refusal}')
            if not request.data:
                if self._latch.enabled and self._output is not None:
                    self._output.stop()
                self._latch.disable('disabled by ~/enable')
            response.success = not refusal
            response.message = refusal or self._latch.state
        self._publish_status()
        return response

    def _enable(self) -> str:
        """Enable and return '', or return why not."""
        output, watchdog, state, encoder = self._output, self._watchdog, self._state, self._encoder
        if self.state_label != 'active' or not (output and watchdog and state and encoder):
            return f'the node is {self.state_label}; configure and activate it first'
        if self._latch.enabled:
            return ''
        if doubt := encoder.recheck():
            return doubt
        state.poll()
        watchdog.feed(_TICK)  # it waits for a command only from now on
        if silent := watchdog.silent():
            return (f'no fresh input on {", ".join(silent)}; start what publishes it'
                    + ('. The features are those of inference in this process: is it active, and '
                       'what do its diagnostics say?' if self._joined and 'features' in silent
                       else ''))
        now = self.get_clock().now().nanoseconds
        try:
            self._refuse_stale(state.newest_ns())
            joints = state.named(state.latest())
            output.limiter.forget_joints()
            output.limiter.check_joints(now, joints)
            output.begin(joints)
        except (MessageError, CommandRefusedError) as error:
            return str(error)
        # The worker begins a new history with the first features of after this moment.
        self._enabled_ns, self._fresh, self._skipped = now, True, ''
        self._latch.enable()
        return ''

    def _on_stop(self, _request: Any, response: Any) -> Any:
        self._halt('stopped by ~/stop')
        response.success, response.message = True, self._latch.reason
        return response

    def _halt(self, reason: str) -> None:
        with self._lock:
            before = self._latch.state
            if self._latch.halt(reason):
                self.get_logger().error(f'halted: {reason}')
                if self._output is not None:
                    self._output.stop()
        if before != 'halted':
            self._publish_status()

    # -- the worker ----------------------------------------------------------------------------

    def _work(self, mailbox: Mailbox) -> None:
        bind_thread(wanted_cores(self))
        while (frames := mailbox.take()) is not None:
            if not self._latch.enabled:
                continue
            try:
                self._tick(frames, mailbox)
            except (MessageError, InferenceError, CommandRefusedError) as error:
                mailbox.drops[error.cause] += 1
                self._halt(str(error))
            except Exception as error:
                self.log_failure('cannot command', error)
                self._halt(f'cannot command: {error!r}')

    def _tick(self, frames: FrameSet, mailbox: Mailbox) -> None:
        bundle, runner, output, inputs = self._bundle, self._runner, self._output, self._state
        assert bundle and runner and output and inputs and self._watchdog and self._encoder
        if doubt := self._encoder.doubt:
            mailbox.drops['unknown_encoder'] += 1
            self._skipped = f'; {doubt}'
            return  # for longer than a moment this halts: nothing feeds the watchdog
        inputs.poll()
        self._refuse_stale({'features': frames.stamp_ns} | inputs.newest_ns())
        if self._fresh:
            if frames.stamp_ns < self._enabled_ns:
                self._watchdog.feed(_TICK)
                return  # shows the scene before somebody enabled
            self._fresh = False
            runner.clear()
        elif frames.jumped:
            raise MessageError('clock_jump', "the features' stamps jumped")
        state = inputs.at(frames.stamp_ns)
        if state is None:
            mailbox.drops['state_skew'] += 1
            self._skipped = f'; {", ".join(inputs.newest_ns())} had other stamps than the features'
            return
        given = frames.messages['features']
        features = given if self._joined else read_tensor(given)
        encoder = bundle.manifest.encoder
        if features.shape != (encoder.tokens, encoder.dim):
            raise MessageError('shape', f'features have shape {features.shape}, the head needs '
                                        f'{(encoder.tokens, encoder.dim)}')
        chunks, began = runner.chunks, time.monotonic()
        action = runner.step(frames.stamp_ns, features, state)
        if runner.chunks != chunks:
            self._report.head.add(time.monotonic() - began)
        with self._lock:
            if not self._latch.enabled or self._fresh:
                return  # stopped, or enabled anew, while the head was running
            output.limiter.check_joints(frames.stamp_ns, inputs.named(state))
            if action is not None:
                output.send(action)
                self._report.latency.add(self._age_s(frames.stamp_ns))
            self._watchdog.feed(_TICK)
        mailbox.deadlines.publish(frames.stamp_ns)

    def _refuse_stale(self, stamps: dict[str, int]) -> None:
        assert self._bundle and self._bundle.contract.limits
        refuse_stale({name: self._age_s(stamp) for name, stamp in stamps.items()},
                     self._bundle.contract.limits.input_timeout_s)

    def _age_s(self, stamp: int) -> float:
        return (self.get_clock().now().nanoseconds - stamp) * 1e-9

    # -- reports -------------------------------------------------------------------------------

    def _publish_status(self) -> dict[str, Any]:
        output, mailbox, runner, state = self._output, self._mailbox, self._runner, self._state
        return self._report.status(self._latch, {
            'commands': output.sent if output else 0,
            'stopping': output.stopping if output else False,
            'clamped': dict(output.limiter.clamped) if output else {},
            'chunks': runner.chunks if runner else 0,
            'dropped': dict(mailbox.drops) if mailbox else {},
            'rejected': state.rejected() if state else {}})

    def _on_report(self) -> None:
        if self._bundle is not None and self._encoder is not None:
            self._encoder.recheck()
            self._report.diagnostics(self._latch, self._publish_status() | {
                'model': self._bundle.manifest.name,
                'model_hash': self._bundle.manifest.digest[:12],
                'backend': self._bundle.backend})


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; returns the exit status."""
    return run(PolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
