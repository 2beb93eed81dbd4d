# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A few commands of this package side by side, one core each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import re
import signal
import subprocess
import sys
import time

from ssl_vla_ros.demo.leash import leashed
from ssl_vla_ros.demo.processes import last_error, ProcessDied
from ssl_vla_ros.demo.signals import unstoppable

#: Progress as the commands print it, ``[###...] 200/800`` or ``rollouts 3/25``.
_STEPS = re.compile(r'(?:\]|rollouts) (\d+)/(\d+)')
#: Time a job has to write its checkpoint before it is killed (seconds).
_END_S = 30.0


@dataclass(frozen=True)
class Job:
    """One ``ssl_vla`` command."""

    name: str
    arguments: tuple[str, ...]


class _Running:
    """A job that runs: its process and how far it is."""

    def __init__(self, job: Job, log: Path) -> None:
        self.job = job
        self.log = log
        self._share = 0.0
        self._read_from = log.stat().st_size if log.exists() else 0
        environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONUNBUFFERED': '1'}
        environment.setdefault('MUJOCO_GL', 'egl')
        with log.open('a', encoding='utf-8') as file:
            self.process = subprocess.Popen(
                leashed([sys.executable, '-m', 'ssl_vla_ros.cli', *job.arguments]),
                env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True)

    def failure(self) -> ProcessDied:
        """Sentence about a job that ended badly."""
        status = self.process.returncode
        how = (f'was killed by signal {-status} ({signal.Signals(-status).name})' if status < 0
               else f'failed with {status}{last_error(self.log, self._read_from)}')
        return ProcessDied(
            f'{self.job.name} {how}; its log is {self.log}. The same command continues with what '
            'is finished')

    def share(self) -> float:
        """How far it is, 0 … 1, from the last ``done/total`` it printed."""
        with self.log.open('rb') as file:
            file.seek(max(self._read_from, self.log.stat().st_size - 400))
            found = _STEPS.findall(file.read().decode(errors='replace'))
        if found:
            done, total = (int(text) for text in found[-1])
            # Several things are counted one after the other: what is shown never goes back.
            self._share = max(self._share, min(1.0, done / max(1, total)))
        return self._share


def run_jobs(jobs: Sequence[Job], logs: Path, on_progress: Callable[[float, str], None],
             at_once: int = 2) -> None:
    """
    Run every job, ``at_once`` at a time.

    Parameters
    ----------
    jobs
        In the order they are started.
    logs
        Directory of their output, one file a job.
    on_progress
        Told how many jobs are done, in parts of jobs, and what runs.
    at_once
        Each takes one core.

    Raises
    ------
    ProcessDied
        If one fails; the others are stopped with their checkpoints.
    KeyboardInterrupt
        If the user stopped it, after the jobs have written their checkpoints.

    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs)
    running: list[_Running] = []
    finished = 0
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                job = waiting.pop(0)
                running.append(_Running(job, logs / f'{job.name}.log'))
            time.sleep(0.2)
            for item in list(running):
                status = item.process.poll()
                if status is None:
                    continue
                running.remove(item)
                finished += 1
                if status == 130:
                    raise KeyboardInterrupt
                if status != 0:
                    raise item.failure()
            on_progress(finished + sum(item.share() for item in running),
                        ', '.join(item.job.name for item in running))
    finally:
        _stop(running)


def _stop(running: list[_Running]) -> None:
    with unstoppable():
        for item in running:
            item.process.send_signal(signal.SIGINT)
        for item in running:
            try:
                item.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                item.process.kill()
                item.process.wait()
