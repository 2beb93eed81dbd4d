# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a user without a contract is told: which topics there are, and a contract to begin with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
import re
from typing import Any

from ssl_vla_ros.contract import Camera, IMAGE_TYPES, parse_contract, STREAM_TYPES
from ssl_vla_ros.dataset.align_cdr import make_decoder
from ssl_vla_ros.dataset.align_pictures import picture_size
from ssl_vla_ros.dataset.align_recording import TopicInfo
from ssl_vla_ros.dataset.sources.rosbag2_bag import Bag
from ssl_vla_ros.dataset.sources.rosbag2_files import Overview
from ssl_vla_ros.dataset.sources.rosbag2_find import BagFiles
from ssl_vla_ros.dataset.sources.rows import distinct, identifier
from ssl_vla_ros.episodes.schemas import short_type
from ssl_vla_ros.errors import ContractError, MessageError, UserError
import yaml

Bags = Sequence[tuple[BagFiles, Sequence[Overview]]]
#: Words in a camera's topic that do not tell it from others.
_NO_NAME = {'camera', 'color', 'compressed', 'image', 'raw', 'rect', 'rgb'}
#: Words of topics that carry what is wanted, not what is.
_COMMANDS = re.compile(r'command|cmd|target|goal|action|leader|desired|setpoint|reference')
_TWIST = [f'{part}.{axis}' for part in ('linear', 'angular') for axis in 'xyz']
_POSE = [f'position.{axis}' for axis in 'xyz'] + [f'orientation.{axis}' for axis in 'xyzw']
_USABLE = (*IMAGE_TYPES, *STREAM_TYPES)
#: Messages looked at for names and sizes before it is given up.
_LOOKED_AT = 20_000
#: A stream slower than this needs more than the usual skew.
_USUAL_SKEW_S = 0.05


def all_topics(bags: Bags) -> dict[str, TopicInfo]:
    """Every topic of all bags, by name, with what their metadata says of its serialization."""
    found: dict[str, TopicInfo] = {}
    for files, views in bags:
        for view in views:
            for name, said in view.topics.items():
                formats = (*said.encodings, files.formats.get(name, 'cdr'))
                info = replace(said, encodings=tuple(dict.fromkeys(formats)))
                found[name] = found[name].joined(info) if name in found else info
    return dict(sorted(found.items()))


def describe(info: TopicInfo) -> str:
    """Name, type and number of messages of a topic, and its serialization if that is odd."""
    odd = [item for item in info.encodings if item != 'cdr']
    kinds = ', '.join(short_type(kind) for kind in info.type.split(', '))
    return (f'{info.name} ({kinds}, {info.count} message{"" if info.count == 1 else "s"}'
            + (f', serialized as {odd[0]!r}' if odd else '') + ')')


def needs_contract(path: Path, bags: Bags) -> str:
    """Say what the bags hold, and propose a contract for it."""
    topics = all_topics(bags)
    broken = [problem for files, views in bags
              for problem in (files.problem, *(view.problem for view in views)) if problem]
    lines = [f'{path}: a rosbag2 needs a robot contract that says which topics are cameras, state '
             'and action: --contract FILE.']
    lines += [f'  cannot be read: {problem}' for problem in broken]
    lines += [f'  {describe(info)}' for info in topics.values()] or ['  It has no topics.']
    proposed = _propose(bags, topics)
    if proposed is None:
        lines.append('None of these has messages of a type that a contract can name: '
                     + ', '.join(_USABLE))
    else:
        lines.append('A contract to begin with; check every line of it:')
        lines += ['  ' + line for line in yaml.safe_dump(
            proposed, sort_keys=False, default_flow_style=None, width=88).splitlines()]
    return '\n'.join(lines)


