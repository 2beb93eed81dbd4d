# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The robot contract: what is read, and that each error names file, key and value."""

from __future__ import annotations

from collections.abc import Callable
import copy
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import given, strategies
import pytest
from ssl_vla_ros.contract import (
    Contract, load_contract, parse_contract, require_compatible, suggestion)
from ssl_vla_ros.errors import ContractError, UserError
import yaml

SIM = Path(__file__).parents[1] / 'config' / 'robots' / 'sim_ur5e.yaml'
JOINTS = (
    'shoulder_pan_joint', 'shoulder_lift_joint', 'elbow_joint', 'wrist_1_joint', 'wrist_2_joint',
    'wrist_3_joint', 'robotiq_85_left_knuckle_joint')
Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def data() -> dict[str, Any]:
    content = yaml.safe_load(SIM.read_text())
    assert isinstance(content, dict)
    return content


def minimal() -> dict[str, Any]:
    """Return the shortest contract that is valid."""
    return {
        'robot': 'arm', 'rate_hz': 10, 'cameras': {},
        'state': [{'topic': 'joints', 'type': 'sensor_msgs/JointState', 'names': ['a']}],
        'action': [{'topic': 'command', 'type': 'std_msgs/Float64MultiArray', 'names': ['x']}]}


# -- what is read -------------------------------------------------------------------------------

def test_the_simulated_robot_s_contract_is_read() -> None:
    contract = load_contract(SIM)
    assert contract.robot == 'sim_ur5e'
    assert contract.rate_hz == 20
    assert contract.camera_names == ('front', 'wrist')
    assert contract.state_names == JOINTS
    assert contract.action_names == ('linear.x', 'linear.y', 'linear.z', 'angular.z', 'gripper')
    assert contract.evaluation_names[:3] == ('position.x', 'position.y', 'position.z')
    assert contract.source == str(SIM)
    assert contract.limits is not None
    assert contract.limits.action['gripper'].max == 1.0
    assert contract.limits.joints['elbow_joint'].max_velocity == 3.15
    assert contract.action[0].stamped
    assert not contract.action[1].stamped


def test_topics_lists_each_topic_once_cameras_first() -> None:
    topics = load_contract(SIM).topics()
    assert list(topics) == [
        'camera/front/image_raw', 'camera/wrist/image_raw', 'joint_states',
        'servo_node/delta_twist_cmds', 'gripper/command', 'ground_truth/object_pose']
    assert topics['joint_states'] == 'sensor_msgs/JointState'


def test_defaults() -> None:
    contract = parse_contract(minimal(), 'file')
    assert contract.limits is None
    assert contract.evaluation == ()
    assert (contract.sync.image, contract.sync.state, contract.sync.action) == (
        'nearest', 'linear', 'next')
    assert contract.sync.max_skew_s == 0.05
    assert contract.state[0].field == 'position'
    assert contract.state[0].reliability == 'reliable'


def test_a_velocity_s_column_says_that_it_is_one() -> None:
    content = minimal()
    content['state'].append({'topic': 'joints', 'type': 'sensor_msgs/JointState',
                             'field': 'velocity', 'names': ['a']})
    assert parse_contract(content, 'file').state_names == ('a', 'a.velocity')


def test_every_contract_in_config_is_valid() -> None:
    files = sorted(SIM.parent.glob('*.yaml'))
    assert SIM in files
    for file in files:
        assert load_contract(file).robot == file.stem


def test_dict_and_back_through_json_is_the_same_contract() -> None:
    contract = load_contract(SIM)
    again = parse_contract(json.loads(json.dumps(contract.to_dict())), str(SIM))
    assert again == contract
    assert again.digest() == contract.digest()


def test_an_unlimited_velocity_survives_json(data: dict[str, Any]) -> None:
    del data['limits']['joints']['elbow_joint']['max_velocity']
    contract = parse_contract(data, 'file')
    text = json.dumps(contract.to_dict(), allow_nan=False)
    again = parse_contract(json.loads(text), 'file')
    assert again == contract
    assert again.limits is not None
    assert math.isinf(again.limits.joints['elbow_joint'].max_velocity)


