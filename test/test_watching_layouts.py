# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Layouts of Foxglove and RViz: whole, and of topics that there are."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

import pytest
from ssl_vla_ros.contract import load_contract
import yaml

CONFIG = Path(__file__).parents[1] / 'config'


def known_topics() -> set[str]:
    """Topics of the nodes and of the simulated arm's cameras."""
    watching = pytest.importorskip(
        'ssl_vla_ros.nodes.watching', reason='rclpy is not installed')
    robot = load_contract(CONFIG / 'robots' / 'sim_ur5e.yaml')
    return {f'/inference/{topic}' for topic in watching.WATCHED} | {
        f'/{camera.topic}' for camera in robot.cameras} | {'/diagnostics', '/policy/status'}


def leaves(layout: Any) -> Iterator[str]:
    """Panels of a layout."""
    if isinstance(layout, str):
        yield layout
    else:
        assert layout['direction'] in ('row', 'column')
        yield from leaves(layout['first'])
        yield from leaves(layout['second'])


def test_foxglove_shows_every_panel_once_and_topics_that_there_are() -> None:
    content = json.loads((CONFIG / 'foxglove.json').read_text())
    assert sorted(leaves(content['layout'])) == sorted(content['configById'])
    topics = set()
    for panel in content['configById'].values():
        topics |= {panel[key] for key in ('topicToRender',) if key in panel}
        topics |= {panel['imageMode']['imageTopic']} if 'imageMode' in panel else set()
        topics |= {panel['topicPath'].partition('.')[0]} if 'topicPath' in panel else set()
    assert len(topics) == 5
    assert topics <= known_topics()


def test_rviz_shows_topics_that_there_are() -> None:
    content = yaml.safe_load((CONFIG / 'inference.rviz').read_text())
    displays = content['Visualization Manager']['Displays']
    shown = {display['Topic']['Value'] for display in displays if 'Topic' in display}
    assert len(shown) == 3
    assert shown <= known_topics()
    assert {display['Name'] for display in displays if 'Topic' in display} <= set(
        content['Window Geometry'])
