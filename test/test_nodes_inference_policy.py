# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Inference and policy in one process: pictures in, commands out, no features on the way."""

from __future__ import annotations

from pathlib import Path
import signal
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from geometry_msgs.msg import TwistStamped  # noqa: E402, I100
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from node_harness import json_of, Robot, robot, running  # noqa: E402
import numpy as np  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from ssl_vla_ros.messages.tensors import read_tensor  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from tiny_bundle import make_bundle  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def bundle(tmp_path: Path, ros_domain: int) -> Path:
    return make_bundle(tmp_path / 'tiny')


def enabled(me: Robot) -> list[Any]:
    """Enable, and give the commands that come."""
    twists = me.listen(TwistStamped, 'servo_node/delta_twist_cmds')
    me.until(lambda: me.enable().success, 'enabling', between=lambda: me.tick(133))
    me.until(lambda: twists, 'commands', between=lambda: me.tick(133))
    return twists


def test_pictures_become_commands_with_no_subscriber_of_features(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle,
                                autostart=True) as node:
        twists = enabled(me)
        assert me.node.count_publishers('inference/features') == 1
        assert me.node.count_subscribers('inference/features') == 0
        # 133 of 255 is 0.52: ten times what that is above a half.
        me.until(lambda: abs(twists[-1].twist.linear.x - 0.2157) < 0.01, 'the command',
                 between=lambda: me.tick(133))
        # Who listens gets the same features as from the node alone.
        features = me.listen(Image, 'inference/features')
        me.until(lambda: features, 'features', between=lambda: me.tick(133))
        np.testing.assert_allclose(read_tensor(features[-1]), 133 / 255, rtol=1e-5)
        status = me.listen(String, 'policy/status', latched=True)
        me.until(lambda: status, 'the status')
        assert json_of(status)['state'] == 'enabled'
        assert node.end() == 0, node.log
        assert 'Traceback' not in node.log


def test_each_has_its_own_lifecycle_and_a_policy_without_features_halts(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle,
                                autostart=True) as node:
        status = me.listen(String, 'policy/status', latched=True)
        twists = enabled(me)
        assert me.change('inference', 'deactivate')
        me.until(lambda: json_of(status)['state'] == 'halted', 'a halt',
                 between=lambda: me.tick(133))
        assert 'features' in json_of(status)['reason']
        me.until(lambda: twists[-1].twist.linear.x == 0.0, 'rest', between=lambda: me.tick(133))
        assert (me.state('inference'), me.state('policy')) == ('inactive', 'active')
        assert me.change('inference', 'activate')
        features = me.listen(Image, 'inference/features')
        stamp = me.tick(133)
        me.until(lambda: any(stamp_ns(message.header.stamp) >= stamp for message in features),
                 'features again', between=lambda: me.tick(133))
        assert json_of(status)['state'] == 'halted'     # latched until somebody enables
        me.until(lambda: me.enable().success, 'enabling', between=lambda: me.tick(133))
        assert node.alive() and node.end(signal.SIGTERM) == 0


def test_an_arm_comes_to_rest_while_inference_opens_a_bundle(
        bundle: Path, tmp_path: Path) -> None:
    """Opening takes seconds here and minutes on a GPU; the policy's watchdog goes on."""
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle, autostart=True):
        twists = enabled(me)
        make_bundle(bundle, slow=500)
        client = me.client(ChangeState, 'inference/change_state')
        status = me.listen(String, 'policy/status', latched=True)
        for label in ('deactivate', 'cleanup'):
            assert me.change('inference', label)
        request = ChangeState.Request()
        request.transition.label = 'configure'
        answer = client.call_async(request)
        me.until(lambda: json_of(status)['state'] == 'halted' and not json_of(status)['stopping'],
                 'rest', between=lambda: me.tick(133))
        assert twists[-1].twist.linear.x == 0.0
        assert not answer.done(), 'opened too fast to show anything: make it slower'
        assert me.trigger('policy/stop').success
        me.until(answer.done, 'the end of configure', between=lambda: me.tick(133))
        assert answer.result().success


def test_a_swap_to_another_encoder_halts_and_back_again_may_be_enabled(
        bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / 'other', slow=1)       # another file, so another encoder
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle,
                                autostart=True) as node:
        twists = enabled(me)
        status = me.listen(String, 'policy/status', latched=True)
        swapping = me.client(Trigger, 'inference/swap')

        def swap(path: Path) -> None:
            assert me.call(SetParameters, 'inference/set_parameters', SetParameters.Request(
                parameters=[Parameter('next_bundle', value=str(path)).to_parameter_msg()]
            )).results[0].successful
            answer = swapping.call_async(Trigger.Request())
            me.until(answer.done, 'the swap', between=lambda: me.tick(133))
            assert answer.result().success, answer.result().message

        swap(other)
        me.until(lambda: json_of(status)['state'] == 'halted', 'a halt',
                 between=lambda: me.tick(133))
        assert 'SHA-256' in json_of(status)['reason']
        me.until(lambda: twists[-1].twist.linear.x == 0.0, 'rest', between=lambda: me.tick(133))
        for _ in range(5):
            me.tick(133)
            assert not me.enable().success
        swap(bundle)
        me.until(lambda: me.enable().success, 'enabling after the swap back',
                 between=lambda: me.tick(133))
        twists.clear()
        me.until(lambda: twists, 'commands', between=lambda: me.tick(133))
        assert node.end() == 0


def test_a_bundle_without_head_leaves_inference_running(bundle: Path, tmp_path: Path) -> None:
    from tiny_bundle import tiny_contract, write_manifest
    write_manifest(bundle, tiny_contract(), head=None)
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle,
                                autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        me.until(lambda: features, 'features', between=me.tick)
        assert me.state('policy') == 'unconfigured'
        assert 'has no head' in node.log and 'Traceback' not in node.log
    with robot(), running('inference_policy', tmp_path, bundle=bundle, autostart=True,
                          exit_on_failure=True) as node:
        assert node.process.wait(20.0) == 2
