# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
RLDS datasets (TFRecord as TensorFlow Datasets writes it), read without TensorFlow.

A step of RLDS is an observation and the action that was chosen from it, which leads to the next
step's: a row here is the same pair. The observation that a last action led to may be stored as a
step of its own; RLDS gives its action no meaning, and most writers put zeros there. So a last row
whose action is all zeros is left out, with a note, unless the row before it is all zeros too (the
robot rests). All other rows are kept as they are.

``is_first`` after the first step refuses an episode, since two of them lie in one record then.
``is_last`` is only held against the rows. ``is_terminal``, ``reward`` and ``discount`` are not
kept: no convention says which of them means success. Actions and states keep their units and
frames, which RLDS does not describe.

RLDS has no rate and no stamps: rows are spaced evenly, their skew is unknown.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ssl_vla_ros.dataset.files import read_json
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.made_contract import choose_contract, make_contract
from ssl_vla_ros.dataset.sources.rlds_episode import encoded_pictures, RldsJob, shows_nothing
from ssl_vla_ros.dataset.sources.rlds_files import FEATURES, find_files, RldsFiles
from ssl_vla_ros.dataset.sources.rlds_schema import (
    count_steps, infer_schema, note_declared, RldsCamera, RldsSchema)
from ssl_vla_ros.dataset.sources.rows import choose_rate, note_odd_sizes
from ssl_vla_ros.dataset.sources.tfrecord import Example, read_record
from ssl_vla_ros.errors import DatasetError

#: Published rates of datasets that say who they are: a hint in an error, never taken silently.
_PUBLISHED_HZ = {'bridge_dataset': 5, 'droid': 15, 'fractal20220817_data': 3}
#: So many episodes, evenly chosen, tell which cameras show anything …
_LOOKED_AT = 32
#: … and so many where one of them has not shown anything yet.
_LOOKED_AT_MOST = 256


def open_rlds(path: Path, options: ImportOptions) -> Source:
    """
    Open an RLDS dataset.

    Parameters
    ----------
    path
        The directory that holds the shards (``NAME/1.0.0``), or one of them.
    options
        ``rate_hz`` is needed unless ``metadata.json`` has a rate; ``task`` where episodes have no
        instruction.

    Raises
    ------
    DatasetError
        If there is no episode, no rate, or neither pictures nor state.

    """
    problems = Notes()
    files = find_files(path, problems)
    said, where = files.rate
    rate_hz = choose_rate(options, said, where, _no_rate(files), problems)
    example, schema, left_out = _first_episode(files)
    if not schema.cameras and not schema.state:
        raise DatasetError(f'{path}: there is neither a picture nor a state to observe; it has '
                           + ', '.join(left_out))
    if (files.root / FEATURES).is_file():
        note_declared(read_json(files.root / FEATURES), schema, example, problems)
    if schema.state or schema.action:
        problems.add('RLDS has no names for the values of '
                     + ', '.join(vector.key for vector in (*schema.state, *schema.action))
                     + ': they are numbered')
    for part, vectors in (('state', schema.state), ('action', schema.action)):
        if not vectors:
            problems.add(f'there is no {part}')
    schema = _without_black(files, schema, left_out, problems)
    cameras = {camera.name: (camera.height, camera.width) for camera in schema.cameras}
    note_odd_sizes(cameras, problems)
    contract = choose_contract(options, make_contract(
        files.records[0][1].path, robot=options.robot or files.dataset, rate_hz=rate_hz,
        cameras=cameras,
        state=[name for vector in schema.state for name in vector.names],
        action=[name for vector in schema.action for name in vector.names]), path)
    return Source(
        kind='RLDS', path=path, contract=contract,
        jobs=[RldsJob(name, files.root, record, schema, options.task)
              for name, record in files.records],
        found={
            'dataset': files.dataset or 'unnamed', 'rate_hz': rate_hz,
            'episodes': len(files.records) + len(files.refused), 'shards': len(files.shards),
            'cameras': ' '.join(f'{camera.name} {camera.height}x{camera.width}'
                                for camera in schema.cameras) or 'none',
            'state': len(contract.state_names), 'action': len(contract.action_names)},
        refused=files.refused, problems=problems, left_out=left_out)


def _no_rate(files: RldsFiles) -> str:
    known = _PUBLISHED_HZ.get(files.dataset)
    return (f'{files.root}: RLDS does not say how many steps a second were recorded; give it with '
            '--rate' + (f' ({files.dataset} was published with {known} Hz: --rate {known})'
                        if known else ''))


def _first_episode(files: RldsFiles) -> tuple[Example, RldsSchema, list[str]]:
    """Return the first episode that can be read, what its features are and what is left out."""
    reason: DatasetError | None = None
    for _, record in files.records:
        try:
            example = Example(read_record(record), record.where)
            return (example, *infer_schema(example, record.where))
        except DatasetError as error:
            reason = reason or error
    raise DatasetError(f'{files.root}: none of the {len(files.records)} records can be used; the '
                       f'first: {reason}')


def _without_black(files: RldsFiles, schema: RldsSchema, left_out: list[str], problems: Notes
                   ) -> RldsSchema:
    """Drop cameras that show nothing anywhere, and note flags that do not tell the truth."""
    if not schema.cameras:
        return schema
    black = {camera.name: 0 for camera in schema.cameras}
    looked, done = 0, set()
    for limit in (_LOOKED_AT, _LOOKED_AT_MOST):
        count = min(len(files.records), limit)
        for number in np.linspace(0, len(files.records) - 1, count).astype(int).tolist():
            if number in done or (looked >= _LOOKED_AT and looked not in black.values()):
                continue
            done.add(number)
            found = _look(files, number, schema, problems)
            looked += bool(found)
            for name, nothing in found.items():
                black[name] += nothing
    gone = [camera for camera in schema.cameras if looked and black[camera.name] == looked]
    which = f'all {looked} episodes' + (
        f' looked at, of {len(files.records)}' if looked < len(files.records) else '')
    left_out += [f'{camera.key} (black in {which})' for camera in gone]
    kept = tuple(camera for camera in schema.cameras if camera not in gone)
    if not kept and not schema.state:
        raise DatasetError(
            f'{files.root}: every camera is black in {which}, and there is no state')
    return RldsSchema(kept, schema.state, schema.action)


def _look(files: RldsFiles, number: int, schema: RldsSchema, problems: Notes) -> dict[str, bool]:
    """Tell which cameras are black in an episode; nothing of one that cannot be read."""
    record = files.records[number][1]
    found: dict[str, bool] = {}
    try:
        example = Example(read_record(record), record.where)
        steps = count_steps(example, record.where)
        for camera in schema.cameras:
            data = encoded_pictures(example, camera, steps, record.where)
            found[camera.name] = shows_nothing(data, f'{record.where}: {camera.key}')
    except DatasetError:
        # Loading the episode meets the same error and refuses it by name.
        return {}
    for camera in schema.cameras:
        _note_flag(example, camera, found[camera.name], number, problems)
    return found


def _note_flag(example: Example, camera: RldsCamera, black: bool, number: int, problems: Notes
               ) -> None:
    key = f'episode_metadata/has_{camera.name}'
    if key in example and example.kind(key) == 'int64' and example.count(key) == 1:
        if bool(example[key][0]) == black:
            problems.add(f'{key} is {int(example[key][0])}, but {camera.name} '
                         f'{"is black" if black else "has pictures"}', number)
