# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Throwing a finished episode away: gone as a whole, or whole as it was."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys

from episode_samples import all_written, fill, open_writer
import numpy as np
import pytest

from ssl_vla_ros.episodes.discard import discard_finished
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.session import PartLock
from ssl_vla_ros.errors import EpisodeError


@pytest.fixture
def session(tmp_path: Path) -> Path:
    for _ in range(2):
        writer = open_writer(tmp_path / 'session')
        fill(writer, 5, np.random.default_rng(0))
        writer.close(all_written(writer))
    return tmp_path / 'session'


def test_the_books_stay_and_the_number_never_comes_back(session: Path) -> None:
    discard_finished(session / 'episode_000001', 'recorded again')
    assert [path.name for path in list_episodes(session)] == ['episode_000000']
    assert recover_session(session) == []
    grave = session / 'discarded' / 'episode_000001'
    assert [path.name for path in grave.iterdir()] == ['episode.json']
    assert Episode.open(session / 'episode_000000').info['status'] == 'complete'
    writer = open_writer(session)
    assert writer.number == 2
    writer.discard()


KILLED = """
import os, signal, sys
from pathlib import Path
from ssl_vla_ros.episodes import bag, discard, writer
left = int(sys.argv[2])

def counted(work):
    def run(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return work(*arguments, **options)
    return run

for name in ('fsync', 'rename', 'replace', 'unlink', 'rmdir', 'mkdir'):
    setattr(os, name, counted(getattr(os, name)))
discard.discard_finished(Path(sys.argv[1]), 'recorded again')
"""


def test_a_kill_at_any_step_leaves_it_whole_or_gone(session: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes()
              for path in (session / 'episode_000001').iterdir()}
    seen = set()
    for step in range(40):
        copy = tmp_path / f'copy_{step}'
        shutil.copytree(session, copy)
        done = subprocess.run(
            [sys.executable, '-c', KILLED, str(copy / 'episode_000001'), str(step)],
            env=dict(os.environ), check=False)
        recover_session(copy)
        names = [path.name for path in list_episodes(copy)]
        assert names in (['episode_000000'], ['episode_000000', 'episode_000001'])
        if len(names) == 2:
            kept = {path.name: path.read_bytes()
                    for path in (copy / 'episode_000001').iterdir()}
            assert kept == before
        else:
            assert (copy / 'discarded' / 'episode_000001' / 'episode.json').is_file()
        assert not [path for path in copy.iterdir() if path.name.endswith('.part')]
        seen.add(len(names))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert seen == {1, 2}
    assert done.returncode == 0


def test_an_episode_that_somebody_works_on_is_left(session: Path) -> None:
    lock = PartLock.take(session, 1)
    assert lock is not None
    with pytest.raises(EpisodeError, match='another process works on this episode'):
        discard_finished(session / 'episode_000001', '')
    lock.release()
    with pytest.raises(EpisodeError, match='is no episode'):
        discard_finished(session / 'episode_000007', '')
