# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Fleets of real processes: order of the end, deaths, signals, the end of the demo itself."""

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
from ssl_vla_ros.demo import processes
from ssl_vla_ros.demo.leash import leashed
from ssl_vla_ros.demo.processes import (
    choose_domain, domain_in_use, Fleet, last_error, node_command, ProcessDied)
from ssl_vla_ros.demo.signals import stoppable
from ssl_vla_ros.errors import UserError

ROOT = Path(__file__).parents[1]
#: Says that it is there, waits for SIGINT, notes its end and the time.
NODE = """
import signal, sys, time
def end(*_):
    print('end', time.monotonic(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
print('ready', flush=True)
time.sleep(60)
"""
#: Does not answer SIGINT.
DEAF = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print('ready', flush=True)
time.sleep(60)
"""


def python(code: str) -> list[str]:
    return [sys.executable, '-I', '-S', '-c', code]


def until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f'waited {seconds:g} s in vain for {what}'
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        state = Path(f'/proc/{pid}/stat').read_bytes().rpartition(b')')[2].split()[0]
    except OSError:
        return False
    return state != b'Z'


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(tmp_path, dict(os.environ), end_s=1.0) as made:
        yield made


def start(fleet: Fleet, folder: Path, name: str, code: str) -> int:
    fleet.start(name, python(code))
    until(lambda: 'ready' in (folder / f'{name}.log').read_text(), f'the start of {name}')
    return fleet._running[-1].process.pid


def test_processes_end_last_started_first(tmp_path: Path, fleet: Fleet) -> None:
    names = ['arm', 'recorder', 'collect']
    for name in names:
        start(fleet, tmp_path, name, NODE)
    fleet.check()
    fleet.stop()
    ends = [float((tmp_path / f'{name}.log').read_text().split()[-1]) for name in names]
    assert ends == sorted(ends, reverse=True)
    fleet.stop()  # a second time there is nothing to do


def test_a_deaf_process_is_killed_and_the_others_end_by_themselves(
        tmp_path: Path, fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    start(fleet, tmp_path, 'arm', NODE)
    pid = start(fleet, tmp_path, 'deaf', DEAF)
    fleet.stop()
    assert not running(pid)
    assert 'end' in (tmp_path / 'arm.log').read_text()
    assert 'deaf did not end within 1 s and is killed' in capsys.readouterr().err


def test_signals_are_kept_off_while_a_fleet_stops(tmp_path: Path, fleet: Fleet) -> None:
    pid = start(fleet, tmp_path, 'deaf', DEAF)
    impatient = subprocess.Popen(python(
        f'import os, time\nfor _ in range(8):\n    time.sleep(0.1); os.kill({os.getpid()}, 2)'))
    time.sleep(0.05)
    with stoppable():
        fleet.stop()  # takes a second
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5.0)
        # Those that are still under way must not reach the test.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        impatient.wait()
    assert not running(pid)


def test_the_death_of_a_process_is_named_with_its_log(tmp_path: Path, fleet: Fleet) -> None:
    start(fleet, tmp_path, 'arm', NODE)
    fleet.start('recorder', python('raise ValueError("no such camera")'))
    until(lambda: fleet._running[-1].process.poll() is not None, 'the end of the recorder')
    with pytest.raises(ProcessDied) as caught:
        fleet.check()
    sentence = str(caught.value)
    assert sentence.startswith('recorder ended with 1: ValueError: no such camera; its log is ')
    assert str(tmp_path / 'recorder.log') in sentence
    assert 'the same command continues' in sentence


def test_conduct_passes_lines_on_of_this_run_alone(tmp_path: Path, fleet: Fleet) -> None:
    (tmp_path / 'collect.log').write_text('collected 5 6\nerror: of an earlier run\n')
    lines: list[str] = []
    fleet.conduct('collect', python('print("collected 0 6"); print("öç", end="")'), lines.append)
    assert lines == ['collected 0 6', 'öç']


@pytest.mark.parametrize(('code', 'sentence'), [
    ('import sys; sys.exit("error: camera/front is silent")',
     'collect ended with 1: camera/front is silent; its log is'),
    ('import os; os.kill(os.getpid(), 9)', 'collect was killed by signal 9 (SIGKILL); its log is'),
    ('import sys; sys.exit(3)', 'collect ended with 3; its log is'),
])
def test_conduct_names_the_failure_of_the_conductor(
        tmp_path: Path, fleet: Fleet, code: str, sentence: str) -> None:
    (tmp_path / 'collect.log').write_text('error: of an earlier run\n')
    with pytest.raises(ProcessDied) as caught:
        fleet.conduct('collect', python(code), print)
    assert str(caught.value).startswith(sentence)


def test_conduct_takes_a_stopped_conductor_for_ctrl_c(fleet: Fleet) -> None:
    with pytest.raises(KeyboardInterrupt):
        fleet.conduct('collect', python('import sys; sys.exit(130)'), print)


def test_conduct_blames_the_killed_process_not_the_conductor(
        tmp_path: Path, fleet: Fleet) -> None:
    pid = start(fleet, tmp_path, 'recorder', NODE)

    def on_line(line: str) -> None:
        os.kill(pid, signal.SIGKILL)

    began = time.monotonic()
    with pytest.raises(ProcessDied, match=r'recorder was killed by signal 9 \(SIGKILL\)'):
        fleet.conduct('collect', python(NODE), on_line)
    assert time.monotonic() - began < 5.0
    fleet.stop()
    assert 'end' in (tmp_path / 'collect.log').read_text()


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_no_process_outlives_the_demo(tmp_path: Path, how: signal.Signals) -> None:
    """Whatever ends the demo: its processes end, and by a signal that they can answer."""
    code = f"""
