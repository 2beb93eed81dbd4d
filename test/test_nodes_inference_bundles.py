# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The inference node over real DDS: how bundles come, go and are refused, and where they run."""

from __future__ import annotations

import os
from pathlib import Path
import resource
import shutil
import subprocess
import sys
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from node_harness import json_of, ready, Robot, robot, running  # noqa: E402, I100
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from ssl_vla_ros.contract import parse_contract  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from tiny_bundle import (  # noqa: E402
    contract_data, make_bundle, tiny_contract, write_manifest)
import yaml  # noqa: E402

pytestmark = pytest.mark.ros


@pytest.fixture
def bundle(tmp_path: Path, ros_domain: int) -> Path:
    return make_bundle(tmp_path / 'tiny')


def test_a_bad_bundle_fails_configure_the_node_lives_and_a_retry_works(
        bundle: Path, tmp_path: Path) -> None:
    good = (bundle / 'encoder.onnx').read_bytes()
    (bundle / 'encoder.onnx').write_bytes(good + b'\0')
    with robot() as me, running('inference', tmp_path, bundle=bundle) as node:
        assert not me.change('inference', 'configure')
        assert me.state('inference') == 'unconfigured'
        assert 'encoder.onnx: SHA-256 is' in node.log and 'Traceback' not in node.log
        assert not me.change('inference', 'activate')
        (bundle / 'encoder.onnx').write_bytes(good)
        assert me.change('inference', 'configure') and me.change('inference', 'activate')
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        assert me.change('inference', 'deactivate')
        # At rest on purpose: no error, and what was counted stays.
        resting = me.diagnostics('inference', between=me.tick)
        assert resting['level'] == '0' and resting['message'] == 'inactive', resting
        assert me.change('inference', 'activate')
        ready(me, features)
        again = me.diagnostics('inference', between=me.tick)
        assert int(again['periods']) >= int(resting['periods']) >= int(resting['published'])
        assert int(again['published']) <= int(again['periods'])
        assert float(again['input_hz.front']) > 5.0
        for label in ('deactivate', 'cleanup', 'configure', 'activate'):
            assert me.change('inference', label), label
        features.clear()
        ready(me, features)
        assert node.end() == 0


def test_opening_for_long_is_told_before_it_is_done(bundle: Path, tmp_path: Path) -> None:
    make_bundle(bundle, slow=600)   # seconds to warm up, as engines of a GPU take minutes
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        told: list[str] = []

        def initialising() -> bool:
            told.extend(status.message for message in me.seen['/diagnostics']
                        for status in message.status if status.name == 'inference')
            return 'INITIALISING: warming up on cpu' in told

        me.until(initialising, 'what is being opened')
        assert 'active' not in told
        features = me.listen(Image, 'inference/features')
        me.until(lambda: features, 'features', between=lambda: me.tick(50))
        assert me.diagnostics('inference', between=me.tick)['message'] != told[-1]
        assert node.end() == 0


def test_the_networks_keep_to_their_cores(bundle: Path, tmp_path: Path) -> None:
    mine = max(os.sched_getaffinity(0))
    if os.sched_getaffinity(0) == {mine}:
        pytest.skip('this machine has one core: every thread is bound to it')
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                cores=f"'{mine}'") as node:
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        found = {int(task.name): (task / 'status').read_text().partition(
            'Cpus_allowed_list:')[2].split()[0]
            for task in Path(f'/proc/{node.process.pid}/task').iterdir()}
        bound = [task for task, cores in found.items() if cores == str(mine)]
        # What runs networks: the worker, and pictures for people. Callbacks and middleware run
        # where there is room.
        assert len(bound) == 2 and node.process.pid not in bound, found
    with robot() as me, running('inference', tmp_path, bundle=bundle, cores="'0,9999'") as node:
        assert not me.change('inference', 'configure')
        assert "parameter cores is '0,9999', must be numbers of cores" in node.log


def priorities(pid: int) -> dict[int, int]:
    """Real-time priority of each thread; 0 for none."""
    return {int(task.name): os.sched_getparam(int(task.name)).sched_priority
            for task in Path(f'/proc/{pid}/task').iterdir()}


