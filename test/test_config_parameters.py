# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The parameter files in config/ name every parameter that a node declares, with its default."""

from __future__ import annotations

import importlib
from pathlib import Path
import sys
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).parents[1] / 'config'
NODES = {
    'recorder': ('recorder', 'RecorderNode'),
    'inference': ('inference', 'InferenceNode'),
    'policy': ('policy', 'PolicyNode'),
    'sim_arm': ('sim_driver', 'SimArm'),
    'teleop': ('teleop', 'Teleop'),
    'collect': ('collect', 'Collect'),
    'evaluate': ('evaluate', 'Evaluate'),
}
#: What rclpy declares in every node.
FOREIGN = ('use_sim_time', 'start_type_description_service', 'qos_overrides')


def written(name: str) -> dict[str, Any]:
    content = yaml.safe_load((CONFIG / f'{name}.yaml').read_text())
    assert list(content) == [f'/**/{name}']
    values = content[f'/**/{name}']['ros__parameters']
    assert isinstance(values, dict)
    return values


@pytest.mark.ros
@pytest.mark.parametrize('name', NODES)
def test_file_and_node_agree(name: str, ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import rclpy

    monkeypatch.setattr(sys, 'argv', [name])
    module, class_name = NODES[name]
    factory = getattr(importlib.import_module(f'ssl_vla_ros.nodes.{module}'), class_name)
    rclpy.init()
    try:
        node = factory()
        assert node.get_name() == name
        declared = {
            key: parameter.value for key, parameter in node.get_parameters_by_prefix('').items()
            if not key.startswith(FOREIGN)}
        bare = [key for key in declared if not node.describe_parameter(key).description]
        for end in ('close', 'destroy_node'):
            if hasattr(node, end):
                getattr(node, end)()
    finally:
        rclpy.shutdown()
    assert written(name) == declared
    assert bare == []


def test_every_parameter_file_is_compared() -> None:
    assert {path.stem for path in CONFIG.glob('*.yaml')} == set(NODES)
