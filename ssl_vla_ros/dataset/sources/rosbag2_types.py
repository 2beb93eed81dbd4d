# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Message definitions for bags that carry none.

Bags in sqlite3 carry definitions since Iron only, and a training machine has no message packages.
The types that a contract can name have not changed since ROS 2 began; they stand here. Any other
is looked for among the installed packages.
"""

from __future__ import annotations

from ssl_vla_ros.dataset.align_cdr import field_names, make_decoder
from ssl_vla_ros.episodes.schemas import full_type, message_schema, short_type
from ssl_vla_ros.errors import EpisodeError

_FIELDS = {
    'builtin_interfaces/Time': 'int32 sec, uint32 nanosec',
    'builtin_interfaces/Duration': 'int32 sec, uint32 nanosec',
    'std_msgs/Header': 'builtin_interfaces/Time stamp, string frame_id',
    'sensor_msgs/Image':
        'std_msgs/Header header, uint32 height, uint32 width, string encoding, '
        'uint8 is_bigendian, uint32 step, uint8[] data',
    'sensor_msgs/CompressedImage': 'std_msgs/Header header, string format, uint8[] data',
    'sensor_msgs/JointState':
        'std_msgs/Header header, string[] name, float64[] position, float64[] velocity, '
        'float64[] effort',
    'trajectory_msgs/JointTrajectory':
        'std_msgs/Header header, string[] joint_names, '
        'trajectory_msgs/JointTrajectoryPoint[] points',
    'trajectory_msgs/JointTrajectoryPoint':
        'float64[] positions, float64[] velocities, float64[] accelerations, float64[] effort, '
        'builtin_interfaces/Duration time_from_start',
    'geometry_msgs/TwistStamped': 'std_msgs/Header header, geometry_msgs/Twist twist',
    'geometry_msgs/Twist': 'geometry_msgs/Vector3 linear, geometry_msgs/Vector3 angular',
    'geometry_msgs/Vector3': 'float64 x, float64 y, float64 z',
    'geometry_msgs/PoseStamped': 'std_msgs/Header header, geometry_msgs/Pose pose',
    'geometry_msgs/Pose': 'geometry_msgs/Point position, geometry_msgs/Quaternion orientation',
    'geometry_msgs/Point': 'float64 x, float64 y, float64 z',
    'geometry_msgs/Quaternion': 'float64 x, float64 y, float64 z, float64 w',
    'std_msgs/Float64MultiArray': 'std_msgs/MultiArrayLayout layout, float64[] data',
    'std_msgs/MultiArrayLayout': 'std_msgs/MultiArrayDimension[] dim, uint32 data_offset',
    'std_msgs/MultiArrayDimension': 'string label, uint32 size, uint32 stride',
}


def known_definition(kind: str) -> str:
    """Definition of a type with all it depends on, '' if it is not among those known here."""
    name = short_type(kind)
    if name not in _FIELDS:
        return ''
    parts, pending, seen = [], [name], {name}
    for part in pending:
        fields = _FIELDS[part].split(', ')
        text = '\n'.join(fields) + '\n'
        parts.append(text if part == name else f'{"=" * 80}\nMSG: {part}\n{text}')
        found = {field.partition(' ')[0].removesuffix('[]') for field in fields} & _FIELDS.keys()
        pending.extend(sorted(found - seen))
        seen |= found
    return ''.join(parts)


def choose_definition(kind: str, recorded: str, where: str) -> str:
    """
    Choose the definition to read a topic with.

    Parameters
    ----------
    kind
        The topic's type.
    recorded
        What the bag has, '' if nothing. It is used unless it is unreadable or lacks a field that
        the type has always had.
    where
        The bag, for error messages.

    Raises
    ------
    EpisodeError
        If there is none.

    """
    known = known_definition(kind)
    if recorded:
        try:
            make_decoder(kind, recorded, where)
        except EpisodeError:
            if not known:
                raise
        else:
            if set(field_names(known)) <= set(field_names(recorded)):
                return recorded
    if known:
        return known
    try:
        return message_schema(full_type(kind)).definition
    except EpisodeError as error:
        raise EpisodeError(f'{where}: carries no definition of its messages: {error}') from error
