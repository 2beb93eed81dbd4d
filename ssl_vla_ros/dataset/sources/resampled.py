# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A video brought to even rows, each with the picture nearest to it by the picture's own time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset import clock
from ssl_vla_ros.dataset.aligned import AlignedEpisode, AlignReport, StreamReport
from ssl_vla_ros.dataset.sources import video_file
from ssl_vla_ros.dataset.sources.upright import fit, inner_size, Upright
from ssl_vla_ros.errors import DatasetError

#: A video that ends this many seconds before its header says was cut off.
_CUT_S = 0.5


def load_video(path: Path, contract: Contract) -> tuple[AlignedEpisode, list[str]]:
    """
    Put the rows of a video together, without decoding it.

    Parameters
    ----------
    path
        The file.
    contract
        One camera: its size, and how many rows a second.

    Returns
    -------
    tuple
        The episode, and notes on what is odd.

    Raises
    ------
    DatasetError
        If the video has fewer than two pictures, or too few for the rate.

    """
    times = moving_times(path)
    stamps = times.nanoseconds()
    camera, rate_hz = contract.cameras[0], contract.rate_hz
    # A last row may lie after the last picture by as much as that picture is shown, halved.
    slack_ns = min(clock.SECOND // rate_hz, int(np.median(np.diff(stamps)))) // 2
    ticks = clock.make_ticks(
        int(stamps[0]), int(stamps[0]), int(stamps[-1]) + slack_ns, rate_hz)
    picked = clock.pick_nearest(ticks, stamps)
    skew = picked.skew_s.astype(np.float32)
    flagged = skew > np.float32(contract.sync.max_skew_s)
    label = f'image.{camera.name}'
    rate, gaps, longest = clock.intervals(stamps)
    if flagged.sum() > contract.sync.max_flagged_fraction * len(ticks):
        raise DatasetError(
            f'{path}: {int(flagged.sum())} of {len(ticks)} rows have no picture within '
            f'{contract.sync.max_skew_s:.3f} s (up to {float(skew.max()):.3f} s off): the video '
            f'has {rate:.6g} pictures a second, its longest gap is {longest:.3f} s; import with '
            'a lower --rate')
    repeated = int((np.diff(picked.index) == 0).sum())
    p50, p99 = np.quantile(picked.skew_s, [0.5, 0.99])
    report = AlignReport(
        streams=(StreamReport(
            name=label, topic=camera.topic, messages=len(stamps), stamped=True, rate_hz=rate,
            gaps=gaps, longest_s=longest, skew_p50_s=float(p50), skew_p99_s=float(p99),
            repeated=repeated, rejected={}),),
        flagged=int(flagged.sum()), lost_ticks=0, limits=(label, label), trimmed_s=(0.0, 0.0),
        lag_s=None, lag_correlation=None)
    nothing = np.empty((len(ticks), 0), np.float32)
    pictures = _Picked(path, times, picked.index, (camera.height, camera.width))
    short = [f'is so short that it is 1 row at {rate_hz} Hz'] if len(ticks) == 1 else []
    notes = [*short, *_time_notes(path, stamps, gaps, longest, repeated, len(ticks)),
             *_size_notes(path, (camera.height, camera.width))]
    return AlignedEpisode(
        ticks_ns=ticks, pictures={camera.name: pictures}, state=nothing, action=nothing,
        evaluation=np.full((len(ticks), len(contract.evaluation_names)), np.nan, np.float32),
        skew_s={label: skew}, flagged=flagged, report=report), notes


def moving_times(path: Path, head: int | None = None) -> video_file.PictureTimes:
    """
    Find out when each picture (or each of the first ``head``) of a video is shown.

    Raises
    ------
    DatasetError
        If there are fewer than two, or all have one time.

    """
    times = video_file.picture_times(path, head)
    count = len(times.stamps)
    if count < 2:
        raise DatasetError(f'{path}: has {count} picture{"s" * (count != 1)}: at least two are '
                           'needed')
    if times.stamps[0] == times.stamps[-1]:
        raise DatasetError(f'{path}: all of its {count} pictures have one time, '
                           f'{times.seconds()[0]:.3f} s')
    return times


def _time_notes(path: Path, stamps: clock.Stamps, gaps: int, longest: float, repeated: int,
                rows: int) -> Iterator[str]:
    if gaps:
        yield f'{gaps} gaps between its pictures, the longest of {longest:.3f} s'
    if repeated:
        yield f'{repeated} of {rows} rows have the picture of the row before'
    doubled = int((np.diff(stamps) == 0).sum())
    if doubled:
        yield f'{doubled} pictures have the time of another one'
    with video_file.opened(path) as opened:
        declared = video_file.declared_seconds(*opened)
    seconds = float(stamps[-1] - stamps[0]) / clock.SECOND
    if declared - seconds > longest + _CUT_S:
        yield f'ends after {seconds:.3f} s, its header says {declared:.3f} s: was it cut off?'


def _size_notes(path: Path, size: tuple[int, int]) -> Iterator[str]:
    with video_file.opened(path) as (container, stream):
        picture = next(container.decode(stream))
        stored = (picture.height, picture.width)
        upright = Upright.of(path, picture, stream.sample_aspect_ratio)
    shown = upright.size(*stored)
    if shown != stored:
        yield f'stored as {stored[0]}x{stored[1]}, shown as {shown[0]}x{shown[1]}'
    inner = inner_size(shown, size)
    if inner != size:
        yield (f'{shown[0]}x{shown[1]} became {inner[0]}x{inner[1]} between black bars: the '
               f'dataset has {size[0]}x{size[1]}')
    elif not all(0 <= have - want <= 1 for have, want in zip(shown, size, strict=True)):
        yield f'{shown[0]}x{shown[1]} became {size[0]}x{size[1]}'
    elif shown != size:
        yield f'{shown[0]}x{shown[1]} is odd: the last row or column is cut off'


@dataclass(frozen=True)
class _Picked:
    """The picture of each row, decoded once however many rows take it."""

    path: Path
    times: video_file.PictureTimes
    index: NDArray[np.int64]
    size: tuple[int, int]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """
        Yield the pictures (H, W, 3) in ``size``.

        Raises
        ------
        DatasetError
            If the video does not decode to its end, or shows other pictures than it lists.

        """
        rows = np.bincount(self.index, minlength=len(self.times.stamps)).tolist()
        count, size = 0, (0, 0)
        upright = Upright()
        with video_file.opened(self.path) as (container, stream):
            for picture in container.decode(stream):
                if count == 0:
                    size = (picture.height, picture.width)
                    upright = Upright.of(self.path, picture, stream.sample_aspect_ratio)
                self._check(count, picture, size)
                if rows[count]:
                    frame = upright.turn(video_file.rgb(picture))
                    frame = fit(frame, upright.size(*size), self.size)
                    for _ in range(rows[count]):
                        yield frame
                count += 1
        if count != len(rows):
            raise DatasetError(f'{self.path}: {count} of its {len(rows)} pictures decode')

    def _check(self, count: int, picture: object, size: tuple[int, int]) -> None:
        height, width = getattr(picture, 'height', 0), getattr(picture, 'width', 0)
        if (height, width) != size:
            raise DatasetError(f'{self.path}: picture {count} is {height}x{width}, the first is '
                               f'{size[0]}x{size[1]}')
        if getattr(picture, 'is_corrupt', False):
            raise DatasetError(f'{self.path}: picture {count} is damaged')
        stamp, listed = video_file.stamp_of(self.path, picture), self.times.stamps[count:count + 1]
        if stamp not in listed:
            there = ', '.join(f'{float(other * self.times.unit):.3f} s' for other in listed)
            raise DatasetError(
                f'{self.path}: picture {count} is shown at {float(stamp * self.times.unit):.3f} '
                f's, listed at {there or "no time"}: some pictures do not decode')