def test_a_free_start_is_kept_and_its_absence_changes_no_digest(data: dict[str, Any]) -> None:
    contract = parse_contract(data, 'file')
    assert contract.limits is not None
    assert [name for name, limit in contract.limits.action.items() if limit.free_start] == [
        'gripper']
    again = parse_contract(json.loads(json.dumps(contract.to_dict())), 'file')
    assert again == contract and again.digest() == contract.digest()
    written = contract.to_dict()['limits']['action']
    assert written['gripper']['free_start'] is True
    # Bundles of before the key was there hold digests without it.
    assert written['linear.x'] == {'min': -0.45, 'max': 0.45, 'max_step': 0.2}
    data['limits']['action']['gripper']['free_start'] = False
    bound = parse_contract(data, 'file')
    assert bound.digest() != contract.digest()
    del data['limits']['action']['gripper']['free_start']
    assert parse_contract(data, 'file') == bound


def test_digest_follows_content_not_file(data: dict[str, Any]) -> None:
    contract = parse_contract(data, 'one.yaml')
    assert parse_contract(copy.deepcopy(data), 'two.yaml').digest() == contract.digest()
    data['state'][0]['names'].reverse()
    assert parse_contract(data, 'one.yaml').digest() != contract.digest()


def test_videos_alone_make_a_contract_without_state_and_action() -> None:
    content = minimal() | {
        'state': [], 'action': [], 'cameras': {
            'head': {'topic': 'imported/head', 'type': 'sensor_msgs/Image',
                     'height': 64, 'width': 64}}}
    contract = parse_contract(content, 'file')
    assert contract.state_names == contract.action_names == ()
    assert parse_contract(contract.to_dict(), 'again').digest() == contract.digest()


def test_extra_topics_are_recorded_and_change_no_other_digest() -> None:
    without = parse_contract(minimal(), 'file')
    content = minimal() | {'extra': [
        {'topic': 'tf', 'type': 'tf2_msgs/msg/TFMessage'},
        {'topic': 'tf_static', 'type': 'tf2_msgs/TFMessage', 'durability': 'transient_local'}]}
    contract = parse_contract(content, 'file')
    assert contract.topics() == without.topics() | {
        'tf': 'tf2_msgs/TFMessage', 'tf_static': 'tf2_msgs/TFMessage'}
    assert [item.durability for item in contract.extra] == ['volatile', 'transient_local']
    assert parse_contract(contract.to_dict(), 'again').digest() == contract.digest()
    assert 'extra' not in without.to_dict()
    assert parse_contract(minimal() | {'extra': []}, 'file').digest() == without.digest()


def test_a_topic_may_carry_two_fields() -> None:
    content = minimal()
    content['state'].append({'topic': 'joints', 'type': 'sensor_msgs/JointState',
                             'field': 'effort', 'names': ['a']})
    assert list(parse_contract(content, 'file').topics()) == ['joints', 'command']


# -- what is refused: (change, words that the message must hold) --------------------------------

def put(value: object, *path: str | int) -> Change:
    """Return a change that sets a value, in place."""
    def change(content: dict[str, Any]) -> None:
        part: Any = content
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value
    return change


def drop(*path: str | int) -> Change:
    """Return a change that removes a key, in place."""
    def change(content: dict[str, Any]) -> None:
        part: Any = content
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]
    return change


def twice(content: dict[str, Any]) -> None:
    content['state'][0]['names'].append('elbow_joint')


def in_two_streams(content: dict[str, Any]) -> None:
    content['state'].append({'topic': 'others', 'type': 'sensor_msgs/JointState',
                             'names': ['elbow_joint']})


def same_camera_topic(content: dict[str, Any]) -> None:
    content['cameras']['wrist']['topic'] = 'camera/front/image_raw'


def nothing_observed(content: dict[str, Any]) -> None:
    content['cameras'], content['state'] = {}, []
    content.pop('limits', None)


def stream_on_a_camera_topic(content: dict[str, Any]) -> None:
    content['state'][0]['topic'] = 'camera/front/image_raw'


