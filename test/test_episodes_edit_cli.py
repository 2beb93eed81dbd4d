# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla episodes …` as a user types it: nothing without --yes, exit status, next command."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import json
from pathlib import Path
import subprocess
import sys
from typing import Any

from episode_samples import need_message_packages
import pytest
from quality_samples import Arm

from ssl_vla_ros.cli_episodes import add_episode_commands
from ssl_vla_ros.episodes.reader import list_episodes
from ssl_vla_ros.errors import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Make a session with a good, a dead and another good episode."""
    need_message_packages()
    for joints in (None, lambda t: (0.1, 0.2), None):
        (Arm(seconds=2.0) if joints is None else Arm(seconds=2.0, joints=joints)).write(
            tmp_path / 'session')
    return tmp_path / 'session'


def contents(place: Path) -> dict[str, bytes]:
    """Every file, and every directory with an empty content."""
    return {str(path): path.read_bytes() if path.is_file() else b''
            for path in place.rglob('*')}


def ask(*words: object) -> int:
    """Run a command as ``ssl_vla episodes`` would."""
    parser = argparse.ArgumentParser(prog='ssl_vla')
    groups = parser.add_subparsers(dest='command', required=True)

    def command(parent: Any, name: str, run: Callable[[argparse.Namespace], int], text: str
                ) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = parent.add_parser(name, help=text, description=text)
        made.set_defaults(run_command=run)
        return made
    add_episode_commands(command, groups)
    options = parser.parse_args(['episodes', *map(str, words)])
    status: int = options.run_command(options)
    return status


def test_the_list_says_what_is_there(
        session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask('list', session) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == ('episode_000000  complete   success     2.0 s     360 messages  '
                        'lift the cube')
    assert lines[-1] == f'3 episodes in {session}'
    ask('relabel', session, '1', '--operator', 'ann', '--success', 'no', '--yes')
    (session / 'episode_000002' / 'episode.json').write_text('{')
    (session / '.edit').mkdir()
    (session / '.edit' / 'plan.json').write_text('{"title": "x", "steps": []}')
    capsys.readouterr()
    assert ask('list', session) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == ('episode_000001  complete   failure     2.0 s     360 messages  '
                        'ann  lift the cube')
    assert lines[2].startswith('episode_000002  unreadable: ')
    assert lines[-1] == f'1 unfinished; see: ssl_vla episodes recover {session}'


def test_recover_finishes_recordings_and_edits(
        session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ('--yes',)):
        assert ask('recover', session, *words) == 0
        assert capsys.readouterr().out == f'{session}: nothing to recover\n'
    (session / '.edit').mkdir()
    (session / '.edit' / 'plan.json').write_text(json.dumps({'title': 'delete 1', 'steps': [
        {'do': 'move', 'source': 'episode_000001', 'target': 'discarded/episode_000001'}]}))
    (session / '.episode_000007.part').mkdir()
    before = contents(session)
    assert ask('recover', session) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'an interrupted edit would be finished: delete 1'
    assert out[1].startswith('episode_000007: would go to quarantine: FileNotFoundError')
    assert out[2] == (
        f'{session}: nothing was changed; the same command with --yes does it')
    assert contents(session) == before
    assert ask('recover', session, '--yes') == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == 'finished an interrupted edit: delete 1'
    assert 'episode_000007: quarantined' in out[1]
    assert [path.name for path in list_episodes(session)] == ['episode_000000', 'episode_000002']
    with pytest.raises(UserError, match='no such session directory'):
        ask('recover', session / 'no')


def test_the_check_ends_in_a_summary_and_the_next_command(
        session: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / 'reports' / 'verdicts.json'
    assert ask('check', session, '--json', file, '--workers', 1) == 1
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        'episode_000000  good', 'episode_000001  refused',
        '    refused: constant: state.joint_states: all 2 values are constant from start to end: '
        'the arm never moves, so the recording is dead; check the topic of the state and record '
        'again',
        'episode_000002  good', '',
        '3 episodes: 2 good, 0 doubtful, 1 refused', '  refused  constant   in 1: 1', '',
        f'Next: ssl_vla episodes delete {session} 1']
    assert captured.err.splitlines()[-1] == 'check 3/3'
    data = json.loads(file.read_text())
    assert data['counts'] == {'good': 2, 'doubtful': 0, 'refused': 1}
    assert [item['verdict'] for item in data['episodes']] == ['good', 'refused', 'good']
    assert data['episodes'][1]['reasons'][0]['key'] == 'constant'
    assert data['thresholds']['short_s'] == 1.0
    assert ask('delete', session, '1', '--yes') == 0
    assert ask('check', session) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'Next: ssl_vla dataset build {session} DATASET')


def test_one_episode_and_a_dataset_are_checked_by_the_same_command(
        session: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ask('check', session / 'episode_000000') == 0
    assert '1 episode: 1 good, 0 doubtful, 0 refused' in capsys.readouterr().out
    assert ask('check', session / 'episode_000001') == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'Next: ssl_vla episodes delete {session} 1')
    pytest.importorskip('av', reason='PyAV is not installed')
    pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    from ssl_vla_ros.dataset.build import build_dataset
    ask('delete', session, '1', '--yes')
    build_dataset(session, tmp_path / 'dataset')
    capsys.readouterr()
    assert ask('check', tmp_path / 'dataset') == 0
    out = capsys.readouterr().out
    assert '2 episodes: 2 good, 0 doubtful, 0 refused' in out
    assert f'--data {tmp_path / "dataset"}' in out.splitlines()[-1]


def test_thresholds_of_ones_own_change_the_exit_status(
        session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / 'lax.yaml'
    file.write_text('constant_range: 0\nidle_doubtful: 1\nnoise_ratio: .inf\n')
    assert ask('check', session, '--thresholds', file) == 1  # within 0, constant is constant
    file.write_text('constant_rnge: 1\n')
    with pytest.raises(UserError, match="unknown threshold 'constant_rnge'"):
        ask('check', session, '--thresholds', file)
    file.write_text('min_rows: 1000\n')
    assert ask('check', session, '--thresholds', file) == 1
    assert 'Next: mend what the reasons name, and record again' in capsys.readouterr().out


@pytest.mark.parametrize('words', [
    ['relabel', 'SESSION', '0', '--task', 'push'], ['delete', 'SESSION', 'all'],
    ['delete', 'SESSION', '0-2', '--purge'], ['trim', 'SESSION', '0', '--start', '0.5'],
    ['merge', 'OUT', 'SESSION']])
def test_nothing_is_changed_without_yes(
        session: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
        ) -> None:
    def photograph() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    places = {'SESSION': str(session), 'OUT': str(tmp_path / 'out')}
    words = [places.get(word, word) for word in words]
    before = photograph()
    assert ask(*words) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].endswith(
        ': nothing was changed; the same command with --yes does it')
    assert photograph() == before
    assert ask(*words, '--yes') == 0
    done = capsys.readouterr().out.splitlines()
    assert done[:-3] == out.splitlines()[:-1]    # what was said is what was done
    assert done[-3].endswith(': done') and done[-1].startswith('Next: ssl_vla episodes list ')
    assert photograph() != before


def test_an_edit_that_would_change_nothing_says_so(
        session: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask('relabel', session, 'all', '--task', 'lift the cube', '--yes') == 0
    assert capsys.readouterr().out.endswith('nothing would change\n')


def group(number: int) -> str:
    """List the processes of a group."""
    return subprocess.run(['pgrep', '-g', str(number)], capture_output=True, text=True,
                          check=False).stdout


def test_ctrl_c_ends_a_check_at_once(session: Path, tmp_path: Path) -> None:
    """With worker processes and all: nothing of it is left running."""
    import signal
    import time
    import shutil
    Arm(seconds=20.0).write(session)
    last = sorted(session.glob('episode_*'))[-1]
    for number in range(20, 60):                 # enough to be at it for some seconds
        shutil.copytree(last, session / f'episode_{number:06d}')
    code = (f'import sys; sys.path.insert(0, {str(ROOT / "test")!r})\n'
            'from test_episodes_edit_cli import ask\n'
            'if __name__ == "__main__":\n'
            f'    ask("check", {str(session)!r}, "--workers", 2)\n')
    script = tmp_path / 'run.py'
    script.write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, start_new_session=True)
    assert process.stderr is not None
    process.stderr.readline()                    # the first episode is done
    began = time.monotonic()
    process.send_signal(signal.SIGINT)           # to the command alone, not to its workers
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 5.0
    assert process.returncode != 0 and 'KeyboardInterrupt' in err
    assert 'Next' not in out
    deadline = time.monotonic() + 10.0
    while left := group(process.pid):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
