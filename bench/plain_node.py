# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What people write first: a node that runs the network in its callback, eagerly, ten pictures deep.

The baseline of ``bench_infer.py``: rclpy, cv_bridge's steps written out, torch on the CPU with the
threads it takes by itself. Same encoder and input size; features go out with the picture's
header.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from ssl_vla_ros.training.runs import open_run
import torch


class PlainNode(Node):
    """Subscribe, convert, run, publish: all in one callback."""

    def __init__(self, run: str, topic: str, depth: int) -> None:
        super().__init__('plain')
        self._encoder = open_run(run).encoder().eval()
        self._publisher = self.create_publisher(Image, 'plain/features', depth)
        self.create_subscription(Image, topic, self._on_image, depth)

    def _on_image(self, message: Any) -> None:
        picture = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        picture = cv2.resize(picture, (self._encoder.width, self._encoder.height),
                             interpolation=cv2.INTER_AREA)
        images = torch.from_numpy(picture)[None, None]
        with torch.no_grad():
            features = self._encoder(images.expand(1, self._encoder.cameras, -1, -1, -1))
        values = np.ascontiguousarray(features[0].numpy(), np.float32)
        answer = Image(header=message.header, height=values.shape[0], width=values.shape[1],
                       encoding='32FC1', step=4 * values.shape[1])
        answer.data = values.tobytes()
        self._publisher.publish(answer)


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--run', required=True, help='the trained run that was exported')
    parser.add_argument('--topic', required=True)
    parser.add_argument('--depth', type=int, default=10)
    options = parser.parse_args()
    rclpy.init(signal_handler_options=SignalHandlerOptions.ALL)
    node = PlainNode(options.run, options.topic, options.depth)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass
    sys.exit(0)


if __name__ == '__main__':
    main()
