# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla` as a user types it: help, and what a mistake is answered with."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import subprocess
import sys

import pytest
from ssl_vla_ros import cli
from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.places import own_file
from tiny_bundle import make_bundle

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / 'config' / 'train' / 'keypoints.yaml'
#: Against hanging for ever; importing what trains takes 11 s of a core, and others may be at work.
HANGS_S = 240.0
COMMANDS = ('demo', 'augment preview', 'compare', 'advise', 'episodes list', 'episodes recover',
            'episodes check', 'episodes relabel', 'episodes trim', 'episodes delete',
            'episodes merge', 'dataset build', 'dataset import', 'dataset info', 'dataset check',
            'dataset stats', 'dataset merge', 'dataset split', 'train', 'probe', 'export',
            'verify', 'record', 'infer', 'act', 'rollout')
#: What stands for a directory that does not exist, and one that is empty.
NOWHERE, EMPTY = 'NOWHERE', 'EMPTY'


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run a command in this process; returns exit status, stdout and stderr."""
    try:
        status = cli.main(words)
    except SystemExit as end:  # argparse
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def one_sentence(text: str) -> str:
    """Check that stderr is one line that begins with ``error:``; returns it."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith('error: ')
    assert 'Traceback' not in text
    return lines[0]


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    status, out, _ = ask(capsys, *command.split(), '--help')
    assert status == 0
    assert out.startswith(f'usage: ssl_vla {command}')
    # A sentence on what it does stands below the usage.
    assert len(out.split('\n\n')[1]) > 15


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = ask(capsys, '--help')
    assert status == 0
    for command in COMMANDS:
        assert f'    {command.split()[0]} ' in out


@pytest.mark.parametrize(('words', 'complaint'), [
    ([], 'COMMAND'),
    (['fly'], "invalid choice: 'fly'"),
    (['dataset'], 'ACTION'),
    (['train', '--data', 'x', '--out', 'y'], '--config'),
    (['rollout', 'r', '--data', 'd', '--out', 'o', '--rollouts', '0'], 'at least 1'),
    (['verify', 'b', '--backend', 'tpu'], "invalid choice: 'tpu'"),
])
def test_wrong_words_are_answered_with_the_usage(
        capsys: pytest.CaptureFixture[str], words: list[str], complaint: str) -> None:
    status, _, err = ask(capsys, *words)
    assert status == 2
    assert err.startswith('usage: ')
    assert complaint in err.splitlines()[-1]


@pytest.mark.parametrize(('command', 'complaint'), [
    (f'episodes list {NOWHERE}', 'no such session directory'),
    (f'dataset build {NOWHERE} OUT', 'no such session directory'),
    (f'dataset build {EMPTY} OUT', 'there is no finished episode'),
    (f'dataset build {EMPTY} OUT --contract {NOWHERE}', NOWHERE),
    (f'dataset import {NOWHERE} OUT', NOWHERE),
    (f'dataset import {EMPTY} OUT', EMPTY),
    (f'dataset info {NOWHERE}', NOWHERE),
    (f'dataset info {EMPTY}', EMPTY),
    (f'train --config {NOWHERE} --data {EMPTY} --out OUT', 'config/train/ has examples'),
    (f'train --config {EMPTY} --data {EMPTY} --out OUT', 'cannot read it'),
    (f'train --config mae --data {EMPTY} --out OUT', 'did you mean config/train/mae.yaml?'),
    (f'train --config {CONFIG} --data {NOWHERE} --out OUT', NOWHERE),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT', EMPTY),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT steps', 'write key=value'),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT step=1', "'step' (value 1)"),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT steps=many', 'must be of type int'),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT steps=0', 'must be at least 1'),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT objective=mea', "'mea', must be one of"),
    (f'train --config {CONFIG} --data {EMPTY} --out OUT steps=[', "'steps=['"),
    (f'probe {NOWHERE} --data {EMPTY}', NOWHERE),
    (f'probe {EMPTY} --data {EMPTY}', 'no training run here'),
    (f'export {NOWHERE} --out OUT --data {EMPTY}', 'no training run here'),
    (f'verify {NOWHERE}', NOWHERE),
    (f'verify {EMPTY}', EMPTY),
    (f'verify {EMPTY} --contract {NOWHERE}', NOWHERE),
    (f'record --contract {NOWHERE} --session OUT', NOWHERE),
    (f'infer --bundle {NOWHERE}', NOWHERE),
    (f'act --bundle {EMPTY}', EMPTY),
    (f'rollout {NOWHERE} --data {EMPTY} --out OUT', EMPTY),
])
def test_a_mistake_is_answered_with_one_sentence(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, complaint: str) -> None:
    if any(word in command for word in ('train', 'probe', 'export', 'rollout')):
        pytest.importorskip('torch', reason='torch is not installed')
    (tmp_path / EMPTY).mkdir()
    words = [str(tmp_path / word) if word in (NOWHERE, EMPTY, 'OUT') else word
             for word in command.split()]
    status, _, err = ask(capsys, *words)
    assert complaint in one_sentence(err)
    assert status == 2
    # Nothing that a later command would take for a result.
    assert not (tmp_path / NOWHERE).exists()
    assert list((tmp_path / EMPTY).iterdir()) == []
    assert not any(path.is_file() and path.name != '.lock' for path in tmp_path.rglob('*'))


