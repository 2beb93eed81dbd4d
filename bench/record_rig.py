# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Processes of ``bench_record.py``: recorder and publishers, called and measured from outside."""

from __future__ import annotations

from collections.abc import Sequence
import contextlib
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

ROOT = Path(__file__).parents[1]
PUBLISHER = ROOT / 'bench' / 'record_publishers.py'
RECORDER = ('-m', 'ssl_vla_ros.nodes.recorder')
_TICKS = float(os.sysconf('SC_CLK_TCK'))
_SAMPLE_S = 0.5
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Load:
    """What is published: cameras of one size, joint states and an action."""

    cameras: int = 3
    width: int = 640
    height: int = 480
    camera_hz: float = 30.0
    joints_hz: float = 500.0
    action_hz: float = 100.0
    content: str = 'camera'

    @property
    def rates(self) -> dict[str, float]:
        """Messages a second of each topic."""
        return {f'camera_{number}/image_raw': self.camera_hz for number in range(self.cameras)} | {
            'joint_states': self.joints_hz, 'twist': self.action_hz}

    @property
    def mb_s(self) -> float:
        """Pixels a second, in millions of bytes."""
        return self.cameras * self.width * self.height * 3 * self.camera_hz / 1e6

    def __str__(self) -> str:
        return (f'{self.cameras} x {self.width}x{self.height} at {self.camera_hz:g} Hz, joints '
                f'{self.joints_hz:g} Hz, action {self.action_hz:g} Hz ({self.content})')

    def contract(self) -> dict[str, Any]:
        """Describe it as a robot contract."""
        return {
            'robot': 'bench', 'rate_hz': 30,
            'cameras': {f'camera_{number}': {
                'topic': f'camera_{number}/image_raw', 'type': 'sensor_msgs/Image',
                'height': self.height, 'width': self.width, 'reliability': 'best_effort'}
                for number in range(self.cameras)},
            'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                       'names': [f'joint_{number}' for number in range(7)]}],
            'action': [{'topic': 'twist', 'type': 'geometry_msgs/TwistStamped',
                        'names': ['linear.x']}]}

    def publishers(self) -> list[list[str]]:
        """Command lines of ``record_publishers.py``."""
        size = ['--height', str(self.height), '--width', str(self.width)]
        return [['camera', '--topic', f'camera_{number}/image_raw', '--rate', str(self.camera_hz),
                 '--reliability', 'best_effort', '--content', self.content, '--seed', str(number),
                 *size] for number in range(self.cameras)] + [
            ['joints', '--topic', 'joint_states', '--rate', str(self.joints_hz), '--depth', '100'],
            ['action', '--topic', 'twist', '--rate', str(self.action_hz), '--depth', '100']]


@dataclass
class Usage:
    """CPU and memory of the recorder at one moment; CPU in seconds since the process began."""

    at: float
    cpu: float
    threads: dict[int, tuple[str, float]]
    rss: int
    anonymous: int


def cpu_s(stat: Path) -> float:
    """CPU time in seconds of a process or thread, from its stat file."""
    fields = stat.read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def usage(pid: int) -> Usage:
    """Measure a process from outside."""
    process = Path(f'/proc/{pid}')
    threads = {}
    for task in (process / 'task').iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            threads[int(task.name)] = (
                (task / 'comm').read_text().strip(), cpu_s(task / 'stat'))
    status = dict(line.split(':', 1) for line in (process / 'status').read_text().splitlines())
    return Usage(time.monotonic(), cpu_s(process / 'stat'), threads,
                 *(int(status[key].split()[0]) * 1024 for key in ('VmRSS', 'RssAnon')))


def busy_s() -> float:
    """CPU time in seconds that the whole machine has spent on work so far."""
    values = [int(value) for value in Path('/proc/stat').read_text().split('\n', 1)[0].split()[1:]]
    idle = values[3] + values[4]
    return (sum(values[:8]) - idle) / _TICKS


def quiet_domain() -> int:
    """Find a ROS domain that nobody on this machine uses: its first ports are free."""
    for number in range(101):
        domain = 1 + (os.getpid() + number) % 101
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(
                OSError):
            probe.bind(('', 7400 + 250 * domain + 10))
            return domain
    raise RuntimeError('each of the ROS domains 1 to 101 is in use; set ROS_DOMAIN_ID')


def set_environment() -> None:
    """Set what recorder and publishers need; what this shell has set already stays."""
    for name, value in {
            'FASTRTPS_DEFAULT_PROFILES_FILE': str(ROOT / 'config' / 'fastdds_large_image.xml'),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', 'AMENT_PREFIX_PATH': sys.prefix,
            'OMP_NUM_THREADS': '1'}.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault('ROS_DOMAIN_ID', str(quiet_domain()))


