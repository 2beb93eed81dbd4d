# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What goes wrong around the inference node, each over real DDS: counted, told, survived."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import signal
import threading
import time
from typing import Any

import cv2
import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from geometry_msgs.msg import TwistStamped  # noqa: E402, I100
from lifecycle_msgs.srv import ChangeState  # noqa: E402
import node_harness  # noqa: E402, I100
from node_harness import json_of, PERIOD_S, Robot, robot, running, time_of  # noqa: E402
import numpy as np  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from ssl_vla_ros.contract import parse_contract  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from ssl_vla_ros.messages.tensors import read_tensor  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from tiny_bundle import contract_data, make_bundle  # noqa: E402

pytestmark = pytest.mark.ros
SECOND = 10**9


@pytest.fixture
def bundle(tmp_path: Path, ros_domain: int) -> Path:
    return make_bundle(tmp_path / 'tiny')


def ready(me: Robot) -> list[Any]:
    """Publish ticks until features come; gives the emptied list of them."""
    features = me.listen(Image, 'inference/features')
    node_harness.ready(me, features)
    return features


def stamps(features: list[Any]) -> list[int]:
    return [stamp_ns(message.header.stamp) for message in features]


def spoilt(message: Any, **changes: Any) -> Any:
    for name, value in changes.items():
        setattr(message, name, value)
    return message


#: How a picture of 32 x 32 in rgb8 is spoilt, and by what name that is counted.
MALFORMED: dict[str, tuple[str, Callable[[Image], Image]]] = {
    'an encoding that nobody knows': ('encoding', lambda m: spoilt(m, encoding='kodachrome')),
    'no encoding': ('encoding', lambda m: spoilt(m, encoding='')),
    'rows shorter than their pixels': ('step', lambda m: spoilt(m, step=5)),
    'rows of no bytes': ('step', lambda m: spoilt(m, step=0)),
    'rows longer than the data': ('length', lambda m: spoilt(m, step=4096)),
    'data cut off': ('length', lambda m: spoilt(m, data=m.data[:-7])),
    'no data': ('length', lambda m: spoilt(m, data=b'')),
    'more data than rows': ('length', lambda m: spoilt(m, data=bytes(m.data) + b'\0' * 96)),
    'more rows than data': ('length', lambda m: spoilt(m, height=33)),
    'no rows': ('size', lambda m: spoilt(m, height=0, data=b'')),
    'no columns': ('size', lambda m: spoilt(m, width=0, step=0, data=b'')),
    'a size that no memory has': ('length', lambda m: spoilt(m, height=2**31, width=2**20,
                                                             step=3 * 2**20)),
    'half a pair of YUV': ('size', lambda m: spoilt(
        m, encoding='yuv422', width=31, step=62, data=bytes(62 * 32))),
    'floats': ('encoding', lambda m: spoilt(m, encoding='32FC3', step=384, data=bytes(384 * 32))),
}


