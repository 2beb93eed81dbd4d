# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Run a network by TensorRT itself, without ONNX Runtime between.

Engines are built from the bundle's ONNX file (minutes), kept outside of it, and loaded in a second
from then on. The network is strongly typed: it computes in the types of the file, so that what was
proven at the export holds here, and ``verify`` can prove it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.errors import BundleError, MissingDependencyError
from ssl_vla_ros.runtime.cuda_memory import Cuda, CudaError
from ssl_vla_ros.runtime.engines import engine_directory, MOST

_WORKSPACE = 1 << 30
_ENGINE = 'engine.plan'
_TIMING = 'timing.cache'

Progress = Callable[[str], None]


def tensorrt_or_why() -> Any:
    """
    Import TensorRT.

    Raises
    ------
    MissingDependencyError
        If it is not installed, or older than 10.

    """
    try:
        module = importlib.import_module('tensorrt')
    except ImportError as error:
        raise MissingDependencyError(
            'TensorRT is not installed; run: pip install tensorrt cuda-python (a Jetson has it '
            'from JetPack; make the environment with --system-site-packages)') from error
    if int(module.__version__.split('.')[0]) < 10:
        raise MissingDependencyError(
            f'TensorRT {module.__version__} is installed, 10 or newer is needed')
    return module


def open_engine(file: Path, precision: str, progress: Progress = lambda _: None
                ) -> TensorrtSession:
    """
    Build the engine of an ONNX file, or load the one that is kept.

    Parameters
    ----------
    file
        The ONNX file.
    precision
        As it was exported; ``int8`` is refused, because its activations have zero points, which
        TensorRT does not take.
    progress
        Called with what is being done.

    Raises
    ------
    BundleError
        If there is no GPU, or TensorRT takes the network not.
    MissingDependencyError
        If TensorRT or cuda-python is not installed.

    """
    if precision == 'int8':
        raise BundleError(f'{file}: int8 is quantised for CPUs (activations with zero points), '
                          'which TensorRT does not take; export with --precision fp16')
    runtime = tensorrt_or_why()
    try:
        cuda = Cuda()
    except CudaError as error:
        raise BundleError(f'{file}: {error}') from error
    place = engine_directory(file, f'trt{runtime.__version__}', precision, cuda.card)
    logger = runtime.Logger(runtime.Logger.ERROR)
    plan = place / _ENGINE
    engine = None
    if plan.is_file():
        progress(f'loading the engine of {file.name}')
        engine = runtime.Runtime(logger).deserialize_cuda_engine(plan.read_bytes())
    if engine is None:  # none yet, or one that this GPU refuses
        data = _build(runtime, logger, file, place, progress)
        _keep(plan, data, progress)
        engine = runtime.Runtime(logger).deserialize_cuda_engine(data)
    if engine is None:
        raise BundleError(f'{file}: TensorRT cannot load the engine that it has built')
    return TensorrtSession(runtime, engine, cuda, file)


def _keep(path: Path, data: Any, progress: Progress) -> None:
    """Write as a whole or not at all; what cannot be kept is built again next time."""
    part = path.with_name(f'.{path.name}.{os.getpid()}')
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        progress(f'{path} cannot be kept ({error.strerror}): the next start builds it again')


def _build(trt: Any, logger: Any, file: Path, place: Path, progress: Progress) -> bytes:
    builder = trt.Builder(logger)
    # From TensorRT 11 on there is no other kind.
    typed = getattr(trt.NetworkDefinitionCreationFlag, 'STRONGLY_TYPED', None)
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        said = '; '.join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise BundleError(f'{file}: TensorRT does not take this network: {said}')
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE)
    # 10 bits of mantissa instead of 23 are not what was proven.
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        port = network.get_input(index)
        shape = tuple(port.shape)[1:]
        profile.set_shape(port.name, (1, *shape), (1, *shape), (MOST, *shape))
    config.add_optimization_profile(profile)
    timing = place / _TIMING
    kept = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b'')
    config.set_timing_cache(kept, ignore_mismatch=True)
    config.progress_monitor = _monitor(trt, file, progress)
    progress(f'building the engine of {file.name}')
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise BundleError(f'{file}: TensorRT cannot build an engine of this network; its own '
                          'messages above say why')
    _keep(timing, config.get_timing_cache().serialize(), progress)
    return bytes(data)


def _monitor(trt: Any, file: Path, progress: Progress) -> Any:
    """Tell the share of the outermost phase that is done."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """See ``_monitor``."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phases: dict[str, tuple[int, bool]] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Remember how many steps there are."""
            self._phases[phase_name] = (num_steps, parent_phase is None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Tell; True lets it go on."""
            steps, outermost = self._phases.get(phase_name, (0, False))
            if outermost and steps:
                progress(f'building the engine of {file.name}: {100 * step // steps} %')
            return True

        def phase_finish(self, phase_name: str) -> None:
            """Forget it."""
            self._phases.pop(phase_name, None)

    return Monitor()


class TensorrtSession:
    """
    An engine with buffers of its own, used as an ``onnxruntime.InferenceSession`` is.

    Inputs go through page-locked memory, all in one stream: one wait for each call.
    """

    def __init__(self, trt: Any, engine: Any, cuda: Cuda, file: Path) -> None:
        self._file = file
        self._engine = engine      # must outlive its context
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BundleError(f'{file}: the GPU has no room for this network')
        self._cuda = cuda
        self._host: dict[str, NDArray[Any]] = {}
        self._device: dict[str, int] = {}
        self._inputs: list[SimpleNamespace] = []
        self._outputs: list[SimpleNamespace] = []
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(engine.get_tensor_shape(name))
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            # What is known of a batch of one is all but the batch itself.
            buffer = cuda.pinned((MOST, *(int(length) for length in shape[1:])), dtype)
            self._host[name] = buffer
            self._device[name] = cuda.device(buffer.nbytes)
            self._context.set_tensor_address(name, self._device[name])
            kind = 'tensor(uint8)' if dtype == np.uint8 else f'tensor({dtype.name[:5]})'
            ports = (self._inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
                     else self._outputs)
            ports.append(SimpleNamespace(name=name, type=kind, shape=('batch', *shape[1:])))

    def get_inputs(self) -> list[SimpleNamespace]:
        """Describe the inputs as onnxruntime does: name, type, shape."""
        return self._inputs

    def get_outputs(self) -> list[SimpleNamespace]:
        """Describe the outputs."""
        return self._outputs

    def run(self, names: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]
            ) -> list[NDArray[Any]]:
        """Give outputs by name (all, if None) for inputs (batch, …); raises ``CudaError``."""
        wanted = list(names or [port.name for port in self._outputs])
        batch = len(next(iter(inputs.values())))
        parts = [self._run(wanted, {name: value[begin:begin + MOST]
                                    for name, value in inputs.items()})
                 for begin in range(0, batch, MOST)]
        return [np.concatenate(found) for found in zip(*parts, strict=True)]

    def _run(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]
             ) -> list[NDArray[Any]]:
        batch = 0
        for name, value in inputs.items():
            batch = len(value)
            host = self._host[name][:batch]
            host[...] = value
            self._context.set_input_shape(name, host.shape)
            self._cuda.upload(self._device[name], host)
        if not self._context.execute_async_v3(int(self._cuda.stream)):
            raise CudaError(f'{self._file.name}: TensorRT could not start the network')
        for name in names:
            self._cuda.download(self._host[name][:batch], self._device[name])
        self._cuda.wait()
        return [self._host[name][:batch].copy() for name in names]
