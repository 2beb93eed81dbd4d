# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Importing folders of videos: times, sizes, captions, and files that are broken."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.dataset.importing import import_dataset, ImportReport
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.dataset.sources.upright import fit, inner_size, Upright
from ssl_vla_ros.dataset.sources.video_file import picture_times, pictures_from, rgb
from ssl_vla_ros.dataset.sources.videos import _Look, _size, open_videos
from ssl_vla_ros.errors import DatasetError
from video_samples import Frame, marked, marks, OPEN_GROUPS, write_video

DATA = Path(__file__).parents[2] / 'shared' / 'data'
GIVEN = ImportOptions(task='fold the towel')


def shared(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f'{path} is not there')
    return path


def frames(count: int, height: int = 32, width: int = 48) -> list[Frame]:
    return [marked(number, 59 - number, height, width) for number in range(count)]


def even(count: int, rate: float | Fraction, start: float | Fraction = 0) -> list[Any]:
    return [start + number / Fraction(rate) for number in range(count)]


def rows_of(path: Path, options: ImportOptions = GIVEN) -> tuple[list[int], Any]:
    """Numbers of the pictures that the rows of the only video take, and the episode."""
    source = open_videos(path, options)
    (job,) = source.jobs
    loaded = job.load(source.contract)
    return [marks(frame)[0] for frame in loaded.aligned.pictures['video']], loaded


def run_import(source: Path, out: Path, **options: Any) -> ImportReport:
    return import_dataset(source, out, encoder='libx264', options=ImportOptions(**options))


def test_hands_import_with_their_own_rate(tmp_path: Path) -> None:
    folder = shared('videos_hand_object')
    source = open_videos(folder, GIVEN)
    assert source.contract.rate_hz == 30
    loaded = [job.load(source.contract).aligned for job in source.jobs]
    assert [len(aligned.ticks_ns) for aligned in loaded] == [92, 298]
    assert all(float(aligned.skew_s['image.video'].max()) < 1e-6 for aligned in loaded)
    report = run_import(folder, tmp_path / 'out', task='grasp and pour', rate_hz=3)
    assert report.kind == 'videos'
    assert report.kept == ['grasp.mp4', 'pouring.mp4']
    assert report.problems == ['1080x1440 became 480x640 (episodes 0)']
    assert report.left_out == ['sound of 1 video']
    dataset = Dataset.open(tmp_path / 'out')
    assert dataset.lengths == [10, 30]
    assert dataset.success == [None, None]
    assert dataset.contract.state == dataset.contract.action == ()
    assert dataset.frames('video', 1).shape == (30, 480, 640, 3)


def test_robots_need_a_rate_and_import_with_one(tmp_path: Path) -> None:
    folder = shared('videos_robot')
    with pytest.raises(DatasetError, match=(
            r'videos_robot: the videos have 5, 10, 16\.6667 pictures a second; say with --rate '
            'how many rows a second the dataset shall have')):
        run_import(folder, tmp_path / 'out', task='lift')
    report = run_import(folder, tmp_path / 'out', task='lift', rate_hz=5)
    assert len(report.kept) == 5
    assert report.refused == []
    assert report.found['cameras'] == 'video 480x640 (2), 128x128 (2), 256x320'
    assert ('480x640 became 96x128 between black bars: the dataset has 128x128 (episodes 0-1)'
            in report.problems)
    assert Dataset.open(tmp_path / 'out').lengths == [37, 47, 72, 78, 5]


def test_more_rows_than_a_video_has_pictures_refuses_it(tmp_path: Path) -> None:
    report = run_import(shared('videos_robot'), tmp_path / 'out', task='lift', rate_hz=10)
    assert len(report.kept) == 3
    reason = dict(report.refused)['bridge_real_1.mp4']
    assert reason.endswith(
        'bridge_real_1.mp4: 36 of 73 rows have no picture within 0.060 s (up to 0.100 s off): the '
        'video has 5 pictures a second, its longest gap is 0.200 s; import with a lower --rate')


