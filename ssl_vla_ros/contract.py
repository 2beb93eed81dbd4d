# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The robot contract: which topic is which camera, state and action, at what rate, in what order.

One YAML file a robot says once what recording, alignment, training, export and serving all need.
It is validated when read, embedded in every episode, dataset, checkpoint and bundle, and compared
wherever two of them meet. Values are matched by name, never by position.
"""

from __future__ import annotations

from collections.abc import Mapping
import math
from pathlib import Path
import re

from ssl_vla_ros.contract_sections import nearest, Section, suggestion
from ssl_vla_ros.contract_types import (
    ActionLimit, Camera, Contract, ExtraTopic, JointLimit, Limits, Stream, Sync, UNSTAMPED_TYPES)
from ssl_vla_ros.errors import ContractError
from ssl_vla_ros.yaml_text import load_yaml, yaml_problem
import yaml

__all__ = [
    'ActionLimit', 'Camera', 'Contract', 'ExtraTopic', 'IMAGE_TYPES', 'JointLimit', 'Limits',
    'STREAM_TYPES', 'Stream', 'Sync', 'UNSTAMPED_TYPES', 'load_contract', 'parse_contract',
    'nearest', 'require_compatible', 'suggestion']

#: Message types a stream of numbers may have, and the fields that may be read from each.
STREAM_TYPES: Mapping[str, tuple[str, ...]] = {
    'sensor_msgs/JointState': ('position', 'velocity', 'effort'),
    'trajectory_msgs/JointTrajectory': ('positions', 'velocities'),
    'geometry_msgs/TwistStamped': ('twist',),
    'geometry_msgs/PoseStamped': ('pose',),
    'std_msgs/Float64MultiArray': ('data',),
}
IMAGE_TYPES = ('sensor_msgs/Image', 'sensor_msgs/CompressedImage')
_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    'twist': ('linear.x', 'linear.y', 'linear.z', 'angular.x', 'angular.y', 'angular.z'),
    'pose': ('position.x', 'position.y', 'position.z',
             'orientation.x', 'orientation.y', 'orientation.z', 'orientation.w'),
}
_RELIABILITY = ('reliable', 'best_effort')
_DURABILITY = ('volatile', 'transient_local')
_TYPE = re.compile(r'[a-z][a-z0-9_]*/(msg/)?[A-Z][A-Za-z0-9]*')
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]*')
_TOPIC = re.compile(r'[~/]?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*')


def _camera(name: object, data: object, source: str) -> Camera:
    path = f'cameras.{name}'
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ContractError(
            f'{source}: cameras has the name {name!r}, must be letters, digits and _')
    part = Section(data, source, path, ('topic', 'type', 'height', 'width', 'reliability'))
    return Camera(
        name=name,
        topic=part.text('topic', _TOPIC, 'a topic name such as camera/front/image_raw'),
        type=part.choice('type', IMAGE_TYPES),
        height=part.integer('height', 16, 4096),
        width=part.integer('width', 16, 4096),
        reliability=part.choice('reliability', _RELIABILITY, 'reliable'))


def _stream(data: object, source: str, path: str) -> Stream:
    part = Section(data, source, path, ('topic', 'type', 'field', 'names', 'reliability'))
    kind = part.choice('type', STREAM_TYPES)
    fields = STREAM_TYPES[kind]
    field = part.choice('field', fields, fields[0])
    names = part.need('names')
    if (not isinstance(names, list) or not names
            or not all(isinstance(name, str) and name for name in names)):
        raise part.fail('names', names, 'a list of at least one name')
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ContractError(
                f'{source}: {part.name("names")} lists {name!r} twice; '
                'each value needs a name of its own')
        components = _COMPONENTS.get(field)
        if components is not None and name not in components:
            raise part.fail('names', name,
                            f'one of {", ".join(components)}{nearest(name, components)}')
    return Stream(
        topic=part.text('topic', _TOPIC, 'a topic name such as joint_states'),
        type=kind, field=field, names=tuple(names),
        reliability=part.choice('reliability', _RELIABILITY, 'reliable'))


def _streams(root: Section, key: str, required: bool) -> tuple[Stream, ...]:
    data = root.need(key) if required else root.data.get(key, [])
    if not isinstance(data, list):
        raise root.fail(key, data, 'a list of streams (topic, type, names), [] for none')
    streams = tuple(
        _stream(item, root.source, f'{root.name(key)}[{index}]')
        for index, item in enumerate(data))
    seen: dict[str, int] = {}
    for index, stream in enumerate(streams):
        for name in stream.columns:
            if name in seen:
                raise ContractError(
                    f'{root.source}: {key}[{index}].names repeats {name!r}, '
                    f'which {key}[{seen[name]}] has already; remove one')
            seen[name] = index
    return streams


def _extra(root: Section) -> tuple[ExtraTopic, ...]:
    data = root.data.get('extra', [])
    if not isinstance(data, list):
        raise root.fail('extra', data, 'a list of topics (topic, type)')
    found = []
    for index, item in enumerate(data):
        part = Section(item, root.source, f'extra[{index}]',
                       ('topic', 'type', 'reliability', 'durability'))
        package, _, kind = part.text('type', _TYPE, 'a message type such as tf2_msgs/TFMessage'
                                     ).partition('/')
        found.append(ExtraTopic(
            topic=part.text('topic', _TOPIC, 'a topic name such as tf'),
            type=f'{package}/{kind.removeprefix("msg/")}',
            reliability=part.choice('reliability', _RELIABILITY, 'reliable'),
            durability=part.choice('durability', _DURABILITY, 'volatile')))
    return tuple(found)


def _limits(root: Section, actions: tuple[Stream, ...], state: tuple[Stream, ...]) -> Limits:
    part = Section(root.data['limits'], root.source, 'limits',
                   ('input_timeout_s', 'action', 'joints'))
    action_names = [name for stream in actions for name in stream.columns]
    table = Section(part.need('action'), root.source, 'limits.action', action_names)
    action: dict[str, ActionLimit] = {}
    for name in action_names:
        entry = Section(table.need(name), root.source, f'limits.action.{name}',
                        ('min', 'max', 'max_step', 'free_start'))
        low = entry.number('min')
        action[name] = ActionLimit(
            low, entry.number('max', above=low), entry.number('max_step', above=0.0),
            entry.flag('free_start'))
    state_names = [name for stream in state for name in stream.columns]
    table = Section(part.need('joints'), root.source, 'limits.joints', state_names)
    joints: dict[str, JointLimit] = {}
    for name in table.data:
        entry = Section(table.data[name], root.source, f'limits.joints.{name}',
                        ('min', 'max', 'margin', 'max_velocity'))
        low = entry.number('min')
        limit = JointLimit(
            low, entry.number('max', above=low), entry.number('margin', 0.0, low=0.0),
            entry.number('max_velocity', math.inf, above=0.0))
        if limit.min + limit.margin >= limit.max - limit.margin:
            raise entry.fail('margin', limit.margin, 'less than half of the range')
        joints[name] = limit
    return Limits(part.number('input_timeout_s', above=0.0), action, joints)


def parse_contract(data: object, source: str) -> Contract:
    """
    Validate a contract's content.

    Parameters
    ----------
    data
        What the YAML or JSON file holds.
    source
        The file's name, for error messages.

    Raises
    ------
    ContractError
        Naming file, key and value, for anything unknown, missing, doubled or out of range.

    """
    root = Section(data, source, '', (
        'robot', 'rate_hz', 'cameras', 'state', 'action', 'evaluation', 'extra', 'sync',
        'limits'))
    cameras_data = root.need('cameras')
    if not isinstance(cameras_data, Mapping):
        raise root.fail('cameras', cameras_data, 'a mapping from camera name to camera')
    cameras = tuple(_camera(name, item, source) for name, item in cameras_data.items())
    state = _streams(root, 'state', required=True)
    action = _streams(root, 'action', required=True)
    evaluation = _streams(root, 'evaluation', required=False)
    extra = _extra(root)
    if not cameras and not state:
        raise ContractError(
            f'{source}: cameras and state are both empty; name at least one thing to observe')
    topics: dict[str, str] = {}
    for camera in cameras:
        if camera.topic in topics:
            raise ContractError(
                f'{source}: cameras.{camera.name}.topic is {camera.topic!r}, which '
                f'{topics[camera.topic]} has already; each camera needs a topic of its own')
        topics[camera.topic] = f'cameras.{camera.name}'
    types = {camera.topic: camera.type for camera in cameras}
    for stream in (*state, *action, *evaluation):
        if types.setdefault(stream.topic, stream.type) != stream.type:
            raise ContractError(
                f'{source}: topic {stream.topic!r} is given two types, {types[stream.topic]} '
                f'and {stream.type}; a topic has one')
    for index, item in enumerate(extra):
        if item.topic in types:
            raise ContractError(
                f'{source}: extra[{index}].topic is {item.topic!r}, which is recorded already; '
                'remove it')
        types[item.topic] = item.type
    sync_part = Section(root.data.get('sync', {}), source, 'sync', (
        'image', 'state', 'action', 'max_skew_s', 'max_flagged_fraction', 'on_gap', 'min_run_s'))
    sync = Sync(
        image=sync_part.choice('image', ('nearest',), 'nearest'),
        state=sync_part.choice('state', ('linear', 'nearest'), 'linear'),
        action=sync_part.choice('action', ('next', 'nearest'), 'next'),
        max_skew_s=sync_part.number('max_skew_s', 0.05, above=0.0),
        max_flagged_fraction=sync_part.number('max_flagged_fraction', 0.1, low=0.0),
        on_gap=sync_part.choice('on_gap', ('refuse', 'split'), 'refuse'),
        min_run_s=sync_part.number('min_run_s', 1.0, above=0.0))
    limits = _limits(root, action, state) if 'limits' in root.data else None
    return Contract(
        robot=root.text('robot', re.compile(r'[A-Za-z0-9_.\-]+'), 'a name such as sim_ur5e'),
        rate_hz=root.integer('rate_hz', 1, 1000),
        cameras=cameras, state=state, action=action, evaluation=evaluation, extra=extra,
        sync=sync, limits=limits, source=source)


def load_contract(path: str | Path) -> Contract:
    """
    Read and validate a contract file.

    Raises
    ------
    ContractError
        If the file cannot be read, is no YAML, or its content is wrong.

    """
    try:
        text = Path(path).read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(
            f'{path}: cannot read the robot contract: {error}; config/robots/ has examples'
        ) from error
    try:
        data = load_yaml(text)
    except yaml.YAMLError as error:
        raise ContractError(f'{path}: not valid YAML: {yaml_problem(error)}') from error
    return parse_contract(data, str(path))


def require_compatible(trained: Contract, robot: Contract, what: str) -> None:
    """
    Refuse to join two things whose contracts give values another name, order, rate or camera.

    Parameters
    ----------
    trained
        The contract embedded in a dataset, checkpoint or bundle.
    robot
        The contract it is to be used with.
    what
        What ``trained`` belongs to, for the error message.

    Raises
    ------
    ContractError
        Naming each difference.

    """
    differences: list[str] = []
    for part in ('camera_names', 'state_names', 'action_names'):
        ours, theirs = getattr(trained, part), getattr(robot, part)
        label = part.replace('_names', '')
        missing = [name for name in ours if name not in theirs]
        extra = [name for name in theirs if name not in ours]
        if missing:
            differences.append(f'{label}: {robot.source} lacks {", ".join(missing)}')
        if extra:
            differences.append(f'{label}: {robot.source} has {", ".join(extra)} in addition')
        if not missing and not extra and ours != theirs:
            differences.append(f'{label}: the order is {theirs}, was {ours}')
    if trained.rate_hz != robot.rate_hz:
        differences.append(f'rate_hz: {robot.rate_hz}, was {trained.rate_hz}')
    if differences:
        raise ContractError(
            f'{what} was made for robot {trained.robot!r} and does not fit {robot.robot!r} '
            f'({robot.source}): ' + '; '.join(differences))