def test_a_wrong_contract_is_named_with_key_and_value(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / 'config' / 'robots' / 'sim_ur5e.yaml').read_text()
    wrong = tmp_path / 'wrong.yaml'
    wrong.write_text(text.replace('rate_hz: 20', 'rate_hz: fast'))
    (tmp_path / 'session').mkdir()
    status, _, err = ask(capsys, 'dataset', 'build', str(tmp_path / 'session'),
                         str(tmp_path / 'out'), '--contract', str(wrong))
    sentence = one_sentence(err)
    assert status == 2
    for part in (str(wrong), 'rate_hz', "'fast'"):
        assert part in sentence


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, '-m', 'ssl_vla_ros.cli', *words], cwd=ROOT, capture_output=True,
        text=True, timeout=HANGS_S, env={**os.environ, **environment}, check=False)


def test_a_session_is_listed(tmp_path: Path) -> None:
    done = run('episodes', 'list', str(tmp_path))
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout == f'0 episodes in {tmp_path}\n'


def test_a_demo_that_cannot_write_says_so(tmp_path: Path) -> None:
    file = tmp_path / 'file'
    file.write_text('x')
    done = run('demo', '--quick', '--out', str(file))
    assert done.returncode == 2
    assert f'{file}: cannot be written' in one_sentence(done.stderr)
    assert file.read_text() == 'x'


def test_a_demo_on_a_nearly_full_disk_begins_nothing(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    from ssl_vla_ros.demo import run as room
    monkeypatch.setattr(room.check_disk, '__defaults__', (10**18,))
    status, out, err = ask(capsys, 'demo', '--quick', '--out', str(tmp_path))
    assert status == 2
    assert 'the demo needs 1000000000 GB; free some space' in one_sentence(err)
    assert out == ''
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_a_broken_note_of_a_demo_is_named(tmp_path: Path) -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    notes = tmp_path / 'quick' / 'stages.json'
    notes.parent.mkdir()
    notes.write_text('')
    done = run('demo', '--quick', '--out', str(tmp_path))
    assert done.returncode == 2
    assert f'{notes}: broken' in one_sentence(done.stderr)
    assert 'delete it' in done.stderr


def test_a_domain_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    done = run('demo', '--quick', '--out', str(tmp_path), ROS_DOMAIN_ID='500')
    assert done.returncode == 2
    assert "ROS_DOMAIN_ID is '500'" in one_sentence(done.stderr)
    assert not list((tmp_path / 'quick' / 'logs').glob('*.log'))


@pytest.mark.parametrize('module', ['torch', 'mujoco'])
def test_a_missing_extra_is_named(tmp_path: Path, module: str) -> None:
    code = (f'import sys; sys.modules[{module!r}] = None\n'
            'from ssl_vla_ros.cli import main\n'
            f'sys.exit(main(["rollout", "r", "--data", "d", "--out", {str(tmp_path / "o")!r}]))')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=HANGS_S, check=False)
    assert done.returncode == 2
    extra = {'torch': 'train', 'mujoco': 'sim'}[module]
    sentence = one_sentence(done.stderr)
    assert f'{module} is not installed' in sentence
    assert f'ssl_vla_ros[{extra}]' in sentence


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, 'w') as closed:
        done = subprocess.run(
            [sys.executable, '-m', 'ssl_vla_ros.cli', 'episodes', 'list', str(tmp_path)], cwd=ROOT,
            stdout=closed, stderr=subprocess.PIPE, text=True, timeout=HANGS_S, check=False,
            env={**os.environ, 'PYTHONUNBUFFERED': '1'})
    assert (done.returncode, done.stderr) == (1, '')