def test_malformed_pictures_of_each_kind(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = ready(me)
        wanted: dict[str, int] = {}
        for cause, spoil in MALFORMED.values():
            wanted[cause] = wanted.get(cause, 0) + 1
            stamp = me.now_ns()
            me.cameras['wrist'].publish(me.image(100, stamp, 'wrist'))
            me.cameras['front'].publish(spoil(me.image(100, stamp)))
            me.spin(PERIOD_S)
        me.spin(0.2)
        assert features == []
        values = me.diagnostics('inference')
        seen = {cause: int(values.get(f'dropped.{cause}', 0)) for cause in wanted}
        # On a busy machine a newer one takes the place of one that was not looked at, in the node,
        # in the middleware or with the other camera's, and each is told.
        told = sum(int(value) for name, value in values.items() if name in (
            'dropped.superseded', 'dropped.wrist.skew', 'dropped.wrist.missing',
            'sequence_gaps.front'))
        assert sum(seen.values()) + told >= len(MALFORMED), (seen, values)
        assert sum(count > 0 for count in seen.values()) >= 3, (seen, values)
        assert all(seen[cause] <= wanted[cause] for cause in wanted), (seen, values)
        stamp = me.tick(100)
        me.until(lambda: stamp in stamps(features), 'features after all of them',
                 between=me.tick)
        assert 'Traceback' not in node.log and node.end() == 0


def test_broken_jpegs(tmp_path: Path, ros_domain: int) -> None:
    data = contract_data()
    for camera in data['cameras'].values():
        camera['type'] = 'sensor_msgs/CompressedImage'
        camera['topic'] = camera['topic'].replace('image_raw', 'compressed')
    bundle = make_bundle(tmp_path / 'tiny', parse_contract(data, 'compressed.yaml'))
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        cameras = [me.node.create_publisher(CompressedImage, f'camera/{name}/compressed', 1)
                   for name in ('front', 'wrist')]
        good = cv2.imencode('.jpg', np.full((32, 32, 3), 102, np.uint8))[1].tobytes()

        def send(content: bytes) -> None:
            stamp = time_of(me.now_ns())
            for camera in cameras:
                message = CompressedImage(format='jpeg', data=content)
                message.header.stamp = stamp
                camera.publish(message)
            me.spin(PERIOD_S)

        me.until(lambda: features, 'features of jpegs', between=lambda: send(good))
        np.testing.assert_allclose(read_tensor(features[-1]), 0.4, atol=0.02)
        me.spin(0.2)
        features.clear()
        for content in (b'', b'no picture', good[:len(good) // 3], good[:20]):
            send(content)
        me.spin(0.2)
        values = me.diagnostics('inference', between=lambda: send(good))
        assert sum(int(value) for name, value in values.items()
                   if name.startswith('dropped.') and name != 'dropped.superseded') >= 3, values
        me.until(lambda: features, 'features after broken jpegs', between=lambda: send(good))
        assert 'Traceback' not in node.log


def test_a_camera_that_stalls_is_named_and_comes_back(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = ready(me)

        def front_alone() -> None:
            me.cameras['front'].publish(me.image(100, me.now_ns()))
            me.spin(PERIOD_S)

        for _ in range(40):
            front_alone()
        assert len(features) <= 2      # the last picture of the other is near enough for a moment
        values = me.diagnostics('inference', between=front_alone)
        assert int(values['dropped.wrist.skew']) >= 25, values
        assert values['level'] == '2', values
        assert 'what comes is left out: wrist.skew' in values['message'] or (
            'no pictures come on /camera/wrist/image_raw' in values['message']), values
        assert float(values['input_hz.wrist']) == 0.0
        features.clear()
        me.until(lambda: features, 'features once both are there', between=me.tick)
        # The one that ticks is gone: nothing is dropped, and the diagnostics say what is missing.
        me.spin(2.5)
        told = me.diagnostics('inference')
        assert told['level'] == '2'
        assert 'no pictures come on /camera/front/image_raw' in told['message'], told
        features.clear()
        me.until(lambda: features, 'features once pictures come again', between=me.tick)


@pytest.mark.parametrize('seconds', [10, -10])
def test_stamps_that_jump_are_counted_and_gone_on_from(
        bundle: Path, tmp_path: Path, seconds: int) -> None:
    """The camera's clock is set, first away from ours and then back."""
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = ready(me)
        before = int(me.diagnostics('inference', between=me.tick)['clock_jumps'])
        features.clear()

        def jumped() -> None:
            stamp = me.now_ns() + seconds * SECOND
            for camera, publisher in me.cameras.items():
                publisher.publish(me.image(100, stamp, camera))
            me.spin(PERIOD_S)

        me.spin(0.2)
        features.clear()
        for _ in range(10):
            jumped()
        me.spin(0.2)
        assert features == []
        values = me.diagnostics('inference', between=jumped)
        assert int(values['dropped.future_stamp' if seconds > 0 else 'dropped.stale']) >= 8
        stamp = me.tick(100)
        me.until(lambda: stamp in stamps(features), 'features after the jump back',
                 between=me.tick)
        values = me.diagnostics('inference', between=me.tick)
        assert int(values['clock_jumps']) == before + 2, values


@pytest.mark.parametrize('seconds', [10, -10])
def test_a_clock_that_jumps_with_the_stamps_costs_a_moment(
        bundle: Path, tmp_path: Path, seconds: int) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                use_sim_time=True):
        clock = me.node.create_publisher(Clock, '/clock', 10)
        features, surprise = (me.listen(Image, f'inference/{name}')
                              for name in ('features', 'surprise'))
        now = 100 * SECOND

        def tick() -> None:
            nonlocal now
            now += 50_000_000
            clock.publish(Clock(clock=time_of(now)))
            me.spin(0.005)
            for camera, publisher in me.cameras.items():
                publisher.publish(me.image(100, now, camera))
            message = TwistStamped()
            message.header.stamp = time_of(now)
            me.twist.publish(message)
            me.spin(PERIOD_S - 0.005)

        me.until(lambda: features, 'features', between=tick)
        features.clear()
        now += seconds * SECOND
        after = now
        for _ in range(10):
            tick()
        me.until(lambda: len([stamp for stamp in stamps(features) if abs(stamp - after) < SECOND])
                 >= 4, 'features after the jump', between=tick)
        order = [stamp for stamp in stamps(features) if abs(stamp - after) < 3 * SECOND]
        assert order == sorted(set(order))
        assert me.diagnostics('inference', between=tick)['clock_jumps'] == '1'
        assert all(np.isfinite(read_tensor(message)).all() for message in surprise)


def test_stamps_that_come_twice_or_late_are_answered_once_and_in_order(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = ready(me)
        begin = me.now_ns()
        for step in (0, 1, 1, 2, 1, 0, 3, 3):
            for camera, publisher in me.cameras.items():
                publisher.publish(me.image(100, begin + step * 50_000_000, camera))
            me.spin(PERIOD_S)
        me.spin(0.2)
        seen = [(stamp - begin) // 50_000_000 for stamp in stamps(features)]
        assert seen == sorted(set(seen)) and set(seen) <= {0, 1, 2, 3} and len(seen) >= 2
        values = me.diagnostics('inference', between=me.tick)
        assert int(values['dropped.duplicate_stamp']) + int(values['dropped.backward_stamp']) >= 3


def test_a_node_stopped_for_a_second_goes_on_with_the_newest(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = ready(me)
        node.process.send_signal(signal.SIGSTOP)
        for _ in range(20):
            me.tick(100)
        last = me.now_ns()
        node.process.send_signal(signal.SIGCONT)
        me.until(lambda: [stamp for stamp in stamps(features) if stamp > last],
                 'features of new pictures', between=me.tick)
        order = stamps(features)
        assert order == sorted(set(order))
        # Of the second that it slept, one picture at most was waiting for it.
        assert len([stamp for stamp in order if stamp <= last - SECOND // 2]) <= 2
        values = me.diagnostics('inference', between=me.tick)
        assert int(values['missed_deadlines']) >= 10, values
        assert node.end() == 0


def test_transitions_that_are_not_possible_are_refused_and_the_node_lives(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle) as node:
        def refused(*labels: str) -> None:
            assert not any(me.change('inference', label) for label in labels)

        refused('activate', 'deactivate', 'cleanup', 'no_such_transition')
        request = ChangeState.Request()
        request.transition.id = 250
        assert not me.call(ChangeState, 'inference/change_state', request).success
        assert me.change('inference', 'configure')
        refused('configure', 'deactivate')
        assert me.change('inference', 'activate')
        refused('activate', 'cleanup', 'configure')
        assert me.state('inference') == 'active'
        ready(me)
        assert me.change('inference', 'deactivate') and me.change('inference', 'cleanup')
        refused('cleanup')
        assert me.change('inference', 'configure')
        assert node.alive() and 'Traceback' not in node.log
        assert node.end(signal.SIGTERM) == 0


def test_every_picture_counted_as_answered_was_heard_however_often_it_is_activated(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        ready(me)
        before = int(me.diagnostics('inference')['published'])
        features: list[Any] = []
        # Deep: whoever is late here must not pass for a node that is mute.
        me.node.create_subscription(Image, 'inference/features', features.append, 1000)
        me.until(lambda: features, 'features here, too', between=lambda: me.tick(50))
        me.spin(0.5)
        between = int(me.diagnostics('inference')['published']) - before
        features.clear()
        done, sent = threading.Event(), [0]

        def stream() -> None:
            # Far above the rate of control: one comes in every moment of a transition.
            while not done.wait(0.005):
                stamp = me.now_ns()
                for camera, publisher in me.cameras.items():
                    publisher.publish(me.image(100, stamp, camera))
                sent[0] += 1

        streaming = threading.Thread(target=stream)
        streaming.start()
        try:
            for _ in range(8):
                assert me.change('inference', 'deactivate')
                assert me.change('inference', 'activate')
                count = len(features)
                me.until(lambda count=count: len(features) > count, 'features once it is active')
        finally:
            done.set()
            streaming.join()
        assert sent[0] >= 20, 'the stream is too thin to tell anything'
        me.spin(0.5)
        values = me.diagnostics('inference')
        assert int(values['published']) - before - between == len(features), values


def test_who_comes_late_learns_what_runs(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        ready(me)
        with robot() as late:
            info = late.listen(String, 'inference/model_info', latched=True)
            late.until(lambda: info, 'model_info for who comes late')
            assert json_of(info)['name'] == 'tiny'


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_the_middle_of_work(
        bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    make_bundle(bundle, slow=20)
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        for topic in ('prediction', 'features_image', 'film_strip'):
            me.listen(Image, f'inference/{topic}')
        ready(me)
        for _ in range(5):
            me.tick(100)
        began = time.monotonic()
        node.process.send_signal(number)
        node.process.send_signal(number)     # an impatient second one changes nothing
        assert node.process.wait(20.0) == 0, node.log
        assert time.monotonic() - began < 10.0
        assert 'Traceback' not in node.log
