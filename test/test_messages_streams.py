# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Streams: values by name or path out of messages and into them."""

from __future__ import annotations

import random
from types import SimpleNamespace as Message
from typing import Any

from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

from ssl_vla_ros.contract import Stream
from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.streams import fill_stream, read_stream

JOINTS = Stream('joint_states', 'sensor_msgs/JointState', 'position', ('a', 'b', 'c'))
VELOCITY = Stream('joint_states', 'sensor_msgs/JointState', 'velocity', ('b',))
TRAJECTORY = Stream('t', 'trajectory_msgs/JointTrajectory', 'positions', ('a', 'b'))
TWIST = Stream('s', 'geometry_msgs/TwistStamped', 'twist', ('angular.z', 'linear.x'))
POSE = Stream('p', 'geometry_msgs/PoseStamped', 'pose', ('orientation.w', 'position.y'))
ARRAY = Stream('g', 'std_msgs/Float64MultiArray', 'data', ('gripper', 'wrist'))


def joint_state(names: list[str], position: list[float], velocity: Any = ()) -> Message:
    return Message(name=names, position=position, velocity=velocity, effort=[])


def vector(**values: float) -> Message:
    return Message(**({'x': 0.0, 'y': 0.0, 'z': 0.0} | values))


@settings(deadline=None)     # machines under load
@given(st.permutations(['a', 'b', 'c', 'extra']), st.randoms(use_true_random=False))
def test_joints_are_found_by_name_in_any_order(names: list[str], rng: random.Random) -> None:
    values = {name: rng.uniform(-3, 3) for name in names}
    message = joint_state(names, [values[name] for name in names])
    assert read_stream(JOINTS, message).tolist() == [values[name] for name in 'abc']


def test_the_field_of_the_stream_is_read() -> None:
    assert read_stream(VELOCITY, joint_state(['a', 'b'], [1, 2], [3, 4])).tolist() == [4]
    message = joint_state(['c', 'a', 'b'], np.array([1.0, 2.0, 3.0]))   # as rosbags gives it
    assert read_stream(JOINTS, message).tolist() == [2, 3, 1]


@pytest.mark.parametrize(('cause', 'message'), [
    ('missing_joint', joint_state(['a', 'b'], [1, 2])),
    ('missing_joint', joint_state([], [])),
    ('length', joint_state(['a', 'b', 'c'], [1, 2])),
    ('length', joint_state(['a', 'b', 'c'], [])),
    ('duplicate_joint', joint_state(['a', 'b', 'c', 'a'], [1, 2, 3, 4])),
    ('nan', joint_state(['a', 'b', 'c'], [1, float('nan'), 2])),
    ('nan', joint_state(['a', 'b', 'c'], [1, float('inf'), 2]))])
def test_a_wrong_joint_state_is_refused_with_its_cause(cause: str, message: Message) -> None:
    with pytest.raises(MessageError) as caught:
        read_stream(JOINTS, message)
    assert caught.value.cause == cause


def test_a_missing_joint_is_named() -> None:
    with pytest.raises(MessageError, match=r'lacks c; it has a, b'):
        read_stream(JOINTS, joint_state(['a', 'b'], [1, 2]))


def test_nan_in_a_joint_that_is_not_used_does_not_matter() -> None:
    message = joint_state(['a', 'b', 'c', 'd'], [1, 2, 3, float('nan')])
    assert read_stream(JOINTS, message).tolist() == [1, 2, 3]


def test_paths() -> None:
    twist = Message(twist=Message(linear=vector(x=1.5), angular=vector(z=-2.0)))
    assert read_stream(TWIST, twist).tolist() == [-2.0, 1.5]
    pose = Message(pose=Message(position=vector(y=3.0), orientation=Message(w=0.5)))
    assert read_stream(POSE, pose).tolist() == [0.5, 3.0]


def test_arrays_and_trajectories_must_have_the_right_length() -> None:
    assert read_stream(ARRAY, Message(data=[1.0, 2.0])).tolist() == [1, 2]
    points = [Message(positions=[1.0, 2.0]), Message(positions=[3.0, 4.0])]
    assert read_stream(TRAJECTORY, Message(
        joint_names=['b', 'a'], points=points)).tolist() == [2, 1]
    for stream, message in ((ARRAY, Message(data=[1.0])), (ARRAY, Message(data=[1.0] * 3)),
                            (TRAJECTORY, Message(joint_names=['a', 'b'], points=[]))):
        with pytest.raises(MessageError) as caught:
            read_stream(stream, message)
        assert caught.value.cause == 'length'


@pytest.mark.parametrize(('stream', 'message'), [
    (JOINTS, joint_state([], [])), (ARRAY, Message(data=[])),
    (TRAJECTORY, Message(joint_names=[], points=[Message(positions=[])])),
    (TWIST, Message(twist=Message(linear=vector(), angular=vector()))),
    (POSE, Message(pose=Message(position=vector(), orientation=vector(w=1.0))))])
def test_what_is_written_is_read(stream: Stream, message: Message) -> None:
    values = np.arange(len(stream.names)) + 0.25
    assert fill_stream(stream, message, values) is message
    assert np.array_equal(read_stream(stream, message), values)
    with pytest.raises(MessageError) as caught:
        fill_stream(stream, message, values * np.nan)
    assert caught.value.cause == 'nan'
    with pytest.raises(MessageError) as caught:
        fill_stream(stream, message, np.zeros(len(values) + 1))
    assert caught.value.cause == 'length'
    assert np.array_equal(read_stream(stream, message), values)


def test_a_trajectory_without_its_point_cannot_be_filled() -> None:
    with pytest.raises(MessageError, match='one point'):
        fill_stream(TRAJECTORY, Message(joint_names=[], points=[]), np.zeros(2))
