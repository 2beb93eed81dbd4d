# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Our decoder of messages against mcap-ros2-support's and rosbags', and against bad bytes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
import struct
from typing import Any

from dataset_episodes import (
    array_message, image_message, joints_message, picture, pose_message, START_NS, STORE,
    twist_message, TYPES)
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
import numpy as np
import pytest

from ssl_vla_ros.dataset.align_cdr import field_names, make_decoder
from ssl_vla_ros.dataset.sources.rosbag2_types import choose_definition, known_definition
from ssl_vla_ros.episodes.schemas import message_schema
from ssl_vla_ros.errors import EpisodeError

DATA = Path(__file__).parents[2] / 'shared' / 'data'


def plain(value: Any) -> Any:
    """Turn a decoded message of any library into plain values."""
    if isinstance(value, bytes | bytearray | memoryview):
        return list(bytes(value))
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in (
            value.tolist() if isinstance(value, np.ndarray) else value)]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name != '__msgtype__']
    else:
        names = getattr(value, '__slots__', None) or [*getattr(value, '__dict__', ())]
    if names:
        return {name: plain(getattr(value, name)) for name in names
                if name != 'structure_needs_at_least_one_member'}
    return value


SAMPLES = {
    'sensor_msgs/Image': image_message(START_NS, picture(3, 'front')),
    'sensor_msgs/JointState': joints_message(START_NS, [1.5, -2.5]),
    'geometry_msgs/TwistStamped': twist_message(START_NS, 0.25),
    'geometry_msgs/PoseStamped': pose_message(START_NS, 7.0),
    'std_msgs/Float64MultiArray': array_message([1.0, 2.0, 3.0])}


@pytest.mark.parametrize('kind', SAMPLES)
@pytest.mark.parametrize('source', ['installed', 'known'])
def test_contract_types_decode_as_rosbags_decodes_them(kind: str, source: str) -> None:
    data = SAMPLES[kind]
    definition = (message_schema(kind).definition if source == 'installed'
                  else known_definition(kind))
    message = make_decoder(kind, definition, 'test')(memoryview(data))
    assert plain(message) == plain(STORE.deserialize_cdr(data, kind.replace('/', '/msg/')))


def test_big_endian_messages_decode() -> None:
    message = TYPES['builtin_interfaces/msg/Time'](sec=-5, nanosec=7)
    data = bytes(STORE.serialize_cdr(message, 'builtin_interfaces/msg/Time', little_endian=False))
    found = make_decoder('builtin_interfaces/Time', 'int32 sec\nuint32 nanosec', 'test')(
        memoryview(data))
    assert (found.sec, found.nanosec) == (-5, 7)


def test_fields_bounds_defaults_constants_and_comments() -> None:
    definition = """
        # a comment
        byte KIND=3     # a constant
        string NAME = 'x'
        uint8 first 7
        float64[2] pair [0.5, 1.5]
        string<=5 word "hi"
        int16[<=3] few
        string[] words
        Inner[2] inner
        bool[] flags
        ================================================================================
        MSG: some_msgs/Inner
        uint16 value
        """
    data = (b'\0\1\0\0' + b'\7' + bytes(7) + struct.pack('<2d', 0.5, 1.5)
            + struct.pack('<I', 3) + b'hi\0' + b'\0' + struct.pack('<I3h', 3, -1, 0, 1) + b'\0\0'
            + struct.pack('<I', 2) + struct.pack('<I', 1) + b'\0' + b'\0\0\0'
            + struct.pack('<I', 0) + struct.pack('<2H', 8, 9)
            + struct.pack('<I2?', 2, True, False))
    found = make_decoder('some_msgs/Outer', definition, 'test')(memoryview(data))
    assert vars(found).keys() == {
        'first', 'pair', 'word', 'few', 'words', 'inner', 'flags'}
    assert (found.first, found.pair, found.word, found.few) == (7, (0.5, 1.5), 'hi', (-1, 0, 1))
    assert found.words == ['', '']
    assert [item.value for item in found.inner] == [8, 9]
    assert found.flags == (True, False)
    assert field_names(definition) == [
        'first', 'pair', 'word', 'few', 'words', 'inner', 'flags']


@pytest.mark.parametrize(('definition', 'complaint'), [
    ('Missing thing', 'some_msgs/Missing is not defined'),
    ('wstring wide', 'wstring, which is not supported'),
    ('uint8 a\n---\nuint8 b', "has the line '---'"),
    ('Outer self', 'RecursionError'),
])
def test_a_definition_that_cannot_be_understood_is_told(
        definition: str, complaint: str) -> None:
    with pytest.raises(EpisodeError, match=f'the definition of some_msgs/Outer.*{complaint}'):
        make_decoder('some_msgs/Outer', definition, 'test')


@pytest.mark.parametrize('data', [
    b'', b'\0\1\0', b'(\xb5/\xfd' + bytes(40), joints_message(START_NS, [1.0, 2.0])[:40],
    joints_message(START_NS, [1.0, 2.0])[:12] + b'\xff' * 40,
    image_message(START_NS, picture(0, 'front'))[:20]])
def test_bytes_that_are_no_message_raise_and_ask_for_no_memory(data: bytes) -> None:
    for kind in ('sensor_msgs/JointState', 'sensor_msgs/Image'):
        with pytest.raises((ValueError, struct.error, IndexError)):
            make_decoder(kind, known_definition(kind), 'test')(memoryview(data))


def test_a_recorded_definition_is_used_unless_it_is_a_stub() -> None:
    kind = 'sensor_msgs/JointState'
    own = known_definition(kind) + '\n# more'
    assert choose_definition(kind, own, 'bag') == own
    for stub in ('', 'string data', 'Nothing of_use'):
        assert choose_definition(kind, stub, 'bag') == known_definition(kind)
    assert 'float32 temperature' in choose_definition('sensor_msgs/BatteryState', '', 'bag')
    with pytest.raises(EpisodeError, match='bag: carries no definition of its messages: message '
                       'type nobody_msgs/Thing is not installed'):
        choose_definition('nobody_msgs/msg/Thing', '', 'bag')
    with pytest.raises(EpisodeError, match='Nothing is not defined'):
        choose_definition('nobody_msgs/msg/Thing', 'Nothing of_use', 'bag')


def test_the_types_known_here_are_as_they_are_installed() -> None:
    for kind in ('sensor_msgs/Image', 'sensor_msgs/CompressedImage', 'sensor_msgs/JointState',
                 'trajectory_msgs/JointTrajectory', 'geometry_msgs/TwistStamped',
                 'geometry_msgs/PoseStamped', 'std_msgs/Float64MultiArray'):
        assert field_names(known_definition(kind)) == field_names(message_schema(kind).definition)
    assert known_definition('sensor_msgs/Imu') == ''


def test_real_messages_of_thirty_types_decode_as_the_library_decodes_them() -> None:
    path = DATA / 'mcap_rosbag2_sensor_msgs' / 'rosbag2_2025_09_10-13_03_56_0.mcap'
    if not path.is_file():
        pytest.skip(f'{path} is not there')
    others, decoders, kinds = DecoderFactory(), {}, set()
    with path.open('rb') as stream:
        for schema, channel, message in make_reader(stream).iter_messages():
            assert schema is not None
            if schema.id not in decoders:
                decoders[schema.id] = make_decoder(schema.name, schema.data.decode(), 'test')
            theirs = others.decoder_for(channel.message_encoding, schema)
            assert theirs is not None
            ours = decoders[schema.id](memoryview(message.data))
            assert plain(ours) == plain(theirs(message.data)), schema.name
            kinds.add(schema.name)
    assert len(kinds) == 25
