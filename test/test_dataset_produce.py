# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Builds in parallel, updates, interruptions, and encoders that go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import errno
import json
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import av
from dataset_episodes import image_message, PERIOD_NS, Recording, small_contract, START_NS
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import encoders, layout, video
from ssl_vla_ros.dataset.build import build_dataset, SessionJob
from ssl_vla_ros.dataset.files import part_of, replaced_name
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.produce import produce
from ssl_vla_ros.dataset.proof import PictureTrace
from ssl_vla_ros.episodes.reader import list_episodes
from ssl_vla_ros.errors import DatasetError, WorkerError

TICKS = (10, 12, 14, 16)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    for ticks in TICKS:
        Recording.regular(ticks).write(tmp_path / 'session', success=ticks == 12)
    return tmp_path / 'session'


def contents(root: Path) -> dict[str, bytes]:
    """Read every file below a directory."""
    return {str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob('*')) if path.is_file()}


def test_two_processes_write_the_same_bytes_as_one(session: Path, tmp_path: Path) -> None:
    one = build_dataset(session, tmp_path / 'one')
    two = build_dataset(session, tmp_path / 'two', workers=2)
    assert one.digest == two.digest
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')


def test_only_new_episodes_are_built(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    first = build_dataset(session, out)
    assert (first.changed, [item.reused for item in first.kept]) == (True, [False] * 4)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob('*.mp4')}
    before = contents(out)
    same = build_dataset(session, out)
    assert (same.changed, [item.reused for item in same.kept]) == (False, [True] * 4)
    assert 'up to date' in same.text()
    assert contents(out) == before
    assert same.digest == first.digest
    Recording.regular(18).write(session)
    grown = build_dataset(session, out)
    assert [item.reused for item in grown.kept] == [True] * 4 + [False]
    assert '4 of them were there, 1 are new' in grown.text()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    anew = build_dataset(session, tmp_path / 'anew')
    assert contents(out) == contents(tmp_path / 'anew')
    assert anew.digest == grown.digest
    assert not part_of(out).exists()


def test_an_episode_that_was_relabelled_is_built_again(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    build_dataset(session, out)
    file = session / 'episode_000002' / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'task': 'push the cube'}))
    report = build_dataset(session, out)
    assert [item.reused for item in report.kept] == [True, True, False, True]
    assert Dataset.open(out).episode_tasks[2] == 'push the cube'


