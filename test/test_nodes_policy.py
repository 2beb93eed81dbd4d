# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The policy node over real DDS: nothing before enabling, nothing outside of the limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import signal
import time
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from geometry_msgs.msg import TwistStamped  # noqa: E402, I100
from node_harness import (  # noqa: E402
    json_of, NodeProcess, PERIOD_S, Robot, robot, running, time_of)
import numpy as np  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from ssl_vla_ros.contract import parse_contract  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from ssl_vla_ros.messages.tensors import fill_tensor  # noqa: E402
from ssl_vla_ros.nodes.common import LATCHED_QOS  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from tiny_bundle import contract_data, EXECUTE, GAIN, HISTORY, make_bundle  # noqa: E402
import yaml  # noqa: E402

pytestmark = pytest.mark.ros

STEPS = {'linear.x': 0.1, 'angular.z': 0.5}


class Scene:
    """A running policy node, its features and what it commands."""

    def __init__(self, me: Robot, process: NodeProcess, bundle: Path) -> None:
        self.me, self.process = me, process
        self.encoder = json.loads((bundle / 'manifest.json').read_text())['files']['encoder.onnx']
        self.features = me.node.create_publisher(Image, 'inference/features', 1)
        self.twists = me.listen(TwistStamped, 'servo_node/delta_twist_cmds')
        self.grippers = me.listen(Float64MultiArray, 'gripper/command')
        self.status = me.listen(String, 'policy/status', latched=True)

    def tick(self, mean: float = 0.52, age_s: float = 0.0, values: Any = None) -> int:
        """Publish the features and joints of one tick, and wait for the next."""
        began = time.monotonic()
        stamp = self.me.now_ns() - round(age_s * 1e9)
        self.me.publish_joints(self.me.now_ns())
        message = fill_tensor(Image(), np.full((2, 3), 0.5, np.float32))
        tensor = np.full((2, 3), mean, np.float32) if values is None else values
        message.data = type(message.data)('B', tensor.tobytes())
        message.height, message.width = tensor.shape
        message.step = 4 * tensor.shape[1]
        message.header.stamp = time_of(stamp)
        self.features.publish(message)
        self.me.spin(max(0.0, PERIOD_S - (time.monotonic() - began)))
        return stamp

    def tell(self, encoder: str = '', publisher: Any = None, **also: str) -> Any:
        """Publish model_info as inference does, of this or another encoder; give the publisher."""
        publisher = publisher or self.me.node.create_publisher(
            String, 'inference/model_info', LATCHED_QOS)
        publisher.publish(String(data=json.dumps(
            {'encoder_sha256': encoder or self.encoder, **also})))
        return publisher

    def forget(self, publisher: Any) -> None:
        """End a publisher of model_info, as the end of its node does, and let that be seen."""
        self.me.node.destroy_publisher(publisher)
        self.me.spin(0.5)

    def refused(self, *words: str) -> None:
        """See to it that enabling is refused with these words though features and joints come."""
        for _ in range(5):
            self.tick()
        self.me.until(lambda: json_of(self.status)['state'] != 'enabled', 'a policy at rest')
        answers: list[str] = []

        def said() -> bool:
            answer = self.me.enable()
            assert not answer.success, 'enabled'
            answers.append(answer.message)
            return all(word in answer.message for word in words)

        self.me.until(said, f'a refusal with {words}, came: {answers}', between=self.tick)

    def linear(self) -> list[float]:
        return [message.twist.linear.x for message in self.twists]

    def enabled(self, mean: float = 0.52) -> None:
        """Enable, once the node sees its inputs, and wait for the first command."""
        self.me.until(lambda: self.me.enable().success, 'enabling', between=self.tick)
        self.me.until(lambda: self.twists, 'the first command', between=lambda: self.tick(mean))

    def halted(self, between: Callable[[], Any] | None = None) -> dict[str, Any]:
        """Wait for a halt and for the robot to rest; returns the status."""
        self.me.until(lambda: self.status and json_of(self.status)['state'] == 'halted', 'a halt',
                      between=between)
        report = json_of(self.status)
        self.me.spin(0.8)
        assert self.linear()[-1] == 0.0, 'the halt did not end at zero'
        changes = np.abs(np.diff([0.0, *self.linear()]))
        assert changes.max() <= STEPS['linear.x'] + 1e-9, 'the halt was not smooth'
        return report

    def silent(self, ticks: int = 10) -> None:
        """Go on with good input, and see that nothing is commanded."""
        self.twists.clear()
        self.grippers.clear()
        for _ in range(ticks):
            self.tick()
        assert self.twists == [] and self.grippers == []