def may_have_priority() -> bool:
    """Whether a child of this process may be real-time."""
    code = 'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))'
    return subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0


def test_all_that_a_controller_waits_for_is_real_time(bundle: Path, tmp_path: Path) -> None:
    if not may_have_priority():
        pytest.skip('no real-time priority for this user on this machine')
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                thread_priority=50) as node:
        features = me.listen(Image, 'inference/features')
        me.listen(Image, 'inference/features_image')
        ready(me, features)
        found = priorities(node.process.pid)
        # All of the middleware, the executor and the worker; what people look at stands behind.
        assert sorted(found.values())[:2] == [1, 50], found
        set_next(me, bundle)
        answer = swap(me, me.tick)
        assert answer.success, answer.message
        again = priorities(node.process.pid)
        assert {again[thread] for thread in found if found[thread] == 50 and thread in again
                } == {50}, again
        assert node.end() == 0, node.log


def test_opening_a_bundle_starves_nobody_and_raises_nobody(
        bundle: Path, tmp_path: Path) -> None:
    if not may_have_priority():
        pytest.skip('no real-time priority for this user on this machine')
    other = make_bundle(tmp_path / 'other', slow=600)    # takes seconds to warm up
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                thread_priority=50, max_age_s=60.0) as node:
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        set_next(me, other)
        client = me.client(Trigger, 'inference/swap', me.tick)
        answer = client.call_async(Trigger.Request())
        pid = node.process.pid
        me.until(lambda: 0 in priorities(pid).values(), 'a thread that loads as everybody does',
                 between=me.tick)
        # A new thread for people's pictures, while the other one loads.
        assert me.change('inference', 'deactivate') and me.change('inference', 'activate')
        assert not answer.done()
        me.until(answer.done, 'the answer of swap', between=me.tick)
        assert answer.result().success, answer.result().message
        found = sorted(priorities(pid).values())
        assert found[:2] == [1, 50], found
        assert node.end() == 0, node.log


def test_one_priority_holds_for_all_nodes_of_a_process(bundle: Path, tmp_path: Path) -> None:
    if not may_have_priority():
        pytest.skip('no real-time priority for this user on this machine')
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle, autostart=True,
                                thread_priority=30) as node:
        me.until(lambda: me.enable().success, 'enabling', between=me.tick)
        found = sorted(priorities(node.process.pid).values())
        assert found[:2] == [1, 30] and found[-1] == 30, found
        assert node.end() == 0, node.log


def test_a_priority_that_the_user_may_not_have_is_no_silent_wish(
        bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'ssl_vla_ros.nodes.inference', '--ros-args', '-p',
               f'bundle:={bundle}', '-p', 'thread_priority:=50']
    if os.geteuid() == 0:
        if shutil.which('setpriv') is None:
            pytest.skip('setpriv (util-linux) is not installed: root cannot give up the right')
        command = ['setpriv', '--bounding-set=-sys_nice', '--inh-caps=-sys_nice', *command]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60.0,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0)))
    assert done.returncode == 1
    assert 'parameter thread_priority is 50, but this user may have a real-time priority of 0' in (
        done.stderr)
    assert 'set thread_priority to 0' in done.stderr and 'Traceback' not in done.stderr


def swap(me: Robot, between: Any) -> Any:
    """Ask for the next bundle while pictures go on; the service's answer."""
    client = me.client(Trigger, 'inference/swap', between)
    answer = client.call_async(Trigger.Request())
    me.until(answer.done, 'the answer of swap', between=between)
    return answer.result()


def set_next(me: Robot, path: Path, name: str = 'next_bundle') -> None:
    answer = me.call(SetParameters, 'inference/set_parameters', SetParameters.Request(
        parameters=[Parameter(name, value=str(path)).to_parameter_msg()]))
    assert answer.results[0].successful, answer.results[0].reason


