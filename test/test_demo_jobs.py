# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Jobs side by side: real `ssl_vla` commands, one of which fails, is killed or is stopped."""

from __future__ import annotations

import os
from pathlib import Path
import signal
import threading
import time

import pytest
from ssl_vla_ros.demo import jobs as room
from ssl_vla_ros.demo.jobs import Job, run_jobs
from ssl_vla_ros.demo.processes import ProcessDied


def listing(folder: Path, name: str) -> Job:
    """Make a job that ends well in a moment: it lists an empty session."""
    (folder / name).mkdir()
    return Job(name, ('episodes', 'list', str(folder / name)))


class Slow:
    """Puts a program that runs until it is stopped in the place of the command line."""

    CODE = """
import signal, sys, time
def end(*_):
    print('checkpoint written', flush=True)
    sys.exit(130)
signal.signal(signal.SIGINT, end)
print('[##..] 3/10', flush=True)
time.sleep(60)
"""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plain = room.leashed

        def leashed(command: list[str]) -> list[str]:
            if command[3:] != ['slow']:
                return plain(command)
            return plain([command[0], '-I', '-S', '-c', self.CODE])

        monkeypatch.setattr(room, 'leashed', leashed)
        self.job = Job('slow', ('slow',))


def test_every_job_runs_and_progress_never_goes_back(tmp_path: Path) -> None:
    jobs = [listing(tmp_path, f'job{i}') for i in range(3)]
    seen: list[tuple[float, str]] = []
    run_jobs(jobs, tmp_path / 'logs', lambda done, what: seen.append((done, what)))
    for job in jobs:
        text = (tmp_path / 'logs' / f'{job.name}.log').read_text()
        assert text == f'0 episodes in {tmp_path / job.name}\n'
    shares = [done for done, _ in seen]
    assert shares == sorted(shares)
    # Side by side, and never more than allowed.
    assert {len(what.split(', ')) for _, what in seen} <= {1, 2}
    assert seen[-1] == (3.0, '')


def test_a_failed_job_is_told_in_its_own_words_and_the_others_are_stopped(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    log = tmp_path / 'bad.log'
    log.write_text('error: of an earlier run\n')
    bad = Job('bad', ('episodes', 'list', str(tmp_path / 'nowhere')))
    with pytest.raises(ProcessDied) as caught:
        run_jobs([slow.job, bad], tmp_path, lambda done, what: None)
    assert str(caught.value) == (
        f'bad failed with 2: {tmp_path / "nowhere"}: no such session directory; record into it '
        f'first; its log is {log}. The same command continues with what is finished')
    assert 'checkpoint written' in (tmp_path / 'slow.log').read_text()


def test_a_killed_job_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)

    def kill(done: float, what: str) -> None:
        if done > 0.2:
            children = Path(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read_text()
            (pid,) = (int(word) for word in children.split()
                      if b'checkpoint' in Path(f'/proc/{word}/cmdline').read_bytes())
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(ProcessDied, match=r'slow was killed by signal 9 \(SIGKILL\); its log'):
        run_jobs([slow.job], tmp_path, kill)


def test_ctrl_c_lets_jobs_write_their_checkpoints(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch)
    shares: list[float] = []

    def on_progress(done: float, what: str) -> None:
        shares.append(done)
        if done > 0.2:
            assert threading.current_thread() is threading.main_thread()
            os.kill(os.getpid(), signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_jobs([slow.job, listing(tmp_path, 'never')], tmp_path, on_progress, at_once=1)
    assert time.monotonic() - began < 20.0
    assert shares[-1] == pytest.approx(0.3)
    assert 'checkpoint written' in (tmp_path / 'slow.log').read_text()
    assert not (tmp_path / 'never.log').exists()
