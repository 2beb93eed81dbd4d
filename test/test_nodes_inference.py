# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The inference node over real DDS: what it publishes, what it drops, what it survives."""

from __future__ import annotations

from pathlib import Path
import signal
import subprocess
import sys

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from node_harness import (  # noqa: E402, I100
    json_of, PERIOD_S, ready, Robot, robot, running, time_of)
import numpy as np  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from ssl_vla_ros.messages.images import to_rgb  # noqa: E402
from ssl_vla_ros.messages.stamps import stamp_ns  # noqa: E402
from ssl_vla_ros.messages.tensors import read_tensor  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from tiny_bundle import (  # noqa: E402
    HEIGHT, HORIZON, make_bundle, STEP, WIDTH)

pytestmark = pytest.mark.ros


@pytest.fixture
def bundle(tmp_path: Path, ros_domain: int) -> Path:
    return make_bundle(tmp_path / 'tiny')


def test_features_carry_the_first_cameras_header_and_its_pictures_values(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        info = me.listen(String, 'inference/model_info', latched=True)
        ready(me, features)
        expected = {me.tick(20 + 4 * tick): (20 + 4 * tick) / 255.0 for tick in range(20)}
        me.spin(0.3)
        assert len(features) >= 10   # 20, unless the machine is too busy for 50 ms at a time
        for message in features:
            assert message.header.frame_id == 'camera_front_optical_frame'
            value = expected[stamp_ns(message.header.stamp)]
            np.testing.assert_allclose(read_tensor(message), np.full((2, 3), value), rtol=1e-5)
        assert json_of(info)['tokens'] == 2 and json_of(info)['cameras'] == ['front', 'wrist']
        assert json_of(info)['encoder_sha256']
        values = me.diagnostics('inference', between=me.tick)
        periods, published = int(values['periods']), int(values['published'])
        assert 0 <= periods - published - int(values['missed_deadlines']) <= 2, values
        assert int(values['missed_deadlines']) < 0.5 * periods, values
        assert 0.0 < float(values['age_p50_ms']) <= float(values['age_p99_ms']) < 1000.0
        assert float(values['inference_p50_ms']) > 0.0
        assert values['backend'] == 'cpu' and len(values['model_hash']) == 12
        assert node.end() == 0, node.log


def test_prediction_surprise_and_predicted_image_come_with_the_commands(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features, prediction, surprise, picture = (
            me.listen(Image, f'inference/{name}')
            for name in ('features', 'prediction', 'surprise', 'predicted_image'))

        def tick() -> None:
            me.command(1.0, 0.0, 0.5)
            me.tick(100)

        me.until(lambda: surprise and prediction and picture, 'all outputs', between=tick)
        for _ in range(4):
            tick()
        me.spin(0.2)
        now = 100 / 255.0
        steps = STEP * 1.5 * np.arange(1, HORIZON + 1)
        values = read_tensor(prediction[-1])
        assert values.shape == (HORIZON, 6)
        np.testing.assert_allclose(values, np.repeat(now + steps[:, None], 6, 1), rtol=1e-4)
        assert read_tensor(surprise[-1]).shape == (1, 1) and read_tensor(surprise[-1]) > 1.0
        image = to_rgb(picture[-1])
        assert image.shape == (HEIGHT, 2 * WIDTH, 3)
        np.testing.assert_allclose(image[0, 0], 255.0 * (now + steps[-1]), atol=1.0)
        for message in (prediction[-1], surprise[-1], picture[-1]):
            assert any(message.header == other.header for other in features)
        # What the world model cannot compute costs the prediction, and not the features.
        count = len(features)
        for _ in range(3):
            me.command(1e39, 0.0, 0.5)
            me.tick(100)
        me.until(lambda: len(features) >= count + 2, 'features without a prediction',
                 between=lambda: me.tick(100))
        values = me.diagnostics('inference', between=lambda: me.tick(100))
        assert int(values['unforeseen.nan']) >= 1 and 'dropped.nan' not in values
        assert me.trigger('inference/reset').success
        count = len(prediction)
        for _ in range(3):
            me.tick(100)   # no command since the reset: nothing is foreseen
        me.spin(0.2)
        assert len(prediction) == count
        assert int(me.diagnostics('inference')['unforeseen.no_action']) >= 1


def test_people_see_colours_and_what_had_been_predicted_beside_what_came(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        info = me.listen(String, 'inference/model_info', latched=True)
        ready(me, features)
        # Nobody looks yet: only who subscribes makes the node work for it.
        colours, strips = (me.listen(Image, f'inference/{name}')
                           for name in ('features_image', 'film_strip'))
        value = 40

        def tick() -> None:
            nonlocal value
            value = 40 + (value - 39) % 100
            me.command(0.0, 0.0, 0.0)        # the tiny model foresees what it sees, then
            me.tick(value)

        me.until(lambda: len(strips) >= 3 and colours, 'both pictures', between=tick)
        strip = to_rgb(strips[-1])
        assert strip.shape == (4 * HEIGHT + 3, 6 * (WIDTH + 1) - 1, 3)
        real, foreseen = strip[0, -1, 0], strip[HEIGHT + 1, -1, 0]
        # Foreseen HORIZON ticks before, from a picture that much darker; the values wrap.
        assert abs((int(real) - int(foreseen)) % 100 - HORIZON) <= 1, (real, foreseen)
        picture = to_rgb(colours[-1])
        assert picture.shape == (HEIGHT, 2 * WIDTH, 3)
        assert any(colours[-1].header == other.header for other in features)
        assert set(json_of(info)['outputs']) == {
            'features', 'prediction', 'surprise', 'features_image', 'predicted_image',
            'film_strip'}
        assert node.end() == 0, node.log


def test_one_camera_tries_a_model_of_two(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                image='webcam/image_raw') as node:
        features = me.listen(Image, 'inference/features')
        webcam = me.node.create_publisher(Image, 'webcam/image_raw', 1)

        def tick() -> None:
            webcam.publish(me.image(51, me.now_ns()))
            me.spin(PERIOD_S)

        me.until(lambda: features, 'features of one camera', between=tick)
        np.testing.assert_allclose(read_tensor(features[-1]), np.full((2, 3), 0.2), rtol=1e-5)
        assert 'the cameras front, wrist all take webcam/image_raw' in node.log


def test_what_is_wrong_with_the_pictures_is_said_in_the_log(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                image='webcam/image_raw') as node:
        webcam = me.node.create_publisher(Image, 'webcam/image_raw', 1)
        me.until(lambda: 'no pictures come on /webcam/image_raw' in node.log, 'the topic')

        def unstamped() -> None:
            webcam.publish(me.image(100, 0))
            me.spin(PERIOD_S)

        told = 'the camera driver does not stamp its pictures'
        me.until(lambda: told in me.diagnostics('inference', between=unstamped)['message'],
                 'what zero stamps are', between=unstamped)
    with robot() as me, running('inference', tmp_path, bundle=bundle,
                                image="'camera image!'") as node:
        assert not me.change('inference', 'configure')
        assert "parameter image is 'camera image!', which is no name of a topic" in node.log
        assert 'Traceback' not in node.log


def broken_images(me: Robot, stamp: int) -> dict[str, Image]:
    """One message for each cause."""
    made = {cause: me.image(100, stamp) for cause in ('encoding', 'step', 'length', 'size')}
    made['encoding'].encoding = 'kodachrome'
    made['step'].step = 5
    made['length'].data = made['length'].data[:-7]
    made['size'].height = made['size'].width = made['size'].step = 0
    made['size'].data = b''
    return made


def test_malformed_pictures_nan_and_stale_stamps_are_counted_and_survived(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True) as node:
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        for cause in broken_images(me, 0):
            stamp = me.now_ns()
            me.cameras['wrist'].publish(me.image(100, stamp, 'wrist'))
            me.cameras['front'].publish(broken_images(me, stamp)[cause])
            me.spin(PERIOD_S)
        me.tick(255)                                                   # the encoder gives NaN
        zero = me.image(100, 0)
        me.cameras['front'].publish(zero)
        me.spin(PERIOD_S)
        assert features == []
        stamp = me.tick(100)
        me.until(lambda: features, 'features after the faults')
        assert stamp_ns(features[-1].header.stamp) == stamp
        values = me.diagnostics('inference', between=me.tick)
        causes = ('encoding', 'step', 'length', 'size', 'nan', 'zero_stamp')
        seen = [int(values.get(f'dropped.{cause}', 0)) for cause in causes]
        # Where this process sent two at once, the newer one took the other's place.
        assert max(seen) == 1 and values['dropped.zero_stamp'] == '1', values
        assert sum(seen) + int(values.get('dropped.superseded', 0)) >= len(causes), values
        assert int(values['missed_deadlines']) >= 5
        # An old stamp is a jump of the clock and stale: nothing comes of it, and it goes on.
        features.clear()
        old = me.now_ns() - 10 * 10**9
        for camera, publisher in me.cameras.items():
            publisher.publish(me.image(100, old, camera))
        me.spin(PERIOD_S)
        stamp = me.tick(100)
        me.until(lambda: features, 'features after a stale picture')
        assert [stamp_ns(message.header.stamp) for message in features] == [stamp]
        values = me.diagnostics('inference', between=me.tick)
        assert values['dropped.stale'] == '1' and values['clock_jumps'] == '2', values
        assert node.alive() and node.end(signal.SIGTERM) == 0


def test_slow_inference_keeps_the_newest_and_reports_age_and_missed_deadlines(
        bundle: Path, tmp_path: Path) -> None:
    make_bundle(bundle, slow=60)
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True):
        features = me.listen(Image, 'inference/features')
        ready(me, features)
        stamps = [me.tick(100) for _ in range(40)]
        me.spin(0.5)
        values = me.diagnostics('inference', between=me.tick)
        inference_ms = float(values['inference_p50_ms'])
        if inference_ms < 1.2e3 * PERIOD_S:
            pytest.skip(f'this machine encodes in {inference_ms:.0f} ms: not slow enough')
        order = [stamp_ns(message.header.stamp) for message in features]
        answered = set(order) & set(stamps)
        assert order == sorted(set(order)) and 1 <= len(answered) < 38
        assert int(values['missed_deadlines']) >= 40 - len(answered) - 2
        assert int(values['dropped.superseded']) > 0 and int(values['late']) > 0
        # The newest wins: no picture waited for more than the one before it. A queue of 40 would
        # have let the last one wait for all.
        assert float(values['age_max_ms']) < 3 * float(values['inference_p99_ms']) + 200.0
        assert float(values['age_p50_ms']) > inference_ms


def test_by_clock_the_newest_picture_is_taken_at_each_tick(bundle: Path, tmp_path: Path) -> None:
    """Pictures at 100 Hz from the first camera; the control clock has 20 Hz."""
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                trigger='rate'):
        features = me.listen(Image, 'inference/features')

        def quickly() -> None:
            stamp = me.now_ns()
            for camera, publisher in me.cameras.items():
                publisher.publish(me.image(100, stamp, camera))
            me.spin(0.01)

        me.until(lambda: features, 'features', between=quickly)
        features.clear()
        for _ in range(150):
            quickly()
        stamps = [stamp_ns(message.header.stamp) for message in features]
        assert len(stamps) >= 10
        # Those of one source at the control rate would be 50 ms apart; of a clock's ticks each
        # has the newest, so they are as far apart as the ticks, give or take a picture.
        steps = np.diff(stamps) / 1e9
        assert np.median(steps) == pytest.approx(PERIOD_S, abs=0.02)
        values = me.diagnostics('inference', between=quickly)
        assert int(values['dropped.decimated']) > int(values['published'])
    with robot() as me, running('inference', tmp_path, bundle=bundle, trigger='timer') as node:
        assert not me.change('inference', 'configure')
        assert "parameter trigger is 'timer', must be one of image, rate" in node.log


def test_an_inactive_node_publishes_nothing(bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle):
        assert me.change('inference', 'configure')
        features = me.listen(Image, 'inference/features')
        for _ in range(10):
            me.tick()
        assert features == []


def test_use_sim_time_measures_age_on_the_clock_topic_and_a_looping_clock_is_survived(
        bundle: Path, tmp_path: Path) -> None:
    with robot() as me, running('inference', tmp_path, bundle=bundle, autostart=True,
                                use_sim_time=True):
        clock = me.node.create_publisher(Clock, '/clock', 10)
        features = me.listen(Image, 'inference/features')
        begin = 50 * 10**9

        number = 0

        def both() -> None:
            nonlocal number
            number += 1
            stamp = begin + number * 50_000_000
            clock.publish(Clock(clock=time_of(stamp)))
            for camera, publisher in me.cameras.items():
                publisher.publish(me.image(100, stamp, camera))
            me.spin(PERIOD_S)

        me.until(lambda: features, 'features in simulated time', between=both)
        values = me.diagnostics('inference')
        # Simulated time stands still meanwhile: whole control periods, or nothing at all.
        assert float(values['age_p50_ms']) <= 51.0
        features.clear()
        number -= 400  # the clock loops: 20 s back
        for _ in range(10):
            both()
        me.until(lambda: len(features) >= 5, 'features after the clock looped', between=both)
        values = me.diagnostics('inference', between=both)
        assert values['clock_jumps'] == '1', values


def test_the_parameter_file_is_read_by_the_node_in_any_namespace(
        bundle: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / 'config' / 'inference.yaml').read_text()
    path = tmp_path / 'inference.yaml'
    path.write_text(text.replace("bundle: ''", f'bundle: {bundle}').replace(
        'autostart: false', 'autostart: true'))
    process = subprocess.Popen(
        [sys.executable, '-m', 'ssl_vla_ros.nodes.inference', '--ros-args', '--params-file',
         str(path), '-r', '__ns:=/left'])
    try:
        with robot() as me:
            info = me.listen(String, '/left/inference/model_info', latched=True)
            me.until(lambda: info, 'model_info in the namespace')
            assert json_of(info)['digest']
        process.send_signal(signal.SIGINT)
        assert process.wait(20.0) == 0
    finally:
        process.kill()
        process.wait()
