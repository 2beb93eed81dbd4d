# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The same real frame through the frame cache and through the node gives the same features."""

from __future__ import annotations

from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from node_harness import robot, running, time_of  # noqa: E402, I100
import numpy as np  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from ssl_vla_ros import cli  # noqa: E402
from ssl_vla_ros.bundle.export import export_bundle  # noqa: E402
from ssl_vla_ros.dataset.lerobot_v3 import Dataset  # noqa: E402
from ssl_vla_ros.dataset.streaming import FrameStream  # noqa: E402
from ssl_vla_ros.messages.images import fill_image  # noqa: E402
from ssl_vla_ros.messages.tensors import read_tensor  # noqa: E402
from ssl_vla_ros.training.train import train  # noqa: E402
from ssl_vla_ros.training.workspace import open_pictures  # noqa: E402
from tiny_training import small_config  # noqa: E402
import torch  # noqa: E402

pytestmark = pytest.mark.ros
ROWS = (0, 7, 19)


def test_the_cache_and_the_node_see_the_same(
        shared_data: Path, ros_domain: int, tmp_path: Path) -> None:
    data = tmp_path / 'bridge'
    assert cli.main(['dataset', 'import', str(shared_data / 'rlds_widowx_bridge'), str(data),
                     '--rate', '5']) == 0
    run = train(small_config('simclr', height=40, width=48), data, tmp_path / 'run', quiet=True)
    bundle = export_bundle(run.path, tmp_path / 'bundle', data).path
    dataset = Dataset.open(data)
    cameras = {camera.name: camera for camera in dataset.contract.cameras}
    rows = np.asarray(ROWS)
    # What training sees: made smaller once, and kept.
    cached = open_pictures(run.config, dataset, 40, 48, data)
    images = np.stack([cached.read(name, rows) for name in dataset.camera_names], axis=1)
    with torch.no_grad():
        trained = run.encoder()(torch.from_numpy(images)).numpy()
    # What a camera sends: as large as it was recorded.
    sizes = {name: (camera.height, camera.width) for name, camera in cameras.items()}
    assert all(height > 40 and width > 48 for height, width in sizes.values())
    sent = {name: FrameStream(dataset, *sizes[name]).read(name, rows) for name in cameras}
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        publishers = {name: me.node.create_publisher(Image, camera.topic, 1)
                      for name, camera in cameras.items()}
        features = me.listen(Image, 'inference/features')
        for place in range(len(rows)):
            features.clear()
            me.spin(0.3)             # what is still on its way is of the frame before
            features.clear()

            def send(place: int = place) -> None:
                stamp = time_of(me.now_ns())
                for name, publisher in publishers.items():
                    publisher.publish(fill_image(
                        Image(), sent[name][place], 'rgb8', stamp, name))
                me.spin(0.2)

            me.until(lambda: features, 'features of the frame', between=send)
            np.testing.assert_allclose(
                read_tensor(features[-1]), trained[place], rtol=0, atol=1e-5)
        assert np.abs(trained[0] - trained[1]).max() > 1e-3