def test_a_full_disk_is_one_sentence_and_a_bug_is_not(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
        ) -> None:
    from ssl_vla_ros.episodes import reader

    def fail(session: Path) -> list[Path]:
        raise OSError(number, os.strerror(number), '/some/file')

    monkeypatch.setattr(reader, 'list_episodes', fail)
    number = errno.ENOSPC
    status, _, err = ask(capsys, 'episodes', 'list', str(tmp_path))
    assert status == 2
    assert one_sentence(err).startswith('error: /some/file: No space left on device; ')
    number = errno.EBADF
    with pytest.raises(OSError, match='Bad file descriptor'):
        cli.main(['episodes', 'list', str(tmp_path)])


def test_ctrl_c_ends_with_130(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                              monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_vla_ros.episodes import reader

    def interrupt(session: Path) -> list[Path]:
        raise KeyboardInterrupt

    monkeypatch.setattr(reader, 'list_episodes', interrupt)
    status, _, err = ask(capsys, 'episodes', 'list', str(tmp_path))
    assert status == 130
    assert 'the same command continues' in err


@pytest.mark.parametrize('command', ['record', 'infer', 'act'])
def test_a_node_without_ros_says_what_to_source(tmp_path: Path, command: str) -> None:
    pytest.importorskip('onnxruntime', reason='onnxruntime is not installed')
    contract = str(ROOT / 'config' / 'robots' / 'sim_ur5e.yaml')
    if command == 'record':
        words = ['record', '--contract', contract, '--session', str(tmp_path / 'session')]
    else:
        bundle = make_bundle(tmp_path / 'bundle', load_contract(contract))
        words = [command, '--bundle', str(bundle)]
    code = ('import sys; from importlib import util; find = util.find_spec\n'
            'util.find_spec = lambda name, *rest: None if name == "rclpy" else find(name, *rest)\n'
            f'from ssl_vla_ros.cli import main\nsys.exit(main({words!r}))')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=HANGS_S, check=False)
    assert done.returncode == 2
    assert one_sentence(done.stderr) == (
        'error: ROS 2 is not in this environment (no Python package rclpy); run: source '
        '/opt/ros/jazzy/setup.bash')
    assert not (tmp_path / 'session').exists()


def test_a_run_s_directory_that_is_a_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip('torch', reason='torch is not installed')
    out = tmp_path / 'run'
    out.write_text('mine')
    done = run('train', '--config', str(CONFIG), '--data', str(tmp_path), '--out', str(out))
    assert done.returncode == 2
    assert f'{out}: File exists' in one_sentence(done.stderr)
    assert out.read_text() == 'mine'


def test_the_package_s_own_files_are_found_from_anywhere(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path('config/train/mae.yaml')
    assert own_file(named) == ROOT / named
    assert own_file(Path('config/train/none.yaml')) == Path('config/train/none.yaml')
    named.parent.mkdir(parents=True)
    named.write_text('')
    assert own_file(named) == named  # the user's own goes first
