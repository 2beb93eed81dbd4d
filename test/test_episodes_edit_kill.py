# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
SIGKILL before every single change that an edit makes to the disk.

A real process is killed by itself right before its n-th write, rename or removal, for every n
that there is. Afterwards every episode must be whole, old or new; and once the next command has
settled what is left, either all of the edit has happened or nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
import hashlib
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys

from episode_samples import all_written, fill, need_message_packages, open_writer
import numpy as np
import pytest

from ssl_vla_ros.episodes.edit import delete, Edit, relabel
from ssl_vla_ros.episodes.edit_merge import merge
from ssl_vla_ros.episodes.edit_trim import trim
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.transaction import pending, settle
from ssl_vla_ros.episodes.transaction_exchange import exchange
from ssl_vla_ros.errors import EpisodeError

Photo = dict[str, str]
#: Forks once for every n, so that the interpreter starts and imports only once. The child kills
#: itself in the audit hook of its n-th change; ``exchange`` is a call into libc, which has none.
KILLER = """
import os, signal, shutil, sys
from pathlib import Path
from ssl_vla_ros.episodes import transaction
from ssl_vla_ros.episodes.edit import delete, relabel
from ssl_vla_ros.episodes.edit_merge import merge
from ssl_vla_ros.episodes.edit_trim import trim
original, work, command, exchanges = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
CHANGES = {'os.rename', 'os.remove', 'os.rmdir', 'os.mkdir', 'os.truncate', 'os.link'}
swap = transaction.exchange
left = None
def change():
    global left
    if left is None:
        return
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
def hook(event, arguments):
    if event in CHANGES or event == 'open' and str(work) in str(arguments[0]) and (
            arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)):
        change()
def exchange(first, second):
    change()
    done = swap(first, second) if exchanges == 'yes' else False
    change()
    return done
transaction.exchange = exchange
sys.addaudithook(hook)
number = 0
while True:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(original, work)
    child = os.fork()
    if child == 0:
        left = number
        eval(command).apply(lambda done, total, what: None)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        print('done', flush=True)
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    print(number, flush=True)
    if sys.stdin.readline() != 'next\\n':
        break
    number += 1
"""


