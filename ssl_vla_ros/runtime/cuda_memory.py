# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Page-locked and device memory, and a stream, by NVIDIA's cuda-python."""

from __future__ import annotations

from collections.abc import Sequence
import ctypes
import importlib
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from ssl_vla_ros.errors import MissingDependencyError

#: Since cuda-python 12.6, and before.
_MODULES = ('cuda.bindings.runtime', 'cuda.cudart')


def cuda_runtime() -> Any:
    """
    Import the CUDA runtime's Python binding.

    Raises
    ------
    MissingDependencyError
        If it is not installed.

    """
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError(
        'cuda-python is not installed; run: pip install cuda-python (its first number is that of '
        'the CUDA installed here)')


class CudaError(RuntimeError):
    """A call of the CUDA runtime failed."""


class Cuda:
    """
    A stream of its own, and memory that is given back when this object goes.

    Raises
    ------
    MissingDependencyError
        If cuda-python is not installed.
    CudaError
        If there is no GPU, or a call fails.

    """

    def __init__(self) -> None:
        self._runtime = cuda_runtime()
        self._kinds = self._runtime.cudaMemcpyKind
        self._given: list[tuple[Any, Any]] = []
        if not self._call('cudaGetDeviceCount'):
            raise CudaError('CUDA finds no GPU')
        self.stream: Any = self._call('cudaStreamCreate')
        found = self._call('cudaGetDeviceProperties', self._call('cudaGetDevice'))
        name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
        #: Name and compute capability of the GPU in use.
        self.card = f'{name.strip(chr(0))} sm{found.major}{found.minor}'

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime; its result, or ``CudaError`` with its name."""
        status, *results = getattr(self._runtime, name)(*arguments)
        if int(status) != 0:
            raise CudaError(f'{name} failed: {status.name}')
        return results[0] if results else None

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Array in page-locked memory, which the GPU copies from and to without a detour."""
        kind = np.dtype(dtype)
        count = int(np.prod(shape))
        size = max(count * kind.itemsize, 1)
        address = self._call('cudaHostAlloc', size, 0)
        self._given.append(('cudaFreeHost', address))
        buffer = memoryview((ctypes.c_uint8 * size).from_address(int(address)))
        return np.frombuffer(buffer, np.uint8)[:count * kind.itemsize].view(kind).reshape(shape)

    def device(self, size: int) -> int:
        """Address of so many bytes on the GPU."""
        address = self._call('cudaMalloc', max(size, 1))
        self._given.append(('cudaFree', address))
        return int(address)

    def upload(self, target: int, source: NDArray[Any]) -> None:
        """Copy a page-locked array to the GPU, in the stream."""
        self._call('cudaMemcpyAsync', target, source.ctypes.data, source.nbytes,
                   self._kinds.cudaMemcpyHostToDevice, self.stream)

    def download(self, target: NDArray[Any], source: int) -> None:
        """Copy to a page-locked array from the GPU, in the stream."""
        self._call('cudaMemcpyAsync', target.ctypes.data, source, target.nbytes,
                   self._kinds.cudaMemcpyDeviceToHost, self.stream)

    def wait(self) -> None:
        """Return when the stream has done everything."""
        self._call('cudaStreamSynchronize', self.stream)

    def close(self) -> None:
        """Give everything back; what still lies there must not be used any more."""
        for name, address in self._given:
            getattr(self._runtime, name)(address)
        self._given.clear()
        if self.stream is not None:
            self._runtime.cudaStreamDestroy(self.stream)
            self.stream = None

    def __del__(self) -> None:
        if getattr(self, 'stream', None) is not None:
            self.close()
