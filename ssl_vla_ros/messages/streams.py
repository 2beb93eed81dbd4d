# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Between messages that carry numbers and the values a contract's stream names.

Joints are matched by name, never by position in the message: drivers reorder them freely. Twists
and poses are read by dotted path; a ``Float64MultiArray`` has no names, so its length must agree.
Of a ``JointTrajectory`` the first point counts, which is the command for the next moment.
"""

from __future__ import annotations

from collections.abc import Sequence
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Stream
from ssl_vla_ros.errors import MessageError

_MULTI_ARRAY = 'std_msgs/Float64MultiArray'
_JOINT_STATE = 'sensor_msgs/JointState'
_TRAJECTORY = 'trajectory_msgs/JointTrajectory'


def read_stream(stream: Stream, msg: Any) -> NDArray[np.float64]:
    """
    Read the values of a stream from one message.

    Returns
    -------
    numpy.ndarray
        float64, shape (len(stream.names),), in the order of the stream's names and the units of
        the message.

    Raises
    ------
    MessageError
        Cause ``missing_joint``, ``duplicate_joint``, ``length`` or ``nan`` (infinite counts too).

    """
    if stream.type == _JOINT_STATE:
        found = _by_name(stream, msg.name, getattr(msg, stream.field), stream.field)
    elif stream.type == _TRAJECTORY:
        if not len(msg.points):
            raise MessageError('length', f'{stream.topic}: the trajectory has no points')
        found = _by_name(
            stream, msg.joint_names, getattr(msg.points[0], stream.field),
            f'points[0].{stream.field}')
    elif stream.type == _MULTI_ARRAY:
        if len(msg.data) != len(stream.names):
            raise MessageError(
                'length', f'{stream.topic}: data has {len(msg.data)} values, must be '
                f'{len(stream.names)} ({", ".join(stream.names)})')
        found = [float(value) for value in msg.data]
    else:
        root = getattr(msg, stream.field)
        found = [_at(root, name) for name in stream.names]
    for name, value in zip(stream.names, found, strict=True):
        if not math.isfinite(value):
            raise MessageError('nan', f'{stream.topic}: {name} is {value}')
    return np.array(found, dtype=np.float64)


def _by_name(
        stream: Stream, names: Sequence[str], values: Sequence[float], field: str) -> list[float]:
    if len(values) != len(names):
        raise MessageError(
            'length', f'{stream.topic}: {field} has {len(values)} values for '
            f'{len(names)} joint names')
    table = dict(zip(names, values, strict=True))
    if len(table) != len(names):
        raise MessageError(
            'duplicate_joint', f'{stream.topic}: a joint is named twice in {list(names)}')
    missing = [name for name in stream.names if name not in table]
    if missing:
        raise MessageError(
            'missing_joint', f'{stream.topic}: the message lacks {", ".join(missing)}; it has '
            f'{", ".join(names) or "no joints"}')
    return [float(table[name]) for name in stream.names]


def _at(root: Any, path: str) -> float:
    for part in path.split('.'):
        root = getattr(root, part)
    return float(root)


def fill_stream(stream: Stream, msg: Any, values: NDArray[np.floating[Any]]) -> Any:
    """
    Write a stream's values into an empty message of its type; the header is the caller's.

    Parameters
    ----------
    stream
        Which values go where.
    msg
        The message to fill; it is returned. A ``JointTrajectory`` must hold one point already,
        because this module knows no message classes.
    values
        Shape (len(stream.names),), in the stream's order.

    Raises
    ------
    MessageError
        Cause ``length`` or ``nan``: a command that is not a number never leaves.

    """
    if values.shape != (len(stream.names),):
        raise MessageError(
            'length', f'{stream.topic}: {values.shape} values for {len(stream.names)} names')
    numbers = [float(value) for value in values]
    for name, number in zip(stream.names, numbers, strict=True):
        if not math.isfinite(number):
            raise MessageError('nan', f'{stream.topic}: {name} would be commanded {number}')
    if stream.type == _JOINT_STATE:
        msg.name = list(stream.names)
        setattr(msg, stream.field, numbers)
    elif stream.type == _TRAJECTORY:
        if len(msg.points) != 1:
            raise MessageError(
                'length', f'{stream.topic}: give a JointTrajectory with one point to fill, not '
                f'{len(msg.points)}')
        msg.joint_names = list(stream.names)
        setattr(msg.points[0], stream.field, numbers)
    elif stream.type == _MULTI_ARRAY:
        msg.data = numbers
    else:
        root = getattr(msg, stream.field)
        for name, number in zip(stream.names, numbers, strict=True):
            *parents, leaf = name.split('.')
            part = root
            for parent in parents:
                part = getattr(part, parent)
            setattr(part, leaf, number)
    return msg
