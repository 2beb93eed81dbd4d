# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Recovery: whatever a killed writer leaves is recovered or quarantined, never complete."""

from __future__ import annotations

import json
from pathlib import Path
import random
import shutil
import signal
import subprocess
import sys
import time

from episode_samples import (
    all_written, fill, GRIPPER, IMAGE, image_cdr, JOINTS, need_message_packages, open_writer,
    SIZE)
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from ssl_vla_ros.episodes.reader import Episode, list_episodes
from ssl_vla_ros.episodes.recover import recover_session
from ssl_vla_ros.episodes.unfinished import leftovers
from ssl_vla_ros.errors import EpisodeError

TICKS = 400
#: Ticks from one sync to the next.
LOT = 20


@pytest.fixture(scope='module')
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a session with one unfinished episode of several chunks."""
    session = tmp_path_factory.mktemp('killed') / 'session'
    writer = open_writer(session, fsync_interval_s=1000.0)
    rng = np.random.default_rng(1)
    for start in range(0, TICKS, LOT):
        fill(writer, LOT, rng, 10**9 + start * 50_000_000)
        writer.sync()
    writer.abandon()
    return session


def cut(left_behind: Path, place: Path, keep: int) -> Path:
    session = place / 'session'
    shutil.copytree(left_behind, session)
    file = session / '.episode_000000.part' / 'episode_000000_0.mcap'
    file.write_bytes(file.read_bytes()[:keep])
    return session


@pytest.mark.parametrize('seed', range(60))
def test_a_file_cut_anywhere_is_recovered_or_quarantined(
        left_behind: Path, tmp_path: Path, seed: int) -> None:
    size = (left_behind / '.episode_000000.part' / 'episode_000000_0.mcap').stat().st_size
    keep = random.Random(seed).randrange(size + 1)
    session = cut(left_behind, tmp_path, keep)
    found, = recover_session(session)
    assert not list(session.glob('.episode_*.part'))
    assert not list(session.glob('.episode_*.lock'))
    if found.status == 'quarantined':
        assert list_episodes(session) == []
        assert (session / 'quarantine' / 'episode_000000' / 'quarantine.json').is_file()
        assert keep < size * LOT / TICKS + 5000
        return
    episode = Episode.open(session / 'episode_000000')
    assert episode.info['status'] == found.status == 'recovered'
    rng = np.random.default_rng(1)
    images = list(episode.raw([IMAGE]))
    for tick, item in enumerate(images):        # a gapless beginning, bit by bit
        assert item.data == image_cdr(10**9 + tick * 50_000_000, rng.bytes(SIZE * SIZE * 3))
    counts = {topic: account.written for topic, account in episode.accounts.items()}
    assert counts[IMAGE] == len(images)
    assert sum(counts.values()) == found.messages == sum(1 for _ in episode.raw())
    assert max(counts.values()) - min(counts.values()) <= 1
    # All but the chunk that was cut: what stood in whole chunks before it.
    assert len(images) >= TICKS * keep / size - 2 * LOT
    with AnyReader([episode.path]) as reader:
        assert reader.message_count == found.messages
        assert {item.topic: item.msgcount for item in reader.connections} == {
            f'/{topic}': count for topic, count in counts.items()}


def test_most_of_a_file_survives(left_behind: Path, tmp_path: Path) -> None:
    size = (left_behind / '.episode_000000.part' / 'episode_000000_0.mcap').stat().st_size
    session = cut(left_behind, tmp_path, size - 10)
    found, = recover_session(session)
    assert found.messages >= 3 * (TICKS - LOT)


def test_a_flipped_byte_costs_what_comes_after_it(left_behind: Path, tmp_path: Path) -> None:
    session = cut(left_behind, tmp_path, 10**9)
    file = session / '.episode_000000.part' / 'episode_000000_0.mcap'
    data = bytearray(file.read_bytes())
    data[len(data) * 2 // 3] ^= 0xff
    file.write_bytes(data)
    found, = recover_session(session)
    assert found.status == 'recovered'
    assert 0 < found.messages < 3 * TICKS
    assert len(list(Episode.open(found.path).decoded())) == found.messages


def test_recovery_can_itself_be_killed(left_behind: Path, tmp_path: Path) -> None:
    session = cut(left_behind, tmp_path, 10**9)
    first, = recover_session(session)
    # As if killed after the file was mended and before the rename.
    first.path.rename(session / '.episode_000000.part')
    info = session / '.episode_000000.part' / 'episode.json'
    info.write_text(json.dumps(json.loads(info.read_text()) | {'status': 'recording'}))
    second, = recover_session(session)
    assert (second.status, second.messages) == ('recovered', first.messages)


def test_a_finished_episode_before_its_rename_stays_what_it_was(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    writer.close(all_written(writer)).rename(tmp_path / '.episode_000000.part')
    found, = recover_session(tmp_path)
    assert (found.status, found.messages) == ('complete', 9)
    assert Episode.open(found.path).info['status'] == 'complete'


def test_an_open_episode_is_not_touched(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    assert recover_session(tmp_path) == []
    assert Episode.open(writer.close(all_written(writer))).info['status'] == 'complete'


def test_a_session_that_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()
    for name in ('sesion', 'file'):
        with pytest.raises(EpisodeError, match=f'{name}: no such session directory'):
            recover_session(tmp_path / name)
    assert not (tmp_path / 'sesion').exists()
    assert recover_session(tmp_path) == []


def test_the_command_does_not_take_a_mistyped_name_for_an_empty_session(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'ssl_vla_ros.cli', 'episodes', 'recover', str(tmp_path / 'sesion')],
        capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert 'sesion: no such session directory' in done.stderr
    assert done.stdout == ''


def test_an_empty_part_is_quarantined_and_its_number_not_reused(tmp_path: Path) -> None:
    need_message_packages()
    (tmp_path / '.episode_000004.part').mkdir()
    found, = recover_session(tmp_path)
    assert found.status == 'quarantined'
    assert open_writer(tmp_path).number == 5


def test_a_discard_that_was_killed_stays_discarded(tmp_path: Path) -> None:
    writer = open_writer(tmp_path)
    fill(writer, 3, np.random.default_rng(1))
    path = writer.close(all_written(writer))
    file = path / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'status': 'discarded'}))
    path.rename(tmp_path / '.episode_000000.part')
    found, = recover_session(tmp_path)
    assert found.status == 'discarded'
    assert list_episodes(tmp_path) == []


def test_what_recovering_would_do_is_told_without_touching_anything(tmp_path: Path) -> None:
    for number in range(3):
        writer = open_writer(tmp_path)
        assert writer.number == number
        fill(writer, 3, np.random.default_rng(1))
        writer.sync()
        if number == 2:
            break
        path = writer.close(all_written(writer))
        path.rename(tmp_path / f'.{path.name}.part')
    file = tmp_path / '.episode_000001.part' / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'status': 'discarded'}))
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    found = leftovers(tmp_path)
    assert found.held == ('episode_000002',)     # its writer lives
    assert found.changes == (
        'episode_000000: would become complete: all but its last rename had been done',
        'episode_000001: would be discarded, as its operator said')
    writer.abandon()
    (tmp_path / '.episode_000007.part').mkdir()
    found = leftovers(tmp_path)
    assert found.held == ()
    told, empty = found.changes[2:]
    assert empty.startswith('episode_000007: would go to quarantine: FileNotFoundError')
    after = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert {path: after[path] for path in before if path.suffix != '.lock'} == {
        path: data for path, data in before.items() if path.suffix != '.lock'}
    done = {item.path.name: item for item in recover_session(tmp_path)}
    kept = done['episode_000002']
    assert kept.status == 'recovered'
    assert kept.messages > 0
    assert told == f'episode_000002: would be recovered with {kept.messages} messages'
    assert done['episode_000007'].status == 'quarantined'
    assert leftovers(tmp_path).changes == ()


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
from episode_samples import fill, open_writer
writer = open_writer(Path(sys.argv[1]), fsync_interval_s=0.05)
rng = np.random.default_rng(0)
fill(writer, 20, rng, 10**9)
writer.sync()  # from here on there is something to recover
print('open', flush=True)
for start in range(2 * 10**9, 10**12, 10**9):
    fill(writer, 20, rng, start)
"""


@pytest.mark.parametrize('seed', range(6))
def test_a_process_killed_while_writing_leaves_a_recoverable_episode(
        tmp_path: Path, seed: int) -> None:
    need_message_packages()
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, str(tmp_path), str(Path(__file__).parent)],
        stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == 'open\n'
    time.sleep(random.Random(seed).uniform(0.1, 0.6))
    assert recover_session(tmp_path) == []       # it lives: hands off
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert list_episodes(tmp_path) == []
    found, = recover_session(tmp_path)
    assert found.status == 'recovered', found
    episode = Episode.open(found.path)
    assert len(list(episode.decoded([JOINTS, GRIPPER]))) > 0
