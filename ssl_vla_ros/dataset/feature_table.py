# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Tables of features: what a frozen encoder makes of every row, computed once, kept on disk.

Heads and latent world models train on a table alone; neither videos nor decoded pictures are
needed again. A table belongs to one dataset, one encoder's weights and one size of pictures:

    DIRECTORY/KEY.npy      (rows, tokens, dim) float32
    DIRECTORY/KEY.json     what it was made of, and the CRC-32 of the NPY file
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
import errno
import fcntl
import hashlib
import io
import json
import os
from pathlib import Path
import time
from typing import Any
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.dataset.files import Progress, read_json, tell
from ssl_vla_ros.errors import DatasetError

_SCHEMA = 1
_BLOCK = 1 << 22
#: Rows are brought to the disk, and counted as done, this often.
_SAVE_EVERY_S = 10.0
#: A table up to this many bytes is read into memory, a larger one mapped.
_IN_MEMORY = 1 << 28


@dataclass(frozen=True)
class FeatureKey:
    """
    What a table was made of.

    Attributes
    ----------
    dataset, encoder
        SHA-256 of the dataset's content and of the encoder's weights.
    height, width
        Size of the pictures the encoder saw.
    shape
        (rows, tokens, dim) of the table.

    """

    dataset: str
    encoder: str
    height: int
    width: int
    shape: tuple[int, int, int]

    def name(self) -> str:
        """Give the name of the table's files: another encoder or dataset never meets it."""
        text = json.dumps([self.encoder, self.dataset, self.height, self.width])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def describe(self) -> dict[str, Any]:
        """Return the key as JSON holds it."""
        return asdict(self) | {'schema_version': _SCHEMA, 'shape': list(self.shape)}


def open_table(directory: Path, key: FeatureKey) -> NDArray[np.float32] | None:
    """
    Open a finished table, mapped read-only if it is large; None if there is none.

    Raises
    ------
    DatasetError
        If there is one that was cut off or changed.

    """
    path, about = directory / f'{key.name()}.npy', directory / f'{key.name()}.json'
    if not path.is_file() or not about.is_file():
        return None
    manifest = read_json(about)
    crc = manifest.pop('crc32', None)
    if manifest != key.describe():
        raise DatasetError(f'{about}: describes another table; remove both files')
    try:
        mode: Any = 'r' if _data_bytes(key) > _IN_MEMORY else None
        found: Any = np.load(path, mmap_mode=mode, allow_pickle=False)
        whole = found.shape == key.shape and found.dtype == np.float32 and _crc(path) == crc
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f'{path}: cannot read it: {error}') from error
    if not whole:
        raise DatasetError(f'{path}: was changed after it was written')
    found.flags.writeable = False
    table: NDArray[np.float32] = found
    return table


def make_table(directory: Path, key: FeatureKey,
               encode: Callable[[int, int], NDArray[np.float32]], block: int,
               progress: Progress | None = None) -> NDArray[np.float32]:
    """
    Open a table, or compute what is missing of it.

    Parameters
    ----------
    directory
        Where tables are kept.
    key
        Which table.
    encode
        Features (stop - start, tokens, dim) of the rows ``start`` to ``stop``; called in order.
    block
        Rows of one call. A table that was interrupted goes on at a multiple of it, so that
        every row is encoded in the company in which it would have been.
    progress
        Told (rows done, rows, what). Of processes that want the same table one makes it, the
        others wait.

    Returns
    -------
    numpy.ndarray
        (rows, tokens, dim) float32, not writable.

    Warns
    -----
    UserWarning
        About a table that was cut off or changed.

    Raises
    ------
    DatasetError
        If the disk is full; what was encoded is kept.

    """
    rows = key.shape[0]
    directory.mkdir(parents=True, exist_ok=True)
    with _writing(directory / f'.{key.name()}.lock', lambda: tell(
            progress, 0, rows, 'waiting for another process that computes these features')):
        try:
            found = open_table(directory, key)
        except DatasetError as error:
            warnings.warn(f'a table of features is broken and made again: {error}', stacklevel=2)
            found = None
        if found is not None:
            return found
        try:
            _compute(directory, key, encode, block, progress)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DatasetError(
                f'{directory}: the disk is full; a table of features needs '
                f'{_data_bytes(key) / 1e6:.0f} MB; free some space and run again (what was '
                'encoded is kept)') from error
        written = open_table(directory, key)
        assert written is not None
        return written


def _compute(directory: Path, key: FeatureKey,
             encode: Callable[[int, int], NDArray[np.float32]], block: int,
             progress: Progress | None) -> None:
    path = directory / f'{key.name()}.npy'
    part, state = Path(f'{path}.part'), Path(f'{path}.part.json')
    header = _header(key)
    row_bytes = _data_bytes(key) // max(1, key.shape[0])
    done = _done(part, state, key, len(header) + row_bytes * np.arange(key.shape[0] + 1))
    done -= done % block
    with part.open('r+b' if done else 'wb') as file:
        if done:
            file.seek(len(header) + done * row_bytes)
            file.truncate()
        else:
            file.write(header)
        saved = time.monotonic()
        try:
            while done < key.shape[0]:
                stop = min(done + block, key.shape[0])
                values = np.ascontiguousarray(encode(done, stop), dtype=np.float32)
                if values.shape != (stop - done, *key.shape[1:]):
                    raise ValueError(f'features of rows {done} to {stop} are {values.shape}')
                file.write(values.data)
                done = stop
                if time.monotonic() - saved > _SAVE_EVERY_S:
                    _save(file, state, key, done)
                    saved = time.monotonic()
                tell(progress, done, key.shape[0], 'features')
        finally:
            # Whatever ends this, Ctrl-C above all: what was encoded counts.
            _save(file, state, key, done)
    _replace_json(directory / f'{key.name()}.json', key.describe() | {'crc32': _crc(part)})
    part.rename(path)
    state.unlink()


def _done(part: Path, state: Path, key: FeatureKey, sizes: NDArray[np.int64]) -> int:
    """Count the rows that an interrupted process left."""
    if not part.is_file() or not state.is_file():
        return 0
    try:
        found = read_json(state)
    except DatasetError:
        return 0  # cut off itself: from the beginning
    rows = found.pop('rows', 0)
    if found != key.describe() or not isinstance(rows, int) or not 0 <= rows < len(sizes):
        return 0
    return rows if part.stat().st_size >= sizes[rows] else 0


def _save(file: Any, state: Path, key: FeatureKey, done: int) -> None:
    file.flush()
    os.fsync(file.fileno())
    _replace_json(state, key.describe() | {'rows': done})


def _replace_json(path: Path, data: dict[str, Any]) -> None:
    part = path.with_name(f'.{path.name}.part')
    with part.open('w', encoding='utf-8') as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _header(key: FeatureKey) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {
        'descr': '<f4', 'fortran_order': False, 'shape': key.shape})
    return buffer.getvalue()


def _data_bytes(key: FeatureKey) -> int:
    rows, tokens, dim = key.shape
    return 4 * rows * tokens * dim


def _crc(path: Path) -> int:
    crc = 0
    with path.open('rb') as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


@contextmanager
def _writing(lock: Path, wait: Callable[[], None]) -> Iterator[None]:
    with lock.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
