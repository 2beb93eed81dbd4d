# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The inference node: pictures in, features, predictions and surprise out, at the control rate.

A thread of its own takes pictures past the executor, and keeps the newest; another encodes,
publishes the features at once, and only then asks the world model, so that nothing delays what a
controller waits for. The world model and the decoder run only while somebody subscribes to what
they give. Each output carries the header of the first camera's picture. Whatever is stale, broken
or NaN is counted, not published. Pictures for people are made in a thread of their own, while
somebody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
import math
import sys
import threading
import time
import traceback
from typing import Any
from uuid import uuid4

import numpy as np
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import LifecyclePublisher
from rclpy.subscription import Subscription
from rclpy.validate_topic_name import validate_topic_name
from sensor_msgs.msg import Image
from ssl_vla_ros.contract import Camera
from ssl_vla_ros.errors import ConfigError, MessageError
from ssl_vla_ros.messages.stamps import stamp_ns
from ssl_vla_ros.messages.tensors import fill_tensor
from ssl_vla_ros.nodes.common import Diagnostics, input_qos, JsonPublisher, ManagedNode, run
from ssl_vla_ros.nodes.inference_report import InferenceReport
from ssl_vla_ros.nodes.models import bind_thread, declare_model, open_model, wanted_cores
from ssl_vla_ros.nodes.shots import Shot
from ssl_vla_ros.nodes.streams import message_class, StreamInput
from ssl_vla_ros.nodes.swapping import BundleSwap
from ssl_vla_ros.nodes.taking import Taker, Unscheduled
from ssl_vla_ros.nodes.watching import Seen, WATCHED, Watching
from ssl_vla_ros.runtime.bundle import Bundle, Floats, InferenceError
from ssl_vla_ros.runtime.frames import FrameSet, Mailbox, TRIGGERS
from ssl_vla_ros.runtime.world import WorldTracker
from std_srvs.srv import Trigger

#: Depth 1: a deeper queue hands out old pictures to a callback that was late.
_IMAGE_DEPTH = 1
_OUTPUT_DEPTH = 1
_PARTS = ('encoder', 'world_model', 'decoder', 'colours')
_JOIN_S = 10.0
#: How often the log tells of the same cause.
_AGAIN_S = 5.0


