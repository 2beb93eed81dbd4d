# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the layouts of HDF5 recordings share once their arrays are known: contract and report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ssl_vla_ros.contract import Stream
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.hdf5_episode import Hdf5Job, Hdf5Schema
from ssl_vla_ros.dataset.sources.made_contract import choose_contract, make_contract
from ssl_vla_ros.dataset.sources.rows import distinct, note_odd_sizes
from ssl_vla_ros.errors import DatasetError


def distinct_names(schema: Hdf5Schema) -> Hdf5Schema:
    """Put the array's name before names that two arrays of one part have; number cameras."""
    names = distinct(camera.name for camera in schema.cameras)
    cameras = tuple(replace(camera, name=name) for camera, name in zip(
        schema.cameras, names, strict=True))
    vectors = []
    for vector in schema.vectors:
        others = {name for other in schema.vectors if other is not vector
                  and other.part == vector.part for name in other.names}
        prefix = vector.key.rpartition('/')[2]
        vectors.append(replace(vector, names=tuple(
            f'{prefix}.{name}' if name in others else name for name in vector.names)))
    return Hdf5Schema(cameras, tuple(vectors))


def make_source(kind: str, path: Path, options: ImportOptions, schema: Hdf5Schema,
                jobs: Sequence[Hdf5Job], rate_hz: int, robot: str, problems: Notes,
                refused: Sequence[tuple[str, str]], left_out: Sequence[str]) -> Source:
    """
    Put a source together.

    Raises
    ------
    DatasetError
        If there is neither a camera nor a state, or the user's contract does not fit.

    """
    schema = distinct_names(schema)
    if not schema.cameras and not schema.names('state'):
        raise DatasetError(f'{jobs[0].path}: there is neither a picture nor a state to observe')
    unnamed = [vector.key for vector in schema.vectors if vector.numbered]
    if unnamed:
        problems.add(f'nothing names the values of {", ".join(unnamed)}: they are numbered')
    if not schema.names('action'):
        problems.add('there is no action')
    cameras = {camera.name: (camera.height, camera.width) for camera in schema.cameras}
    note_odd_sizes(cameras, problems)
    own = make_contract(
        jobs[0].path, robot=options.robot or robot, rate_hz=rate_hz, cameras=cameras,
        state=schema.names('state'), action=schema.names('action'))
    if schema.names('evaluation'):
        own = replace(own, evaluation=(Stream(
            'imported/evaluation', 'std_msgs/Float64MultiArray', 'data',
            tuple(schema.names('evaluation'))),))
    contract = choose_contract(options, own, path)
    return Source(
        kind=kind, path=path, contract=contract,
        jobs=[replace(job, schema=schema) for job in jobs],
        found={
            'robot': contract.robot, 'rate_hz': rate_hz, 'episodes': len(jobs) + len(refused),
            'files': len({job.path for job in jobs}),
            'cameras': ' '.join(f'{name} {height}x{width}'
                                for name, (height, width) in cameras.items()) or 'none',
            'state': len(contract.state_names), 'action': len(contract.action_names),
            'evaluation': len(contract.evaluation_names)},
        refused=refused, problems=problems, left_out=left_out)