def test_a_changed_dataset_is_not_gone_on_with(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    build_dataset(session, out)
    victim = next(out.rglob('*.mp4'))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(DatasetError, match='was changed after it was written'):
        build_dataset(session, out)
    build_dataset(session, out, overwrite=True)
    Dataset.open(out).verify()


def test_episodes_that_are_gone_from_the_session_are_never_dropped_in_silence(
        session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    build_dataset(session, out)
    shutil.move(session / 'episode_000001', tmp_path / 'elsewhere')
    with pytest.raises(DatasetError, match=r'holds 1 episodes .*session/episode_000001; .*'
                       '--overwrite'):
        build_dataset(session, out)
    assert Dataset.open(out).num_episodes == 4
    build_dataset(session, out, overwrite=True)
    assert Dataset.open(out).num_episodes == 3


def test_another_contract_is_not_mixed_in(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    build_dataset(session, out)
    with pytest.raises(DatasetError, match='was built with another contract'):
        build_dataset(session, out, small_contract(max_skew_s=0.02))


@dataclass(frozen=True)
class BadJob:
    """An episode whose reading fails in a way that nobody foresaw."""

    error: Exception

    @property
    def name(self) -> str:
        """Give the name."""
        return f'bad {self.error}'

    def fingerprint(self) -> str:
        """Tell it from others."""
        return self.name

    def load(self, contract: Contract) -> LoadedEpisode:
        """Fail."""
        raise self.error


@pytest.mark.parametrize('workers', [1, 2])
def test_whatever_goes_wrong_in_an_episode_costs_no_other(
        session: Path, tmp_path: Path, workers: int) -> None:
    good = [SessionJob(path, '') for path in list_episodes(session)[:2]]
    jobs = [BadJob(KeyError('rows')), good[0], BadJob(OSError(errno.EIO, 'Input/output error')),
            BadJob(MemoryError()), good[1]]
    done = produce(tmp_path / 'out', small_contract(), jobs, source='somewhere', origin={},
                   workers=workers)
    assert Dataset.open(tmp_path / 'out').lengths == [10, 12]
    reasons = [result.reason for result in done.results]
    assert reasons[1] == reasons[4] == ''
    assert reasons[0].startswith("bad 'rows': unforeseen KeyError at test_dataset_produce.py:")
    assert reasons[2].endswith('cannot be read or written: [Errno 5] Input/output error')
    assert 'fewer --workers' in reasons[3]
    assert [result.passing for result in done.results] == [True, False, True, True, False]


def test_an_update_never_drops_an_episode_for_a_reason_that_may_pass(
        session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / 'out'
    first = build_dataset(session, out)
    file = session / 'episode_000000' / 'episode.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | {'task': 'push the cube'}))

    def fails(self: SessionJob, contract: Contract) -> LoadedEpisode:
        raise OSError(errno.EIO, 'Input/output error')
    with monkeypatch.context() as patch, pytest.raises(
            DatasetError, match='was left as it was, because 1 of its episodes could not be made '
            'again: session/episode_000000: cannot be read or written'):
        patch.setattr(SessionJob, 'load', fails)
        build_dataset(session, out)
    assert Dataset.open(out).digest() == first.digest
    Dataset.open(out).verify()
    report = build_dataset(session, out)
    assert report.dropped == ()
    assert Dataset.open(out).num_episodes == 4


@pytest.mark.parametrize('workers', [1, 2])
def test_a_full_disk_ends_the_build_and_keeps_what_is_done(
        session: Path, tmp_path: Path, workers: int) -> None:
    good = [SessionJob(path, '') for path in list_episodes(session)[:2]]
    with pytest.raises(DatasetError, match='the disk is full; free some space'):
        produce(tmp_path / 'out', small_contract(),
                [*good, BadJob(OSError(errno.ENOSPC, 'No space left on device'))],
                source='somewhere', origin={}, workers=workers)
    assert not (tmp_path / 'out').exists()
    done = produce(tmp_path / 'out', small_contract(), good, source='somewhere', origin={})
    assert len(done.results) == 2
    Dataset.open(tmp_path / 'out').verify()


def test_a_staged_episode_that_was_damaged_is_made_anew(session: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == total:
            raise KeyboardInterrupt
    for damage in ('{}', '{"key": 1', 'drop images'):
        out = tmp_path / f'out{len(damage)}'
        with pytest.raises(KeyboardInterrupt):
            build_dataset(session, out, progress=stop)
        file = sorted(part_of(out).glob('staged/*/*/episode.json'))[0]
        file.write_text(damage if damage.startswith('{') else json.dumps(
            json.loads(file.read_text()) | {'images': {'front': [[1]], 'wrist': [[1]]}}))
        assert len(build_dataset(session, out).kept) == 4
        Dataset.open(out).verify()


KILLED = """
import os, signal, sys
from ssl_vla_ros.dataset.build import build_dataset

def kill(done, total, what):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

build_dataset(sys.argv[1], sys.argv[2], progress=kill, workers=int(sys.argv[4]))
"""


@pytest.mark.parametrize('workers', [1, 2])
def test_a_killed_build_goes_on_where_it_was(
        session: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / 'out'
    killed = subprocess.run(
        [sys.executable, '-c', KILLED, str(session), str(out), '2', str(workers)],
        check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    staged = [path for path in (part_of(out) / 'staged').iterdir() if path.name[0] != '.']
    assert len(staged) >= 2
    encoded: list[Path] = []

    def encode(videos: Any, *rest: Any) -> Any:
        encoded.extend(videos)
        return video.encode_videos(videos, *rest)
    monkeypatch.setattr('ssl_vla_ros.dataset.staging.encode_videos', encode)
    report = build_dataset(session, out)
    assert len(encoded) == 2 * (4 - len(staged))
    assert report.digest == build_dataset(session, tmp_path / 'straight').digest
    assert not part_of(out).exists()


def test_workers_do_not_outlive_a_killed_build(session: Path, tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, '-c', KILLED, str(session), str(tmp_path / 'out'), '1', '2'],
        start_new_session=True)
    child.wait(60)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(child.pid):
        time.sleep(0.05)
    assert not _alive(child.pid)


def _alive(session_id: int) -> list[int]:
    """Find the processes of a session that are not zombies."""
    found = []
    for entry in Path('/proc').iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / 'stat').read_text().rpartition(')')[2].split()
            except OSError:
                continue
            if int(fields[3]) == session_id and fields[0] != 'Z':
                found.append(int(entry.name))
    return found


def test_a_worker_that_is_killed_is_told(session: Path, tmp_path: Path) -> None:
    def kill(done: int, total: int, what: str) -> None:
        if done == 1:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
    for ticks in range(20, 32):
        Recording.regular(ticks).write(session)
    with pytest.raises(WorkerError, match='a worker process was killed.*--workers 1'):
        build_dataset(session, tmp_path / 'out', progress=kill, workers=2)
    build_dataset(session, tmp_path / 'out')
    assert Dataset.open(tmp_path / 'out').num_episodes == 16


def _children() -> Iterator[int]:
    import multiprocessing
    for child in multiprocessing.active_children():
        if child.pid is not None:
            yield child.pid


def test_a_replacement_that_was_cut_off_is_undone(session: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    first = build_dataset(session, out)
    out.rename(replaced_name(out))
    with pytest.raises(DatasetError, match='a replacement of it was interrupted'):
        Dataset.open(out)
    assert build_dataset(session, out).changed is False
    assert Dataset.open(out).digest() == first.digest


# -- encoders that go wrong -------------------------------------------------------------------

class BadEncoder:
    """An encoder's stream that does something else with picture ``at``."""

    def __init__(self, stream: Any, fault: str, at: int) -> None:
        self.stream, self.fault, self.at = stream, fault, at
        self.count = 0
        self.last: Any = None
        self.held: Any = None

    def encode(self, picture: Any) -> Any:
        number, self.count = self.count, self.count + 1
        if picture is None:
            return self.stream.encode(None)
        if self.fault == 'slow':
            time.sleep(0.05 if number == self.at else 0.0)
        elif self.fault == 'drop' and number == self.at:
            return []
        elif self.fault == 'repeat and drop' and number == self.at:
            picture = self._again(picture)
        elif self.fault == 'late' and number >= self.at:
            picture, self.held = self._copy(self.held or self.last, picture.pts), self._copy(
                picture, picture.pts)
        self.last = self._copy(picture, picture.pts)
        return self.stream.encode(picture)

    def _again(self, picture: Any) -> Any:
        return self._copy(self.last, picture.pts)

    def _copy(self, picture: Any, pts: int) -> Any:
        made = av.VideoFrame.from_ndarray(picture.to_ndarray(), format=picture.format.name)
        made.pts, made.time_base = pts, picture.time_base
        return made


def bar(tick: int) -> NDArray[np.uint8]:
    """Draw a white bar that moves by two pixels a tick."""
    image = np.full((32, 48, 3), 40, np.uint8)
    image[:, 2 * tick + 2:2 * tick + 6] = 220
    return image


@pytest.mark.parametrize(('fault', 'words'), [
    ('slow', ''), ('drop', 'must be at'),
    ('repeat and drop', 'picture 5 came back'), ('late', 'picture 5 came back')])
def test_a_faulty_encoder_never_shifts_a_row(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, words: str) -> None:
    """In the third episode's first video, picture 5 meets a fault: told, or without effect."""
    session = tmp_path / 'session'
    for ticks in TICKS:
        recording = Recording.regular(ticks)
        recording.messages = [item for item in recording.messages if 'image' not in item[1]]
        recording.messages += [
            (START_NS + tick * PERIOD_NS + 2, f'camera/{camera}/image_raw',
             image_message(START_NS + tick * PERIOD_NS, bar(tick)))
            for tick in range(ticks) for camera in ('front', 'wrist')]
        recording.write(session)
    plain, opened = encoders.open_stream, 0

    def open_bad(*arguments: Any) -> Any:
        nonlocal opened
        opened += 1
        stream = plain(*arguments)
        return BadEncoder(stream, fault, 5) if opened == 5 else stream
    monkeypatch.setattr(video, 'open_stream', open_bad)
    report = build_dataset(session, tmp_path / 'out', encoder='libx264')
    assert [(Path(item.source).name, words in item.reason) for item in report.refused] == (
        [('episode_000002', True)] if words else [])
    dataset = Dataset.open(tmp_path / 'out')
    ticks_kept = [10, 12, 16] if words else list(TICKS)
    assert dataset.lengths == ticks_kept
    for episode, length in enumerate(ticks_kept):
        for camera in dataset.camera_names:
            light = dataset.frames(camera, episode).mean(axis=(1, 3)) > 130
            first = light.argmax(axis=1)
            assert first.tolist() == [2 * tick + 2 for tick in range(length)]


@pytest.mark.parametrize('off', [-8, -2, -1, 1, 4])
def test_the_trace_tells_a_shift(off: int) -> None:
    trace = PictureTrace(Path('video.mp4'))
    for _ in trace.watch(bar(tick) for tick in range(20)):
        pass
    for tick in range(10):
        trace.check(bar(tick))
    with pytest.raises(DatasetError, match='picture 10 came back from the encoder as'):
        trace.check(bar(10 + off))


def spot(level: float) -> NDArray[np.uint8]:
    """Draw a grey picture in which one block of the trace has this level."""
    picture = np.full((128, 128, 3), 100, dtype=np.uint8)
    picture[40:44, 60:64] = round(level)
    return picture


def test_one_block_that_compression_moved_is_no_shift() -> None:
    levels = [100 + 10 * (tick % 3 == 1) for tick in range(40)]
    trace = PictureTrace(Path('video.mp4'))
    for _ in trace.watch(spot(level) for level in levels):
        pass
    for tick, level in enumerate(levels):
        trace.check(spot(107 if tick == 21 else level))


@pytest.mark.parametrize('off', [1, -1, 2])
def test_a_shift_that_a_single_block_shows_is_told_after_some_pictures(off: int) -> None:
    levels = [100 + 12 * (tick % 3 == 1) for tick in range(80)]
    trace = PictureTrace(Path('video.mp4'))
    for _ in trace.watch(spot(level) for level in levels):
        pass
    for tick in range(20):
        trace.check(spot(levels[tick]))
    with pytest.raises(DatasetError, match='came back from the encoder as picture'):
        for tick in range(20, 70):
            trace.check(spot(levels[tick + off]))


def test_noise_passes_the_trace(tmp_path: Path) -> None:
    """The hardest pictures for an encoder are no false alarm."""
    rng = np.random.default_rng(1)
    frames = [rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(8)]
    trace = PictureTrace(tmp_path / 'video.mp4')
    video.encode_video(tmp_path / 'video.mp4', trace.watch(frames), 20)
    assert video.check_video(tmp_path / 'video.mp4', 8, 20, trace.check) == (96, 128)


def test_an_encoder_that_is_not_there_is_named(session: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="encoder is 'h265', must be one of auto, h264_nvenc"):
        build_dataset(session, tmp_path / 'out', encoder='h265')
    missing = [name for name in encoders.OPTIONS if name != encoders.SOFTWARE
               and encoders._problem(name, 256, 256)]
    if not missing:
        pytest.skip('every hardware encoder works on this machine')
    with pytest.raises(DatasetError, match=f'{missing[0]} .* does not work on this machine'):
        build_dataset(session, tmp_path / 'out', encoder=missing[0])


def test_the_encoder_that_was_chosen_is_in_the_dataset(session: Path, tmp_path: Path) -> None:
    build_dataset(session, tmp_path / 'out', encoder='libx264')
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.origin['encoder'] == 'libx264'
    assert {entry['encoder'] for entry in dataset.episodes} == {'libx264'}
    assert (dataset.path / layout.IMAGE_COUNTS).is_file()


def test_a_session_is_the_same_by_whatever_path(
        session: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(session)
    build_dataset('.', tmp_path / 'out')
    assert build_dataset(session, tmp_path / 'out').changed is False
