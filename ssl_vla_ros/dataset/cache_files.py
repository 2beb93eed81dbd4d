# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A file of decoded pictures: an NPY array whose CRC-32 follows it, written once and then only read.

``numpy.load`` opens it, too. The header is always 128 bytes, so that whether a file is whole can
be told from its size alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any
import zlib

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import DatasetError

_HEADER = 128
_TAIL = 4
_BLOCK = 1 << 22


@dataclass(frozen=True)
class CacheFile:
    """
    One camera's pictures of one episode, there or not.

    Attributes
    ----------
    path
        Where it lies.
    shape
        (rows, height, width, 3).

    """

    path: Path
    shape: tuple[int, int, int, int]

    @property
    def data_bytes(self) -> int:
        """How much the pictures take."""
        rows, height, width, channels = self.shape
        return rows * height * width * channels

    @property
    def size(self) -> int:
        """How long the file must be."""
        return _HEADER + self.data_bytes + _TAIL

    def found_size(self) -> int | None:
        """How long the file is; None if there is none."""
        try:
            return self.path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    @property
    def part(self) -> Path:
        """Where the file is written until it is on the disk."""
        return self.path.with_name(f'.{self.path.name}.part')

    def write(self, frames: Iterable[NDArray[np.uint8]]) -> None:
        """
        Write the file beside its place; ``commit`` puts it there.

        Parameters
        ----------
        frames
            As many contiguous (height, width, 3) uint8 pictures as ``shape`` says.

        Raises
        ------
        OSError
            If the disk is full or fails; nothing is left of the file then.

        """
        try:
            # Written, not mapped: a full disk is an error here, not a SIGBUS.
            with self.part.open('wb') as file:
                file.write(self._header())
                crc = 0
                for frame in frames:
                    file.write(frame.data)
                    crc = zlib.crc32(frame.data, crc)
                file.write(crc.to_bytes(_TAIL, 'little'))
        except BaseException:
            self.part.unlink(missing_ok=True)
            raise

    def commit(self) -> None:
        """
        Bring a written file to the disk and give it its name.

        Raises
        ------
        OSError
            If the disk is full or fails; nothing is left of the file then.

        """
        try:
            with self.part.open('rb') as file:
                os.fsync(file.fileno())
            self.part.rename(self.path)
        finally:
            self.part.unlink(missing_ok=True)

    def open(self) -> NDArray[np.uint8]:  # noqa: A003
        """
        Map the pictures, read-only.

        Raises
        ------
        DatasetError
            If the file is missing, was cut off, or holds something else.

        """
        try:
            with self.path.open('rb') as file:
                size = os.fstat(file.fileno()).st_size
                if size != self.size:
                    raise self._broken(f'has {size} bytes, must have {self.size}')
                if file.read(_HEADER) != self._header():
                    raise self._broken(f'holds no pictures of shape {self.shape}')
                mapped: Any = np.memmap(file, np.uint8, 'r', _HEADER, self.shape)
        except OSError as error:
            raise self._broken(f'cannot read it: {error.strerror}') from error
        # A plain array is sliced several times faster than numpy's memmap.
        plain: NDArray[np.uint8] = mapped.view(np.ndarray)
        return plain

    def verify(self) -> None:
        """Read the file and hold it against its checksum; raises ``DatasetError`` as ``open``."""
        self.open()
        with self.path.open('rb') as file:
            file.seek(_HEADER)
            left, crc = self.data_bytes, 0
            while left:
                block = file.read(min(left, _BLOCK))
                crc = zlib.crc32(block, crc)
                left -= len(block)
            if file.read(_TAIL) != crc.to_bytes(_TAIL, 'little'):
                raise self._broken('the pictures were changed after they were written')

    def _broken(self, what: str) -> DatasetError:
        return DatasetError(f'{self.path}: {what}; remove this file, it is made again')

    def _header(self) -> bytes:
        """Return the NPY header, format 1.0, of (rows, height, width, 3) uint8."""
        text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {self.shape}, }}"
        start = b'\x93NUMPY\x01\x00' + (_HEADER - 10).to_bytes(2, 'little')
        return start + text.ljust(_HEADER - 11).encode() + b'\n'
