# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos: faithful, counted, and refused when anything is missing."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
import pytest

from ssl_vla_ros.dataset import video
from ssl_vla_ros.errors import DatasetError

SHARED_DATA = Path(__file__).parents[2] / 'shared' / 'data'


def scene(count: int = 20, height: int = 64, width: int = 96) -> list[NDArray[np.uint8]]:
    """Draw a smooth coloured background with a moving square."""
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([x * 2, y * 3, 255 - x - y], axis=2).clip(0, 255).astype(np.uint8)
    frames = []
    for index in range(count):
        frame = base.copy()
        frame[20:36, 2 * index:2 * index + 16] = (220, 40, 60)
        frames.append(frame)
    return frames


def test_pictures_come_back_nearly_as_they_went(tmp_path: Path) -> None:
    frames = scene()
    path = tmp_path / 'video.mp4'
    assert video.encode_video(path, frames, 20) == 20
    error = video.read_frames(path, 20, 64, 96).astype(float) - np.stack(frames)
    assert np.abs(error).mean() < 2.0
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 0.6, 'no channel is shifted'
    assert np.sqrt(np.square(error).mean(axis=(1, 2, 3))).max() < 8.0, 'no frame is another one'


@pytest.mark.parametrize('colour', [
    (0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255),
    (200, 120, 40)])
def test_flat_colours_survive(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, [np.full((32, 32, 3), colour, np.uint8)] * 3, 20)
    found = video.read_frames(path, 3, 32, 32).reshape(-1, 3)
    assert np.abs(found.astype(int) - colour).max() <= 3


def test_another_decoder_finds_the_same_pictures(tmp_path: Path) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, scene(), 20)
    capture = cv2.VideoCapture(str(path))
    ours = video.read_frames(path, 20, 64, 96)
    for frame in ours:
        good, theirs = capture.read()
        assert good
        assert np.abs(theirs[..., ::-1].astype(int) - frame).mean() < 3.0
    assert not capture.read()[0]


def test_every_second_picture_is_a_key_frame_at_an_exact_time(tmp_path: Path) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, scene(301), 30)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    assert [packet.is_keyframe for packet in packets[:4]] == [True, False, True, False]
    times = [float(packet.pts * packet.time_base) for packet in packets]
    assert np.abs(np.array(times) - np.arange(301) / 30).max() < 1e-9


def test_the_same_pictures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ('a.mp4', 'b.mp4'):
        video.encode_video(tmp_path / name, scene(), 20)
    assert (tmp_path / 'a.mp4').read_bytes() == (tmp_path / 'b.mp4').read_bytes()


@pytest.mark.parametrize('rows', [19, 21])
def test_a_video_with_another_count_is_refused(tmp_path: Path, rows: int) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, scene(20), 20)
    with pytest.raises(DatasetError, match=f'20 pictures, its episode {rows} rows'):
        video.check_video(path, rows, 20)
    with pytest.raises(DatasetError, match=f'20 pictures, its episode {rows} rows'):
        video.read_frames(path, rows, 64, 96)


def test_a_video_at_another_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, scene(20), 20)
    with pytest.raises(DatasetError, match='picture 1 is at 0.05'):
        video.check_video(path, 20, 30)


def test_a_cut_off_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'video.mp4'
    video.encode_video(path, scene(60), 20)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DatasetError, match=r'video\.mp4'):
        video.check_video(path, 60, 20)


def test_pictures_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'video.mp4'
    with pytest.raises(DatasetError, match='even height and width'):
        video.encode_video(path, scene(2, 65, 96), 20)
    with pytest.raises(DatasetError, match='picture 1 is'):
        video.encode_video(path, [*scene(1), *scene(1, 32, 32)], 20)
    with pytest.raises(DatasetError, match='no pictures'):
        video.encode_video(path, [], 20)
    with pytest.raises(DatasetError, match='missing'):
        video.read_frames(tmp_path / 'none.mp4', 1, 8, 8)


def test_a_real_broken_file_is_an_error_not_a_short_video() -> None:
    path = SHARED_DATA / 'odd' / 'corrupted_video' / 'corrupted.mp4'
    if not path.is_file():
        pytest.skip(f'{path} is not there')
    with pytest.raises(DatasetError, match=r'corrupted\.mp4: the video does not decode'):
        list(video.decode_video(path))