def test_a_broken_video_is_refused_by_name_and_a_turned_one_kept(tmp_path: Path) -> None:
    report = run_import(shared('odd', 'corrupted_video'), tmp_path / 'out', task='look',
                        rate_hz=10)
    ((name, reason),) = report.refused
    assert name == 'corrupted.mp4'
    assert 'corrupted.mp4: the video does not decode: ' in reason
    assert report.kept == ['video_90.mov']
    assert 'is so short that it is 1 row at 10 Hz (episodes 1)' in report.problems
    assert 'stored as 320x568, shown as 568x320 (episodes 1)' in report.problems


def test_a_turned_video_stands_upright() -> None:
    path = shared('odd', 'corrupted_video', 'video_90.mov')
    source = open_videos(path, GIVEN)
    assert (source.contract.cameras[0].height, source.contract.cameras[0].width) == (568, 320)
    frame = next(iter(source.jobs[0].load(source.contract).aligned.pictures['video']))
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format='rgb24')
    turned = cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE)
    assert np.abs(frame.astype(int) - turned.astype(int)).mean() < 1.5


@pytest.mark.parametrize(('degrees', 'quarters'), [(90, 1), (-90, -1), (180, 2)])
def test_every_turn_is_applied(tmp_path: Path, degrees: int, quarters: int) -> None:
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[:16, 24:], picture[16:, :24] = 60, 120, 220
    write_video(tmp_path / 'a.mov', [picture] * 3, even(3, 10), turn=degrees)
    source = open_videos(tmp_path, GIVEN)
    frame = next(iter(source.jobs[0].load(source.contract).aligned.pictures['video']))
    wanted = np.rot90(picture, quarters)
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted.astype(int)).mean() < 3


