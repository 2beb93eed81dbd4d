# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What arrays without a clock are given: a rate, even stamps, a name for each value.

A value is named after its array and its place in it, since such files name arrays alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract
from ssl_vla_ros.dataset.aligned import AlignedEpisode, stream_labels
from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.base import ImportOptions
from ssl_vla_ros.errors import DatasetError

_SECOND = 1_000_000_000
#: The rates a contract may have.
_RATES = range(1, 1001)
#: Heights and widths a contract may have.
SIZES = range(16, 4097)


class UnsuitableError(DatasetError):
    """
    An array that is neither numbers nor pictures as a dataset has them.

    Attributes
    ----------
    reason
        What it is, without the file's name.

    """

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f'{where} {reason}')
        self.reason = reason


def identifier(text: str, prefix: str) -> str:
    """Letters, digits and _ alone, a letter first: as a contract wants cameras named."""
    name = re.sub(r'[^A-Za-z0-9_]', '_', text)
    return name if name[:1].isalpha() else f'{prefix}_{name}'


def distinct(names: Iterable[str]) -> list[str]:
    """Return the names, a doubled one with a number after it."""
    found: list[str] = []
    for name in names:
        other, number = name, 2
        while other in found:
            other, number = f'{name}_{number}', number + 1
        found.append(other)
    return found


def numbered(name: str, width: int) -> tuple[str, ...]:
    """Names of an array's values where the source has none."""
    return tuple(f'{name}_{index}' for index in range(width))


def note_odd_sizes(cameras: Mapping[str, tuple[int, int]], problems: Notes) -> None:
    """Note each camera with an odd height or width, which no video can have."""
    for name, (height, width) in cameras.items():
        if height % 2 or width % 2:
            problems.add(f'{name}: {height}x{width} is odd: stored one pixel smaller')


def choose_rate(options: ImportOptions, said: object, where: str, missing: str, problems: Notes
                ) -> int:
    """
    Rows a second: what the user says, else what the source does.

    Parameters
    ----------
    options
        What the user says.
    said
        The source's own rate, None if it has none.
    where
        The file and the key of that rate.
    missing
        What the error says if nobody knows.
    problems
        Takes a note where the two differ.

    Raises
    ------
    DatasetError
        If there is no rate, or it is none that a contract may have.

    """
    if options.rate_hz is not None:
        if options.rate_hz not in _RATES:
            raise DatasetError(
                f'--rate is {options.rate_hz}, must be a whole number from 1 to 1000')
        if said is not None and said != options.rate_hz:
            problems.add(f'{where} is {said!r}: taken as {options.rate_hz} Hz, as --rate says')
        return options.rate_hz
    if said is None:
        raise DatasetError(missing)
    if isinstance(said, bool) or not isinstance(said, int | float) or said not in _RATES:
        raise DatasetError(f'{where} is {said!r}, must be a whole number from 1 to 1000; give the '
                           'true one with --rate')
    return int(said)


def finite_rows(values: NDArray[Any], where: str) -> NDArray[np.float32]:
    """
    Convert (T, N) numbers to float32.

    Raises
    ------
    DatasetError
        Naming the first row that holds NaN, infinity, or what float32 cannot hold.

    """
    with np.errstate(over='ignore'):
        rows = np.asarray(values, dtype=np.float32)
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise DatasetError(f'{where} has no number in row {int(np.flatnonzero(bad)[0])}')
    return rows


def even_rows(contract: Contract, where: str, values: Mapping[str, Mapping[str, NDArray[Any]]],
              pictures: Mapping[str, Iterable[NDArray[np.uint8]]], rows: int) -> AlignedEpisode:
    """
    Put an episode together whose rows are evenly spaced; how well they fit is not known.

    Parameters
    ----------
    contract
        Which values and cameras, in which order.
    where
        For error messages.
    values
        For ``state``, ``action`` and ``evaluation`` the (T,) values by name.
    pictures
        For each camera, what yields its T pictures.
    rows
        T.

    Raises
    ------
    DatasetError
        If the contract wants a state, action or camera that is not there, or T is 0.

    """
    wanted = {'state': contract.state_names, 'action': contract.action_names,
              'evaluation': contract.evaluation_names}
    missing = [f'{part} {name}' for part in ('state', 'action') for name in wanted[part]
               if name not in values.get(part, {})]
    missing += [f'camera {name}' for name in contract.camera_names if name not in pictures]
    if missing:
        raise DatasetError(f'{where}: there is no {", ".join(missing)}')
    if not rows:
        raise DatasetError(f'{where}: the episode has no rows')

    def columns(part: str) -> NDArray[np.float32]:
        found = np.full((rows, len(wanted[part])), np.nan, dtype=np.float32)
        for index, name in enumerate(wanted[part]):
            if name in values.get(part, {}):
                found[:, index] = values[part][name]
        return found

    unknown = np.full(rows, np.nan, dtype=np.float32)
    return AlignedEpisode(
        ticks_ns=np.rint(np.arange(rows) * (_SECOND / contract.rate_hz)).astype(np.int64),
        pictures={name: pictures[name] for name in contract.camera_names},
        state=columns('state'), action=columns('action'), evaluation=columns('evaluation'),
        skew_s={label: unknown for label, _, _ in stream_labels(contract)},
        flagged=np.zeros(rows, dtype=bool))
