# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime on a GPU with memory that is bound once, instead of found anew in each call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.errors import MissingDependencyError
from ssl_vla_ros.runtime.cuda_memory import Cuda, CudaError

#: Element types of ports, as onnxruntime calls them.
DTYPES = {'tensor(uint8)': np.uint8, 'tensor(float)': np.float32}


def bound_session(runtime: Any, session: Any) -> BoundSession:
    """Wrap a session on a GPU; page-locked memory is used where cuda-python is installed."""
    try:
        return BoundSession(runtime, session, Cuda())
    except (MissingDependencyError, CudaError) as error:
        bound = BoundSession(runtime, session, None)
        bound.note = f'memory not page-locked: {error}'
        return bound


class BoundSession:
    """
    Used as the ``onnxruntime.InferenceSession`` it wraps.

    Inputs are copied to page-locked memory, from there to memory of the GPU that stays the same,
    and outputs are bound to such memory, too. One set of it for each batch size that occurs: a
    node has one or two.

    Parameters
    ----------
    runtime
        The module onnxruntime.
    session
        On a GPU.
    cuda
        Gives page-locked memory; None: pageable memory, which the driver copies once more.
    device
        Where the memory lies: ``cuda``, or ``cpu`` for a session there.

    """

    def __init__(self, runtime: Any, session: Any, cuda: Cuda | None, device: str = 'cuda'
                 ) -> None:
        self._runtime = runtime
        self._session = session
        self._cuda = cuda
        self._device = device
        self._sets: dict[tuple[Any, ...], _Set] = {}
        #: What the backend's note should say besides.
        self.note = ''

    def get_inputs(self) -> Any:
        """Describe the inputs."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """Describe the outputs."""
        return self._session.get_outputs()

    def get_providers(self) -> Any:
        """Names of the providers."""
        return self._session.get_providers()

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]
            ) -> list[NDArray[Any]]:
        """Give outputs by name (all, if None) for inputs (batch, …)."""
        wanted = tuple(names or [port.name for port in self._session.get_outputs()])
        shapes = tuple((name, value.shape) for name, value in inputs.items())
        kept = self._sets.get((wanted, shapes))
        if kept is None:
            kept = self._sets[wanted, shapes] = self._bind(wanted, inputs)
        for name, value in inputs.items():
            kept.host[name][...] = value
            kept.inputs[name].update_inplace(kept.host[name])
        if not kept.outputs:
            # Anew each time: what was found in one run stays bound, of whatever shape it is.
            for name in wanted:
                kept.binding.bind_output(name, self._device, 0)
        self._session.run_with_iobinding(kept.binding)
        if kept.outputs:
            # A copy: on some devices it is the memory that the next run writes to.
            return [kept.outputs[name].numpy().copy() for name in wanted]
        found: list[NDArray[Any]] = kept.binding.copy_outputs_to_cpu()
        return found

    def _bind(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> _Set:
        values = self._runtime.OrtValue
        binding = self._session.io_binding()
        host, bound = {}, {}
        batch = 0
        for name, value in inputs.items():
            batch = len(value)
            host[name] = (np.empty(value.shape, value.dtype) if self._cuda is None
                          else self._cuda.pinned(value.shape, value.dtype))
            bound[name] = values.ortvalue_from_shape_and_type(
                value.shape, value.dtype.type, self._device, 0)
            binding.bind_ortvalue_input(name, bound[name])
        ports = {port.name: port for port in self._session.get_outputs()}
        outputs = {}
        if all(isinstance(length, int) for name in names for length in ports[name].shape[1:]):
            for name in names:
                outputs[name] = values.ortvalue_from_shape_and_type(
                    (batch, *ports[name].shape[1:]), DTYPES[ports[name].type], self._device, 0)
                binding.bind_ortvalue_output(name, outputs[name])
        # Else a shape that only the network knows.
        return _Set(binding, host, bound, outputs)


class _Set:
    """Memory and binding for inputs of certain shapes."""

    def __init__(self, binding: Any, host: dict[str, NDArray[Any]], inputs: dict[str, Any],
                 outputs: dict[str, Any]) -> None:
        self.binding = binding
        self.host = host
        self.inputs = inputs
        self.outputs = outputs
