# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures for people: made in a thread of their own, and only while somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
import threading
from typing import Any

import cv2
import numpy as np
from rclpy.lifecycle import LifecyclePublisher
from sensor_msgs.msg import Image
from ssl_vla_ros.messages.images import fill_image
from ssl_vla_ros.nodes.models import bind_thread
from ssl_vla_ros.nodes.priority import step_back
from ssl_vla_ros.runtime.bundle import Bundle, Floats
from ssl_vla_ros.runtime.film import FilmStrip
from ssl_vla_ros.runtime.pictures import Pictures

#: Topics, the network that each needs, and what it shows.
WATCHED = {
    'features_image': ('colours', 'rgb8, cameras from left to right: the first three principal '
                       'components of what the encoder sees where'),
    'predicted_image': ('decoder', 'rgb8, cameras from left to right, one horizon ahead'),
    'film_strip': ('decoder', 'rgb8: what came above what had been predicted for then, oldest '
                   'left; cameras below one another'),
}
_JOIN_S = 10.0


@dataclass(frozen=True)
class Seen:
    """One tick: the encoder's pictures (cameras, height, width, 3), and what is foreseen."""

    bundle: Bundle
    header: Any
    stamp_ns: int
    images: Pictures
    prediction: Floats | None


class Watching:
    """
    Publish what people look at; a tick that comes while one is at work waits, the newest wins.

    A controller waits for none of this, so it must not wait for any of it: decoding takes longer
    than encoding.

    Parameters
    ----------
    publishers
        By topic, some of ``WATCHED``.
    failed
        Called with what a picture could not be made for, and the error.
    cores
        CPU cores that its networks run on; none: any.

    """

    def __init__(self, publishers: Mapping[str, LifecyclePublisher],
                 failed: Callable[[str, Exception], None], cores: Sequence[int] = ()) -> None:
        self._publishers = publishers
        self._failed = failed
        self._cores = cores
        self._condition = threading.Condition()
        self._next: Seen | None = None
        self._closed = False
        self._film: tuple[Bundle, FilmStrip] | None = None
        #: Ticks that were passed over because pictures of another were being made.
        self.passed_over = 0
        self._thread = threading.Thread(target=self._work, name='watching')
        self._thread.start()

    def wanted(self, *topics: str) -> bool:
        """Whether anybody looks at one of these; none: at any."""
        return any(publisher.get_subscription_count() > 0
                   for topic, publisher in self._publishers.items()
                   if not topics or topic in topics)

    def offer(self, seen: Seen) -> None:
        """Show this tick, unless a newer one comes first."""
        with self._condition:
            if self._next is not None:
                self.passed_over += 1
            self._next = seen
            self._condition.notify()

    def close(self) -> bool:
        """End after the picture at hand; whether it did."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join(_JOIN_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        bind_thread(self._cores)
        step_back()
        while True:
            with self._condition:
                while self._next is None and not self._closed:
                    self._condition.wait()
                seen, self._next = self._next, None
                if seen is None or self._closed:
                    return
            try:
                self._show(seen)
            except Exception as error:  # the thread must outlive whatever one picture does to it
                self._failed('pictures for people', error)

    def _show(self, seen: Seen) -> None:
        if self.wanted('features_image'):
            height, width = seen.images.shape[1:3]
            # Each place of the grid stays one square: smooth colours would show what is not there.
            colours = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
                       for picture in seen.bundle.colour(seen.images)]
            self._publish('features_image', seen, np.concatenate(colours, axis=1))
        if not self.wanted('predicted_image', 'film_strip'):
            self._film = None
            return
        predicted = None
        if seen.prediction is not None:
            predicted = seen.bundle.decode(seen.prediction[-1])
            if self.wanted('predicted_image'):
                self._publish('predicted_image', seen, np.concatenate(list(predicted), axis=1))
        if not self.wanted('film_strip'):
            self._film = None
        elif (strip := self._film_of(seen.bundle).push(
                seen.stamp_ns, seen.images, predicted)) is not None:
            self._publish('film_strip', seen, strip)

    def _film_of(self, bundle: Bundle) -> FilmStrip:
        if self._film is None or self._film[0] is not bundle:
            model = bundle.manifest.world_model
            assert model is not None
            period_s = 1.0 / bundle.contract.rate_hz
            self._film = bundle, FilmStrip(model.horizon * period_s, period_s)
        return self._film[1]

    def _publish(self, topic: str, seen: Seen, pixels: Pictures) -> None:
        self._publishers[topic].publish(fill_image(
            Image(), np.ascontiguousarray(pixels), 'rgb8', seen.header.stamp,
            seen.header.frame_id))
