# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
robomimic's HDF5: ``data/demo_N`` with ``obs``, ``actions``, ``rewards``; also LIBERO's.

``obs[t]`` is what ``actions[t]`` was chosen from, so a row is the two at one ``t``; ``next_obs``
repeats it. Pictures and vectors of ``obs`` become cameras and state, except ``object…``: a
simulator's truth about the objects, which no robot sees, becomes ``evaluation``. ``rewards`` say
whether the task was achieved where ``env_args`` says that they are sparse (``reward_shaping`` is
false); where they are shaped, or nothing is said, that is left open.

Pictures are never turned over. robosuite renders upside down: robomimic's own script turns its
pictures upright before it writes them, LIBERO's does not. A note says which of them this is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.hdf5_episode import (
    describe_array, Hdf5Camera, Hdf5Job, Hdf5Schema, Hdf5Vector)
from ssl_vla_ros.dataset.sources.hdf5_file import (
    attribute, child, find_group, json_attribute, names_in, opened, where_of)
from ssl_vla_ros.dataset.sources.hdf5_source import make_source
from ssl_vla_ros.dataset.sources.rows import choose_rate, identifier, UnsuitableError
from ssl_vla_ros.errors import DatasetError


@dataclass
class _Opened:
    """What is known of the files read so far."""

    options: ImportOptions
    problems: Notes = field(default_factory=Notes)
    refused: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    jobs: list[Hdf5Job] = field(default_factory=list)
    schema: Hdf5Schema | None = None
    rate: tuple[object, str] | None = None
    robot: str = ''


def open_robomimic(path: Path, files: Sequence[Path], options: ImportOptions) -> Source:
    """
    Open files of robomimic's layout.

    Parameters
    ----------
    path
        What the user named.
    files
        The HDF5 files it means.
    options
        ``rate_hz`` is needed where ``env_args`` has no ``control_freq``, ``task`` where no file
        has an instruction.

    Raises
    ------
    DatasetError
        If no demonstration can be used, or the rate is not known.

    """
    found = _Opened(options)
    for file in files:
        try:
            with opened(file) as handle:
                _read_file(handle, file, f'{file.name} ' if len(files) > 1 else '', path, found)
        except DatasetError as error:
            found.refused.append((file.name, str(error)))
    if found.schema is None or found.rate is None or not found.jobs:
        raise DatasetError(found.refused[0][1] if found.refused
                           else f'{path}: there is no demonstration')
    said, where = found.rate
    rate_hz = choose_rate(
        options, said, where, f'{where} is missing: nothing says how many rows a second were '
        'recorded; give it with --rate', found.problems)
    return make_source(
        'robomimic HDF5', path, options, found.schema, found.jobs, rate_hz, found.robot,
        found.problems, found.refused, found.left_out)


def _read_file(handle: h5py.File, file: Path, prefix: str, path: Path, found: _Opened) -> None:
    data = find_group(handle, 'data')
    demos: dict[str, h5py.Group] = {}
    for name in names_in(data):
        try:
            demos[name] = find_group(data, name)
        except DatasetError as error:
            found.refused.append((f'{prefix}{name}', str(error)))
    if not demos:
        raise DatasetError(f'{file}: data holds no demonstration')
    arguments = json_attribute(data, 'env_args', found.problems)
    kwargs = arguments.get('env_kwargs')
    kwargs = kwargs if isinstance(kwargs, Mapping) else {}
    rate = kwargs.get('control_freq')
    if found.rate is not None and rate != found.rate[0] and found.options.rate_hz is None:
        raise DatasetError(f'{file}: env_args.env_kwargs.control_freq is {rate!r}, the files '
                           f'before have {found.rate[0]!r}')
    if found.schema is None:
        found.schema, found.left_out = _first_schema(list(demos.values()))
        found.left_out += [name for name in names_in(handle) if name != 'data']
        found.robot = _robot(arguments, kwargs)
    if found.rate is None:
        found.rate = (rate, f'{file}: data.attrs env_args.env_kwargs.control_freq')
    if found.schema.cameras:
        _note_flip(data, arguments, file, found.problems)
    sentence = json_attribute(data, 'problem_info', found.problems).get('language_instruction')
    # Some of LIBERO's files have it as a list of letters.
    task = ''.join(map(str, sentence)) if isinstance(sentence, list) else str(sentence or '')
    sparse = kwargs.get('reward_shaping') is False
    for name, demo in demos.items():
        own = json_attribute(demo, 'ep_meta', found.problems).get('lang')
        length = attribute(demo, 'num_samples')
        found.jobs.append(Hdf5Job(
            f'{prefix}{name}', path if path.is_dir() else path.parent, file, f'data/{name}',
            found.schema, str(own or task or found.options.task),
            length if isinstance(length, int) else None,
            'rewards' if sparse and 'rewards' in names_in(demo) else ''))


def _first_schema(demos: Sequence[h5py.Group]) -> tuple[Hdf5Schema, list[str]]:
    """Describe the first demonstration that can be."""
    reason: DatasetError | None = None
    for demo in demos:
        try:
            return _describe(demo)
        except DatasetError as error:
            reason = reason or error
    raise reason or DatasetError('')


def _describe(demo: h5py.Group) -> tuple[Hdf5Schema, list[str]]:
    if child(demo, 'obs') is None:
        raise DatasetError(f'{where_of(demo)} has no obs; robomimic makes them of the states with '
                           'dataset_states_to_obs.py')
    cameras: list[Hdf5Camera] = []
    vectors: list[Hdf5Vector] = []
    left_out: list[str] = []
    for name in names_in(find_group(demo, 'obs')):
        part = 'evaluation' if name.startswith('object') else 'state'
        try:
            array = describe_array(demo, f'obs/{name}', identifier(name, 'obs'), part)
        except UnsuitableError as error:
            left_out.append(f'obs/{name} ({error.reason})')
            continue
        if isinstance(array, Hdf5Camera):
            cameras.append(array)
        else:
            vectors.append(array)
    action = describe_array(demo, 'actions', 'action', 'action')
    if isinstance(action, Hdf5Camera):
        raise DatasetError(f'{where_of(demo, "actions")} holds pictures')
    vectors.append(action)
    left_out += [name for name in names_in(demo) if name not in ('obs', 'actions')]
    return Hdf5Schema(tuple(cameras), tuple(vectors)), left_out


def _robot(arguments: Mapping[str, Any], kwargs: Mapping[str, Any]) -> str:
    robots = kwargs.get('robots') or arguments.get('env_name') or ''
    return '_'.join(map(str, robots)) if isinstance(robots, list) else str(robots)


def _note_flip(data: h5py.Group, arguments: Mapping[str, Any], file: Path, problems: Notes
               ) -> None:
    convention = attribute(data, 'macros_image_convention')
    if convention == 'opengl':
        problems.add("macros_image_convention is 'opengl': the pictures are upside down and are "
                     'kept so')
    elif convention is None and arguments.get('type') == 1:
        problems.add("pictures of robosuite are kept as they are: upright if robomimic's "
                     'dataset_states_to_obs.py wrote them, upside down if they are as rendered')
