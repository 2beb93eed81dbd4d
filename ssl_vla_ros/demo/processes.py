# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A fleet of node processes: started together, watched, and stopped in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import json
import os
from pathlib import Path
import re
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType

from ssl_vla_ros.demo.leash import leashed
from ssl_vla_ros.demo.signals import unstoppable
from ssl_vla_ros.errors import UserError

#: Time a node has to end by itself after SIGINT before it is killed (seconds).
_END_S = 15.0
_DOMAINS = range(40, 100)
#: Participants that a domain has ports for.
_PARTICIPANTS = 120
#: Domains of this process, see ``_claim``.
_claims: dict[int, socket.socket] = {}
#: What rclpy's logger puts before a message.
_ROS_LOG = re.compile(r'\[(?:ERROR|FATAL)\] \[[\d.]+\] \[[^]]*\]: ')


class ProcessDied(UserError):
    """A process ended before its time."""


def domain_in_use(domain: int) -> bool:
    """
    Whether a DDS participant of that domain runs on this machine.

    Each takes the first free one of the domain's UDP ports for itself (OMG DDSI-RTPS 2.5, section
    9.6.2.3). All of them are tried: the first participant may have ended before the others.
    """
    for participant in range(_PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', 7400 + 250 * domain + 10 + 2 * participant))
            except OSError:
                return True
    return False


def _claim(domain: int) -> bool:
    """
    Take a domain for this process, before its nodes take the ports.

    Two demos that start at once would both find the same ports free. The name of an abstract
    socket belongs to one process of the machine and is gone with it, however that ends.
    """
    if domain in _claims:
        return True
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f'\0ssl_vla_ros/domain/{domain}')
    except OSError:
        claim.close()
        return False
    _claims[domain] = claim
    return True


def choose_domain() -> int:
    """
    ROS domain for this demo: the one the user set if it is free, else any free one.

    Raises
    ------
    UserError
        If ``ROS_DOMAIN_ID`` is no domain, or in use: two arms on one domain would both answer.

    """
    # Set to nothing is not set, as for ROS itself.
    asked = os.environ.get('ROS_DOMAIN_ID', '')
    if asked:
        if not (asked.isascii() and asked.isdigit()) or not 0 <= int(asked) <= 101:
            raise UserError(f'ROS_DOMAIN_ID is {asked!r}, must be a whole number from 0 to 101')
        if not _claim(int(asked)) or domain_in_use(int(asked)):
            raise UserError(
                f'ROS_DOMAIN_ID={asked} is in use on this machine: other nodes, or another '
                'program on its UDP ports; stop them, choose another number, or unset it to let '
                'the demo choose')
        return int(asked)
    for domain in _DOMAINS:
        if _claim(domain) and not domain_in_use(domain):
            return domain
    raise UserError(f'every ROS domain from {_DOMAINS[0]} to {_DOMAINS[-1]} is in use; set '
                    'ROS_DOMAIN_ID to a free one')


def ros_environment(domain: int, logs: Path) -> dict[str, str]:
    """Environment for nodes: this machine only, large pictures, logs in a place of their own."""
    from ssl_vla_ros.places import share
    environment = dict(os.environ)
    environment.update(
        ROS_DOMAIN_ID=str(domain), ROS_AUTOMATIC_DISCOVERY_RANGE='LOCALHOST',
        FASTRTPS_DEFAULT_PROFILES_FILE=str(share('config/fastdds_large_image.xml')),
        RMW_IMPLEMENTATION='rmw_fastrtps_cpp', ROS_LOG_DIR=str(logs), OMP_NUM_THREADS='1',
        PYTHONUNBUFFERED='1')
    environment.setdefault('MUJOCO_GL', 'egl')
    return environment


