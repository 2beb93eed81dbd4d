# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Files of NumPy arrays (npz), read one array and one picture at a time.

Arrays of Python objects are pickles, which may run anything when they are read: they never are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import math
from pathlib import Path
from typing import IO
import zipfile
import zlib

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import DatasetError

_ENDING = '.npy'
#: What a damaged file raises, besides what the file system does.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError,
           RuntimeError, OSError)


@dataclass(frozen=True)
class ArrayHeader:
    """What one array of a file says of itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error
    except _DAMAGE as error:
        raise DatasetError(f'{path}: cannot read this npz file: {error}') from error


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """
    Headers of all arrays of a file, without the arrays.

    Raises
    ------
    DatasetError
        If the file is missing, cut off, or no npz.

    """
    found = {}
    with _explained(path), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.filename.endswith(_ENDING):
                with archive.open(member) as file:
                    name = member.filename.removesuffix(_ENDING)
                    found[name] = header = _header(file)
                    if header.dtype.hasobject:
                        continue
                    size = math.prod(header.shape) * header.dtype.itemsize
                    if member.file_size - file.tell() != size:
                        raise DatasetError(
                            f'{path}: {name} has {member.file_size - file.tell()} bytes, its '
                            f'header says {size}')
    return found


def _header(file: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f'npy version {version} is not known')
    return ArrayHeader(tuple(map(int, shape)), dtype, bool(fortran))


def read_array(path: Path, name: str) -> NDArray[np.generic]:
    """
    Read one array whole.

    Raises
    ------
    DatasetError
        If it is missing, damaged, or holds Python objects.

    """
    with _explained(path), np.load(path, allow_pickle=False) as file:
        return np.asarray(file[name])


def read_slices(path: Path, name: str, header: ArrayHeader, count: int, shape: tuple[int, ...]
                ) -> Iterator[NDArray[np.uint8]]:
    """
    Read ``count`` arrays of a ``shape`` that lie in an array one after the other.

    Raises
    ------
    DatasetError
        If the file is damaged.

    """
    if header.fortran:  # such an array does not hold one picture after the other
        yield from np.asarray(read_array(path, name), dtype=np.uint8).reshape(count, *shape)
        return
    size = math.prod(shape)
    with _explained(path), zipfile.ZipFile(path) as archive, archive.open(name + _ENDING) as file:
        _header(file)
        for number in range(count):
            data = file.read(size)
            if len(data) != size:
                raise DatasetError(f'{path}: {name} ends in the middle of picture {number}')
            yield np.frombuffer(data, dtype=np.uint8).reshape(shape)
