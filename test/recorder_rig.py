# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A recorder, its drivers and its operator in processes of their own, over real DDS."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any, IO

from ssl_vla_ros.episodes.reader import Episode

ROOT = Path(__file__).parents[1]
DRIVER = ROOT / 'test' / 'recorder_driver.py'
TOPICS = ('camera/front/image_raw', 'camera/wrist/image_raw', 'joint_states', 'gripper/command')
CONTRACT = """
robot: test_arm
rate_hz: 20
cameras:
  front: {{topic: camera/front/image_raw, type: sensor_msgs/Image, height: 128, width: 128{r}}}
  wrist: {{topic: camera/wrist/image_raw, type: sensor_msgs/Image, height: 128, width: 128{r}}}
state:
  - topic: joint_states
    type: sensor_msgs/JointState
    names: [shoulder_pan_joint, elbow_joint]
    reliability: {reliability}
action:
  - topic: gripper/command
    type: std_msgs/Float64MultiArray
    names: [gripper]
    reliability: {reliability}
"""


class Rig:
    """Processes of one test, the recorder's services and its state."""

    def __init__(self, folder: Path, reliability: str, more: str = '') -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from std_msgs.msg import String

        from ssl_vla_ros.nodes.common import LATCHED_QOS
        self.folder = folder
        self.session = folder / 'session'
        self.contract = folder / 'robot.yaml'
        extra = '' if reliability == 'reliable' else ', reliability: best_effort'
        self.contract.write_text(CONTRACT.format(r=extra, reliability=reliability)
                                 + more)
        self.reliability = reliability
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('operator', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.state: dict[str, Any] = {}
        self._subscribe = lambda: self.node.create_subscription(
            String, '/recorder/state', self._on_state, LATCHED_QOS)
        self._subscription: Any = None
        self.processes: list[subprocess.Popen[str]] = []
        self.clients: dict[tuple[str, int], Any] = {}

    def _on_state(self, message: Any) -> None:
        self.state = json.loads(message.data)

    def start(self, *command: str, errors: int | IO[str] = subprocess.STDOUT
              ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, text=True, cwd=ROOT)
        self.processes.append(process)
        return process

    def start_driver(self, *words: str) -> subprocess.Popen[str]:
        # What it answers is read line by line; it sends all else to stderr.
        complaints = self.folder / f'driver_{len(self.processes)}.log'
        with complaints.open('w') as file:
            process = self.start(str(DRIVER), *words, errors=file)
        assert process.stdout is not None
        answer = process.stdout.readline()
        assert answer == 'ready\n', f'{answer!r}; on stderr: {complaints.read_text()}'
        return process

    def recorder(self, *parameters: str, wait: str = 'active',
                 program: tuple[str, ...] = ('-m', 'ssl_vla_ros.nodes.recorder')
                 ) -> subprocess.Popen[str]:
        # A new subscription: what a recorder before this one said last may still be queued.
        if self._subscription is not None:
            self.node.destroy_subscription(self._subscription)
        self.state = {}
        self._subscription = self._subscribe()
        values = [f'contract:={self.contract}', f'session_dir:={self.session}',
                  'task:=lift the cube', *parameters]
        if wait == 'active':
            values.append('autostart:=true')
        process = self.start(*program, '--ros-args',
                             *(word for value in values for word in ('-p', value)))
        self.until(lambda: self.state.get('lifecycle') == wait)
        return process

    def driver(self, depth: int = 50, *, until_ready: bool = True) -> subprocess.Popen[str]:
        process = self.start_driver('--reliability', self.reliability, '--depth', str(depth))
        # Only now is it sure that the recorder knows the driver, too.
        if until_ready:
            self.until(lambda: self.state.get('waiting_for') == '')
        return process

    @staticmethod
    def drive(process: subprocess.Popen[str], **order: Any) -> None:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + '\n')
        process.stdin.flush()

    @staticmethod
    def counts(process: subprocess.Popen[str]) -> dict[str, int]:
        assert process.stdout is not None
        return dict(json.loads(process.stdout.readline()))

    def settle(self, driver: subprocess.Popen[str]) -> None:
        """
        Drive until something of every topic came.

        What a reliable publisher sends in the moment in which it is found may be held back for
        seconds, and come when an episode has begun.
        """
        from diagnostic_msgs.msg import DiagnosticArray
        heard: set[str] = set()
        rates: dict[str, float] = {}

        def take(message: Any) -> None:
            rates.update((item.key.split()[0], float(item.value)) for status in message.status
                         for item in status.values if item.key.endswith(' rate_hz'))
            heard.update(topic for topic, rate in rates.items() if rate)

        subscription = self.node.create_subscription(DiagnosticArray, '/diagnostics', take, 10)
        # In one go: short bursts would be stalls to the recorder, each told in a message of its
        # own, and those would push the rates that are waited for out of the queue here.
        self.drive(driver, until_told=True)
        self.until(lambda: heard.issuperset(TOPICS))
        self.drive(driver)
        self.counts(driver)
        self.counts(driver)
        # A second without any: nothing of these is still on its way.
        self.until(lambda: not any(rates.values()))
        self.node.destroy_subscription(subscription)

    def until(self, condition: Any, timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while not condition():
            for process in self.processes:
                if process.poll() not in (None, 0, -signal.SIGKILL):
                    assert process.stdout is not None
                    raise AssertionError(f'a process ended: {process.stdout.read()}')
            assert time.monotonic() < end, f'timed out; state {self.state}'
            self.executor.spin_once(timeout_sec=0.05)

    def client(self, name: str, node: str = 'recorder') -> Any:
        """Give a client to which no answer is lost; made once for each start of a process."""
        from introduction import introduce
        from std_srvs.srv import SetBool, Trigger
        service = f'/{node}/{name}'
        kept = (service, len(self.processes))
        if kept not in self.clients:
            client = self.node.create_client(SetBool if name == 'pause' else Trigger, service)
            self.until(client.service_is_ready)
            introduce(self.node, service, self.until)
            self.clients[kept] = client
        return self.clients[kept]

    def call(self, name: str, request: Any = None, node: str = 'recorder') -> Any:
        from std_srvs.srv import Trigger
        client = self.client(name, node)
        self.until(client.service_is_ready)
        future = client.call_async(Trigger.Request() if request is None else request)
        self.until(future.done)
        return future.result()

    def close(self) -> None:
        # Asked to end before they are killed: a killed process leaves its shared memory behind.
        for process in self.processes:
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@contextlib.contextmanager
def rig_of(folder: Path, reliability: str = 'reliable', more: str = '') -> Iterator[Rig]:
    rig = Rig(folder, reliability, more)
    try:
        yield rig
    finally:
        rig.close()


def check_balance(episode: Episode, sent: dict[str, int]) -> None:
    for topic, account in episode.accounts.items():
        assert account.balanced, (topic, account)
        assert account.published == sent[topic], (topic, account, sent)
        assert account.published_exact, (topic, account)
        assert sum(1 for _ in episode.raw([topic])) == account.written