def node_command(node: str, parameters: dict[str, object]) -> list[str]:
    """
    Command line of one of this package's nodes with its parameters.

    ROS reads values as YAML. Texts are quoted, as JSON, which YAML can read: "1" would be a number
    otherwise, "a: b" an error, nothing at all too, and a # would end the text.
    """
    command = [sys.executable, '-m', f'ssl_vla_ros.nodes.{node}', '--ros-args']
    for name, value in parameters.items():
        quoted = json.dumps(str(value), ensure_ascii=False)
        text = (str(value).lower() if isinstance(value, bool)
                else str(value) if isinstance(value, int | float) else quoted)
        command += ['-p', f'{name}:={text}']
    return command


@dataclass(frozen=True)
class _Member:
    """A process of a fleet; its output begins at ``begin`` of its log, after earlier runs'."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    begin: int

    def died(self) -> ProcessDied:
        """Sentence about its end."""
        status = self.process.returncode
        how = (f'was killed by signal {-status} ({signal.Signals(-status).name})' if status < 0
               else f'ended with {status}{last_error(self.log, self.begin)}')
        return ProcessDied(
            f'{self.name} {how}; its log is {self.log}. What was recorded and trained is kept: '
            'the same command continues')


class Fleet:
    """
    Processes that live together; use it as a context manager.

    Each has a session of its own, so that Ctrl-C in a terminal reaches this process alone, which
    then ends the others last started first: whoever conducts before whoever records, and the arm
    at the end. If this process is killed, the kernel asks them to end.

    Parameters
    ----------
    logs
        Directory of their output, one file each.
    environment
        Theirs.
    end_s
        Time each has to end by itself before it is killed, seconds.

    """

    def __init__(self, logs: Path, environment: dict[str, str], end_s: float = _END_S) -> None:
        self._logs = logs
        self._environment = environment
        self._end_s = end_s
        self._running: list[_Member] = []
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
        with log.open('ab') as file:
            begin = file.tell()
            process = subprocess.Popen(
                leashed(command), env=self._environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True)
        self._running.append(_Member(name, process, log, begin))

    def check(self) -> None:
        """
        Raise if a process has ended.

        Raises
        ------
        ProcessDied
            Naming it, its exit status and its log.

        """
        for member in self._running:
            if member.process.poll() is not None:
                raise member.died()

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
        conductor = self._running[-1]
        read = conductor.begin
        while True:
            done = conductor.process.poll() is not None
            with conductor.log.open('rb') as file:
                file.seek(read)
                text = file.read()
            end = len(text) if done else text.rfind(b'\n') + 1
            for line in text[:end].decode(errors='replace').splitlines():
                on_line(line)
            read += end
            if done and conductor.process.returncode == 0:
                break
            # The others first: the conductor may have failed because one of them died.
            for member in self._running[:-1]:
                if member.process.poll() is not None:
                    raise member.died()
            if done:
                break
            time.sleep(0.1)
        self._running.pop()
        if conductor.process.returncode == 130:
            raise KeyboardInterrupt
        if conductor.process.returncode != 0:
            raise conductor.died()

    def stop_one(self, member: _Member) -> None:
        """End one process: SIGINT, and SIGKILL if it does not end by itself."""
        process = member.process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(self._end_s)
            except subprocess.TimeoutExpired:
                print(f'{member.name} did not end within {self._end_s:.0f} s and is killed',
                      file=sys.stderr)
                process.kill()
                process.wait()

    def stop(self) -> None:
        """End every process, last started first, whatever the user presses meanwhile."""
        with unstoppable():
            while self._running:
                self.stop_one(self._running[-1])
                self._running.pop()


def last_error(log: Path, begin: int = 0) -> str:
    """
    Last line of a log that tells of an error, for a message; empty if there is none.

    Parameters
    ----------
    log
        A file that several runs may have written to, one after the other.
    begin
        Where the run in question began.

    """
    with log.open('rb') as file:
        file.seek(begin)
        lines = file.read().decode(errors='replace').splitlines()[-40:]
    for line in reversed(lines):
        if line.startswith('error: ') or _ROS_LOG.match(line):
            return ': ' + _ROS_LOG.sub('', line).removeprefix('error: ').strip()
    for line in reversed(lines):
        if 'rror' in line:
            return f': {line.strip()}'
    return ''
