# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A fleet of node processes: started together, watched, and stopped in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType

from ssl_vla_ros.errors import UserError

#: Time a node has to end by itself after SIGINT before it is killed (seconds).
_END_S = 15.0
_DOMAINS = range(40, 100)


class ProcessDied(UserError):
    """A process ended before its time."""


def domain_in_use(domain: int) -> bool:
    """
    Whether a DDS participant of that domain runs on this machine.

    The first participant of a domain takes a fixed UDP port (OMG DDSI-RTPS 2.5, section 9.6.2.3).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', 7400 + 250 * domain + 10))
        except OSError:
            return True
    return False


def choose_domain() -> int:
    """
    ROS domain for this demo: the one the user set if it is free, else any free one.

    Raises
    ------
    UserError
        If ``ROS_DOMAIN_ID`` is no domain, or in use: two arms on one domain would both answer.

    """
    asked = os.environ.get('ROS_DOMAIN_ID')
    if asked is not None:
        if not asked.isdigit() or not 0 <= int(asked) <= 101:
            raise UserError(f'ROS_DOMAIN_ID is {asked!r}, must be a whole number from 0 to 101')
        if domain_in_use(int(asked)):
            raise UserError(
                f'ROS_DOMAIN_ID={asked} is in use on this machine: other nodes run on it; stop '
                'them, choose another number, or unset it to let the demo choose')
        return int(asked)
    for domain in _DOMAINS:
        if not domain_in_use(domain):
            return domain
    raise UserError(f'every ROS domain from {_DOMAINS[0]} to {_DOMAINS[-1]} is in use; set '
                    'ROS_DOMAIN_ID to a free one')


def ros_environment(domain: int, logs: Path) -> dict[str, str]:
    """Environment for nodes: this machine only, large pictures, logs in a place of their own."""
    from ssl_vla_ros.demo.places import share
    environment = dict(os.environ)
    environment.update(
        ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        FASTRTPS_DEFAULT_PROFILES_FILE=str(share('config/fastdds_large_image.xml')),
        RMW_IMPLEMENTATION='rmw_fastrtps_cpp', ROS_LOG_DIR=str(logs), OMP_NUM_THREADS='1',
        PYTHONUNBUFFERED='1')
    environment.setdefault('MUJOCO_GL', 'egl')
    return environment


def node_command(node: str, parameters: dict[str, object]) -> list[str]:
    """Command line of one of this package's nodes with its parameters."""
    command = [sys.executable, '-m', f'ssl_vla_ros.nodes.{node}', '--ros-args']
    for name, value in parameters.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        command += ['-p', f'{name}:={text}']
    return command


class Fleet:
    """
    Processes that live together; use it as a context manager.

    Each has a process group of its own, so that Ctrl-C in a terminal reaches this process alone,
    which then ends the others last started first: whoever conducts before whoever records, and
    the arm at the end.
    """

    def __init__(self, logs: Path, environment: dict[str, str]) -> None:
        self._logs = logs
        self._environment = environment
        self._running: list[tuple[str, subprocess.Popen[str], Path]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Fleet:
        """Give itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Stop whatever still runs."""
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a process whose output goes to a log file."""
        log = self._logs / f'{name}.log'
        with log.open('a', encoding='utf-8') as file:
            process = subprocess.Popen(
                list(command), env=self._environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self._running.append((name, process, log))

    def check(self) -> None:
        """
        Raise if a process has ended.

        Raises
        ------
        ProcessDied
            Naming it, its exit status and its log.

        """
        for name, process, log in self._running:
            status = process.poll()
            if status is not None:
                how = f'was killed by signal {-status}' if status < 0 else f'ended with {status}'
                raise ProcessDied(
                    f'{name} {how}{last_error(log)}; its log is {log}. What was recorded and '
                    'trained is kept: the same command continues')

    def conduct(self, name: str, command: Sequence[str],
                on_line: Callable[[str], None]) -> None:
        """
        Run a process to its end, passing its output on line by line, while all others live.

        Raises
        ------
        ProcessDied
            If it fails, or another process ends first.
        KeyboardInterrupt
            If it was stopped by a signal.

        """
        self.start(name, command)
        _, process, log = self._running[-1]
        read = 0
        while True:
            done = process.poll() is not None
            text = log.read_text(encoding='utf-8', errors='replace')
            end = len(text) if done else text.rfind('\n') + 1
            for line in text[read:end].splitlines():
                on_line(line)
            read = max(read, end)
            if done:
                break
            for other, running, other_log in self._running[:-1]:
                if running.poll() is not None:
                    self.stop_one(len(self._running) - 1)
                    self.check()
                    raise ProcessDied(f'{other} ended; its log is {other_log}')
            time.sleep(0.1)
        self._running.pop()
        if process.returncode == 130:
            raise KeyboardInterrupt
        if process.returncode != 0:
            raise ProcessDied(
                f'{name} failed{last_error(log)}; its log is {log}. What was recorded and '
                'trained is kept: the same command continues')

    def stop_one(self, index: int) -> None:
        """End one process: SIGINT, and SIGKILL if it does not end by itself."""
        name, process, _ = self._running.pop(index)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                print(f'{name} did not end within {_END_S:.0f} s and is killed', file=sys.stderr)
                process.kill()
                process.wait()

    def stop(self) -> None:
        """End every process, last started first, whatever the user presses meanwhile."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            while self._running:
                self.stop_one(len(self._running) - 1)
        finally:
            signal.signal(signal.SIGINT, previous)


def last_error(log: Path) -> str:
    """Last line of a log that tells of an error, for a message; empty if there is none."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    for line in reversed(lines[-40:]):
        if 'rror' in line:
            return f': {line.strip()}'
    return ''
