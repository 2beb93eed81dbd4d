# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
HDF5 files, read no further than they go themselves.

Links (soft and external), arrays whose data lies in other files (virtual, external) and object
references are not followed: a recording must not be able to name another file of its reader's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
import json
import os
from pathlib import Path
import re
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.rows import UnsuitableError
from ssl_vla_ros.errors import DatasetError

SUFFIXES = ('.hdf5', '.h5')
#: More rows than any episode has; who declares more has no such data in the file.
_MOST_ROWS = 1_000_000
#: About so many bytes of pictures are read at once.
_BLOCK_BYTES = 8 * 1024 * 1024
#: What h5py raises for damaged content.
_DAMAGE = (OSError, KeyError, RuntimeError, TypeError, ValueError)
_LINKS = {h5py.h5l.TYPE_SOFT: 'a soft', h5py.h5l.TYPE_EXTERNAL: 'an external'}


def find_hdf5(path: Path) -> list[Path]:
    """List the HDF5 files that a path means: itself, or those in it by the numbers in names."""
    files = [path] if path.is_file() else path.iterdir() if path.is_dir() else []
    return sorted((file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()
                   and not file.name.startswith('.')), key=lambda file: by_number(file.name))


def by_number(name: str) -> list[tuple[int, str]]:
    """Sort key that puts ``demo_10`` behind ``demo_9``."""
    return [(int(part), '') if part.isdecimal() else (-1, part)
            for part in re.split(r'(\d+)', name)]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """
    Open a file for reading.

    Raises
    ------
    DatasetError
        If it is missing, cut off, or no HDF5 file.

    """
    try:
        file = h5py.File(path, 'r')
    except BlockingIOError as error:
        raise DatasetError(f'{path}: another program has it open for writing') from error
    except OSError as error:
        if error.errno is not None:
            raise DatasetError(f'{path}: cannot read it: {os.strerror(error.errno)}') from error
        text = str(error)
        cut = re.search(r'truncated file.*stored_eof = (\d+)', text)
        if cut is not None:
            raise DatasetError(f'{path}: the file is cut off: it has {path.stat().st_size} of '
                               f'{cut[1]} bytes; copy it again') from error
        if 'signature not found' in text:
            raise DatasetError(f'{path}: is no HDF5 file') from error
        raise DatasetError(f'{path}: cannot be read as HDF5: {text}') from error
    with file:
        yield file


def where_of(node: h5py.Group | h5py.Dataset, name: str = '') -> str:
    """Name a group, an array or what it holds under a name, for error messages."""
    path = '/'.join(filter(None, (node.name.strip('/'), name)))
    return f'{node.file.filename}: {path}' if path else str(node.file.filename)


def names_in(group: h5py.Group) -> list[str]:
    """
    List what a group holds, links too, by the numbers in their names.

    Raises
    ------
    DatasetError
        If the group is damaged.

    """
    try:
        return sorted(group, key=by_number)
    except _DAMAGE as error:
        raise DatasetError(f'{where_of(group)} cannot be read: {error}') from error


def child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """
    Return what a group holds under a name without slash, None if there is nothing.

    Raises
    ------
    UnsuitableError
        If it is a link.
    DatasetError
        If it is damaged.

    """
    where = where_of(group, name)
    try:
        # Group.get and "in" would look a link up, in another file if it leads there.
        if not group.id.links.exists(name.encode()):
            return None
        kind = group.id.links.get_info(name.encode()).type
        if kind != h5py.h5l.TYPE_HARD:
            raise UnsuitableError(
                where, f'is {_LINKS.get(kind, "an unknown")} link: links are not followed')
        found = group[name]
    except _DAMAGE as error:
        raise DatasetError(f'{where} cannot be read: {error}') from error
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def find_group(group: h5py.Group, path: str) -> h5py.Group:
    """
    Walk down to a group.

    Raises
    ------
    DatasetError
        If there is none.

    """
    for name in filter(None, path.split('/')):
        found = child(group, name)
        if not isinstance(found, h5py.Group):
            raise DatasetError(f'{where_of(group)}: there is no group {name}')
        group = found
    return group


def find_array(group: h5py.Group, path: str) -> h5py.Dataset:
    """
    Walk down to an array of numbers or bytes whose data lies in this file.

    Raises
    ------
    DatasetError
        If there is none, or it is damaged.
    UnsuitableError
        If it is something else.

    """
    parent, _, name = path.rpartition('/')
    above = find_group(group, parent)
    found = child(above, name)
    where = where_of(above, name)
    if not isinstance(found, h5py.Dataset):
        if found is None:
            raise DatasetError(f'{where_of(above)}: there is no array {name}')
        raise UnsuitableError(where, 'is a group')
    try:
        outside = found.is_virtual or bool(found.external)
        kind, shape, _ = found.dtype, found.shape, found.chunks
    except _DAMAGE as error:
        raise DatasetError(f'{where} cannot be read: {error}') from error
    if outside:
        raise UnsuitableError(where, 'has its data in another file: that is not followed')
    if kind.kind not in 'biufS' and h5py.check_vlen_dtype(kind) != np.uint8:
        raise UnsuitableError(where, f'holds {kind}, must be numbers')
    if not shape:
        raise UnsuitableError(where, 'is a single value, must have a row a step')
    if shape[0] > _MOST_ROWS:
        raise UnsuitableError(where, f'has {shape[0]} rows: no episode is that long')
    return found


def read_array(array: h5py.Dataset, start: int = 0, stop: int | None = None) -> NDArray[Any]:
    """
    Read rows of an array.

    Raises
    ------
    DatasetError
        If the data is damaged.

    """
    try:
        return np.asarray(array[start:stop])
    except _DAMAGE as error:
        raise DatasetError(f'{where_of(array)} cannot be read: {error}') from error


def row_blocks(array: h5py.Dataset) -> Iterator[NDArray[Any]]:
    """Yield an array's rows some megabytes at a time, so that no chunk is unpacked twice."""
    rows = array.shape[0]
    row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
    chunk = array.chunks[0] if array.chunks else 1
    step = max(chunk, _BLOCK_BYTES // row_bytes // chunk * chunk)
    for start in range(0, rows, step):
        yield read_array(array, start, min(start + step, rows))


def attribute(node: h5py.Group | h5py.Dataset, name: str) -> str | float | bool | list[str] | None:
    """Return an attribute that is text, one number or a list of texts; None for all others."""
    try:
        value = node.attrs.get(name)
    except _DAMAGE:
        # Of a type that numpy has not: none of those that are asked for.
        return None
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, np.ndarray) and value.dtype.kind in 'SUO':
        texts = [_text(item) for item in value.reshape(-1)]
        return None if None in texts else [str(text) for text in texts]
    if isinstance(value, np.generic) and value.dtype.kind in 'biuf':
        plain: bool | int | float = value.item()
        return plain
    return _text(value)


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return value.decode('utf-8', errors='replace')
    return value if isinstance(value, str) else None


def json_attribute(node: h5py.Group, name: str, problems: Notes) -> Mapping[str, Any]:
    """Return an attribute that holds a JSON object; empty, with a note, if it holds another."""
    text = attribute(node, name)
    if text is None:
        return {}
    try:
        found = json.loads(str(text))
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        problems.add(f'{Path(node.file.filename).name}: the attribute {name} of {node.name} is no '
                     'JSON object: not used')
        return {}
    return found
