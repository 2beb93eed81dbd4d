# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
ALOHA's HDF5: one file an episode, ``observations/{qpos, qvel, effort, images}`` and ``action``.

All vectors of ``observations`` become the state, in the order of their names; ``action`` and, of
a mobile robot, ``base_action`` become the action. Row ``t`` of each belongs to the same step.

Pictures are RGB where they are stored as pixels. ALOHA's recorder hands the same RGB arrays to an
encoder that takes them for BGR, so in its JPEGs red and blue have changed places; its own readers
decode them the same wrong way round, which mends it. Files with ``compress_len`` are by this
recorder (or follow it) and are read like that, with a note; JPEGs in other files are read as the
standard says. Rows are padded with zeros; each JPEG tells its own end, so ``compress_len`` (whose
order of cameras is written nowhere) is not needed.

ALOHA's recorder runs at 50 Hz and does not write that down: the rate is the user's to give,
unless the file has an attribute for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import re

import h5py

from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.hdf5_episode import (
    describe_array, Hdf5Camera, Hdf5Job, Hdf5Schema, Hdf5Vector)
from ssl_vla_ros.dataset.sources.hdf5_file import (
    attribute, child, find_array, find_group, names_in, opened)
from ssl_vla_ros.dataset.sources.hdf5_source import make_source
from ssl_vla_ros.dataset.sources.rows import choose_rate, identifier, UnsuitableError
from ssl_vla_ros.errors import DatasetError

#: Attributes of a file that may hold its rate, and those that may hold what was done.
_RATES = ('fps', 'control_freq', 'frequency', 'rate_hz')
_TASKS = ('language_instruction', 'instruction', 'task')
_NEEDED = ('observations/qpos', 'action')
_ACTIONS = ('action', 'base_action')


def open_aloha(path: Path, files: Sequence[Path], options: ImportOptions) -> Source:
    """
    Open files of ALOHA's layout.

    Parameters
    ----------
    path
        What the user named.
    files
        The HDF5 files it means, one an episode.
    options
        ``rate_hz`` and ``task`` are needed where the files have no attribute with them.

    Raises
    ------
    DatasetError
        If no episode can be used, or the rate is not known.

    """
    problems = Notes()
    refused: list[tuple[str, str]] = []
    jobs: list[Hdf5Job] = []
    schema: Hdf5Schema | None = None
    left_out: list[str] = []
    rates: list[tuple[object, str]] = []
    for file in files:
        try:
            with opened(file) as handle:
                if schema is None:
                    schema, left_out = _describe(handle, problems)
                rate = next(((value, f'{file}: the attribute {key}') for key in _RATES
                             if (value := attribute(handle, key)) is not None), (None, ''))
                if rates and rate[0] != rates[0][0] and options.rate_hz is None:
                    raise DatasetError(f'{file}: the rate is {rate[0]!r}, the files before have '
                                       f'{rates[0][0]!r}')
                rates.append(rate)
                said = next(filter(None, (attribute(handle, key) for key in _TASKS)), '')
                jobs.append(Hdf5Job(
                    file.stem, path if path.is_dir() else path.parent, file, '', schema,
                    said if isinstance(said, str) and said.strip() else options.task))
        except DatasetError as error:
            refused.append((file.stem, str(error)))
    if schema is None or not jobs:
        raise DatasetError(refused[0][1])
    _note_gaps(files, problems)
    rate_hz = choose_rate(
        options, *rates[0], f'{path}: nothing says how many rows a second were recorded; give it '
        "with --rate (ALOHA's own recorder: --rate 50)", problems)
    return make_source('ALOHA HDF5', path, options, schema, jobs, rate_hz, 'aloha', problems,
                       refused, left_out)


def _describe(file: h5py.File, problems: Notes) -> tuple[Hdf5Schema, list[str]]:
    observations = find_group(file, 'observations')
    cameras: list[Hdf5Camera] = []
    vectors: list[Hdf5Vector] = []
    left_out: list[str] = []
    compressed = child(file, 'compress_len') is not None
    images = child(observations, 'images')
    keys = [(f'observations/images/{name}', 'state') for name in (
        names_in(images) if isinstance(images, h5py.Group) else ())]
    keys += [(f'observations/{name}', 'state') for name in names_in(observations)
             if name != 'images']
    keys += [(name, 'action') for name in _ACTIONS if child(file, name) is not None]
    for key in _NEEDED:
        find_array(file, key)
    for key, part in keys:
        try:
            array = describe_array(file, key, identifier(key.rpartition('/')[2], 'value'), part,
                                   swapped=compressed)
        except UnsuitableError as error:
            left_out.append(f'{key} ({error.reason})')
            continue
        if isinstance(array, Hdf5Camera):
            cameras.append(array)
        else:
            vectors.append(array)
    encoded = [camera for camera in cameras if camera.encoded]
    if any(camera.swapped for camera in encoded):
        problems.add("the JPEGs are read as ALOHA's recorder writes them, red and blue changed: "
                     'if another program wrote them, the colours are wrong')
    elif encoded:
        problems.add('there is no compress_len: the JPEGs are read as the standard says, not as '
                     "ALOHA's recorder writes them")
    left_out += [name for name in names_in(file)
                 if name not in ('observations', 'compress_len', *_ACTIONS)]
    return Hdf5Schema(tuple(cameras), tuple(vectors)), left_out


def _note_gaps(files: Sequence[Path], problems: Notes) -> None:
    found = [re.fullmatch(r'episode_(\d+)', file.stem) for file in files]
    numbers = {int(number[1]) for number in found if number is not None}
    gaps = [str(number) for number in range(max(numbers, default=0)) if number not in numbers]
    if len(files) > 1 and gaps:
        problems.add(f'there is no episode_{", ".join(gaps[:10])}'
                     + (' …' if len(gaps) > 10 else ''))
