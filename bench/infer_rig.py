# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes under ``bench_infer.py``: processes of their own, fed over DDS, measured from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import contextlib
from dataclasses import dataclass
import json
import math
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from record_rig import PUBLISHER, ROOT, usage
from sensor_msgs.msg import Image

TOPIC = 'camera/front/image_raw'
#: Features not answered at the end may still be on their way for this long.
_LAST_S = 1.0
_SETTLE_S = 3.0
_PATIENCE_S = 90.0


@dataclass(frozen=True)
class Measured:
    """
    One node at one rate.

    Attributes
    ----------
    sent, answered
        Pictures of the time measured, and how many of them have features.
    reported
        Pictures that the node says it left out in this time, by cause.
    missed
        Deadlines that it says it missed in this time.
    age_s
        From the picture's stamp to the arrival of its features in another process.
    arrivals_s
        When features arrived, for their jitter.
    cores
        Processor time ÷ wall.
    rss_mb
        Memory in the middle and at the end.
    diagnostics
        The node's last.
    between_s
        What a call between two ticks took, if there was one to make; from the first features on,
        as the percentiles of the diagnostics.

    """

    sent: int
    answered: int
    reported: dict[str, int]
    missed: int
    age_s: np.ndarray
    arrivals_s: np.ndarray
    cores: float
    rss_mb: tuple[float, float]
    diagnostics: dict[str, str]
    between_s: np.ndarray

    @property
    def unreported(self) -> int:
        """Pictures without features of which the node says nothing; below 0: it says too much."""
        return self.sent - self.answered - sum(self.reported.values())

    def figures(self) -> dict[str, Any]:
        """Give one row of the table."""
        age = 1e3 * np.percentile(self.age_s, (50, 99, 100))
        steps = np.diff(self.arrivals_s)
        return {
            'rate_hz': len(steps) / (self.arrivals_s[-1] - self.arrivals_s[0]),
            'age_p50_ms': age[0], 'age_p99_ms': age[1], 'age_max_ms': age[2],
            'jitter_ms': 1e3 * float(np.std(steps)),
            'sent': self.sent, 'answered': self.answered, 'reported': self.reported,
            'unreported': self.unreported,
            'missed_deadlines': self.missed,
            'cores': self.cores, 'rss_mb': self.rss_mb[1]}


def inference(bundle: Path, **parameters: Any) -> list[str]:
    """Give the command of our node."""
    values = {'bundle': bundle, 'backend': 'cpu', 'autostart': 'true', **parameters}
    return [sys.executable, '-m', 'ssl_vla_ros.nodes.inference', '--ros-args',
            *(word for name, value in values.items() for word in ('-p', f'{name}:={value}'))]


def plain(run: Path, threads: int = 0) -> list[str]:
    """Give the command of the plain node; with 0, torch takes the threads that it likes."""
    given = [f'OMP_NUM_THREADS={threads}'] if threads else ['-u', 'OMP_NUM_THREADS']
    return ['env', *given, sys.executable, str(ROOT / 'bench' / 'plain_node.py'), '--run',
            str(run), '--topic', TOPIC]


@contextlib.contextmanager
def load(count: int) -> Any:
    """Keep so many cores busy."""
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


class _Listener:
    """Takes features and diagnostics; makes a call between two ticks, if there is one to make."""

    def __init__(self, topic: str, between: Callable[[], Any] | None = None,
                 pause_s: float = 0.0) -> None:
        self._between = between
        self._pause_s = pause_s
        self._due = math.inf
        self.between_s: list[float] = []
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('bench_infer', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.seen: list[tuple[int, int]] = []
        self.diagnostics: dict[str, str] = {}
        self.told_ns = 0
        self.node.create_subscription(Image, topic, self._on_features, 100)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_features(self, message: Any) -> None:
        stamp = message.header.stamp
        self.seen.append((stamp.sec * 10**9 + stamp.nanosec, time.time_ns()))
        if self._between is not None:
            self._due = time.monotonic() + self._pause_s

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            if status.name == 'inference':
                self.diagnostics = {item.key: item.value for item in status.values}
                stamp = message.header.stamp
                self.told_ns = stamp.sec * 10**9 + stamp.nanosec

    def next_report(self) -> dict[str, str]:
        """Wait for the node's next report; one that makes none is asked nothing."""
        before, end = self.told_ns, time.monotonic() + 3.0
        while self.told_ns == before and time.monotonic() < end:
            self.spin(0.05)
        if self.told_ns == before:
            self.told_ns = time.time_ns()
        return dict(self.diagnostics)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            until_due = self._due - time.monotonic()
            if self._between is not None and until_due <= 0.0:
                began = time.perf_counter()
                self._between()
                self.between_s.append(time.perf_counter() - began)
                self._due = math.inf
            else:
                self.executor.spin_once(timeout_sec=min(left, until_due))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def measure(command: Sequence[str], rate_hz: float, seconds: float, features: str,
            log: Path, between: Callable[[], Any] | None = None) -> Measured:
    """
    Feed a node VGA pictures at a rate for so long, and see what comes of them.

    ``between`` is called here between two ticks, a quarter of a period after features came: what
    it takes is then measured in the very minutes in which the node runs, and at its pace.
    """
    listener = _Listener(features, between, 0.25 / rate_hz)
    with log.open('wb') as file:
        node = subprocess.Popen(list(command), stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
    camera = subprocess.Popen(
        [sys.executable, str(PUBLISHER), 'camera', '--topic', TOPIC, '--rate', str(rate_hz)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + _PATIENCE_S
        while not listener.seen:
            if node.poll() is not None or time.monotonic() > end:
                raise SystemExit(f'no features come: {log.read_text(errors="replace")[-3000:]}')
            listener.spin(0.1)
        listener.spin(_SETTLE_S)
        # Books from one report of the node to another, which names the moment it was made.
        told_before = listener.next_report()
        begin, first = listener.told_ns, usage(node.pid)
        listener.spin(0.5 * seconds)
        middle = usage(node.pid)
        listener.spin(0.5 * seconds)
        told_after = listener.next_report()
        over, last = listener.told_ns, usage(node.pid)
        assert camera.stdin is not None and camera.stdout is not None
        camera.stdin.write('\n')
        camera.stdin.flush()
        # While the node tells the last of its books, which it does once a second.
        listener.spin(_LAST_S + 1.2)
        camera.stdout.readline()
        stamps = [int(value) for value in json.loads(camera.stdout.readline())]
    finally:
        for process in (camera, node):
            if process.poll() is None:
                process.send_signal(signal.SIGINT if process is node else signal.SIGTERM)
            process.wait()
        listener.close()
    answered = {stamp for stamp, _ in listener.seen}
    sent = [stamp for stamp in stamps if begin <= stamp <= over]
    window = [(stamp, came) for stamp, came in listener.seen if begin <= stamp <= over]
    reported = {
        name: int(value) - int(told_before.get(name, 0)) for name, value in told_after.items()
        if name.startswith(('dropped.', 'sequence_gaps.'))}
    return Measured(
        len(sent), len(answered & set(sent)),
        {name: count for name, count in reported.items() if count},
        int(told_after.get('missed_deadlines', 0)) - int(told_before.get('missed_deadlines', 0)),
        np.array([(came - stamp) * 1e-9 for stamp, came in window]),
        np.array([came * 1e-9 for _, came in window]),
        (last.cpu - first.cpu) / (last.at - first.at),
        (middle.rss / 2**20, last.rss / 2**20), listener.diagnostics,
        np.array(listener.between_s))