@contextmanager
def playing(folder: Path, data: dict[str, Any] | None = None) -> Iterator[Scene]:
    """Give a scene for a contract in which nobody has told model_info yet."""
    bundle = make_bundle(folder / 'tiny', parse_contract(data or contract_data(), 'tiny.yaml'))
    with robot() as me, running('policy', folder, bundle=bundle, autostart=True) as process:
        yield Scene(me, process, bundle)


@pytest.fixture
def scene(tmp_path: Path, ros_domain: int) -> Iterator[Scene]:
    with playing(tmp_path) as made:
        made.tell()
        yield made


def test_nothing_is_commanded_until_enabled_and_again_after_disabling(scene: Scene) -> None:
    scene.me.until(lambda: scene.status, 'status', between=scene.tick)
    assert json_of(scene.status)['state'] == 'disabled'
    assert "manifest.json (the bundle's own)" in scene.process.log
    scene.silent(20)
    scene.enabled()
    assert scene.me.enable(False).success
    scene.me.spin(0.8)
    assert json_of(scene.status)['state'] == 'disabled'
    scene.silent()
    scene.enabled()


def test_commands_are_the_heads_stamped_and_for_each_tick(scene: Scene) -> None:
    scene.enabled(0.505)
    for _ in range(EXECUTE):   # the first chunk may have seen what came before enabling
        scene.tick(0.505)
    scene.twists.clear()
    scene.grippers.clear()
    begin = scene.me.now_ns()
    for _ in range(10):
        scene.tick(0.505)
    scene.me.until(lambda: len(scene.twists) >= 9 and len(scene.grippers) >= 9, 'the commands')
    assert len(scene.twists) <= 11
    for twist, gripper in zip(scene.twists[1:], scene.grippers[1:], strict=False):
        assert twist.twist.linear.x == pytest.approx(0.005 * GAIN, rel=1e-3)
        assert twist.twist.angular.z == pytest.approx(0.005 * GAIN, rel=1e-3)
        assert twist.twist.linear.y == 0.0
        assert gripper.data[0] == pytest.approx(0.005 * GAIN, rel=1e-3)
        assert twist.header.frame_id == 'base_link' and stamp_ns(twist.header.stamp) > begin
    scene.me.spin(1.1)
    report = json_of(scene.status)
    assert report['clamped'] == {'linear.x': 0, 'angular.z': 0, 'gripper': 0}
    assert report['chunks'] >= 10 // EXECUTE and report['commands'] >= 10
    assert 0.0 < report['latency_p50_ms'] < 1000.0 and report['head_p99_ms'] > 0.0


def test_wild_actions_stay_in_range_and_within_a_step(scene: Scene) -> None:
    scene.enabled(0.8)   # 3 m/s
    for mean in (0.8, 0.8, 0.8, 0.8, 0.8, 0.2, 0.2, 0.2, 0.2, 0.8, 0.8) * 2:
        scene.tick(mean)
    linear = np.array([0.0, *scene.linear()])
    angular = np.array([0.0, *[message.twist.angular.z for message in scene.twists]])
    assert np.abs(linear).max() <= 0.4 + 1e-9 and np.abs(angular).max() <= 1.0 + 1e-9
    assert np.abs(np.diff(linear)).max() <= 0.1 + 1e-9
    assert np.abs(np.diff(angular)).max() <= 0.5 + 1e-9
    assert linear.max() == pytest.approx(0.4) and linear.min() < 0.0
    assert {gripper.data[0] for gripper in scene.grippers} <= {0.0, 1.0}
    scene.me.spin(1.1)
    assert json_of(scene.status)['clamped']['linear.x'] > 10