REFUSED: dict[str, tuple[Change, list[str]]] = {
    'unknown key': (put(30, 'rate'), ["'rate'", '30', "did you mean 'rate_hz'"]),
    'unknown key far from all': (put(1, 'zzzz'), ["'zzzz'", '1', 'known: robot, rate_hz']),
    'unknown camera key': (
        put('rgb8', 'cameras', 'front', 'encoding'), ['cameras.front.encoding', 'rgb8']),
    'unknown stream key': (put(['a'], 'state', 0, 'name'), ['state[0].name', 'names']),
    'unknown sync key': (put(1, 'sync', 'max_skew'), ['sync.max_skew', 'max_skew_s']),
    'missing robot': (drop('robot'), ['robot is missing', 'config/robots/']),
    'missing rate': (drop('rate_hz'), ['rate_hz is missing']),
    'missing cameras': (drop('cameras'), ['cameras is missing']),
    'missing topic': (drop('cameras', 'front', 'topic'), ['cameras.front.topic is missing']),
    'missing height': (drop('cameras', 'front', 'height'), ['cameras.front.height is missing']),
    'missing names': (drop('action', 0, 'names'), ['action[0].names is missing']),
    'missing state': (drop('state'), ['state is missing']),
    'state is null': (put(None, 'state'), ['state is None', 'a list of streams', '[] for none']),
    'sync on_gap': (put('skip', 'sync', 'on_gap'), ['sync.on_gap', "'skip'", 'refuse, split']),
    'sync min_run_s': (put(0, 'sync', 'min_run_s'), ['sync.min_run_s', 'above 0']),
    'nothing observed': (nothing_observed, ['cameras and state are both empty']),
    'extra a mapping': (put({}, 'extra'), ['extra is {}', 'a list of topics']),
    'extra without type': (put([{'topic': 'tf'}], 'extra'), ['extra[0].type is missing']),
    'extra of no type': (put([{'topic': 'tf', 'type': 'TFMessage'}], 'extra'),
                         ['extra[0].type', "'TFMessage'", 'tf2_msgs/TFMessage']),
    'extra with a wrong durability': (
        put([{'topic': 'tf', 'type': 'a/B', 'durability': 'latched'}], 'extra'),
        ['extra[0].durability', "'latched'", 'transient_local']),
    'extra recorded already': (
        put([{'topic': 'joint_states', 'type': 'sensor_msgs/JointState'}], 'extra'),
        ['extra[0].topic', "'joint_states'", 'already']),
    'state a mapping': (put({}, 'state'), ['state is {}', 'a list of streams']),
    'stream a text': (put('joint_states', 'state', 0), ['state[0]', "'joint_states'", 'mapping']),
    'cameras a list': (put([], 'cameras'), ['cameras is []', 'a mapping']),
    'camera a text': (put('x', 'cameras', 'front'), ['cameras.front', "'x'", 'mapping']),
    'robot a number': (put(5, 'robot'), ['robot is 5', 'a name']),
    'robot with a slash': (put('a/b', 'robot'), ["robot is 'a/b'"]),
    'camera name': (put({}, 'cameras', '1st'), ["'1st'", 'letters']),
    'rate a text': (put('20', 'rate_hz'), ["rate_hz is '20'", 'a whole number']),
    'rate a fraction': (put(12.5, 'rate_hz'), ['rate_hz is 12.5', 'a whole number']),
    'rate true': (put(True, 'rate_hz'), ['rate_hz is True', 'a whole number']),
    'rate zero': (put(0, 'rate_hz'), ['rate_hz is 0', 'from 1 to 1000']),
    'height too small': (put(8, 'cameras', 'front', 'height'), ['cameras.front.height is 8']),
    'width negative': (put(-1, 'cameras', 'wrist', 'width'), ['cameras.wrist.width is -1']),
    'camera type': (
        put('sensor_msgs/Imag', 'cameras', 'front', 'type'),
        ['cameras.front.type', 'sensor_msgs/Imag', "did you mean 'sensor_msgs/Image'"]),
    'topic with a space': (
        put('my camera', 'cameras', 'front', 'topic'), ['cameras.front.topic', "'my camera'"]),
    'topic empty': (put('', 'state', 0, 'topic'), ["state[0].topic is ''"]),
    'topic double slash': (put('a//b', 'state', 0, 'topic'), ["state[0].topic is 'a//b'"]),
    'stream type': (
        put('sensor_msgs/JointStates', 'state', 0, 'type'),
        ['state[0].type', 'sensor_msgs/JointStates', "did you mean 'sensor_msgs/JointState'"]),
    'stream type a list': (put([], 'state', 0, 'type'), ['state[0].type is []']),
    'field': (put('positions', 'state', 0, 'field'), ['state[0].field', 'positions', 'position']),
    'reliability': (
        put('besteffort', 'state', 0, 'reliability'),
        ['state[0].reliability', 'besteffort', "'best_effort'"]),
    'no names': (put([], 'state', 0, 'names'), ['state[0].names is []', 'at least one']),
    'names a text': (put('elbow', 'state', 0, 'names'), ["state[0].names is 'elbow'"]),
    'a name a number': (put([1], 'state', 0, 'names'), ['state[0].names is [1]']),
    'joint twice': (twice, ['state[0].names', "'elbow_joint' twice"]),
    'joint in two streams': (
        in_two_streams, ['state[1].names', "'elbow_joint'", 'state[0]', 'remove one']),
    'twist component': (
        put(['linear.w'], 'action', 0, 'names'), ['action[0].names', "'linear.w'", 'linear.x']),
    'camera topic twice': (
        same_camera_topic,
        ['cameras.wrist.topic', "'camera/front/image_raw'", 'cameras.front has already']),
    'one topic two types': (
        stream_on_a_camera_topic,
        ["'camera/front/image_raw'", 'sensor_msgs/Image', 'sensor_msgs/JointState']),
    'sync method': (put('nearst', 'sync', 'image'), ['sync.image', 'nearst', "'nearest'"]),
    'skew zero': (put(0.0, 'sync', 'max_skew_s'), ['sync.max_skew_s is 0.0', 'above 0']),
    'skew a text': (put('50ms', 'sync', 'max_skew_s'), ["sync.max_skew_s is '50ms'"]),
    'skew nan': (put(math.nan, 'sync', 'max_skew_s'), ['sync.max_skew_s is nan']),
    'fraction negative': (
        put(-0.1, 'sync', 'max_flagged_fraction'), ['sync.max_flagged_fraction is -0.1']),
    'limits empty': (put(None, 'limits'), ['limits', 'None', 'mapping']),
    'timeout missing': (
        drop('limits', 'input_timeout_s'), ['limits.input_timeout_s is missing']),
    'timeout zero': (
        put(0, 'limits', 'input_timeout_s'), ['limits.input_timeout_s is 0', 'above 0']),
    'an action without limits': (
        drop('limits', 'action', 'linear.z'), ['limits.action.linear.z is missing']),
    'limits of no action': (
        put({}, 'limits', 'action', 'linear.w'), ['limits.action.linear.w', 'linear.']),
    'limits of no joint': (
        put({'min': 0, 'max': 1}, 'limits', 'joints', 'elbow'),
        ['limits.joints.elbow', "did you mean 'elbow_joint'"]),
    'max below min': (
        put(-1.0, 'limits', 'action', 'linear.x', 'max'),
        ['limits.action.linear.x.max is -1.0', 'above -0.45']),
    'step zero': (
        put(0, 'limits', 'action', 'linear.x', 'max_step'),
        ['limits.action.linear.x.max_step is 0']),
    'free start a text': (
        put('yes', 'limits', 'action', 'gripper', 'free_start'),
        ["limits.action.gripper.free_start is 'yes'", 'must be true or false']),
    'free start a number': (
        put(1, 'limits', 'action', 'gripper', 'free_start'),
        ['limits.action.gripper.free_start is 1', 'must be true or false']),
    'unknown action limit': (
        put(True, 'limits', 'action', 'gripper', 'free_strat'),
        ['limits.action.gripper.free_strat', 'True', "did you mean 'free_start'"]),
    'margin negative': (
        put(-1, 'limits', 'joints', 'elbow_joint', 'margin'),
        ['limits.joints.elbow_joint.margin is -1']),
    'margin eats the range': (
        put(3.14, 'limits', 'joints', 'elbow_joint', 'margin'),
        ['limits.joints.elbow_joint.margin is 3.14', 'half of the range']),
    'velocity zero': (
        put(0, 'limits', 'joints', 'elbow_joint', 'max_velocity'),
        ['limits.joints.elbow_joint.max_velocity is 0']),
}