@pytest.fixture(scope='module')
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make two sessions, of three episodes and of one."""
    need_message_packages()
    place = tmp_path_factory.mktemp('kill')
    for name, count, start in (('one', 3, 10**9), ('two', 1, 10**12)):
        for episode in range(count):
            writer = open_writer(place / name)
            fill(writer, 8, np.random.default_rng(start + episode), start + episode * 10**10)
            writer.close(all_written(writer))
    return place


def photograph(place: Path) -> Photo:
    """Digest every file; what differs from run to run in episode.json is left out."""
    found: Photo = {}
    for path in sorted(place.rglob('*')):
        if path.is_dir():
            continue
        data = path.read_bytes()
        if path.name == 'episode.json':
            info = json.loads(data)
            for entry in info.get('edits', []):
                entry.pop('at')
                entry.pop('source', None)
            data = json.dumps(info).encode()
        found[str(path.relative_to(place))] = hashlib.sha256(data).hexdigest()
    return found


def episodes_of(photo: Photo) -> dict[str, Photo]:
    """Group the files of finished episodes, wherever they lie, by session and episode."""
    found: dict[str, Photo] = {}
    for name, digest in photo.items():
        top, _, rest = name.partition('/')
        episode, _, file = rest.partition('/')
        if episode.startswith('episode_') and file:
            found.setdefault(f'{top}/{episode}', {})[file] = digest
    return found


def kills(session: Path, work: Path, command: str, *, exchanges: bool = True) -> Iterator[int]:
    """Yield after each kill, with ``work`` as it was left; the caller may do as it likes there."""
    environment = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}
    with subprocess.Popen(
            [sys.executable, '-c', KILLER, str(session), str(work), command,
             'yes' if exchanges else 'no'],
            cwd=Path(__file__).parents[1], env=environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        try:
            while (line := process.stdout.readline().strip()) != 'done':
                assert line.isdigit(), 'the edit failed by itself'
                yield int(line)
                process.stdin.write('next\n')
                process.stdin.flush()
        finally:
            if process.poll() is None:
                process.stdin.close()
                process.wait()


def _merge(place: Path) -> Edit:
    return merge([place / 'two'], place / 'one')


def _merge_new(place: Path) -> Edit:
    return merge([place / 'two', place / 'one'], place / 'three')


EDITS: dict[str, tuple[str, Callable[[Path], Edit], str]] = {
    'relabel': ("relabel(work / 'one', '0,2', task='push')",
                lambda place: relabel(place / 'one', '0,2', task='push'), 'one'),
    'delete': ("delete(work / 'one', '0,2')", lambda place: delete(place / 'one', '0,2'), 'one'),
    'purge': ("delete(work / 'one', '0,2', purge=True)",
              lambda place: delete(place / 'one', '0,2', purge=True), 'one'),
    'trim': ("trim(work / 'one', '0,2', start_s=0.1)",
             lambda place: trim(place / 'one', '0,2', start_s=0.1), 'one'),
    'trim and purge': ("trim(work / 'one', '0,2', start_s=0.1, purge=True)",
                       lambda place: trim(place / 'one', '0,2', start_s=0.1, purge=True), 'one'),
    'merge': ("merge([work / 'two'], work / 'one')", _merge, 'one'),
    'merge into a new session': (
        "merge([work / 'two', work / 'one'], work / 'three')", _merge_new, 'three'),
}


@pytest.mark.parametrize('name', EDITS)
def test_a_kill_at_any_point_leaves_all_or_nothing(
        session: Path, tmp_path: Path, name: str) -> None:
    command, edit, changed = EDITS[name]
    old = photograph(session)
    shutil.copytree(session, tmp_path / 'new')
    edit(tmp_path / 'new').apply(lambda done, total, what: None)
    new = photograph(tmp_path / 'new')
    assert new != old
    whole = [*episodes_of(old).items(), *episodes_of(new).items()]
    listed = set(episodes_of(old)) & set(episodes_of(new))
    outcomes = {'old': 0, 'new': 0}
    work = tmp_path / 'work'
    for number in kills(session, work, command):
        # As it was left: every episode is whole, old or new, and none that stays is missing.
        left = episodes_of(photograph(work))
        for episode, files in left.items():
            assert (episode, files) in whole, f'after {number}: {episode} is a mixture'
        assert listed <= set(left), f'after {number}'
        for folder in work.iterdir():
            for path in list_episodes(folder):
                list(Episode.open(path).raw())
        decided = (work / changed).is_dir() and pending(work / changed)
        # What the next command does first.
        if (work / changed).is_dir():
            said = settle(work / changed)
            assert said.startswith('finished an interrupted edit: ') == decided
            assert recover_session(work / changed) == []
            assert not list((work / changed).glob('.edit/*'))
            assert not list((work / changed).glob('.episode*'))
        after = {path: digest for path, digest in photograph(work).items()
                 if not path.endswith('.edit.lock')}
        assert after in (old, new), f'after {number}: half an edit'
        outcomes['new' if after == new else 'old'] += 1
        assert not decided or after == new
    # Both sides of the decision were hit, many times.
    assert outcomes['old'] >= 5 and outcomes['new'] >= 4, outcomes
    assert photograph(work) == new


def test_without_an_exchange_of_names_a_kill_still_loses_nothing(
        session: Path, tmp_path: Path) -> None:
    """NFS and others: for a moment an episode has no name, and the plan gives it back."""
    command, edit, _ = EDITS['trim']
    old = photograph(session)
    shutil.copytree(session, tmp_path / 'new')
    edit(tmp_path / 'new').apply(lambda done, total, what: None)
    new = photograph(tmp_path / 'new')
    nameless = 0
    work = tmp_path / 'work'
    for number in kills(session, work, command, exchanges=False):
        left = episodes_of(photograph(work))
        nameless += 'one/episode_000000' not in left
        settle(work / 'one')
        after = {path: digest for path, digest in photograph(work).items()
                 if not path.endswith('.edit.lock')}
        assert after in (old, new), f'after {number}'
    assert nameless > 0


def test_settling_can_itself_be_killed(session: Path, tmp_path: Path) -> None:
    """Kill an edit after its decision, then its completion at every point."""
    command, edit, _ = EDITS['trim']
    shutil.copytree(session, tmp_path / 'new')
    edit(tmp_path / 'new').apply(lambda done, total, what: None)
    new = photograph(tmp_path / 'new')
    work = tmp_path / 'work'
    for _ in kills(session, work, command):
        if pending(work / 'one'):
            shutil.copytree(work, tmp_path / 'decided')
            break
    count = 0
    for _ in kills(tmp_path / 'decided', tmp_path / 'again',
                   "type('Settle', (), {'apply': lambda self, told: "
                   "transaction.settle(work / 'one')})()"):
        settle(tmp_path / 'again' / 'one')
        assert {path: digest for path, digest in photograph(tmp_path / 'again').items()
                if not path.endswith('.edit.lock')} == new
        count += 1
    assert count >= 8


def test_a_broken_plan_is_told_and_touches_nothing(session: Path, tmp_path: Path) -> None:
    shutil.copytree(session / 'one', tmp_path / 'one')
    (tmp_path / 'one' / '.edit').mkdir()
    (tmp_path / 'one' / '.edit' / 'plan.json').write_text('{"title"')
    before = photograph(tmp_path)
    with pytest.raises(EpisodeError, match=r'\.edit/plan\.json: cannot be read'):
        settle(tmp_path / 'one')
    with pytest.raises(EpisodeError, match=r'\.edit/plan\.json: cannot be read'):
        relabel(tmp_path / 'one', '0', task='x').apply(lambda done, total, what: None)
    assert photograph(tmp_path) == before


def test_ctrl_c_after_the_decision_finishes_the_edit(
        session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(session / 'one', tmp_path / 'one')
    edit = delete(tmp_path / 'one', '0,2')
    move, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        found = move(self, target)
        calls.append(self.name)
        if calls == ['episode_000000']:
            raise KeyboardInterrupt
        return found
    monkeypatch.setattr(Path, 'rename', rename)
    with pytest.raises(KeyboardInterrupt):
        edit.apply(lambda done, total, what: None)
    assert [path.name for path in list_episodes(tmp_path / 'one')] == ['episode_000001']
    assert not pending(tmp_path / 'one')


def test_ctrl_c_before_the_decision_changes_nothing(session: Path, tmp_path: Path) -> None:
    shutil.copytree(session / 'one', tmp_path / 'one')
    before = photograph(tmp_path)

    def stop(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        trim(tmp_path / 'one', 'all', start_s=0.1).apply(stop)
    assert photograph(tmp_path) == before


def test_names_are_exchanged_in_one_call(tmp_path: Path) -> None:
    for name in 'ab':
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / 'a', tmp_path / 'b'):
        pytest.skip('this file system cannot exchange two names')
    assert (tmp_path / 'a' / 'b').is_file() and (tmp_path / 'b' / 'a').is_file()
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / 'a', tmp_path / 'c')


def test_the_killer_kills(session: Path, tmp_path: Path) -> None:
    """A negative control: an edit that writes in place is caught as a mixture."""
    code = ("type('Bad', (), {'apply': lambda self, told: [(path / 'episode.json').write_text('x')"
            " for path in sorted((work / 'one').glob('episode_*'))]})()")
    old = photograph(session)
    found = []
    for _ in kills(session, tmp_path / 'work', code):
        try:
            found.append(photograph(tmp_path / 'work') == old)
        except json.JSONDecodeError:
            found.append(False)
    assert found == [True, False, False]