@pytest.mark.parametrize('matrix', [
    (1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1),
    (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_a_matrix_moves_each_pixel_where_it_says(matrix: tuple[int, ...]) -> None:
    """Each stored point (x, y) is shown at (a x + c y, b x + d y), up to a shift."""
    a, b, c, d = matrix
    data = np.array([a, b, 0, c, d, 0, 0, 0, 1], dtype=np.int32) * 65536

    class Picture:
        side_data = {'DISPLAYMATRIX': data.tobytes()}
        rotation = 0

    frame = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    turned = Upright.of(Path('a.mov'), Picture(), None).turn(frame)
    points = {(a * x + c * y, b * x + d * y): frame[y, x] for x in range(3) for y in range(2)}
    left, top = min(x for x, _ in points), min(y for _, y in points)
    for (x, y), pixel in points.items():
        np.testing.assert_array_equal(turned[y - top, x - left], pixel)


def test_a_turn_by_other_than_quarters_is_refused() -> None:
    class Picture:
        side_data = {'DISPLAYMATRIX': (np.array(
            [0.7, 0.7, 0, -0.7, 0.7, 0, 0, 0, 1]) * 65536).astype(np.int32).tobytes()}
        rotation = -45

    with pytest.raises(DatasetError, match=(
            r'a\.mov: is to be shown turned by -45 degrees; only quarter turns are known')):
        Upright.of(Path('a.mov'), Picture(), None)


@pytest.mark.parametrize(('shown', 'size', 'inner'), [
    ((480, 640), (480, 640), (480, 640)),
    ((1080, 1440), (480, 640), (480, 640)),
    ((481, 641), (480, 640), (480, 640)),
    ((480, 853), (720, 1280), (720, 1280)),
    ((480, 640), (128, 128), (96, 128)),
    ((640, 480), (128, 128), (128, 96)),
    ((100, 1600), (100, 100), (6, 100)),
])
def test_no_picture_is_distorted(
        shown: tuple[int, int], size: tuple[int, int], inner: tuple[int, int]) -> None:
    assert inner_size(shown, size) == inner
    out = fit(np.full((*shown, 3), 200, np.uint8), shown, size)
    assert out.shape == (*size, 3)
    lit = out[..., 0] > 100
    assert (int(lit.any(axis=1).sum()), int(lit.any(axis=0).sum())) == inner
    assert int(lit.sum()) == inner[0] * inner[1], 'bars are black'


def test_an_odd_picture_loses_a_row_and_nothing_is_resampled() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (33, 49, 3), dtype=np.uint8)
    np.testing.assert_array_equal(fit(picture, (33, 49), (32, 48)), picture[:32, :48])


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    write_video(tmp_path / 'wide.mp4', frames(4, 32, 48), even(4, 10), pixel_shape=Fraction(4, 3))
    write_video(tmp_path / 'tall.mp4', frames(4, 32, 48), even(4, 10), pixel_shape=Fraction(1, 2))
    source = open_videos(tmp_path, GIVEN)
    assert source.found['cameras'] == 'video 64x48, 32x64'
    assert open_videos(tmp_path / 'wide.mp4', GIVEN).contract.cameras[0].width == 64
    numbers, loaded = rows_of(tmp_path / 'tall.mp4')
    assert numbers == [0, 1, 2, 3]
    assert 'stored as 32x48, shown as 64x48' in loaded.notes


def test_the_size_that_most_of_the_time_has_is_everybody_s(tmp_path: Path) -> None:
    write_video(tmp_path / 'long.mp4', frames(9, 48, 64), even(9, 10))
    write_video(tmp_path / 'a.mp4', frames(3, 33, 48), even(3, 10), pixels='yuv444p')
    write_video(tmp_path / 'b.mp4', frames(3, 24, 32), even(3, 10))
    source = open_videos(tmp_path, GIVEN)
    assert (source.contract.cameras[0].height, source.contract.cameras[0].width) == (48, 64)
    notes = {job.name: job.load(source.contract).notes for job in source.jobs}
    assert notes == {'long.mp4': (), 'b.mp4': ('24x32 became 48x64',), 'a.mp4': (
        '33x48 became 44x64 between black bars: the dataset has 48x64',)}
    (odd,) = open_videos(tmp_path / 'a.mp4', GIVEN).jobs
    contract = open_videos(tmp_path / 'a.mp4', GIVEN).contract
    assert odd.load(contract).notes == (
        '33x48 is odd: the last row or column is cut off',)


def test_a_picture_larger_than_a_contract_allows_is_made_smaller() -> None:
    look = _Look(4320, 7680, Fraction(30), 1.0, False, 0)
    assert _size({Path('a.mp4'): look}) == (2304, 4096)


@pytest.mark.parametrize(('name', 'codec', 'unit'), [
    ('a.mp4', 'libx264', None), ('a.MOV', 'libx264', None), ('a.mkv', 'libx264', None),
    ('a.webm', 'libvpx-vp9', None), ('a.avi', 'ffv1', Fraction(1, 10)),
    ('a.gif', 'gif', None), ('b.mp4', 'libsvtav1', None)])
def test_every_container_gives_every_picture_once(
        tmp_path: Path, name: str, codec: str, unit: Fraction | None) -> None:
    options = {'unit': unit} if unit else {}
    write_video(tmp_path / name, frames(12), even(12, 10), codec=codec,
                pixels='rgb8' if codec == 'gif' else 'yuv420p', **options)
    numbers, loaded = rows_of(tmp_path / name)
    assert numbers == list(range(12))
    assert loaded.notes == ()
    assert loaded.task == 'fold the towel'
    assert loaded.success is None
    assert loaded.aligned.state.shape == loaded.aligned.action.shape == (12, 0)
    assert float(loaded.aligned.skew_s['image.video'].max()) < 1e-3


def check_nearest(path: Path, times: Sequence[float], rate_hz: int) -> None:
    """Every row has the picture that is nearest to it by a naive search, and its skew."""
    numbers, loaded = rows_of(path, ImportOptions(task='x', rate_hz=rate_hz))
    ticks = times[0] + np.arange(len(numbers)) / rate_hz
    assert abs(float(ticks[-1] - times[-1])) <= 0.5 / rate_hz + 1e-6
    for tick, number, skew in zip(
            ticks, numbers, loaded.aligned.skew_s['image.video'], strict=True):
        distances = np.abs(np.array(times) - tick)
        assert abs(distances[number] - distances.min()) < 1e-6
        assert abs(distances[number] - skew) < 1e-6
    np.testing.assert_allclose(loaded.aligned.ticks_ns / 1e9, ticks, atol=1e-6)


@pytest.mark.parametrize('rate_hz', [7, 15, 30])
def test_a_changing_frame_rate_is_brought_to_even_rows(tmp_path: Path, rate_hz: int) -> None:
    rng = np.random.default_rng(rate_hz)
    steps = Fraction(1, 30) + np.array([Fraction(int(step), 90_000) for step in
                                        rng.integers(-700, 700, 39)])
    times = [Fraction(1, 2), *(Fraction(1, 2) + step for step in np.cumsum(steps))]
    path = write_video(tmp_path / 'a.mp4', frames(40), times)
    check_nearest(path, [float(time) for time in times], rate_hz)


def test_29_97_needs_a_rate_and_shifts_by_a_picture_where_it_must(tmp_path: Path) -> None:
    rate = Fraction(30_000, 1001)
    write_video(tmp_path / 'a.mp4', frames(50), even(50, rate))
    with pytest.raises(DatasetError, match=r'the videos have 29\.97 pictures a second; say with'):
        open_videos(tmp_path, GIVEN)
    check_nearest(tmp_path / 'a.mp4', [float(time) for time in even(50, rate)], 30)


def test_the_delays_of_a_gif_are_kept(tmp_path: Path) -> None:
    times = [0.0, 0.1, 0.2, 0.5, 0.6, 0.64, 0.7]
    path = write_video(tmp_path / 'a.gif', frames(7), times, codec='gif', pixels='rgb8',
                       unit=Fraction(1, 100))
    assert picture_times(path).seconds().tolist() == pytest.approx(times)
    numbers, loaded = rows_of(path, ImportOptions(task='x', rate_hz=5))
    assert numbers == [0, 2, 3, 4]
    assert loaded.notes == ('1 gaps between its pictures, the longest of 0.300 s',)


def test_a_gap_makes_rows_that_are_flagged_or_refused(tmp_path: Path) -> None:
    times = [*even(40, 10), *even(40, 10, start=Fraction(43, 10))]
    path = write_video(tmp_path / 'a.mp4', [marked(n % 50) for n in range(80)], times)
    _, loaded = rows_of(path, ImportOptions(task='x', rate_hz=10))
    assert int(loaded.aligned.flagged.sum()) == 3
    assert loaded.aligned.report.streams[0].gaps == 1
    assert '3 of 83 rows have the picture of the row before' in loaded.notes
    times = [*even(40, 10), *even(40, 10, start=9)]
    path = write_video(tmp_path / 'b.mp4', [marked(n % 50) for n in range(80)], times)
    with pytest.raises(DatasetError, match=r'rows have no picture within 0\.060 s'):
        rows_of(path, ImportOptions(task='x', rate_hz=10))


def test_a_video_that_was_cut_off_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'a.mkv', frames(50), even(50, 10), g=5)
    data = path.read_bytes()
    path.write_bytes(data[:len(data) * 6 // 10])
    source = open_videos(path, ImportOptions(task='x', rate_hz=10))
    loaded = source.jobs[0].load(source.contract)
    assert len(loaded.aligned.ticks_ns) < 45
    assert any('was it cut off?' in note for note in loaded.notes)


def cut(source: Path, target: Path, first: int) -> Path:
    """Copy a video without its first pictures as they are stored."""
    with av.open(str(source)) as old, av.open(str(target), 'w') as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for place, packet in enumerate(old.demux(video=0)):
            if packet.size and place >= first:
                packet.stream = stream
                new.mux(packet)
    return target


def test_every_picture_can_be_sought_wherever_it_is_stored(tmp_path: Path) -> None:
    path = write_video(tmp_path / 'a.mp4', frames(50), even(50, 10), **OPEN_GROUPS)
    stamps = picture_times(path).stamps.tolist()
    behind = []
    for number, stamp in enumerate(stamps):
        found = list(islice(pictures_from(path, stamp), 3))
        assert [there for there, _ in found] == stamps[number:number + 3]
        assert [marks(rgb(picture))[0] for _, picture in found] == list(
            range(number, min(number + 3, 50)))
        with av.open(str(path)) as container:
            container.seek(stamp, stream=container.streams.video[0])
            first = next(container.decode(video=0))
            if first.pts is not None and first.pts > stamp:
                behind.append(number)
    assert behind, 'seeking alone lands behind some pictures, or this tests nothing'


def test_a_video_that_begins_in_the_middle_is_refused(tmp_path: Path) -> None:
    whole = write_video(tmp_path / 'whole.mp4', frames(30), even(30, 10), g=10)
    cut(whole, tmp_path / 'cut.mp4', 1)
    source = open_videos(tmp_path, GIVEN)
    assert dict(source.refused) == {'cut.mp4': (
        f'{tmp_path}/cut.mp4: the first picture is stored as the difference to one that is not '
        'there: the video was cut without encoding it again')}
    assert [job.name for job in source.jobs] == ['whole.mp4']


def test_pictures_that_are_listed_and_not_shown_refuse_their_video(tmp_path: Path) -> None:
    """Cut at a key frame, pictures shown before it and stored after it lack what they refer to."""
    whole = write_video(tmp_path / 'a.mp4', frames(30), even(30, 10), **OPEN_GROUPS)
    source = open_videos(cut(whole, tmp_path / 'b.mkv', 11), GIVEN)
    loaded = source.jobs[0].load(source.contract)
    with pytest.raises(DatasetError, match=(
            r'b\.mkv: picture 0 is shown at 1\.200 s, listed at 1\.100 s: some pictures do not '
            'decode')):
        list(loaded.aligned.pictures['video'])


@pytest.mark.parametrize(('content', 'reason'), [
    (b'', 'does not decode'), (b'text', 'does not decode')])
def test_a_file_that_is_no_video_is_refused_and_the_other_kept(
        tmp_path: Path, content: bytes, reason: str) -> None:
    write_video(tmp_path / 'good.mp4', frames(4), even(4, 10))
    (tmp_path / 'bad.mp4').write_bytes(content)
    source = open_videos(tmp_path, GIVEN)
    ((name, said),) = source.refused
    assert name == 'bad.mp4'
    assert reason in said
    assert [job.name for job in source.jobs] == ['good.mp4']
    (tmp_path / 'good.mp4').unlink()
    with pytest.raises(DatasetError, match=r'none of the 1 videos can be used; the first: .*bad'):
        open_videos(tmp_path, GIVEN)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / 'a.mp4'), 'w') as container:
        stream: Any = container.add_stream('aac', rate=8000)
        sound: Any = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format='fltp', layout='mono')
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(DatasetError, match='there is no video stream in this file'):
        open_videos(tmp_path, GIVEN)