@pytest.mark.parametrize('name', REFUSED)
def test_a_wrong_contract_is_refused_with_file_key_and_value(
    name: str, data: dict[str, Any], tmp_path: Path,
) -> None:
    change, words = REFUSED[name]
    change(data)
    file = tmp_path / 'robot.yaml'
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ContractError) as caught:
        load_contract(file)
    message = str(caught.value)
    assert message.startswith(f'{file}: ')
    for word in words:
        assert word in message
    assert '\n' not in message


@pytest.mark.parametrize('content', [None, [], 'text', 7])
def test_a_file_that_holds_no_mapping_is_refused(content: object) -> None:
    with pytest.raises(ContractError, match='file.yaml: the file must be a mapping'):
        parse_contract(content, 'file.yaml')


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r'absent\.yaml: cannot read the robot contract'):
        load_contract(tmp_path / 'absent.yaml')


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match='cannot read the robot contract'):
        load_contract(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'robot.yaml'
    file.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ContractError, match='cannot read the robot contract'):
        load_contract(file)


@pytest.mark.parametrize('text', ['a: [1', 'a: b: c', '\tx: 1'])
def test_broken_yaml_is_refused_in_one_line_that_says_where(tmp_path: Path, text: str) -> None:
    file = tmp_path / 'robot.yaml'
    file.write_text(text)
    with pytest.raises(ContractError, match=r'robot\.yaml: not valid YAML: .*line 1') as caught:
        load_contract(file)
    assert '\n' not in str(caught.value)