from pathlib import Path
import os
from ssl_vla_ros.demo.processes import Fleet
from ssl_vla_ros.demo.signals import stoppable
node = '''
import signal, sys, time
def end(*_):
    print("end", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print("ready", flush=True)
time.sleep(60)
'''
with stoppable(), Fleet(Path({str(tmp_path)!r}), dict(os.environ)) as fleet:
    fleet.conduct('node', [{sys.executable!r}, '-I', '-S', '-c', node], print)
"""
    demo = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stderr=subprocess.DEVNULL)
    log = tmp_path / 'node.log'
    try:
        until(lambda: log.exists() and 'ready' in log.read_text(), 'the node')
        children = Path(f'/proc/{demo.pid}/task/{demo.pid}/children').read_text().split()
        assert len(children) == 1
        demo.send_signal(how)
        demo.wait(20.0)
        until(lambda: not running(int(children[0])), 'the end of the node')
        assert 'end' in log.read_text()
    finally:
        demo.kill()
        demo.wait()


def test_a_leash_gives_way_to_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        leashed(python('import sys; print(sys.argv[1:]); sys.exit(7)') + ['a b', '-p']),
        capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "['a b', '-p']\n", '')


@pytest.mark.parametrize(('text', 'expected'), [
    ('', ''),
    ('all is well\n', ''),
    ('error: one\nmore\n', ': one'),
    ('error: the first\nwarning: no errors at the end\n', ': the first'),
    ('[ERROR] [1763765.1] [recorder]: cannot configure: no contract\nx\n',
     ': cannot configure: no contract'),
    ('Traceback\nOSError: [Errno 28] No space left on device\n',
     ': OSError: [Errno 28] No space left on device'),
])
def test_last_error(tmp_path: Path, text: str, expected: str) -> None:
    log = tmp_path / 'x.log'
    log.write_text('error: of an earlier run\n')
    begin = log.stat().st_size
    with log.open('a') as file:
        file.write(text)
    assert last_error(log, begin) == expected


def test_parameters_are_written_as_ros_reads_them() -> None:
    command = node_command('sim_arm', {'speed': 2.0, 'publish_clock': True, 'x': Path('/a b')})
    assert command[2:] == ['ssl_vla_ros.nodes.sim_arm', '--ros-args', '-p', 'speed:=2.0', '-p',
                           'publish_clock:=true', '-p', 'x:="/a b"']


@pytest.mark.ros
def test_ros_reads_texts_as_they_were_given(ros_environment: dict[str, str]) -> None:
    texts = ['', '1', 'true', 'stack: 1', 'stack #2', 'say "hi"', "it's", 'a\\b', '[1, 2]',
             'two\nlines', 'Würfel']
    words = node_command('x', {f'text_{n}': text for n, text in enumerate(texts)})[3:]
    code = ('import json, sys, rclpy\nfrom rclpy.node import Node\n'
            'rclpy.init(args=sys.argv)\nnode = Node("texts")\n'
            f'print(json.dumps([node.declare_parameter(f"text_{{n}}", "-").value '
            f'for n in range({len(texts)})]))')
    done = subprocess.run(
        [sys.executable, '-c', code, *words], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, 'ROS_DOMAIN_ID': '101'})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == texts


# -- domains -------------------------------------------------------------------------------


@pytest.fixture
def unclaimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, '_claims', {})
    monkeypatch.delenv('ROS_DOMAIN_ID', raising=False)


@pytest.mark.parametrize('text', ['x', '-1', '102', '1.5', '²', ' '])
@pytest.mark.usefixtures('unclaimed')
def test_a_wrong_domain_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', text)
    with pytest.raises(UserError, match='ROS_DOMAIN_ID is .* whole number from 0 to 101'):
        choose_domain()


@pytest.mark.usefixtures('unclaimed')
def test_an_empty_domain_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('ROS_DOMAIN_ID', '')
    assert choose_domain() in processes._DOMAINS


@pytest.mark.usefixtures('unclaimed')
def test_every_domain_in_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, 'domain_in_use', lambda domain: True)
    with pytest.raises(UserError, match='every ROS domain from 40 to 99 is in use; set'):
        choose_domain()


@pytest.mark.usefixtures('unclaimed')
def test_two_demos_that_start_at_once_take_two_domains() -> None:
    code = ('import sys; from ssl_vla_ros.demo.processes import choose_domain\n'
            'print(choose_domain(), choose_domain(), flush=True); sys.stdin.read()')
    mine = choose_domain()
    with subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        first, second = map(int, other.stdout.readline().split())
        assert choose_domain() == mine
        other.stdin and other.stdin.close()
    # No participant has taken a port yet.
    assert first == second != mine


@pytest.mark.ros
@pytest.mark.usefixtures('unclaimed')
def test_a_domain_with_a_participant_is_in_use(
        ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ('import sys, rclpy; rclpy.init(); node = rclpy.create_node("here")\n'
            'print("ready", flush=True); sys.stdin.read()')
    assert not domain_in_use(ros_domain)

    def participant() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
        return process

    processes_here = [participant(), participant()]
    try:
        assert domain_in_use(ros_domain)
        monkeypatch.setenv('ROS_DOMAIN_ID', str(ros_domain))
        with pytest.raises(UserError, match=f'ROS_DOMAIN_ID={ros_domain} is in use'):
            choose_domain()
        # The first one's port is free again, and the domain is not.
        processes_here[0].communicate('', timeout=20.0)
        assert domain_in_use(ros_domain)
    finally:
        for process in processes_here:
            if process.poll() is None:
                process.communicate('', timeout=20.0)
    until(lambda: not domain_in_use(ros_domain), 'the ports')
    assert choose_domain() == ros_domain