@pytest.mark.parametrize(('size', 'reason'), [
    ((12, 20), 'the pictures are 12x20, must be at least 16 pixels high and wide')])
def test_a_tiny_picture_is_refused(tmp_path: Path, size: tuple[int, int], reason: str) -> None:
    write_video(tmp_path / 'a.mkv', frames(4, *size), even(4, 10), codec='ffv1', pixels='bgr0')
    with pytest.raises(DatasetError, match=reason):
        open_videos(tmp_path, GIVEN)


def test_a_single_picture_is_no_episode_and_two_are(tmp_path: Path) -> None:
    write_video(tmp_path / 'one.mp4', frames(1), [0])
    write_video(tmp_path / 'two.mp4', frames(2), even(2, 10))
    still = write_video(tmp_path / 'still.mkv', frames(20), [i / 10**6 for i in range(20)],
                        unit=Fraction(1, 10**6))
    source = open_videos(tmp_path, ImportOptions(task='x', rate_hz=10))
    assert dict(source.refused) == {
        'one.mp4': f'{tmp_path}/one.mp4: has 1 picture: at least two are needed',
        'still.mkv': f'{still}: all of its 20 pictures have one time, 0.000 s'}
    (two,) = source.jobs
    assert len(two.load(source.contract).aligned.ticks_ns) == 2


