# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
npz files: one file, one episode.

Nothing says what the arrays of such a file mean but their names and shapes. These are known:

- pictures: every uint8 array (T, H, W, 3). ``images``, ``image``, ``frames``, ``observations``,
  ``obs``, ``video`` and ``rgb`` are the camera ``camera``, ``images.NAME``, ``image_NAME`` and the
  like the camera ``NAME``, any other array a camera of its own name;
- state: ``states``, ``state``, ``observation.state``, ``proprio``, ``qpos``, or ``observations``
  and ``obs`` of numbers: (T, N); action: ``actions``, ``action``: (T, N), or (T - 1, N), which
  leaves out the last row. ``state_names`` and ``action_names`` name the values;
- rate: ``fps``, ``rate_hz``, ``hz``, ``dt`` (s) or ``timestamps``, ``timestamp``, ``times`` (s);
- words: ``task``, ``language_instruction``, ``instruction``; outcome: ``success``.

A leading batch dimension of 1 is taken away. Everything else is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.jobs import LoadedEpisode
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.fingerprint import fingerprint
from ssl_vla_ros.dataset.sources.made_contract import choose_contract, make_contract
from ssl_vla_ros.dataset.sources.npz_episode import describe, NpzEpisode, PictureArray
from ssl_vla_ros.dataset.sources.npz_file import read_headers, read_slices
from ssl_vla_ros.dataset.sources.rows import choose_rate, even_rows, note_odd_sizes
from ssl_vla_ros.dataset.sources.upright import fit
from ssl_vla_ros.errors import DatasetError


def open_npz(path: str | Path, options: ImportOptions) -> Source:
    """
    Open an npz file, or a folder tree of them.

    Parameters
    ----------
    path
        The file or folder.
    options
        ``rate_hz``, needed where the files do not say it; ``task`` for files without words.

    Raises
    ------
    DatasetError
        If there is no such file, none can be used, or the rate is not known.

    """
    place = Path(path)
    root = place.parent if place.is_file() else place
    files = [place] if place.is_file() else sorted(
        file for file in place.rglob('*.npz') if not file.name.startswith('.'))
    if not files:
        raise DatasetError(f'{place}: there is no npz file')
    first, file = _first(place, files)
    problems = Notes()
    rate_hz = choose_rate(
        options, first.rate_hz, f'{file}: the rate',
        f'{file}: nothing says how many rows a second '
        'were recorded (fps, dt or timestamps): give it with --rate', problems)
    for part, key in first.unnamed():
        problems.add(f'nothing names the values of {key}: they are called {part}_0 and so on')
    if not first.action:
        problems.add('there is no action')
    cameras = {array.camera: array.size for array in first.pictures}
    note_odd_sizes(cameras, problems)
    contract = choose_contract(options, make_contract(
        file, robot=options.robot, rate_hz=rate_hz, cameras=cameras, state=first.state_names,
        action=first.action_names), place)
    return Source(
        kind='npz', path=place, contract=contract,
        jobs=[_Job(root, found, found.relative_to(root).as_posix(), options.task, cameras,
                   options.rate_hz is not None) for found in files],
        found={'files': len(files),
               'cameras': ' '.join(f'{name} {height}x{width}'
                                   for name, (height, width) in cameras.items()) or 'none',
               'state': len(first.state_names), 'action': len(first.action_names),
               'rate_hz': rate_hz},
        problems=problems, left_out=first.left_out)


def _first(place: Path, files: list[Path]) -> tuple[NpzEpisode, Path]:
    """Describe the first file that can be used: the others have to be like it."""
    reason: DatasetError | None = None
    for file in files:
        try:
            return describe(file, read_headers(file)), file
        except DatasetError as error:
            reason = reason or error
    raise DatasetError(f'{place}: none of the {len(files)} npz files can be used; the first: '
                       f'{reason}')


@dataclass(frozen=True)
class _Job:
    """One file that is not loaded yet; ``forced``: the user said the rate."""

    root: Path
    path: Path
    name: str
    otherwise: str
    cameras: dict[str, tuple[int, int]]
    forced: bool

    def fingerprint(self) -> str:
        """Digest what the episode is made from."""
        return fingerprint(self.root, [self.path], self.otherwise, self.forced)

    def load(self, contract: Contract) -> LoadedEpisode:
        """
        Read the numbers; the pictures are read while they are iterated.

        Raises
        ------
        DatasetError
            If the file must be refused.

        """
        found = describe(self.path, read_headers(self.path))
        if not self.forced and found.rate_hz not in (None, contract.rate_hz):
            raise DatasetError(f'{self.path}: has {found.rate_hz:g} rows a second, the dataset '
                               f'{contract.rate_hz}; import it on its own')
        task = found.task or self.otherwise
        if not task:
            raise DatasetError(f"{self.path}: nothing says what was done: add an array 'task', "
                               'or give --task TEXT for every file without one')
        for array in found.pictures:
            size = self.cameras.get(array.camera, array.size)
            if size != array.size:
                raise DatasetError(
                    f'{self.path}: {array.key} has pictures of {array.size[0]}x{array.size[1]}, '
                    f'the other files have {size[0]}x{size[1]}')
        sizes = {camera.name: (camera.height, camera.width) for camera in contract.cameras}
        aligned = even_rows(
            contract, str(self.path), {
                'state': dict(zip(found.state_names, found.values('state').T, strict=True)),
                'action': dict(zip(found.action_names, found.values('action').T, strict=True))},
            {array.camera: _Pictures(self.path, array, found.rows, sizes[array.camera])
             for array in found.pictures if array.camera in sizes}, found.rows)
        stamps = found.stamps()
        if stamps is not None:
            aligned = replace(aligned, ticks_ns=stamps)
        return LoadedEpisode(aligned, task, found.success, tuple(found.notes(contract.rate_hz)))


@dataclass(frozen=True)
class _Pictures:
    """The pictures of one array, read one at a time."""

    path: Path
    array: PictureArray
    rows: int
    size: tuple[int, int]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """
        Yield the pictures (H, W, 3) in ``size``.

        Raises
        ------
        DatasetError
            If the file is damaged.

        """
        shape = self.array.size
        for frame in read_slices(
                self.path, self.array.key, self.array.header, self.rows, (*shape, 3)):
            yield fit(frame, shape, self.size)