class InferenceNode(ManagedNode):
    """See the module; topics, services and parameters are listed in docs and ``config/``."""

    def __init__(self) -> None:
        super().__init__('inference')
        declare_model(self)
        self.declare('image', '', 'topic that every camera of the bundle takes its pictures from, '
                     'to try a model with one camera; empty: those of the contract', fixed=True)
        self.declare('trigger', 'image', 'image: a picture of the first camera is a tick; rate: '
                     'the control clock ticks and takes the newest', fixed=True)
        self.declare('camera_wait_s', 0.02, 'longest wait for the other cameras of a tick, s',
                     fixed=True, low=0.0, high=1.0)
        self.declare('max_age_s', 0.5, 'pictures further from this clock are dropped, s',
                     fixed=True, low=0.001, high=3600.0)
        self.declare('next_bundle', '', 'what ~/swap loads; empty: the directory of bundle again')
        self.declare('surprise_window', 20, 'ticks over which usual change is averaged',
                     fixed=True, low=1, high=10000)
        self._info = JsonPublisher(self, '~/model_info')
        #: Tells this node from another of its name, to whoever hears model_info.
        self._instance = uuid4().hex
        self._diagnostics = Diagnostics(self)
        #: What runs, replaced as one: a frame never sees half of a swap.
        self._model: tuple[Bundle, WorldTracker | None] | None = None
        self._told: Bundle | None = None
        #: Takes header, features and the encoder's SHA-256 in this process, before anybody gets
        #: them through DDS.
        self.hand_over: Callable[[Any, Floats, str], None] | None = None
        self._mailbox: Mailbox | None = None
        self._cameras: dict[str, Camera] = {}
        self._busy = False      # the worker is at a picture: the next one may be made ready
        #: Camera of which every picture that is kept will be wanted; others may be faster.
        self._early = ''
        self._worker: threading.Thread | None = None
        self._watching: Watching | None = None
        self._pictures: list[Subscription] = []
        self._taker: Taker | None = None
        self._topics: dict[str, str] = {}
        self._told_of: dict[str, float] = {}
        self._actions: list[StreamInput] = []
        self._outputs: dict[str, LifecyclePublisher] = {}
        self._forget = threading.Event()
        self._report = InferenceReport()
        self.create_service(Trigger, '~/reset', self._on_reset)
        self._swap = BundleSwap(
            self, lambda: self._model[0] if self._model else None,
            lambda: open_model(self, _PARTS, self.value('next_bundle'), told=False),
            self._take_over)
        self.steady_timer(1.0, self._on_report)

    # -- transitions -----------------------------------------------------------------------

    def configure(self) -> None:
        """Verify, open and warm up the bundle; subscribe, but keep nothing yet."""
        if self.value('trigger') not in TRIGGERS:
            raise ConfigError(f'parameter trigger is {self.value("trigger")!r}, must be one of '
                              f'{", ".join(TRIGGERS)}')
        if self.value('image'):
            try:
                validate_topic_name(self.value('image'))
            except InvalidTopicNameException as error:
                raise ConfigError(f'parameter image is {self.value("image")!r}, which is no name '
                                  f'of a topic: {" ".join(str(error).split())}') from error
        bundle = open_model(self, _PARTS)
        self._report = InferenceReport()
        self._cameras = {camera.name: camera for camera in bundle.contract.cameras}
        self._early = (bundle.manifest.encoder.cameras[0] if self.value('trigger') == 'image'
                       else '')
        if self.value('image'):
            self.get_logger().warning(
                f'parameter image: the cameras {", ".join(bundle.manifest.encoder.cameras)} all '
                f'take {self.value("image")}; that is to try a model, not to run a robot')
        self._taker = Taker(self, self._on_failed_message)
        for name in bundle.manifest.encoder.cameras:
            self._subscribe(self._cameras[name], self._taker)
        topics = ['features']
        if bundle.has('world_model'):
            topics += ['prediction', 'surprise']
            self._actions = [StreamInput(self, stream) for stream in bundle.contract.action]
        # What is predicted for people to see needs a prediction, too.
        topics += [topic for topic, (part, _) in WATCHED.items() if bundle.has(part)
                   and (part == 'colours' or bundle.has('world_model'))]
        for topic in topics:
            self._outputs[topic] = self.create_lifecycle_publisher(
                Image, f'~/{topic}', input_qos('reliable', _OUTPUT_DEPTH))
        self._take_over(bundle)
        self._taker.start()

    def _take_over(self, bundle: Bundle) -> None:
        """Let a bundle take the next picture; what the old one remembered is not the new one's."""
        tracker = WorldTracker(
            bundle, [action.log for action in self._actions], 1.0 / bundle.contract.rate_hz,
            self.value('surprise_window')) if bundle.has('world_model') else None
        self._model = bundle, tracker

    def _tell(self, bundle: Bundle) -> None:
        """Say what runs before its first features, so that nobody takes them for another's."""
        self._told = bundle
        self._info.publish({'instance': self._instance} | self._report.model_info(
            bundle, list(self._outputs)))

    def _subscribe(self, camera: Camera, taker: Taker) -> None:
        callback = partial(self._on_image, camera.name)
        subscription = self.create_subscription(
            message_class(camera.type), self.value('image') or camera.topic, callback,
            # Whatever camera is tried: best effort takes from publishers of both kinds.
            input_qos('best_effort' if self.value('image') else camera.reliability, _IMAGE_DEPTH),
            callback_group=Unscheduled(),
            event_callbacks=SubscriptionEventCallbacks(
                message_lost=partial(self._on_lost, camera.name)))
        taker.add(subscription, callback)
        self._pictures.append(subscription)
        self._topics[camera.name] = subscription.topic_name

    def activate(self) -> None:
        """Start the worker."""
        assert self._model is not None
        bundle = self._model[0]
        encoder, contract = bundle.manifest.encoder, bundle.contract
        mailbox = Mailbox(encoder.cameras, 1.0 / contract.rate_hz, contract.sync.max_skew_s,
                          self.value('camera_wait_s'), self.value('trigger'))
        self._report.begin(mailbox)
        self._tell(bundle)
        self._forget.set()
        self._mailbox = mailbox
        self._watching = Watching({topic: publisher for topic, publisher in self._outputs.items()
                                   if topic in WATCHED}, self.log_failure, wanted_cores(self))
        self._worker = threading.Thread(target=self._work, args=(mailbox,), name='inference')
        self._worker.start()

    def deactivate(self) -> None:
        """Stop the worker after the frame it is at."""
        if self._mailbox is not None:
            self._mailbox.close()
        if self._worker is not None:
            self._worker.join(_JOIN_S)
            if self._worker.is_alive():
                self.get_logger().error(f'the network still runs after {_JOIN_S:g} s')
        if self._watching is not None and not self._watching.close():
            self.get_logger().error(f'the pictures for people still take over {_JOIN_S:g} s')
        self._report.end()
        self._worker = self._mailbox = self._watching = None

    def cleanup(self) -> None:
        """Close the networks and end the subscriptions."""
        if self._taker is not None:
            self._taker.close()
        for subscription in self._pictures:
            self.destroy_subscription(subscription)
        for action in self._actions:
            action.destroy()
        for publisher in self._outputs.values():
            self.destroy_lifecycle_publisher(publisher)
        self._pictures, self._actions, self._outputs = [], [], {}
        self._taker = None
        self._topics = {}
        self._model = self._told = None

    def close(self) -> None:
        """Let a bundle that is being loaded come to its end: threads in C++ cannot be cut off."""
        self._swap.close(_JOIN_S)

    # -- callbacks: keep and return; pictures come in the taker's thread -------------------------

    def _on_image(self, camera: str, message: Any, info: Any) -> None:
        mailbox = self._mailbox
        if mailbox is not None and self._counting():
            lost = self._report.count_sequence(camera, info['publication_sequence_number'])
            shot = Shot(self._cameras[camera], message)
            kept = mailbox.put(camera, stamp_ns(message.header.stamp), shot, lost)
            model = self._model
            if kept and self._busy and camera == self._early and model is not None:
                with suppress(Exception):    # the worker comes to the same, and tells of it
                    encoder = model[0].manifest.encoder
                    shot.small(encoder.height, encoder.width)

    def _counting(self) -> bool:
        """Whether features can go out: not while it is activated, with publishers still mute."""
        return self.state_label == 'active'

    def _on_lost(self, camera: str, event: Any) -> None:
        if self._counting():
            self._report.lost[camera] += event.total_count_change

    def _on_failed_message(self, error: Exception) -> None:
        if self._counting():
            self._report.drops['error'] += 1
        lines = ''.join(traceback.format_exception(error))
        self.get_logger().error(f'a picture could not be taken: {lines}',
                                throttle_duration_sec=5.0)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        self._forget.set()
        response.success = True
        response.message = 'context, commands and surprise are forgotten; the counts stay'
        return response

    def _on_report(self) -> None:
        if self._taker is not None:
            self._taker.check()
        if self._model is not None:
            values, warnings, errors = self._report.diagnostics(
                self._model[0], {action.stream.topic: action.rejected for action in self._actions},
                self._topics)
            for error in errors:
                self._tell_sometimes(error, error, 2.0 * _AGAIN_S)
            if self._watching is not None:
                values['pictures_passed_over'] = self._watching.passed_over
            self._diagnostics.publish(values, warnings=warnings, errors=errors,
                                      summary=self.state_label)

    def _tell_sometimes(self, cause: str, text: str, seconds: float) -> None:
        """Warn now and then for each cause, so that none hides another."""
        if time.monotonic() - self._told_of.get(cause, -math.inf) > seconds:
            self._told_of[cause] = time.monotonic()
            self.get_logger().warning(text)

    # -- the worker ----------------------------------------------------------------------------

    def _work(self, mailbox: Mailbox) -> None:
        bind_thread(wanted_cores(self))
        while (frames := mailbox.take()) is not None:
            self._busy = True
            try:
                self._infer(frames, mailbox)
            except (MessageError, InferenceError) as error:
                self._report.drops[error.cause] += 1
                self._tell_sometimes(error.cause, f'no features for a tick: {error}', _AGAIN_S)
            except Exception as error:
                # The thread must outlive whatever one frame does to it.
                self._report.drops['error'] += 1
                lines = ''.join(traceback.format_exception(error))
                self.get_logger().error(f'no features for a tick: {lines}',
                                        throttle_duration_sec=5.0)
            self._busy = False

    def _infer(self, frames: FrameSet, mailbox: Mailbox) -> None:
        assert self._model is not None
        bundle, tracker = self._model
        if bundle is not self._told:
            self._tell(bundle)
        for action in self._actions:
            action.poll()
        if self._forget.is_set():
            self._forget.clear()
            for action in self._actions:
                action.log.clear()
            if tracker is not None:
                tracker.clear()
        age = self._age_s(frames)
        if abs(age) > self.value('max_age_s'):
            limit = self.value('max_age_s')
            raise MessageError('stale' if age > 0.0 else 'future_stamp', (
                f"the picture's stamp is {abs(age):.3f} s {'older' if age > 0.0 else 'newer'} "
                f"than this clock's time (max_age_s is {limit:g}); "
                + ('it came late, because a computer or network is too busy, or the clocks differ'
                   if age > 0.0 else 'the clocks differ')
                + ': synchronise them, or set use_sim_time on both sides'))
        encoder = bundle.manifest.encoder
        images = bundle.prepare({name: shot.small(encoder.height, encoder.width)
                                 for name, shot in frames.messages.items()})
        began = time.monotonic()
        features = bundle.encode(images)
        inference_s = time.monotonic() - began
        header = frames.messages[encoder.cameras[0]].message.header
        if self.hand_over is not None:
            self.hand_over(header, features, bundle.manifest.encoder_sha256)
        self._publish_tensor('features', header, features)
        age = self._age_s(frames)
        mailbox.deadlines.publish(frames.tick_ns, age)
        self._report.add(age, inference_s,
                         time.monotonic() - frames.received_s - frames.waited_s - inference_s,
                         frames.waited_s)
        prediction = None
        if tracker is not None:
            try:
                prediction = self._foresee(tracker, header, frames.stamp_ns, features)
            except (MessageError, InferenceError) as error:
                # The features are out: what fails from here on is no dropped tick.
                self._report.unforeseen[error.cause] += 1
                self.get_logger().warning(f'no prediction for a tick: {error}',
                                          throttle_duration_sec=5.0)
        watching = self._watching
        if watching is not None and watching.wanted():
            watching.offer(Seen(bundle, header, frames.stamp_ns, images, prediction))

    def _foresee(self, tracker: WorldTracker, header: Any, stamp: int, features: Floats
                 ) -> Floats | None:
        """Publish what the world model says; the prediction (horizon, tokens, dim), if wanted."""
        wanted = {topic: publisher.get_subscription_count() > 0
                  for topic, publisher in self._outputs.items()}
        looked_at = any(wanted.get(topic) for topic in ('predicted_image', 'film_strip'))
        began = time.monotonic()
        seen = tracker.step(stamp, features, wanted['prediction'] or looked_at,
                            wanted['surprise'])
        if seen.cause:
            self._report.unforeseen[seen.cause] += 1
        if seen.prediction is not None and wanted['prediction']:
            rows = seen.prediction.reshape(len(seen.prediction), -1)
            self._publish_tensor('prediction', header, rows)
        if seen.surprise is not None:
            self._publish_tensor('surprise', header, np.array([[seen.surprise]], np.float32))
        if seen.prediction is not None or seen.surprise is not None:
            self._report.foresight.add(time.monotonic() - began)
        return seen.prediction

    def _publish_tensor(self, topic: str, header: Any, values: Floats) -> None:
        if not self._outputs[topic].get_subscription_count():
            return
        message = fill_tensor(Image(), values)
        message.header = header
        self._outputs[topic].publish(message)

    def _age_s(self, frames: FrameSet) -> float:
        return (self.get_clock().now().nanoseconds - frames.stamp_ns) * 1e-9


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; returns the exit status."""
    return run(InferenceNode, args)


if __name__ == '__main__':
    sys.exit(main())