def test_captions_come_from_every_place(tmp_path: Path) -> None:
    for name in ('a', 'b', 'c', 'd', 'e', 'deep/f'):
        write_video(tmp_path / f'{name}.mp4', frames(3), even(3, 10))
    (tmp_path / 'a.txt').write_text('pour\n the  tea\n', encoding='utf-8')
    (tmp_path / 'b.json').write_text(json.dumps({'task': 'stir'}), encoding='utf-8')
    (tmp_path / 'captions.csv').write_text(
        '\ufefffile,task\nc.mp4,"cut, then serve"\ndeep/f.mp4,wash\nz.mp4,none\n',
        encoding='utf-8')
    (tmp_path / 'captions.jsonl').write_text(
        json.dumps({'file': 'd.mp4', 'task': 'dry'}) + '\n\n', encoding='utf-8')
    source = open_videos(tmp_path, ImportOptions())
    tasks = {job.name: job.load(source.contract).task for job in source.jobs}
    assert tasks == {'a.mp4': 'pour the tea', 'b.mp4': 'stir', 'c.mp4': 'cut, then serve',
                     'd.mp4': 'dry', 'deep/f.mp4': 'wash'}
    assert source.problems.lines() == [
        "captions.csv: line 4 is about 'z.mp4', which is no video here"]
    ((name, reason),) = source.refused
    assert name == 'e.mp4'
    assert reason == (
        f'{tmp_path}/e.mp4: nothing says what is done in it; write it to e.txt beside it, or to '
        'captions.csv (columns file and task), or give --task TEXT for every video without a '
        'caption')
    source = open_videos(tmp_path, GIVEN)
    assert len(source.jobs) == 6
    assert source.jobs[5].load(source.contract).task == 'fold the towel'
    assert open_videos(tmp_path / 'a.mp4', ImportOptions()).jobs[0].load(
        source.contract).task == 'pour the tea'


