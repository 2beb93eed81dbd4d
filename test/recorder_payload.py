# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What the driver of the recorder's tests publishes: every message carries its number.

A driver counts the messages of each topic from 0. The number makes the whole message, so a bag is
compared with what was published by the numbers in it alone.
"""

from __future__ import annotations

import random
from typing import Any

from ssl_vla_ros.episodes.reader import Episode

CAMERAS = ('camera/front/image_raw', 'camera/wrist/image_raw')
JOINT_STATES, GRIPPER = 'joint_states', 'gripper/command'
JOINTS = ('shoulder_pan_joint', 'elbow_joint')
POSITIONS = (0.1, 0.2)


def pixels(topic: str, number: int, height: int, width: int) -> bytes:
    """
    Give the bytes of picture ``number`` of a camera in rgb8.

    Noise: nothing compresses it, and a byte in the wrong place shows.
    """
    return random.Random(f'{topic} {number}').randbytes(height * width * 3)


def number_of(topic: str, message: Any) -> int:
    """Read the number of a decoded message, and compare the rest of it with what was published."""
    if topic in CAMERAS:
        number = int(message.header.frame_id)
        assert bytes(message.data) == pixels(topic, number, message.height, message.width), (
            f'picture {number} on {topic} is not the one that was published')
    elif topic == JOINT_STATES:
        number = int(message.effort[0])
        assert tuple(message.position) == POSITIONS
    else:
        number = int(message.data[0])
    return number


def numbers(episode: Episode) -> dict[str, list[int]]:
    """Give the numbers of an episode's messages by topic; each is as it was published."""
    found: dict[str, list[int]] = {topic: [] for topic in episode.info['topics']}
    for item in episode.decoded():
        found[item.topic].append(number_of(item.topic, item.message))
    return found


def check_unbroken(episode: Episode, first: dict[str, int] | None = None) -> dict[str, list[int]]:
    """
    See that of each topic the messages from one number to another are there, once each.

    Parameters
    ----------
    episode
        A finished episode.
    first
        Number that each topic must begin with, if known.

    Returns
    -------
    dict
        The numbers, by topic.

    """
    found = numbers(episode)
    for topic, values in found.items():
        if values:
            assert values == list(range(values[0], values[0] + len(values))), topic
        if first is not None:
            assert values and values[0] == first[topic], (topic, values[:1], first)
    return found
