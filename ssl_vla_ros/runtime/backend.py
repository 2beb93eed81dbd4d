# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What runs a network: TensorRT, CUDA or the CPU by ONNX Runtime, or TensorRT itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from ssl_vla_ros.errors import BundleError, MissingDependencyError
from ssl_vla_ros.runtime.binding import bound_session, DTYPES
from ssl_vla_ros.runtime.engines import engine_directory, MOST

#: ONNX Runtime's name of each of its backends.
PROVIDERS = {
    'tensorrt': 'TensorrtExecutionProvider',
    'cuda': 'CUDAExecutionProvider',
    'cpu': 'CPUExecutionProvider',
}
#: TensorRT's own Python package, without ONNX Runtime between.
NATIVE = 'tensorrt_native'
#: From what is tried first to what is everywhere.
BACKENDS = ('tensorrt', NATIVE, 'cuda', 'cpu')


Progress = Callable[[str], None]


@dataclass(frozen=True)
class OpenedSession:
    """
    What runs a network, the backend it runs on, and why on that one.

    The session is an ``onnxruntime.InferenceSession``, or is used as one.
    """

    session: Any
    backend: str
    note: str


def onnxruntime_or_why() -> Any:
    """
    Import onnxruntime.

    Raises
    ------
    MissingDependencyError
        If it is not installed.

    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            'onnxruntime is not installed; run: pip install onnxruntime '
            '(or ssl_vla_ros[gpu], which brings onnxruntime-gpu)') from error
    return onnxruntime


def _tensorrt_version() -> str:
    """Version of TensorRT, of whichever package brings it; '' if none says so."""
    for name in ('tensorrt', 'tensorrt_cu13', 'tensorrt_cu12', 'tensorrt_cu11'):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ''


def _provider(runtime: Any, backend: str, file: Path, precision: str) -> Any:
    if backend == 'cuda':
        # What was trained in float32 is computed in float32: fp16 is there for speed.
        return PROVIDERS[backend], {'use_tf32': '0'}
    if backend != 'tensorrt':
        return PROVIDERS[backend]
    if precision == 'int8':
        raise BundleError('int8 is quantised for CPUs (activations with zero points), which '
                          'TensorRT does not take: export with --precision fp16')
    version = f'ort{runtime.__version__}_trt{_tensorrt_version() or "unknown"}'
    engines = str(engine_directory(file, version, precision))
    # Without a range, the engine is built anew at the first batch of another size: minutes, in
    # the middle of control.
    ports = runtime.InferenceSession(str(file), providers=[PROVIDERS['cpu']]).get_inputs()
    ranges = {f'trt_profile_{name}_shapes': ','.join(
        f'{port.name}:{"x".join(map(str, (batch, *port.shape[1:])))}' for port in ports)
        for name, batch in (('min', 1), ('opt', 1), ('max', MOST))}
    return (PROVIDERS[backend], {
        'trt_engine_cache_enable': True, 'trt_engine_cache_path': engines,
        'trt_timing_cache_enable': True, 'trt_timing_cache_path': engines,
        'trt_fp16_enable': precision == 'fp16', **ranges})


def _open(runtime: Any, file: Path, backend: str, threads: int, precision: str,
          cores: Sequence[int]) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads win microseconds and take whole cores from whatever runs beside.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.inter_op.allow_spinning', '0')
    if cores and threads > 1:
        # One core for each thread but the caller's, which is the worker's; counted from 1.
        places = [cores[index % len(cores)] + 1 for index in range(1, threads)]
        options.add_session_config_entry(
            'session.intra_op_thread_affinities', ';'.join(map(str, places)))
    options.log_severity_level = 3
    try:
        providers = [_provider(runtime, backend, file, precision)]
        if backend == 'cpu':
            return runtime.InferenceSession(str(file), options, providers=providers)
        if hasattr(runtime, 'preload_dlls'):
            runtime.preload_dlls()   # CUDA and cuDNN as pip installs them lie in no search path
        # For the few operators that the first one lacks.
        others = [name for name in ('cuda', 'cpu') if name != backend
                  and PROVIDERS[name] in runtime.get_available_providers()]
        session = runtime.InferenceSession(
            str(file), options, providers=[*providers, *(PROVIDERS[name] for name in others)],
            enable_fallback=0)   # or the reason for which it took the CPU is lost
        return session
    except BundleError:
        raise
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f'{file}: ONNX Runtime cannot open this network on {backend}: '
                          f'{" ".join(str(error).split())}; export the bundle again') from error


def open_session(file: Path, backend: str, threads: int, precision: str,
                 cores: Sequence[int] = (), progress: Progress = lambda _: None,
                 among: Sequence[str] = BACKENDS) -> OpenedSession:
    """
    Open an ONNX file on a backend.

    Parameters
    ----------
    file
        The ONNX file.
    backend
        ``auto`` takes the fastest that really works, and the note says which were passed over.
    threads
        Threads of one operator on the CPU.
    precision
        ``fp32``, ``fp16`` or ``int8``, as the file was exported.
    cores
        CPU cores that the threads beside the caller's are bound to; none: wherever there is room.
    progress
        Called with what is being done: an engine of TensorRT takes minutes to build.
    among
        What ``auto`` tries, in this order.

    Raises
    ------
    BundleError
        If the file cannot be opened, or a backend asked for by name is not to be had.
    MissingDependencyError
        If onnxruntime is not installed, and nothing else runs the file.

    """
    if backend not in ('auto', *BACKENDS):
        raise BundleError(f'backend is {backend!r}, must be one of auto, {", ".join(BACKENDS)}')
    if threads < 1:
        raise BundleError(f'threads is {threads}, must be at least 1')
    passed_over: list[str] = []
    missing: MissingDependencyError | None = None
    for name in among if backend == 'auto' else (backend,):
        progress(f'opening {file.name} on {name}')
        try:
            session = (_native(file, precision, progress) if name == NATIVE
                       else _by_onnxruntime(file, name, threads, precision, cores))
            if name != 'cpu':
                progress(f'first run of {file.name} on {name}, which may build an engine')
                _try(session, file, name)
        except MissingDependencyError as error:
            if backend != 'auto':
                raise
            missing = error
            passed_over.append(f'{name}: {error}')
        except _NotToBeHadError as error:
            if backend != 'auto':
                raise BundleError(f'backend {name}: {error}{_remedy(name)}') from error
            passed_over.append(f'{name}: {error}')
        except BundleError as error:
            if backend != 'auto' or name == 'cpu':
                raise  # nothing is left to try: the file is at fault
            passed_over.append(f'{name}: {error}')
        else:
            note = 'as asked for' if backend != 'auto' else 'the fastest to be had'
            return OpenedSession(session, name, '; '.join(
                [f'{name}, {note}', *filter(None, [getattr(session, 'note', '')]), *passed_over]))
    if missing is not None:
        raise missing
    raise BundleError(f'no backend opens {file}: ' + '; '.join(passed_over))


def _try(session: Any, file: Path, backend: str) -> None:
    """Run once on zeros: what a GPU lacks often shows in the first run, and not before."""
    try:
        session.run(None, {
            port.name: np.zeros((1, *port.shape[1:]), DTYPES[port.type])
            for port in session.get_inputs()})
    except Exception as error:  # each runtime has its own
        raise BundleError(f'{file}: does not run on {backend}: '
                          f'{" ".join(str(error).split())}') from error


class _NotToBeHadError(Exception):
    """A backend is not there, whatever the file."""


def _remedy(backend: str) -> str:
    if backend == NATIVE:
        return '; or set backend to auto'
    return ('; install ssl_vla_ros[gpu] (onnxruntime-gpu, instead of onnxruntime), or set '
            'backend to auto or cpu')


def _native(file: Path, precision: str, progress: Progress) -> Any:
    from ssl_vla_ros.runtime.tensorrt_engine import open_engine
    try:
        return open_engine(file, precision, progress)
    except MissingDependencyError as error:
        raise _NotToBeHadError(str(error)) from error
    except BundleError:
        raise
    except Exception as error:  # TensorRT's and CUDA's errors share no base class
        raise BundleError(f'{file}: TensorRT cannot run this network: {error!r}; set backend to '
                          'auto or cpu') from error


def _by_onnxruntime(file: Path, backend: str, threads: int, precision: str,
                    cores: Sequence[int]) -> Any:
    runtime = onnxruntime_or_why()
    provider = PROVIDERS[backend]
    if provider not in runtime.get_available_providers():
        raise _NotToBeHadError(
            f'the installed onnxruntime {runtime.__version__} has no {provider}')
    session = _open(runtime, file, backend, threads, precision, cores)
    # A provider that cannot start (no GPU, no library) is dropped without an error.
    if provider not in session.get_providers():
        raise _NotToBeHadError(
            f'{provider} is installed but did not start (no GPU, or a library is missing)')
    return session if backend == 'cpu' else bound_session(runtime, session)
