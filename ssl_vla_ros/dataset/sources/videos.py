# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A folder of videos: one file, one episode, with pictures alone.

Nobody knows what a hand or a robot in a video measured or was told, so state and action are empty
and the outcome is unknown. Rows stand on an even clock; each takes the picture nearest to it by
the picture's own time, so changing frame rates, 29.97 Hz and the delays of GIFs come out right,
and how far off the picture is stands in the row's skew.

All videos of a dataset get one size: the one that most of the recorded time has (of two the
smaller). A video of another size is resized, one of another aspect ratio gets black bars; none is
distorted or cut. A contract with one camera, ``state: []`` and ``action: []`` chooses another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources import video_file
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source, VIDEO_SUFFIXES
from ssl_vla_ros.dataset.sources.captions import Captions
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.made_contract import make_contract
from ssl_vla_ros.dataset.sources.resampled import load_video, moving_times
from ssl_vla_ros.dataset.sources.upright import Upright
from ssl_vla_ros.errors import DatasetError

_CAMERA = 'video'
#: Sides a camera of a contract may have.
_SMALLEST, _LARGEST = 16, 4096
#: A row's picture may be this part of a row's time off: more means that the video has too few.
_SKEW = 0.6
#: Part of the usual time from picture to picture by which it may change in an even video.
_EVEN = 0.2
#: How many pictures are enough to know a video's rate.
_HEAD = 128


@dataclass(frozen=True)
class _Look:
    """What is known of a video before it is read: size as shown, pictures a second, seconds."""

    height: int
    width: int
    rate_hz: Fraction
    seconds: float
    sound: bool
    others: int


def open_videos(path: str | Path, options: ImportOptions) -> Source:
    """
    Open a video, or a folder tree of them.

    Parameters
    ----------
    path
        The file or folder.
    options
        ``rate_hz``: rows a second, needed where the videos have no common whole rate; ``task``:
        the sentence of every video without a caption; ``contract``: size and rate.

    Raises
    ------
    DatasetError
        If there is no video, none can be read, or the rate is not known.

    """
    place = Path(path)
    root = place.parent if place.is_file() else place
    files = list_videos(place)
    problems = Notes()
    captions = Captions(files, root, problems)
    looks: dict[Path, _Look] = {}
    jobs, refused = [], []
    for file in files:
        name = file.relative_to(root).as_posix()
        try:
            task = captions.of(file, options.task)
            looks[file] = _look(file)
        except DatasetError as error:
            refused.append((name, str(error)))
        else:
            jobs.append(_Job(root, file, name, task))
    if not looks:
        raise DatasetError(f'{place}: none of the {len(files)} videos can be used; the first: '
                           f'{refused[0][1]}')
    left_out = [f'{text} of {sum(counts)} video{"s" * (sum(counts) != 1)}' for text, counts in (
        ('sound', [look.sound for look in looks.values()]),
        ('further pictures', [look.others > 0 for look in looks.values()])) if any(counts)]
    return Source(
        kind='videos', path=place, contract=_contract(place, looks, options), jobs=jobs,
        refused=refused, problems=problems, left_out=left_out,
        found={'videos': len(files), 'cameras': f'{_CAMERA} ' + _counted(
            f'{look.height}x{look.width}' for look in looks.values()),
            'pictures a second': _counted(_hertz(look.rate_hz) for look in looks.values()),
            'seconds': round(sum(look.seconds for look in looks.values()), 1)})


def list_videos(place: Path) -> list[Path]:
    """
    List the videos at a place, in the order of their names; hidden files are none.

    Raises
    ------
    DatasetError
        If there is none.

    """
    found = [place] if place.is_file() else sorted(
        path for path in place.rglob('*') if path.is_file()
        and not any(part.startswith('.') for part in path.relative_to(place).parts))
    videos = [path for path in found if path.suffix.lower() in VIDEO_SUFFIXES]
    if not videos:
        raise DatasetError(f'{place}: there is no video ({", ".join(sorted(VIDEO_SUFFIXES))})')
    return videos


