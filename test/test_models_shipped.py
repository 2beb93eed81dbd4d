# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The bundle that comes along: what ``inference.launch.py image:=…`` runs on the first try."""

from __future__ import annotations

from pathlib import Path

import pytest
from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.runtime.manifest import PARTS, read_manifest
from ssl_vla_ros.runtime.verify import verify_bundle

ROOT = Path(__file__).parents[1]
BUNDLE = ROOT / 'models' / 'sim_ur5e'


def test_it_is_whole_small_and_equal_to_torch() -> None:
    found = verify_bundle(BUNDLE, ['cpu'])
    assert found.holds and {row.part for row in found.rows} == set(PARTS)
    assert sum(file.stat().st_size for file in BUNDLE.iterdir()) < 10 * 2**20
    assert (BUNDLE / 'README.md').read_text().startswith('# sim_ur5e')


def test_it_fits_the_simulated_arm_as_its_contract_is_now() -> None:
    contract = load_contract(ROOT / 'config' / 'robots' / 'sim_ur5e.yaml')
    assert read_manifest(BUNDLE).contract.digest() == contract.digest()
    load_bundle(BUNDLE, backend='cpu', robot=contract)


@pytest.mark.ros
def test_any_camera_gives_features_on_the_first_try(tmp_path: Path, ros_domain: int) -> None:
    pytest.importorskip('rclpy', reason='rclpy is not installed')
    from node_harness import robot, running
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import Image
    from ssl_vla_ros.messages.tensors import read_tensor
    with robot() as me, running('inference', tmp_path, bundle=BUNDLE, autostart=True,
                                image='camera/image_raw') as node:
        # Drivers publish best effort as often as not.
        camera = me.node.create_publisher(Image, 'camera/image_raw', qos_profile_sensor_data)
        features = me.listen(Image, 'inference/features')
        colours = me.listen(Image, 'inference/features_image')

        def shoot() -> None:
            camera.publish(me.image(90, me.now_ns()))
            me.spin(0.05)

        me.until(lambda: features and colours, 'features and colours', between=shoot)
        encoder = read_manifest(BUNDLE).encoder
        assert read_tensor(features[-1]).shape == (encoder.tokens, encoder.dim)
        assert node.end() == 0, node.log
