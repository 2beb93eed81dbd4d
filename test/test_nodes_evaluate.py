# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts with the real arm, inference and policy; a head that moves but cannot lift."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
import json
from pathlib import Path
import signal
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('mujoco', reason='MuJoCo is not installed')
pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')

from node_harness import json_of, NodeProcess, Robot, robot, running  # noqa: E402, I100
from ssl_vla_ros.contract import load_contract  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from tiny_bundle import make_bundle  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[1]


class Rig:
    """Arm, inference and policy in real time, and evaluations as they are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.result = folder / 'result.json'
        self.film = folder / 'film.npy'
        self._stack = stack

    def start_nodes(self) -> None:
        contract = load_contract(ROOT / 'config' / 'robots' / 'sim_ur5e.yaml')
        assert contract.limits is not None
        # Tests share the machine with others.
        contract = replace(contract, limits=replace(contract.limits, input_timeout_s=2.0))
        bundle = make_bundle(self.folder / 'bundle', contract)
        self.start('sim_arm', seed=77)
        for module in ('inference', 'policy'):
            self.start(module, bundle=bundle, backend='cpu', autostart=True)

    def start(self, module: str, **parameters: Any) -> NodeProcess:
        return self._stack.enter_context(running(module, self.folder, **parameters))

    def evaluate(self, rollouts: int) -> NodeProcess:
        return self.start('evaluate', rollouts=rollouts, limit_s=1.5, result=self.result,
                          film=self.film)

    def rollouts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.result.read_text())['rollouts']
        return found


@pytest.fixture
def rig(ros_domain: int, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


def wait(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end, f'waited 60 s in vain for {what}'
        time.sleep(0.02)


def enabled(me: Robot, status: list[String]) -> bool:
    me.spin(0.02)
    return bool(status) and json_of(status)['state'] == 'enabled'


def test_rollouts_are_counted_and_an_interrupted_evaluation_goes_on(rig: Rig) -> None:
    rig.start_nodes()
    evaluate = rig.evaluate(1)
    assert evaluate.process.wait(60.0) == 0, evaluate.log
    assert evaluate.log.splitlines() == ['rolled out 0 1', 'rolled out 1 1 lifted 0']
    (first,) = rig.rollouts()
    assert first['start'] == 0
    assert first['success'] is False
    assert 1.4 < first['seconds'] < 5.0 or first['halted']
    measured = json.loads(rig.result.read_text())
    for key in ('age_p50_ms', 'age_p99_ms', 'missed_fraction', 'rate_hz'):
        assert measured['inference'][key] >= 0.0
    assert measured['policy']['state'] in ('enabled', 'disabled', 'halted')
    # There is no success to show: the first rollout is kept, and said to be none.
    assert measured['film'] == {'start': 0, 'success': False}
    film = np.load(rig.film, allow_pickle=False)
    assert film.dtype == np.uint8 and film.shape[1:] == (128, 128, 3)
    # 20 a second; pictures may be lost on a busy machine, but none comes from another rollout.
    assert 5 <= len(film) < 1.1 * 20 * first['seconds'] + 10
    before = rig.film.stat().st_mtime_ns

    # Stopped while the policy moves the arm: it is disabled, and the rollout does not count.
    with robot() as me:
        status = me.listen(String, 'policy/status', latched=True)
        evaluate = rig.evaluate(3)
        wait(lambda: 'rolled out 1 3' in evaluate.log and enabled(me, status), 'a rollout')
        evaluate.process.send_signal(signal.SIGINT)
        assert evaluate.end() == 130, evaluate.log
        me.until(lambda: json_of(status)['state'] != 'enabled', 'the end of the policy')
    assert len(rig.rollouts()) < 3
    assert rig.rollouts()[0] == first

    evaluate = rig.evaluate(3)
    assert evaluate.process.wait(60.0) == 0, evaluate.log
    assert [item['start'] for item in rig.rollouts()] == [0, 1, 2]
    assert rig.rollouts()[0] == first
    assert rig.film.stat().st_mtime_ns == before
    assert not list(rig.folder.glob('*.part'))


@pytest.mark.parametrize('text', ['', '[]', '{"rollouts": 3}', '{"other": []}'])
def test_broken_results_are_named_and_kept(rig: Rig, text: str) -> None:
    rig.result.write_text(text)
    evaluate = rig.evaluate(1)
    assert evaluate.process.wait(30.0) == 2
    (sentence,) = evaluate.log.splitlines()
    assert sentence.startswith(f'error: {rig.result}: broken (')
    assert sentence.endswith('delete it to evaluate anew')
    assert rig.result.read_text() == text