@dataclass(frozen=True)
class _Job:
    """One video that is not loaded yet."""

    root: Path
    path: Path
    name: str
    task: str

    def fingerprint(self) -> str:
        """Digest what the episode is made from."""
        return fingerprint(self.root, [self.path], self.task)

    def load(self, contract: Contract) -> LoadedEpisode:
        """
        Read the pictures' times; the pictures are read while they are iterated.

        Raises
        ------
        DatasetError
            If the video must be refused.

        """
        aligned, notes = load_video(self.path, contract)
        return LoadedEpisode(aligned, self.task, None, tuple(notes))


def _look(path: Path) -> _Look:
    with video_file.opened(path) as (container, stream):
        picture = next(container.decode(stream), None)
        if picture is None:
            raise DatasetError(f'{path}: the video has no picture')
        height, width = Upright.of(path, picture, stream.sample_aspect_ratio).size(
            picture.height, picture.width)
        if min(height, width) < _SMALLEST:
            raise DatasetError(f'{path}: the pictures are {height}x{width}, must be at least '
                               f'{_SMALLEST} pixels high and wide')
        seconds = video_file.declared_seconds(container, stream)
        sound, others = bool(container.streams.audio), len(container.streams.video) - 1
    return _Look(height, width, _measured_rate(path), seconds, sound, others)


def _measured_rate(path: Path) -> Fraction:
    """
    Pictures a second by the times of a video's first pictures, since headers may say anything.

    A whole number, if the times are those of one as finely as the file can tell them.
    """
    times = moving_times(path, _HEAD)
    steps = np.diff(times.stamps)
    span = int(steps.sum()) * times.unit
    rate = Fraction(len(steps)) / span
    if np.ptp(steps) <= max(1, _EVEN * np.median(steps)) and round(rate) and abs(
            span - Fraction(len(steps), round(rate))) <= times.unit:
        return Fraction(round(rate))
    return rate


def _contract(place: Path, looks: dict[Path, _Look], options: ImportOptions) -> Contract:
    wanted = options.contract
    if wanted is not None:
        if len(wanted.cameras) != 1 or wanted.state or wanted.action:
            raise DatasetError(
                f'{place}: videos have one camera, no state and no action; {wanted.source} has '
                f'{len(wanted.cameras)} cameras, {len(wanted.state_names)} state and '
                f'{len(wanted.action_names)} action values: leave the contract out, or give one '
                'with one camera, state: [] and action: []')
        if options.rate_hz not in (None, wanted.rate_hz):
            raise DatasetError(f'{place}: --rate is {options.rate_hz}, {wanted.source} says '
                               f'rate_hz: {wanted.rate_hz}; leave one of them out')
        return wanted
    rate_hz = _rate(place, looks, options)
    return make_contract(
        place, robot=options.robot, rate_hz=rate_hz, cameras={_CAMERA: _size(looks)},
        sync={'max_skew_s': _SKEW / rate_hz})


def _rate(place: Path, looks: dict[Path, _Look], options: ImportOptions) -> int:
    if options.rate_hz is not None:
        return options.rate_hz
    rates = {look.rate_hz for look in looks.values()}
    (rate, *more) = sorted(rates)
    if more or rate.denominator != 1 or not 1 <= rate <= 1000:
        raise DatasetError(
            f'{place}: the videos have {_counted(map(_hertz, sorted(rates)))} pictures a second; '
            'say with --rate how many rows a second the dataset shall have, best not more than '
            'the slowest video has pictures')
    return int(rate)


def _size(looks: dict[Path, _Look]) -> tuple[int, int]:
    """Even height and width that most of the time was recorded with, of two the smaller."""
    seconds: dict[tuple[int, int], float] = {}
    for look in looks.values():
        scale = min(1.0, _LARGEST / max(look.height, look.width))
        size = (max(_SMALLEST, int(look.height * scale) // 2 * 2),
                max(_SMALLEST, int(look.width * scale) // 2 * 2))
        seconds[size] = seconds.get(size, 0.0) + look.seconds
    return min(seconds, key=lambda size: (-round(seconds[size], 1), size[0] * size[1]))


def _hertz(rate: Fraction) -> str:
    return f'{float(rate):.6g}'


def _counted(texts: Iterable[str]) -> str:
    """``5 (2), 10 (2), 30``: each text once, with how often it came."""
    every: Sequence[str] = list(texts)
    return ', '.join(text if every.count(text) == 1 else f'{text} ({every.count(text)})'
                     for text in dict.fromkeys(every))
