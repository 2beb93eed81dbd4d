# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Inference and policy for long, with everything that comes and goes: memory stays flat.

Two minutes, or SOAK_S seconds: ``make test-soak`` takes half an hour.
"""

from __future__ import annotations

import os
from pathlib import Path
import time
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from geometry_msgs.msg import TwistStamped  # noqa: E402, I100
from node_harness import Robot, robot, running  # noqa: E402
import numpy as np  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from tiny_bundle import make_bundle  # noqa: E402

pytestmark = pytest.mark.ros

SECONDS = float(os.environ.get('SOAK_S') or 120.0)
TOPICS = ('features', 'prediction', 'surprise', 'features_image', 'predicted_image', 'film_strip')
#: From a quarter of the time on: the first pass through everything fills caches and arenas.
ALLOWED_MB = 6.0


def memory_mb(pid: int) -> float:
    """Memory of a process that is its own."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(status.partition('RssAnon:')[2].split()[0]) / 1024.0


def threads(pid: int) -> int:
    return len(list(Path(f'/proc/{pid}/task').iterdir()))


class Life:
    """What happens to the nodes, a bit of everything each few seconds."""

    def __init__(self, me: Robot) -> None:
        self.me = me
        self.subscriptions: list[Any] = []
        self.swap = me.node.create_client(Trigger, 'inference/swap')
        self.count = 0
        self.answers: list[Any] = []

    def go(self) -> None:
        """One tick, and every now and then something else."""
        me, count = self.me, self.count
        self.count += 1
        if count % 40 == 0:
            for subscription in self.subscriptions:
                me.node.destroy_subscription(subscription)
            self.subscriptions = [
                me.node.create_subscription(Image, f'inference/{topic}', lambda _: None, 1)
                for number, topic in enumerate(TOPICS) if (count // 40 + number) % 2]
        if count % 7 == 0:
            broken = me.image(100, me.now_ns())
            broken.data = broken.data[:-5]
            me.cameras['front'].publish(broken)
        if count % 11 == 0:
            me.tick(255, wait=False)                        # the encoder gives NaN
        if count % 60 == 30 and self.swap.service_is_ready():
            self.answers.append(self.swap.call_async(Trigger.Request()))
        if count % 200 == 100:
            me.change('inference', 'deactivate')
            me.change('inference', 'activate')
        if count % 200 in (0, 120):
            me.enable()          # what is left out for too long halts, and that is latched
        me.command(0.1, 0.0, 0.5)
        me.tick(133)


def test_memory_stays_flat(ros_domain: int, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / 'tiny')
    with robot() as me, running('inference_policy', tmp_path, bundle=bundle,
                                autostart=True) as node:
        me.until(lambda: me.enable().success, 'enabling', between=lambda: me.tick(133))
        life, began = Life(me), time.monotonic()
        seen: list[tuple[float, float, int]] = []
        twists, commands = me.listen(TwistStamped, 'servo_node/delta_twist_cmds'), [0]
        while (elapsed := time.monotonic() - began) < SECONDS:
            life.go()
            commands.append(len(twists))
            if elapsed >= 0.25 * SECONDS:
                seen.append((elapsed, memory_mb(node.process.pid), threads(node.process.pid)))
        assert node.alive(), node.log
        memory = np.array([mb for _, mb, _ in seen])
        third = len(memory) // 3
        growth = float(np.median(memory[-third:]) - np.median(memory[:third]))
        assert growth <= ALLOWED_MB, f'{growth:.1f} MB more after {SECONDS:.0f} s'
        assert memory.max() - memory.min() <= 4 * ALLOWED_MB
        assert len({count for _, _, count in seen[-third:]}) <= 3, 'threads pile up'
        # It was alive all the time, and everything did happen, to the end.
        assert commands[-1] - commands[2 * len(commands) // 3] > 50, 'the policy rests'
        swapped = [answer.result().success for answer in life.answers if answer.done()]
        assert swapped and sum(swapped) >= 0.8 * len(swapped)
        values = me.diagnostics('inference', between=lambda: me.tick(133))
        assert int(values['dropped.length']) > 0 and int(values['dropped.nan']) > 0
        assert int(values['published']) > 0.3 * life.count
        print(f'{SECONDS:.0f} s, {life.count} ticks, {len(swapped)} swaps: '
              f'{memory[0]:.1f} to {memory[-1]:.1f} MB, growth {growth:+.2f} MB')
        assert node.end() == 0
