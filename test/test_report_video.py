# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Videos: what goes in comes out, in the form browsers play."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

av = pytest.importorskip('av', reason='PyAV is not installed')

import numpy as np  # noqa: E402, I100
from ssl_vla_ros.report.video import encode_mp4, write_mp4  # noqa: E402


def _frames(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    frames = []
    for index in range(count):
        frame = np.full((height, width, 3), (40, 120, 200), dtype=np.uint8)
        frame[:, :index * width // count] = (220, 60, 30)
        frames.append(frame)
    return frames


def test_every_frame_comes_back_and_looks_the_same() -> None:
    frames = _frames(12)
    with av.open(io.BytesIO(encode_mp4(frames, 20))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ('h264', 'yuv420p')
        assert stream.average_rate == 20
        decoded = [frame.to_ndarray(format='rgb24') for frame in container.decode(stream)]
    assert len(decoded) == len(frames)
    for ours, theirs in zip(frames, decoded, strict=True):
        assert np.abs(ours.astype(int) - theirs.astype(int)).mean() < 6.0


def test_index_stands_before_the_pictures() -> None:
    data = encode_mp4(_frames(3), 20)
    assert 0 < data.index(b'moov') < data.index(b'mdat')


@pytest.mark.parametrize('height, width, scale, wanted', [
    (33, 47, 1, (34, 48)), (33, 47, 3, (100, 142)), (32, 48, 2, (64, 96))])
def test_odd_sizes_are_padded_after_scaling(
        height: int, width: int, scale: int, wanted: tuple[int, int]) -> None:
    with av.open(io.BytesIO(encode_mp4(_frames(2, height, width), 10, scale=scale))) as container:
        stream = container.streams.video[0]
        assert (stream.height, stream.width) == wanted


def test_wrong_frames_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='at least one frame'):
        write_mp4(tmp_path / 'a.mp4', [], 20)
    with pytest.raises(ValueError, match=r'frame 1 is \(48, 62, 3\)'):
        write_mp4(tmp_path / 'a.mp4', [_frames(1)[0], _frames(1)[0][:, 2:]], 20)
    with pytest.raises(ValueError, match='frame 0 is float32'):
        write_mp4(tmp_path / 'a.mp4', [_frames(1)[0].astype(np.float32)], 20)
    assert list(tmp_path.iterdir()) == []


def test_file_is_written_whole(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / 'new' / 'a.mp4', _frames(3), 20)
    assert [item.name for item in path.parent.iterdir()] == ['a.mp4']
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