@pytest.mark.parametrize(('files', 'reason'), [
    ({'a.txt': b'  \n'}, r'a\.mp4: the caption in a\.txt is empty'),
    ({'a.txt': b'\xff\xfe'}, r'a\.txt: is not UTF-8 text: invalid start byte at byte 0'),
    ({'a.json': b'{"task"'}, r'a\.json: not valid JSON'),
    ({'a.txt': b'pour', 'a.json': b'{"task": "stir"}'},
     r"a\.mp4: has two captions: 'pour' \(a\.txt\), 'stir' \(a\.json\)"),
    ({'a.txt': b'pour', 'captions.csv': b'file,task\na.mp4,stir\n'},
     r"has two captions: 'pour' \(a\.txt\), 'stir' \(captions\.csv line 2\)"),
])
def test_a_caption_that_is_none_refuses_its_video(
        tmp_path: Path, files: dict[str, bytes], reason: str) -> None:
    for name in ('a.mp4', 'b.mp4'):
        write_video(tmp_path / name, frames(3), even(3, 10))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    source = open_videos(tmp_path, GIVEN)
    ((name, said),) = source.refused
    assert name == 'a.mp4'
    with pytest.raises(DatasetError, match=reason):
        raise DatasetError(said)


def test_a_json_about_something_else_is_no_caption(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', frames(3), even(3, 10))
    (tmp_path / 'a.json').write_text('{"camera": "phone"}')
    source = open_videos(tmp_path, GIVEN)
    assert source.jobs[0].load(source.contract).task == 'fold the towel'
    assert source.problems.lines() == [
        'a.json has no text under "task": not taken for a caption']


@pytest.mark.parametrize(('name', 'content', 'reason'), [
    ('captions.csv', 'video,text\na.mp4,x\n',
     r"captions\.csv: the first line is \['video', 'text'\], lacks the column file, task"),
    ('captions.csv', 'file,task\na.mp4\n', r'captions\.csv: line 2 lacks file or task'),
    ('captions.csv', '', r'captions\.csv: the first line is None, lacks the column file, task'),
    ('captions.jsonl', '{"file": "a.mp4"}\n', r'captions\.jsonl: line 1 lacks task'),
    ('captions.jsonl', '{"file": "a.mp4", "task": 3}\n',
     r'captions\.jsonl: entry 1: file and task must be texts'),
    ('captions.jsonl', 'pour\n', r'captions\.jsonl: line 1 is not valid JSON'),
])
def test_a_list_of_captions_that_is_none_is_an_error(
        tmp_path: Path, name: str, content: str, reason: str) -> None:
    write_video(tmp_path / 'a.mp4', frames(3), even(3, 10))
    (tmp_path / name).write_text(content)
    with pytest.raises(DatasetError, match=reason):
        open_videos(tmp_path, GIVEN)


def video_contract(**parts: Any) -> Any:
    return parse_contract({
        'robot': 'hand', 'rate_hz': 5, 'state': [], 'action': [], 'cameras': {'eye': {
            'topic': 'eye', 'type': 'sensor_msgs/Image', 'height': 16, 'width': 16}}} | parts,
        'hand.yaml')


def test_a_contract_gives_size_and_rate(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', frames(11), even(11, 10))
    source = open_videos(tmp_path, ImportOptions(task='x', contract=video_contract()))
    aligned = source.jobs[0].load(source.contract).aligned
    assert aligned.frames('eye').shape == (6, 16, 16, 3)
    assert list(aligned.skew_s) == ['image.eye']
    with pytest.raises(DatasetError, match='--rate is 3, hand.yaml says rate_hz: 5; leave one'):
        open_videos(tmp_path, ImportOptions(task='x', rate_hz=3, contract=video_contract()))
    stream = {'topic': 'joints', 'type': 'std_msgs/Float64MultiArray', 'names': ['a']}
    with pytest.raises(DatasetError, match=(
            r'videos have one camera, no state and no action; hand\.yaml has 1 cameras, 1 state '
            'and 0 action values: leave the contract out')):
        open_videos(tmp_path, ImportOptions(
            task='x', contract=video_contract(state=[stream])))


def test_hidden_files_are_no_videos(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', frames(3), even(3, 10))
    (tmp_path / '._a.mp4').write_bytes(b'resource fork')
    (tmp_path / '.trash').mkdir()
    (tmp_path / '.trash' / 'b.mp4').write_bytes(b'gone')
    assert [job.name for job in open_videos(tmp_path, GIVEN).jobs] == ['a.mp4']
    (tmp_path / 'a.mp4').unlink()
    with pytest.raises(DatasetError, match=r'there is no video \(\.avi, \.gif, \.mkv'):
        open_videos(tmp_path, GIVEN)


def test_a_changed_caption_is_another_episode(tmp_path: Path) -> None:
    write_video(tmp_path / 'a.mp4', frames(3), even(3, 10))
    first = open_videos(tmp_path, GIVEN).jobs[0].fingerprint()
    assert open_videos(tmp_path, GIVEN).jobs[0].fingerprint() == first
    (tmp_path / 'a.txt').write_text('wash')
    assert open_videos(tmp_path, GIVEN).jobs[0].fingerprint() != first