def _propose(bags: Bags, topics: Mapping[str, TopicInfo]) -> dict[str, Any] | None:
    wanted = {name: info for name, info in topics.items()
              if short_type(info.type) in _USABLE and info.count and info.encodings == ('cdr',)}
    seen = _first_messages(bags, wanted)
    rates = {name: max(_rate(bags, info), 1e-3) for name, info in wanted.items() if name in seen}
    cameras = {name: seen[name] for name in rates if short_type(wanted[name].type) in IMAGE_TYPES}
    proposal: dict[str, Any] = {
        'robot': 'my_robot', 'rate_hz': 20, 'cameras': {}, 'state': [], 'action': []}
    names = distinct(_camera_name(name) for name in cameras)
    for short, (topic, size) in zip(names, cameras.items(), strict=True):
        proposal['cameras'][short] = {
            'topic': topic, 'type': short_type(wanted[topic].type),
            'height': min(max(size[0] // 2 * 2, 16), 4096),
            'width': min(max(size[1] // 2 * 2, 16), 4096)}
    for topic, found in seen.items():
        kind = short_type(wanted[topic].type)
        if kind not in STREAM_TYPES:
            continue
        state = kind in ('sensor_msgs/JointState', 'geometry_msgs/PoseStamped')
        part = 'state' if state and not _COMMANDS.search(topic.lower()) else 'action'
        proposal[part].append({'topic': topic, 'type': kind, 'names': found})
        if not _parses(proposal):
            proposal[part].pop()
    if not proposal['cameras'] and not proposal['state']:
        return None
    clocks = list(cameras) or [item['topic'] for item in proposal['state']]
    proposal['rate_hz'] = min(max(round(rates[clocks[0]]), 1), 1000)
    slowest = min(rates[topic] for topic in (
        *cameras, *(item['topic'] for part in ('state', 'action') for item in proposal[part])))
    if 1.2 / slowest > _USUAL_SKEW_S:
        proposal['sync'] = {'max_skew_s': round(1.2 / slowest, 3)}
    return proposal if _parses(proposal) else None


def _parses(proposal: Mapping[str, Any]) -> bool:
    try:
        # A camera or state is needed at the end, not while the proposal grows.
        parse_contract(proposal if proposal['cameras'] or proposal['state'] else {
            **proposal, 'state': proposal['action']}, 'proposal')
    except ContractError:
        return False
    return True


def _camera_name(topic: str) -> str:
    words = [word for word in re.split(r'[/_]+', topic.strip('/')) if word not in _NO_NAME]
    return identifier('_'.join(words) or 'camera', 'camera')


def _rate(bags: Bags, info: TopicInfo) -> float:
    """Messages a second over the bags that have the topic."""
    seconds = 0.0
    for _, views in bags:
        for view in views:
            if view.span_ns is not None and info.name in view.topics:
                seconds += (view.span_ns[1] - view.span_ns[0]) / 1e9
    return info.count / seconds if seconds else 1.0


def _first_messages(bags: Bags, topics: Mapping[str, TopicInfo]) -> dict[str, Any]:
    """Sizes of cameras and names of values, as the first message of each topic has them."""
    found: dict[str, Any] = {}
    for files, _ in bags:
        missing = topics.keys() - found.keys()
        if not missing:
            break
        try:
            bag = Bag(files)
            here = sorted(missing & bag.topics.keys())
            decoders = {topic: make_decoder(
                bag.type_of(topic), bag.definition(topic), str(bag.path)) for topic in here}
            for number, message in enumerate(bag.messages(here)):
                if message.topic in found:
                    if number > _LOOKED_AT or found.keys() >= set(here):
                        break
                    continue
                content = _content(bag.type_of(message.topic),
                                   decoders[message.topic](message.data))
                if content:
                    found[message.topic] = content
        except (UserError, MessageError, ValueError, IndexError, AttributeError):
            continue  # what is wrong with the bag is told where it is imported
    return {topic: found[topic] for topic in topics if topic in found}


def _content(kind: str, message: Any) -> Any:
    if kind in IMAGE_TYPES:
        return picture_size(Camera('camera', '', kind, 16, 16), message)
    if kind == 'sensor_msgs/JointState':
        return list(dict.fromkeys(message.name))
    if kind == 'trajectory_msgs/JointTrajectory':
        return list(dict.fromkeys(message.joint_names))
    if kind == 'geometry_msgs/TwistStamped':
        return _TWIST
    if kind == 'geometry_msgs/PoseStamped':
        return _POSE
    return [f'value_{index}' for index in range(len(message.data))]