@dataclass
class Span:
    """One episode as a client sees it: system times in nanoseconds around start and stop."""

    name: str
    asked_start: int
    started: int
    asked_stop: int = 0
    stopped: int = 0
    samples: list[Usage] = field(default_factory=list)
    busy_cores: float = 0.0
    publisher_cores: dict[str, float] = field(default_factory=dict)

    @property
    def start_ms(self) -> float:
        """From the call of the start service to its answer."""
        return (self.started - self.asked_start) / 1e6

    @property
    def finish_ms(self) -> float:
        """From the call of the stop service to its answer: the episode is on the disk."""
        return (self.stopped - self.asked_stop) / 1e6

    @property
    def seconds(self) -> float:
        """Length of the episode."""
        return (self.asked_stop - self.started) / 1e9


class Rig:
    """Recorder and publishers of one load; publishing from ``__enter__`` to ``stop_all``."""

    def __init__(self, folder: Path, load: Load, parameters: Sequence[str] = (),
                 program: Sequence[str] = RECORDER) -> None:
        self.load = load
        self.node = rclpy.create_node('bench_record')
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        self.session = folder / 'session'
        contract = folder / 'robot.yaml'
        contract.write_text(json.dumps(load.contract()))    # JSON is YAML
        values = [f'contract:={contract}', f'session_dir:={self.session}', 'autostart:=true',
                  *parameters]
        self._log = (folder / 'recorder.log').open('wb')
        self.recorder = subprocess.Popen(
            [sys.executable, *program, '--ros-args',
             *(word for value in values for word in ('-p', value))],
            stdout=self._log, stderr=subprocess.STDOUT, cwd=ROOT)
        self.publishers = [subprocess.Popen(
            [sys.executable, str(PUBLISHER), *words], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True) for words in load.publishers()]
        self._clients = {name: self.node.create_client(Trigger, f'recorder/{name}')
                         for name in ('start_episode', 'stop_episode', 'discard_episode')}

    def __enter__(self) -> Rig:
        try:
            self._wait_for_everyone()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_for_everyone(self) -> None:
        end = time.monotonic() + _PATIENCE_S
        for process in self.publishers:
            assert process.stdout is not None
            while not select.select([process.stdout], [], [], 0.1)[0]:
                if self.recorder.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f'the recorder does not subscribe:\n{self.log}')
            if process.stdout.readline() != 'ready\n':
                raise RuntimeError('a publisher ended before it began')
        for client in self._clients.values():
            if not client.wait_for_service(_PATIENCE_S):
                raise RuntimeError(f'the recorder does not answer:\n{self.log}')

    def __exit__(self, *_error: object) -> None:
        for publisher in self.publishers:
            if publisher.poll() is None:
                publisher.terminate()
        self.recorder.send_signal(signal.SIGINT)
        everyone: list[subprocess.Popen[Any]] = [*self.publishers, self.recorder]
        for process in everyone:
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()
        self.executor.shutdown()
        self.node.destroy_node()

    @property
    def log(self) -> str:
        """Read what the recorder has printed."""
        return Path(self._log.name).read_text(errors='replace')

    def call(self, name: str) -> Any:
        """Call one of the recorder's services."""
        future = self._clients[name].call_async(Trigger.Request())
        self.executor.spin_until_future_complete(future, _PATIENCE_S)
        answer = future.result()
        if answer is None or not answer.success:
            raise RuntimeError(
                f'{name}: {"no answer" if answer is None else answer.message}\n{self.log}')
        return answer

    def wait_ready(self) -> None:
        """Let every publisher be found, and whatever was held back meanwhile arrive."""
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                self.call('start_episode')
                break
            except RuntimeError as error:
                if 'no publisher yet' not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.2)
        time.sleep(1.0)
        self.call('discard_episode')

    def episode(self, seconds: float) -> Span:
        """Record one episode and measure the recorder meanwhile."""
        asked = time.time_ns()
        answer = self.call('start_episode')
        span = Span(answer.message, asked, time.time_ns())
        began, busy, cpu = time.monotonic(), busy_s(), self._publisher_cpu()
        while (left := began + seconds - time.monotonic()) > 0:
            span.samples.append(usage(self.recorder.pid))
            time.sleep(min(_SAMPLE_S, left))
        span.samples.append(usage(self.recorder.pid))
        wall = time.monotonic() - began
        span.busy_cores = (busy_s() - busy) / wall
        span.publisher_cores = {topic: (used - cpu[topic]) / wall
                                for topic, used in self._publisher_cpu().items()}
        span.asked_stop = time.time_ns()
        self.call('stop_episode')
        span.stopped = time.time_ns()
        return span

    def _publisher_cpu(self) -> dict[str, float]:
        return {topic: cpu_s(Path(f'/proc/{process.pid}/stat'))
                for topic, process in zip(self.load.rates, self.publishers, strict=True)}

    def stop_publishers(self) -> dict[str, list[int]]:
        """End the publishers; gives the stamps that each topic's messages had, in nanoseconds."""
        stamps = {}
        for topic, process in zip(self.load.rates, self.publishers, strict=True):
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write('\n')
            process.stdin.flush()
            stamps[topic] = [int(value) for value in json.loads(process.stdout.readline())]
        return stamps
