# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Collecting with the real arm, teleoperator and recorder, each a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
import dataclasses
import os
from pathlib import Path
import signal
import threading
import time

import pytest

pytest.importorskip('rclpy', reason='rclpy is not installed')
pytest.importorskip('mujoco', reason='MuJoCo is not installed')

from episode_samples import all_written, IMAGE, image_cdr, open_writer, SIZE  # noqa: E402, I100
from node_harness import NodeProcess, robot, running  # noqa: E402, I100
from ssl_vla_ros.demo.plan import QUICK  # noqa: E402
from ssl_vla_ros.demo.processes import ProcessDied  # noqa: E402
from ssl_vla_ros.episodes.reader import Episode, list_episodes  # noqa: E402

pytestmark = pytest.mark.ros

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / 'config' / 'robots' / 'sim_ur5e.yaml'
SIDE = '  side: {topic: camera/side/image_raw, type: sensor_msgs/Image, height: 64, width: 64}\n'


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited {seconds:g} s in vain for {what}'
        time.sleep(0.02)


def recording(session: Path, least_bytes: int = 300_000) -> bool:
    """Whether an episode is open and has pictures in it."""
    try:
        return any(path.stat().st_size > least_bytes
                   for path in session.glob('.episode_*.part/*.mcap'))
    except OSError:
        return False  # it was finished while we looked


def halves(session: Path) -> list[str]:
    """Whatever stands in a session for an episode that is neither finished nor thrown away."""
    return [path.name for path in session.iterdir() if path.name.endswith(('.part', '.lock'))]


class Rig:
    """Arm and teleoperator at twice the real speed, and recorders as they are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.session = folder / 'session'
        self._stack = stack
        for module, more in (('sim_arm', {'speed': 2.0, 'publish_clock': True}),
                             ('teleop', {'use_sim_time': True})):
            stack.enter_context(running(module, folder, seed=1, **more))

    def recorder(self, contract: Path = CONTRACT) -> NodeProcess:
        return self._stack.enter_context(running(
            'recorder', self.folder, use_sim_time=True, contract=contract,
            session_dir=self.session, task='lift', autostart=True))

    def collect(self, episodes: int) -> NodeProcess:
        return self._stack.enter_context(running(
            'collect', self.folder, session_dir=self.session, episodes=episodes))


@pytest.fixture
def rig(ros_domain: int, tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


def test_collect_stops_in_mid_demonstration_and_goes_on(rig: Rig) -> None:
    rig.recorder()
    collect = rig.collect(2)
    until(lambda: recording(rig.session), 'the first episode')
    # Twice, as `ros2 launch` does it.
    collect.process.send_signal(signal.SIGINT)
    assert collect.end() == 130, collect.log
    assert list_episodes(rig.session) == []
    assert halves(rig.session) == []

    # With the same nodes: the teleoperator was stopped, too.
    collect = rig.collect(2)
    assert collect.process.wait(90.0) == 0, collect.log
    assert collect.log.split('\n') == ['collected 0 2', 'collected 1 2', 'collected 2 2', '']
    episodes = [Episode.open(path) for path in list_episodes(rig.session)]
    assert [(item.info['status'], item.info['success']) for item in episodes] == [
        ('complete', True), ('complete', True)]
    for item in episodes:
        assert all(account.balanced for account in item.accounts.values())
        assert {account.lost for account in item.accounts.values()} == {0}
        assert item.info['counts']['camera/front/image_raw']['written'] > 30
    assert halves(rig.session) == []

    # Enough are there: nothing is asked of anybody.
    collect = rig.collect(2)
    assert collect.process.wait(30.0) == 0
    assert collect.log == 'collected 2 2\n'
    assert len(list_episodes(rig.session)) == 2


def test_a_missing_camera_and_a_wrong_contract_are_named(rig: Rig) -> None:
    wrong = rig.folder / 'side.yaml'
    wrong.write_text(CONTRACT.read_text().replace('  wrist: {', f'{SIDE}  wrist: {{'))
    recorder = rig.recorder(wrong)
    collect = rig.collect(1)
    assert collect.process.wait(60.0) == 2
    (sentence,) = [line for line in collect.log.splitlines() if line.startswith('error: ')]
    assert '/camera/side/image_raw' in sentence
    assert 'start the driver, or correct the contract' in sentence
    assert list_episodes(rig.session) == []
    assert recorder.end() == 0

    wrong.write_text(CONTRACT.read_text().replace('rate_hz: 20', 'rate_hz: fast'))
    recorder = rig.recorder(wrong)
    collect = rig.collect(1)
    assert collect.process.wait(60.0) == 2
    assert 'error: the recorder is not ready: it is unconfigured' in collect.log
    assert "'fast'" in recorder.log
    assert 'Traceback' not in collect.log + recorder.log


def test_a_success_that_no_dataset_takes_does_not_count(
        ros_domain: int, tmp_path: Path) -> None:
    session = tmp_path / 'session'
    writer = open_writer(session)
    writer.write(IMAGE, image_cdr(5, bytes(SIZE * SIZE * 3)), 6, 5)
    assert Episode.open(writer.close(all_written(writer), success=True)).faults
    with running('collect', tmp_path, session_dir=session, episodes=1, attempts=1) as collect:
        assert collect.process.wait(30.0) == 2
    assert 'collected 0 1' in collect.log
    assert '1 demonstrations gave only 0 of 1 successes' in collect.log


def test_an_episode_that_ends_by_itself_is_told_with_its_reason(rig: Rig) -> None:
    rig.recorder()
    collect = rig.collect(1)
    until(lambda: recording(rig.session), 'the first episode')
    with robot() as me:
        assert me.change('recorder', 'deactivate')
    assert collect.process.wait(20.0) == 2
    (sentence,) = [line for line in collect.log.splitlines() if line.startswith('error: ')]
    assert sentence == ('error: the recorder ended episode_000000 by itself: incomplete, '
                        'deactivated while recording')
    (episode,) = [Episode.open(path) for path in list_episodes(rig.session)]
    assert (episode.info['status'], episode.info['success']) == ('incomplete', None)


def node_of(parent: int, module: str) -> int:
    """Process of a node that a process has started."""
    children = Path(f'/proc/{parent}/task/{parent}/children').read_text().split()
    (pid,) = (int(word) for word in children
              if f'ssl_vla_ros.nodes.{module}'.encode() in Path(
                  f'/proc/{word}/cmdline').read_bytes())
    return pid


def test_a_recorder_killed_in_mid_episode_costs_the_demo_one_sentence(
        ros_domain: int, tmp_path: Path) -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    from ssl_vla_ros.demo.stages import Demo
    demo = Demo(tmp_path, dataclasses.replace(QUICK, episodes=2))
    demo.work.mkdir()

    def kill() -> None:
        # Late enough for some of it to be readable: a chunk on the disk.
        until(lambda: recording(demo.session, 2_000_000), 'the first episode')
        os.kill(node_of(os.getpid(), 'recorder'), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ProcessDied) as caught:
        demo.record()
    killer.join()
    sentence = str(caught.value)
    assert sentence.startswith('recorder was killed by signal 9 (SIGKILL); its log is ')
    assert 'the same command continues' in sentence
    assert halves(demo.session)

    demo.record()
    demo.memory.close()
    assert halves(demo.session) == []
    found = [Episode.open(path).info for path in list_episodes(demo.session)]
    assert sum(info['success'] is True for info in found) == 2
    assert {info['status'] for info in found if info['success']} == {'complete'}
    # The one that was cut off is kept and says so.
    assert [info['status'] for info in found if info['success'] is None] == ['recovered']
    assert 'record' in demo.stages['seconds']