def test_silent_features_halt_smoothly_and_latch_until_enabled_again(scene: Scene) -> None:
    scene.enabled(0.8)
    for _ in range(6):
        scene.tick(0.8)
    assert scene.linear()[-1] == pytest.approx(0.4)
    gripper = scene.grippers[-1].data[0]
    # The joints go on; the features stop.
    report = scene.halted(lambda: (scene.me.publish_joints(scene.me.now_ns()),
                                   scene.me.spin(PERIOD_S)))
    assert 'features' in report['reason'] and 'joint_states' not in report['reason']
    assert {message.data[0] for message in scene.grippers} == {gripper}
    scene.silent()
    assert json_of(scene.status)['state'] == 'halted'
    values = scene.me.diagnostics('policy', between=scene.tick)
    assert values['level'] == '2' and 'halted: too long without features' in values['message']
    scene.enabled()
    assert json_of(scene.status)['state'] == 'enabled'


def test_silent_joints_halt(scene: Scene) -> None:
    scene.enabled()
    scene.me.publish_joints = lambda stamp: None
    assert 'joint_states' in scene.halted(scene.tick)['reason']


def test_stale_stamps_halt_though_messages_keep_coming(scene: Scene) -> None:
    scene.enabled()
    age = iter(np.arange(0.0, 99.0, 0.04))   # a camera whose clock is slow
    report = scene.halted(lambda: scene.tick(age_s=float(next(age))))
    assert 'features' in report['reason'] and 'old by the header stamp' in report['reason']
    scene.silent()


