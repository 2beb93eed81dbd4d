# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The small demo as a user runs it: stopped, disturbed, killed at, and at last complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('mujoco', reason='MuJoCo is not installed')
pytest.importorskip('torch', reason='torch is not installed')

from ssl_vla_ros.demo.plan import IN_PROCESS, QUICK  # noqa: E402, I100
from ssl_vla_ros.episodes.reader import Episode, list_episodes  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.alone]

ROOT = Path(__file__).parents[1]


class Demo:
    """`ssl_vla demo --quick` in a process of its own."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.work = out / 'quick'
        self.log = out.with_name(f'{out.name}.txt')
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN, (
            'whoever started the tests ignores Ctrl-C, and so would the demo')
        with self.log.open('w') as file:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'ssl_vla_ros.cli', 'demo', '--quick', '--out', str(out)],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                env={**os.environ, 'PYTHONUNBUFFERED': '1'})

    def until(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + 400.0
        while not condition():
            assert self.process.poll() is None, f'it ended before {what}:\n{self.log.read_text()}'
            assert time.monotonic() < end, f'in vain for {what}:\n{self.log.read_text()}'
            time.sleep(0.02)

    def children(self) -> dict[str, int]:
        """Return the processes it has started, by the node's name."""
        found = {}
        pid = self.process.pid
        for word in Path(f'/proc/{pid}/task/{pid}/children').read_text().split():
            command = Path(f'/proc/{word}/cmdline').read_bytes().decode().split('\0')
            # Python's own helper of the build's workers stays until the demo ends.
            if 'resource_tracker' not in ' '.join(command):
                found[command[2].rpartition('.')[2] if len(command) > 2 else '?'] = int(word)
        return found

    def end(self) -> tuple[int, str]:
        """Exit status and output."""
        status = self.process.wait(400.0)
        return status, self.log.read_text()

    def episodes(self) -> list[Episode]:
        return [Episode.open(path) for path in list_episodes(self.work / 'episodes')]


@pytest.fixture
def start(ros_domain: int, tmp_path: Path) -> Iterator[Callable[[], Demo]]:
    started: list[Demo] = []

    def begin() -> Demo:
        started.append(Demo(tmp_path / 'demo'))
        return started[-1]

    yield begin
    for demo in started:
        if demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(60.0)


def gone(pids: dict[str, int]) -> bool:
    return not any(Path(f'/proc/{pid}').exists() for pid in pids.values())


def test_a_quick_demo_through_everything_a_user_does_to_it(start: Callable[[], Demo]) -> None:
    demo = start()
    session = demo.work / 'episodes'
    demo.until(lambda: (session / 'episode_000000').exists()
               and any(session.glob('.episode_*.part/*.mcap')), 'the second episode')
    nodes = demo.children()
    assert set(nodes) == {'sim_arm', 'teleop', 'recorder', 'collect'}

    # A second demo beside the first: refused, and the first does not notice.
    beside = subprocess.run(
        [sys.executable, '-m', 'ssl_vla_ros.cli', 'demo', '--quick', '--out', str(demo.out)],
        cwd=ROOT, capture_output=True, text=True, timeout=60.0, check=False)
    assert (beside.returncode, beside.stdout) == (2, '')
    assert beside.stderr == (
        f'error: another demo (process {demo.process.pid}) is running in {demo.out}; wait for '
        'it, or choose another --out\n')
    assert demo.process.poll() is None

    # Ctrl-C in the middle of recording.
    demo.process.send_signal(signal.SIGINT)
    status, text = demo.end()
    assert status == 130, text
    assert text.splitlines()[-1] == (
        'stopped; everything finished so far is kept. Type the same command to go on.')
    assert 'Traceback' not in text
    assert gone(nodes)
    assert not [path for path in session.iterdir() if path.suffix in ('.part', '.lock')]
    kept = [episode.path for episode in demo.episodes()]
    assert kept
    assert {episode.info['status'] for episode in demo.episodes()} == {'complete'}

    # A node is killed in the middle of a rollout.
    demo = start()
    evaluation = demo.work / 'logs' / 'evaluate.log'
    demo.until(lambda: evaluation.exists() and 'rolled out 0' in evaluation.read_text(),
               'the rollouts')
    nodes = demo.children()
    assert set(nodes) == {'sim_arm', 'inference', 'policy', 'evaluate'}
    os.kill(nodes['policy'], signal.SIGKILL)
    status, text = demo.end()
    assert status == 2, text
    (sentence,) = [line for line in text.splitlines() if line.startswith('error: ')]
    assert sentence == (
        f'error: policy was killed by signal 9 (SIGKILL); its log is '
        f'{demo.work / "logs" / "policy.log"}. What was recorded and trained is kept: the same '
        'command continues')
    assert 'Traceback' not in text
    assert gone(nodes)
    assert set(kept) <= {episode.path for episode in demo.episodes()}
    digest = json.loads((demo.work / 'bundle' / 'manifest.json').read_text())['files']

    # To the end, with all that is there.
    demo = start()
    status, text = demo.end()
    assert status == 0, text
    assert 'SSL, through the nodes' in text
    assert json.loads((demo.work / 'bundle' / 'manifest.json').read_text())['files'] == digest
    check_report(demo)


def check_report(demo: Demo) -> None:
    report = json.loads((demo.out / 'report.json').read_text())
    assert set(report['policy']) == {'ssl', *IN_PROCESS}
    for name, row in report['policy'].items():
        wanted = QUICK.rollouts if name == 'ssl' else QUICK.baseline_rollouts
        assert row['rollouts'] == wanted
        assert 0 <= row['successes'] <= wanted
        assert row['starts'] == list(range(wanted))
    for key in ('error_ratio_h8', 'error_ratio_h8_shuffled'):
        assert report['world_model'][key] > 0.0
    inference = report['inference']
    assert 15.0 < inference['rate_hz'] <= 20.0
    assert 0.0 < inference['age_p50_ms'] <= inference['age_p99_ms']
    assert 0.0 <= inference['missed_fraction'] < 0.25
    recording = report['recording']
    for topic in ('camera/front/image_raw', 'camera/wrist/image_raw', 'joint_states'):
        assert recording['published'][topic] > 0
        assert recording['lost'][topic] == 0
    for topic, published in recording['published'].items():
        assert published == sum(
            recording[key][topic] for key in ('written', 'lost', 'dropped', 'rejected'))
    good = [episode for episode in demo.episodes() if episode.info['success']]
    assert len(good) == QUICK.episodes
    # The time of all three runs together.
    assert report['wall_s'] > sum(report['stages'].values()) * 0.9
    assert set(report['stages']) >= {
        'record', 'build', 'pretrain', 'export', 'act', 'compare', 'report'}
    assert set(report['probes']) == {
        'keypoints', 'random encoder', 'PCA of pixels', 'proprioception'}
    assert 500.0 < report['peak_rss_mb'] < 6 * 1024
    assert json.loads((demo.work / 'report.json').read_text()) == report
    page = (demo.out / 'report.html').read_text()
    assert page.startswith('<!') and len(page) > 10_000
    # A rollout is to be seen, also where none succeeded.
    assert report['film']['success'] in (True, False)
    assert '<video' in page and (demo.out / 'rollout.mp4').stat().st_size > 1000