def test_the_next_bundle_takes_over_between_two_pictures(bundle: Path, tmp_path: Path) -> None:
    other = make_bundle(tmp_path / 'other')
    write_manifest(other, tiny_contract(), name='other')
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        info = me.listen(String, 'inference/model_info', latched=True)
        ready(me, features)
        set_next(me, other)
        before = me.diagnostics('inference', between=me.tick)
        sent = [me.tick(60) for _ in range(5)]
        answer = swap(me, lambda: sent.append(me.tick(60)))
        assert answer.success, answer.message
        assert answer.message.startswith('other (')
        sent += [me.tick(60) for _ in range(10)]
        me.until(lambda: json_of(info)['name'] == 'other', 'the new model_info')
        # Neither the old bundle nor the new one lets a picture wait for the other.
        answered = [stamp_ns(message.header.stamp) for message in features]
        assert answered == sorted(set(answered))
        assert len(set(answered) & set(sent)) >= 0.7 * len(sent)
        values = me.diagnostics('inference', between=me.tick)
        # None is missed for the swap; this machine may be too busy for one of 50 ms or two.
        missed = int(values['missed_deadlines']) - int(before['missed_deadlines'])
        assert missed <= 2, (before, values)
        assert values['model'] == 'other'
        assert values['model_hash'] in answer.message
        assert node.end() == 0, node.log


def test_a_bundle_that_does_not_fit_leaves_the_running_one_alone(
        bundle: Path, tmp_path: Path) -> None:
    broken = make_bundle(tmp_path / 'broken')
    (broken / 'encoder.onnx').write_bytes(b'nothing')
    data = contract_data()
    data['action'][0]['names'] = ['linear.y', 'angular.z']
    data['limits']['action']['linear.y'] = data['limits']['action'].pop('linear.x')
    foreign = make_bundle(tmp_path / 'foreign', parse_contract(data, 'foreign.yaml'))
    data = contract_data()
    data['cameras']['wrist']['topic'] = 'camera/hand/image_raw'
    elsewhere = make_bundle(tmp_path / 'elsewhere', parse_contract(data, 'elsewhere.yaml'))
    smaller = make_bundle(tmp_path / 'smaller')
    write_manifest(smaller, tiny_contract(), world_model=None, decoder=None)
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        for path, reason in ((broken, 'SHA-256'), (smaller, 'networks'),
                             (foreign, 'linear.y'), (elsewhere, 'camera/hand/image_raw'),
                             (tmp_path / 'absent', 'no such bundle directory')):
            set_next(me, path)
            answer = swap(me, me.tick)
            assert not answer.success
            assert reason in answer.message
        features.clear()
        assert me.diagnostics('inference', between=me.tick)['model'] == 'tiny'
        assert features
    with robot() as me, running('inference', tmp_path, bundle=bundle):
        answer = swap(me, lambda: me.spin(0.05))
        assert (answer.success, answer.message) == (False, 'no bundle runs: configure the node')


def test_what_cannot_be_swapped_is_configured(bundle: Path, tmp_path: Path) -> None:
    smaller = make_bundle(tmp_path / 'smaller')
    write_manifest(smaller, tiny_contract(), name='smaller', world_model=None, decoder=None)
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        info = me.listen(String, 'inference/model_info', latched=True)
        ready(me, features)
        assert me.change('inference', 'deactivate') and me.change('inference', 'cleanup')
        set_next(me, smaller, 'bundle')
        assert me.change('inference', 'configure') and me.change('inference', 'activate')
        ready(me, features)
        assert json_of(info)['name'] == 'smaller'
        assert node.end() == 0, node.log


def test_another_robots_contract_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    data = contract_data()
    data['state'][0]['names'].append('thumb')
    path = tmp_path / 'seven.yaml'
    path.write_text(yaml.safe_dump(data))
    with robot() as me, running('inference', tmp_path, bundle=bundle, contract=path) as node:
        assert not me.change('inference', 'configure')
        assert 'has thumb in addition' in node.log and str(path) in node.log
        assert node.alive()


def test_no_world_model_means_features_alone(bundle: Path, tmp_path: Path) -> None:
    write_manifest(bundle, tiny_contract(), world_model=None, head=None, colours=None)
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = me.listen(Image, 'inference/features')
        info = me.listen(String, 'inference/model_info', latched=True)
        ready(me, features)
        assert list(json_of(info)['outputs']) == ['features']