def test_stale_joint_stamps_halt_though_messages_keep_coming(scene: Scene) -> None:
    scene.enabled()
    publish = scene.me.publish_joints
    begin = scene.me.now_ns()
    # A driver whose clock runs at a tenth of the speed.
    scene.me.publish_joints = (
        lambda stamp: publish(begin + (stamp - begin) // 10))
    assert 'joint_states' in scene.halted(scene.tick)['reason']


@pytest.mark.parametrize(('values', 'cause'), [
    (np.full((2, 3), np.nan, np.float32), 'not finite'),
    (np.full((2, 3), 0.95, np.float32), 'head.onnx gave NaN'),
    (np.full((3, 3), 0.5, np.float32), r'shape')])
def test_nan_and_wrong_shapes_halt_and_never_leave(
        scene: Scene, values: np.ndarray, cause: str) -> None:
    scene.enabled()
    for _ in range(EXECUTE + HISTORY):
        scene.tick(values=values)
    assert cause in scene.halted(scene.tick)['reason']
    assert np.isfinite(scene.linear()).all()
    scene.silent()


def test_a_nan_joint_a_missing_joint_and_a_joint_at_its_limit_halt(scene: Scene) -> None:
    for position, cause in (([float('nan'), 0.0], 'elbow is nan'), ([1.95, 0.0], 'joint elbow'),
                            ([0.1], 'lacks wrist')):
        scene.me.position = [0.1, -0.1]
        scene.me.spin(0.2)
        for _ in range(3):
            scene.tick()
        scene.enabled()

        def tick(position: list[float] = position) -> None:
            message = JointState(name=['elbow', 'wrist'][:len(position)], position=position)
            message.header.stamp = time_of(scene.me.now_ns())
            scene.me.publish_joints = (
                lambda stamp: scene.me.joints.publish(message))
            scene.tick()

        publish = scene.me.publish_joints
        report = scene.halted(tick)
        scene.me.publish_joints = publish
        assert cause in report['reason']
        scene.twists.clear()


def test_stop_latches_and_a_second_stop_is_harmless(scene: Scene) -> None:
    scene.enabled(0.8)
    assert scene.me.trigger('policy/stop').success
    assert 'stopped' in scene.halted(scene.tick)['reason']
    assert scene.me.trigger('policy/stop').success
    scene.silent()


def test_a_jump_of_the_stamps_halts(scene: Scene) -> None:
    # Stale limits would catch a jump of the stamps alone; here the node's clock jumps with them.
    from rosgraph_msgs.msg import Clock
    scene.process.end()
    bundle = Path(scene.process._path).parent / 'tiny'
    with running('policy', bundle.parent, bundle=bundle, autostart=True,
                 use_sim_time=True) as process:
        scene.process = process
        clock = scene.me.node.create_publisher(Clock, '/clock', 10)
        now = [100 * 10**9]
        scene.me.now_ns = lambda: now[0]
        plain = scene.tick

        def tick(mean: float = 0.52) -> int:
            now[0] += 50_000_000
            clock.publish(Clock(clock=time_of(now[0])))
            scene.me.spin(0.01)
            return plain(mean)

        scene.tick = tick
        scene.enabled()
        for _ in range(5):
            tick()
        now[0] -= 20 * 10**9
        assert 'jumped' in scene.halted(tick)['reason']


def test_features_of_another_encoder_are_refused(scene: Scene) -> None:
    scene.enabled()
    scene.tell('abcdef0123456789')
    assert 'abcdef012345' in scene.halted(scene.tick)['reason']
    answer = scene.me.enable()
    assert not answer.success and 'same bundle' in answer.message


def test_enabling_without_fresh_input_is_refused_with_the_reason(scene: Scene) -> None:
    scene.me.until(lambda: scene.status, 'status')
    answers = []

    def told() -> bool:
        answers.append(scene.me.enable())
        return 'model_info' not in answers[-1].message

    scene.me.until(told, 'the node to have heard model_info')
    assert not any(answer.success for answer in answers)
    assert 'features' in answers[-1].message and 'joint_states' in answers[-1].message


def test_nothing_is_enabled_before_inference_has_told_its_encoder_and_after_it_went(
        tmp_path: Path, ros_domain: int) -> None:
    unknown = 'no inference/model_info yet: '
    with playing(tmp_path) as scene:
        scene.me.until(lambda: scene.status, 'status')
        scene.refused(unknown)           # the features were remapped, their model_info was not
        scene.silent()
        info = scene.tell()
        scene.enabled()
        assert scene.me.enable(False).success
        scene.forget(info)
        scene.refused(unknown)
        info = scene.tell('abcdef0123456789')
        scene.refused('abcdef012345', 'same bundle')
        scene.forget(info)
        scene.refused(unknown)
        scene.tell()
        scene.enabled()


def test_a_policy_that_moves_goes_on_only_while_somebody_vouches_for_the_encoder(
        scene: Scene) -> None:
    other = scene.tell()
    last = scene.tell()
    scene.enabled()
    scene.forget(other)
    for _ in range(30):   # longer than until the next look, and the longest silence after it
        scene.tick()
    assert json_of(scene.status)['state'] == 'enabled'
    scene.forget(last)
    for _ in range(30):
        scene.tick()
    assert json_of(scene.status)['state'] == 'enabled'   # the first one of all is still there


def test_a_node_that_tells_twice_does_not_vouch_for_another(
        tmp_path: Path, ros_domain: int) -> None:
    with playing(tmp_path) as scene:
        one = scene.tell(instance='one')
        scene.enabled()
        assert scene.me.enable(False).success
        other = scene.me.node.create_publisher(String, 'inference/model_info', LATCHED_QOS)
        scene.refused('1 of 2 publishers')
        scene.tell(publisher=one, instance='one')    # as after a swap
        scene.refused('1 of 2 publishers')
        assert 'not enabled: 1 of 2 publishers' in scene.process.log
        scene.tell(publisher=other, instance='other')
        scene.enabled()


def test_features_without_a_known_encoder_halt_a_policy_that_moves(
        tmp_path: Path, ros_domain: int) -> None:
    with playing(tmp_path) as scene:
        info = scene.tell()
        scene.enabled()
        scene.forget(info)
        assert 'model_info' in scene.halted(scene.tick)['reason']
        scene.silent()


def test_another_inference_is_not_taken_for_the_killed_one(
        tmp_path: Path, ros_domain: int) -> None:
    bundle, other = make_bundle(tmp_path / 'tiny'), make_bundle(tmp_path / 'other', slow=1)
    with robot() as me, running('policy', tmp_path, bundle=bundle, autostart=True):
        status = me.listen(String, 'policy/status', latched=True)
        with running('inference', tmp_path, bundle=bundle, autostart=True) as inference:
            me.until(lambda: me.enable().success, 'enabling', between=me.tick)
            inference.process.kill()
            me.until(lambda: json_of(status)['state'] == 'halted', 'a halt', between=me.tick)
        with running('inference', tmp_path, bundle=other, autostart=True):

            def foreign() -> bool:
                answer = me.enable()
                assert not answer.success
                return 'same bundle' in answer.message

            me.until(foreign, 'a refusal of the other encoder', between=me.tick)


@pytest.mark.parametrize('kind', ['gripper', 'pose'])
def test_an_absolute_command_without_a_known_start_is_not_enabled(
        kind: str, tmp_path: Path, ros_domain: int) -> None:
    data = contract_data()
    del data['limits']['action']['gripper']['free_start']
    name = 'gripper'
    if kind == 'pose':
        name = 'position.x'
        data['action'][1] = {'topic': 'target', 'type': 'geometry_msgs/PoseStamped',
                             'names': [name]}
        data['limits']['action'][name] = data['limits']['action'].pop('gripper')
    with playing(tmp_path, data) as scene:
        scene.tell()
        scene.me.until(lambda: scene.status, 'status')
        scene.refused(f'where {name} starts', f'limits.action.{name}', 'free_start: true')
        scene.silent()


def test_a_commanded_joint_starts_where_it_is_and_needs_no_free_start(
        tmp_path: Path, ros_domain: int) -> None:
    data = contract_data()
    data['action'][1]['names'] = ['elbow']
    data['limits']['action']['elbow'] = {'min': -1.5, 'max': 1.5, 'max_step': 0.02}
    del data['limits']['action']['gripper']
    with playing(tmp_path, data) as scene:
        scene.tell()
        scene.enabled(0.6)   # 1 rad
        scene.me.until(lambda: scene.grippers, 'the first command')
        assert scene.grippers[0].data[0] == pytest.approx(scene.me.position[0] + 0.02)


def test_enabled_again_a_free_start_goes_on_from_the_last_command(
        tmp_path: Path, ros_domain: int) -> None:
    data = contract_data()
    data['limits']['action']['gripper']['max_step'] = 0.3
    with playing(tmp_path, data) as scene:
        scene.tell()
        scene.enabled(0.6)
        scene.me.until(lambda: scene.grippers, 'the first command')
        assert scene.grippers[0].data[0] == pytest.approx(1.0)   # free: as the head wants it
        assert scene.me.enable(False).success
        scene.me.spin(0.8)
        assert scene.grippers[-1].data[0] == pytest.approx(1.0)
        scene.twists.clear()
        scene.grippers.clear()
        scene.enabled(0.5)   # open
        scene.me.until(lambda: scene.grippers, 'the next command')
        assert scene.grippers[0].data[0] == pytest.approx(0.7)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_moving_brings_the_robot_to_rest_and_exits_0(
        scene: Scene, number: int) -> None:
    scene.enabled(0.8)
    for _ in range(6):
        scene.tick(0.8)
    scene.process.process.send_signal(number)
    scene.me.until(lambda: not scene.process.alive(), 'the end of the process')
    assert scene.process.end() == 0, scene.process.log
    assert scene.linear()[-1] == 0.0
    assert np.abs(np.diff(scene.linear())).max() <= STEPS['linear.x'] + 1e-9


def test_deactivating_brings_it_to_rest_and_activating_does_not_enable(scene: Scene) -> None:
    scene.enabled(0.8)
    assert scene.me.change('policy', 'deactivate')
    scene.me.spin(0.2)
    assert scene.linear()[-1] == 0.0
    assert 'inactive' in scene.me.enable().message
    assert scene.me.change('policy', 'activate')
    scene.silent()
    scene.enabled()


def test_without_limits_configure_fails_and_says_so(tmp_path: Path, ros_domain: int) -> None:
    data = contract_data()
    data.pop('limits')
    bundle = make_bundle(tmp_path / 'tiny', parse_contract(data, 'tiny.yaml'))
    with robot() as me, running('policy', tmp_path, bundle=bundle) as process:
        assert not me.change('policy', 'configure')
        assert 'the robot contract has no limits' in process.log
        assert me.state('policy') == 'unconfigured'
    path = tmp_path / 'limited.yaml'
    path.write_text(yaml.safe_dump(contract_data()))
    with robot() as me, running('policy', tmp_path, bundle=bundle, contract=path) as process:
        assert me.change('policy', 'configure'), process.log
        assert f'limits in force: contract {path}\n' in process.log
        assert "the bundle's own" not in process.log
