# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What an npz file says about its arrays: names, rate, times, words and outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.sources.npz_file import ArrayHeader, read_array
from ssl_vla_ros.dataset.sources.rows import numbered
from ssl_vla_ros.errors import DatasetError

RATE = ('fps', 'rate_hz', 'hz')
TIMES = ('timestamps', 'timestamp', 'times')
TASK = ('task', 'language_instruction', 'instruction')
#: Part by which a rate taken from times may miss a whole number.
_NEAR = 0.01


def one(path: Path, headers: Mapping[str, ArrayHeader], known: Sequence[str]) -> str:
    """
    Find the one array that has one of the known names; '' if none has.

    Raises
    ------
    DatasetError
        If two have, or it holds Python objects.

    """
    found = [key for key in known if key in headers]
    if len(found) > 1:
        raise DatasetError(f'{path}: has {" and ".join(found)}, which mean the same: leave one')
    for key in found:
        refuse_objects(path, key, headers[key])
    return found[0] if found else ''


def refuse_objects(path: Path, key: str, header: ArrayHeader) -> None:
    """
    Refuse an array that could only be unpickled.

    Raises
    ------
    DatasetError
        If it is one.

    """
    if header.dtype.hasobject:
        raise DatasetError(
            f'{path}: {key} holds Python objects, a pickle that may run anything when it is '
            'read: save it as an array of plain numbers')


def names(path: Path, headers: Mapping[str, ArrayHeader], part: str, width: int
          ) -> tuple[str, ...]:
    """
    Names of the values of ``state`` or ``action``; numbers where the file has none.

    Raises
    ------
    DatasetError
        If there are names, but not one for each value.

    """
    key = f'{part}_names'
    if key not in headers:
        return numbered(part, width)
    refuse_objects(path, key, headers[key])
    found = tuple(str(name) for name in read_array(path, key).reshape(-1))
    if len(set(found)) != width or len(found) != width or not all(found):
        raise DatasetError(f'{path}: {key} is {list(found)}, must be {width} different names')
    return found


def clock(path: Path, headers: Mapping[str, ArrayHeader], rows: int
          ) -> tuple[NDArray[np.float64] | None, float | None]:
    """
    Read the times of the rows, and rows a second, as far as the file says them.

    Raises
    ------
    DatasetError
        If it says something that cannot be.

    """
    key = one(path, headers, TIMES)
    times = None
    if key:
        times = _numbers(path, key, headers[key])
        if len(times) != rows or not np.isfinite(times).all():
            raise DatasetError(f'{path}: {key} has {len(times)} numbers, must be {rows} finite '
                               'ones, in seconds')
        if rows and abs(times[-1]) > 9e9:
            raise DatasetError(f'{path}: {key} ends at {times[-1]:g}, which cannot be seconds')
    rate = one(path, headers, RATE)
    if rate:
        return times, float(_numbers(path, rate, headers[rate])[0])
    if 'dt' in headers:
        refuse_objects(path, 'dt', headers['dt'])
        step = float(np.median(_numbers(path, 'dt', headers['dt'])))
    elif times is not None and rows > 1:
        step = float(np.median(np.diff(times)))
    else:
        return times, None
    if not step > 0:
        raise DatasetError(f'{path}: the time from row to row is {step:g} s, must be above 0')
    return times, _rounded(1.0 / step)


def _numbers(path: Path, key: str, header: ArrayHeader) -> NDArray[np.float64]:
    if header.dtype.kind not in 'fiu' or not np.prod(header.shape):
        raise DatasetError(f'{path}: {key} is {header.dtype} {header.shape}, must be numbers')
    return np.asarray(read_array(path, key), dtype=np.float64).reshape(-1)


def _rounded(rate: float) -> float:
    return float(round(rate)) if abs(rate - round(rate)) <= _NEAR * rate else rate


def text(path: Path, headers: Mapping[str, ArrayHeader]) -> str:
    """
    Say what was done, in words; '' if the file does not say.

    Raises
    ------
    DatasetError
        If it says it with something that is no text.

    """
    key = one(path, headers, TASK)
    if not key:
        return ''
    values = read_array(path, key).reshape(-1)
    texts = {value.decode('utf-8', 'replace') if isinstance(value, bytes) else str(value)
             for value in values.tolist()}
    if headers[key].dtype.kind not in 'SU' or len(texts) != 1:
        raise DatasetError(f'{path}: {key} is {headers[key].dtype} {headers[key].shape}, must be '
                           'one text')
    return ' '.join(texts.pop().split())


def success(path: Path, headers: Mapping[str, ArrayHeader]) -> bool | None:
    """
    Whether the task was achieved, by the last value; None if the file does not say.

    Raises
    ------
    DatasetError
        If it says something else than true or false.

    """
    if 'success' not in headers:
        return None
    header = headers['success']
    values = read_array(path, 'success').reshape(-1) if header.dtype.kind in 'bui' else None
    if values is None or not len(values) or not np.isin(values, (0, 1)).all():
        raise DatasetError(f'{path}: success is {header.dtype} {header.shape}, must be true or '
                           'false')
    return bool(values[-1])
