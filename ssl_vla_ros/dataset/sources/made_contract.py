# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Contracts for recordings that came without one.

Topics lie under ``imported/`` and there are no limits: such a contract records nothing and runs
no policy until somebody writes a real one for the robot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.errors import DatasetError


def make_contract(source: Path, *, robot: str, rate_hz: int,
                  cameras: Mapping[str, tuple[int, int]], state: Sequence[str] = (),
                  action: Sequence[str] = (), sync: Mapping[str, Any] | None = None) -> Contract:
    """
    Make a contract of what a source has.

    Parameters
    ----------
    source
        The file that says what there is, for messages.
    robot
        The robot's name; letters that a contract forbids become ``_``, no name ``imported``.
    rate_hz
        Rows a second.
    cameras
        Height and width by name; an odd side is stored one pixel smaller.
    state, action
        Names of the values.
    sync
        The contract's section of this name.

    """
    def streams(part: str, names: Sequence[str]) -> list[dict[str, Any]]:
        return [{'topic': f'imported/{part}', 'type': 'std_msgs/Float64MultiArray',
                 'names': list(names)}] if names else []

    return parse_contract(
        {'robot': robot_name(robot), 'rate_hz': rate_hz,
         'cameras': {name: {'topic': f'imported/camera/{name}', 'type': 'sensor_msgs/Image',
                            'height': height - height % 2, 'width': width - width % 2}
                     for name, (height, width) in cameras.items()},
         'state': streams('state', state), 'action': streams('action', action),
         'sync': dict(sync or {})}, str(source))


def robot_name(text: str) -> str:
    """Turn a robot's name into one that a contract may have."""
    return ''.join(letter if letter.isalnum() and letter.isascii() or letter in '_.-' else '_'
                   for letter in text) or 'imported'


def choose_contract(options: ImportOptions, own: Contract, source: Path) -> Contract:
    """
    Take the user's contract, if it is given and the source has all that it names.

    Raises
    ------
    DatasetError
        Naming what the source lacks, or a rate that is not the source's.

    """
    if options.rate_hz not in (None, own.rate_hz):
        raise DatasetError(
            f'{source}: has {own.rate_hz} rows a second, --rate says {options.rate_hz}; rows are '
            'taken as they are: leave --rate out')
    wanted = options.contract
    if wanted is None:
        return own
    lacks = [f'{part} {name}'
             for part, ours, theirs in (
                 ('camera', wanted.camera_names, own.camera_names),
                 ('state', wanted.state_names, own.state_names),
                 ('action', wanted.action_names, own.action_names))
             for name in ours if name not in theirs]
    if lacks:
        raise DatasetError(
            f'{source}: lacks what {wanted.source} names: {", ".join(lacks)}; it has the cameras '
            f'{list(own.camera_names)}, the state {list(own.state_names)} and the action '
            f'{list(own.action_names)}')
    if wanted.rate_hz != own.rate_hz:
        raise DatasetError(f'{source}: has {own.rate_hz} rows a second, {wanted.source} says '
                           f'rate_hz: {wanted.rate_hz}')
    return wanted