def test_yaml_that_would_make_objects_is_refused(tmp_path: Path) -> None:
    file = tmp_path / 'robot.yaml'
    file.write_text('robot: !!python/object/apply:os.getcwd []\n')
    with pytest.raises(ContractError, match='not valid YAML'):
        load_contract(file)


_VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers()
    | strategies.floats() | strategies.text(max_size=8),
    lambda inner: strategies.lists(inner, max_size=3)
    | strategies.dictionaries(strategies.text(max_size=8) | strategies.integers(), inner,
                              max_size=3),
    max_leaves=6)


@given(key=strategies.sampled_from([
    ('robot',), ('rate_hz',), ('cameras',), ('cameras', 'front'), ('cameras', 'front', 'height'),
    ('state',), ('state', 0), ('state', 0, 'names'), ('state', 0, 'type'), ('action',),
    ('evaluation',), ('sync',), ('sync', 'max_skew_s'), ('limits',), ('limits', 'action'),
    ('limits', 'joints'), ('limits', 'joints', 'elbow_joint')]), value=_VALUES)
def test_any_value_anywhere_is_read_or_refused_never_a_crash(
    key: tuple[str | int, ...], value: object,
) -> None:
    content = yaml.safe_load(SIM.read_text())
    put(value, *key)(content)
    try:
        contract = parse_contract(content, 'file')
    except ContractError as error:
        assert str(error).startswith('file: ')
    else:
        assert parse_contract(contract.to_dict(), 'file') == contract


# -- two contracts that meet --------------------------------------------------------------------

def changed(*changes: Change, source: str = 'robot.yaml') -> Contract:
    content = yaml.safe_load(SIM.read_text())
    for change in changes:
        change(content)
    return parse_contract(content, source)


def test_a_contract_fits_itself() -> None:
    require_compatible(changed(), changed(), 'the bundle')


def test_topics_sizes_and_limits_may_differ() -> None:
    require_compatible(changed(), changed(
        put('other/image', 'cameras', 'front', 'topic'),
        put(96, 'cameras', 'front', 'height'),
        drop('limits'),
        put('arm_two', 'robot')), 'the bundle')
    require_compatible(changed(), changed(
        drop('limits', 'action', 'gripper', 'free_start'),
        put(0.1, 'limits', 'action', 'linear.x', 'max')), 'the bundle')


def test_a_seventh_joint_is_refused_by_name() -> None:
    def seventh(content: dict[str, Any]) -> None:
        content['state'][0]['names'].append('rail_joint')

    with pytest.raises(ContractError) as caught:
        require_compatible(changed(), changed(seventh, source='rail.yaml'), 'bundle lift')
    message = str(caught.value)
    assert 'bundle lift' in message
    assert 'rail.yaml has rail_joint in addition' in message


def test_a_lacking_camera_is_refused_by_name() -> None:
    with pytest.raises(ContractError, match=r'camera: robot\.yaml lacks wrist'):
        require_compatible(changed(), changed(drop('cameras', 'wrist')), 'bundle lift')


def test_another_order_is_refused() -> None:
    def swap(content: dict[str, Any]) -> None:
        names = content['state'][0]['names']
        names[0], names[1] = names[1], names[0]

    with pytest.raises(ContractError, match='state: the order is'):
        require_compatible(changed(), changed(swap), 'bundle lift')


def test_another_rate_is_refused() -> None:
    with pytest.raises(ContractError, match='rate_hz: 30, was 20'):
        require_compatible(changed(), changed(put(30, 'rate_hz')), 'bundle lift')


def test_every_difference_is_named() -> None:
    other = changed(
        put(30, 'rate_hz'), drop('cameras', 'wrist'), drop('limits'),
        put(['linear.x'], 'action', 0, 'names'))
    with pytest.raises(ContractError) as caught:
        require_compatible(changed(), other, 'bundle lift')
    for word in ('rate_hz', 'wrist', 'linear.y', 'linear.z', 'angular.z'):
        assert word in str(caught.value)


def test_suggestions() -> None:
    assert suggestion('heigth', ['height', 'width']) == "; did you mean 'height'?"
    assert suggestion('zzz', ['height', 'width']) == '; known: height, width'


def test_a_contract_error_is_the_user_s_to_mend() -> None:
    assert issubclass(ContractError, UserError)
