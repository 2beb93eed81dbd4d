# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
One publisher of ``bench_record.py``, in a process of its own: a camera, joints or an action.

It publishes from when it has a subscriber until something comes on stdin, or its end; then it
prints, as one JSON line, the header stamp of every message it sent. A publisher that is late sends
what is due at once, up to a twentieth of a second of it; what is missing beyond that shows in its
rate.
"""

from __future__ import annotations

import argparse
import array
from collections.abc import Callable
import json
import select
import signal
import sys
import time
from typing import Any

from geometry_msgs.msg import TwistStamped
import numpy as np
from numpy.typing import NDArray
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState

#: Standard deviation of the noise of one pixel of 255: a webcam in a room with its lamps on.
SENSOR_NOISE = 1.0
CONTENTS = ('camera', 'clean', 'noise')
JOINTS = tuple(f'joint_{number}' for number in range(7))
#: Bytes of different pictures that a camera sends in turn.
_RING_BYTES = 24 * 2**20
_BURST_S = 0.05


def scene(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw light, texture and things with edges: shape (height, 2 * width, 3)."""
    picture = np.zeros((height, 2 * width, 3), np.float32)
    for cell, weight in ((160, 45.0), (40, 12.0), (10, 2.0)):
        # Light and dark more than colours.
        size = (height // cell + 2, 2 * width // cell + 2)
        grid = (rng.standard_normal((*size, 1))
                + 0.2 * rng.standard_normal((*size, 3))).astype('f4')
        smooth = _enlarge(_enlarge(grid, cell, 0), cell, 1)
        picture += np.float32(weight) * smooth[:height, :2 * width]
    for _ in range(60):
        top, left = rng.integers(0, height), rng.integers(0, 2 * width)
        high, wide = rng.integers(height // 40, height // 5, 2)
        thing = picture[top:top + high, left:left + wide]
        thing *= np.float32(0.2)
        thing += rng.uniform(-60.0, 90.0, 3).astype('f4')
    return picture + np.float32(110.0)


def _enlarge(grid: NDArray[np.float32], cell: int, axis: int) -> NDArray[np.float32]:
    """Interpolate linearly between the points of a grid, ``cell`` pixels apart."""
    part = np.arange((grid.shape[axis] - 1) * cell, dtype='f4') / cell
    low = part.astype(int)
    share = (part - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    mixed: NDArray[np.float32] = (
        np.take(grid, low, axis) * (1 - share) + np.take(grid, low + 1, axis) * share)
    return mixed.astype('f4')


def pictures(content: str, height: int, width: int, seed: int) -> list[array.array[int]]:
    """
    Draw the pictures that a camera sends in turn.

    Parameters
    ----------
    content
        ``camera``: a scene that passes by, with the noise of a sensor. ``clean``: without that
        noise. ``noise``: every byte is random.
    height, width
        In pixels.
    seed
        Of the scene and the noise.

    """
    rng = np.random.default_rng(seed)
    count = max(4, _RING_BYTES // (height * width * 3))
    whole = scene(height, width, rng)
    ring = []
    for number in range(count):
        if content == 'noise':
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        else:
            left = number * width // count
            values = whole[:, left:left + width]
            if content == 'camera':
                values = values + np.float32(SENSOR_NOISE) * rng.standard_normal(
                    values.shape, dtype=np.float32)
            pixels = np.clip(values, 0.0, 255.0).astype(np.uint8)
        ring.append(array.array('B', pixels.tobytes()))
    return ring


def camera(options: argparse.Namespace) -> tuple[type, Callable[[int], Any]]:
    """Give the type, and what makes the message of a tick; the message is one and the same."""
    ring = pictures(options.content, options.height, options.width, options.seed)
    message = Image(height=options.height, width=options.width, encoding='rgb8',
                    step=3 * options.width)
    message.header.frame_id = 'camera'

    def at(tick: int) -> Any:
        message.data = ring[tick % len(ring)]
        return message
    return Image, at


def joints(_options: argparse.Namespace) -> tuple[type, Callable[[int], Any]]:
    """As ``camera``, for seven joints that swing."""
    zeros = [0.0] * len(JOINTS)
    message = JointState(name=list(JOINTS), position=zeros, velocity=zeros, effort=zeros)
    swing = [array.array('d', np.sin(0.01 * tick + np.arange(len(JOINTS))))
             for tick in range(628)]

    def at(tick: int) -> Any:
        message.position = swing[tick % len(swing)]
        return message
    return JointState, at


def action(_options: argparse.Namespace) -> tuple[type, Callable[[int], Any]]:
    """As ``camera``, for the command of a tool's speed."""
    message = TwistStamped()

    def at(tick: int) -> Any:
        message.twist.linear.x = 0.1 * (tick % 100)
        return message
    return TwistStamped, at


KINDS = {'camera': camera, 'joints': joints, 'action': action}


def publish(publisher: Any, at: Callable[[int], Any], rate_hz: float) -> list[int]:
    """Publish at the rate until something comes on stdin; gives the stamps in nanoseconds."""
    stamps: list[int] = []
    period = 1.0 / rate_hz
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        message = at(len(stamps))
        stamp = time.time_ns()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        publisher.publish(message)
        stamps.append(stamp)
        due += period
        late = time.monotonic() - due
        if late > _BURST_S:
            due += period * int(late / period)
    return stamps


def main() -> None:
    """Publish until told to end, and say what was sent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('kind', choices=KINDS)
    parser.add_argument('--topic', required=True)
    parser.add_argument('--rate', type=float, required=True)
    parser.add_argument('--reliability', default='reliable')
    parser.add_argument('--depth', type=int, default=10)
    parser.add_argument('--content', choices=CONTENTS, default='camera')
    parser.add_argument('--height', type=int, default=480)
    parser.add_argument('--width', type=int, default=640)
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args()
    kind, at = KINDS[options.kind](options)
    # Ctrl-C is for the bench, which ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f'{options.kind}_{options.seed}')
    publisher = node.create_publisher(kind, options.topic, QoSProfile(
        depth=options.depth, reliability=ReliabilityPolicy[options.reliability.upper()]))
    while not publisher.get_subscription_count():
        time.sleep(0.02)
    print('ready', flush=True)
    stamps = publish(publisher, at, options.rate)
    print(json.dumps(stamps), flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
