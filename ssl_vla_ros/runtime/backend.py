# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Which ONNX Runtime provider runs a network: TensorRT, CUDA or the CPU."""

from __future__ import annotations

from dataclasses import dataclass
import os
from pathlib import Path
from typing import Any

from ssl_vla_ros.errors import BundleError, MissingDependencyError

#: Backends from fastest to slowest, with ONNX Runtime's name of each.
PROVIDERS = {
    'tensorrt': 'TensorrtExecutionProvider',
    'cuda': 'CUDAExecutionProvider',
    'cpu': 'CPUExecutionProvider',
}


@dataclass(frozen=True)
class OpenedSession:
    """An ``onnxruntime.InferenceSession``, the backend it runs on, and why on that one."""

    session: Any
    backend: str
    note: str


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            'onnxruntime is not installed; run: pip install onnxruntime '
            '(or ssl_vla_ros[gpu], which brings onnxruntime-gpu)') from error
    return onnxruntime


def _provider(backend: str, digest: str) -> Any:
    if backend != 'tensorrt':
        return PROVIDERS[backend]
    # Engines take minutes to build: they are kept under the bundle's digest, outside of the
    # bundle, whose files are all hashed.
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    engines = cache / 'ssl_vla_ros' / 'tensorrt' / digest[:16]
    engines.mkdir(parents=True, exist_ok=True)
    return (PROVIDERS[backend], {
        'trt_engine_cache_enable': True, 'trt_engine_cache_path': str(engines),
        'trt_timing_cache_enable': True, 'trt_timing_cache_path': str(engines)})


def _open(runtime: Any, file: Path, backend: str, threads: int, digest: str) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads win microseconds and take whole cores from whatever runs beside.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    options.add_session_config_entry('session.inter_op.allow_spinning', '0')
    options.log_severity_level = 3
    try:
        providers = [_provider(backend, digest)]
        if backend != 'cpu':
            providers.append(PROVIDERS['cpu'])  # for the few operators a GPU provider lacks
        return runtime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f'{file}: ONNX Runtime cannot open this network on {backend}: '
                          f'{" ".join(str(error).split())}; export the bundle again') from error


def open_session(file: Path, backend: str, threads: int, digest: str) -> OpenedSession:
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
    digest
        The bundle's digest, under which TensorRT engines are kept.

    Raises
    ------
    BundleError
        If the file cannot be opened, or a backend asked for by name is not to be had.
    MissingDependencyError
        If onnxruntime is not installed.

    """
    if backend not in ('auto', *PROVIDERS):
        raise BundleError(f'backend is {backend!r}, must be one of auto, {", ".join(PROVIDERS)}')
    if threads < 1:
        raise BundleError(f'threads is {threads}, must be at least 1')
    runtime = _onnxruntime()
    available = runtime.get_available_providers()
    passed_over: list[str] = []
    for name in PROVIDERS if backend == 'auto' else (backend,):
        if PROVIDERS[name] not in available:
            reason = f'{name}: the installed onnxruntime {runtime.__version__} has no ' \
                     f'{PROVIDERS[name]}'
        else:
            try:
                session = _open(runtime, file, name, threads, digest)
            except BundleError as error:
                if name == 'cpu':
                    raise  # nothing is left to try: the file is at fault
                reason = str(error)
            else:
                # A provider that cannot start (no GPU, no library) is dropped without an error.
                if PROVIDERS[name] in session.get_providers():
                    note = 'as asked for' if backend != 'auto' else 'the fastest to be had'
                    return OpenedSession(session, name, '; '.join([f'{name}, {note}',
                                                                   *passed_over]))
                reason = f'{name}: {PROVIDERS[name]} is installed but did not start (no GPU, ' \
                         'or a library is missing)'
        if backend != 'auto':
            raise BundleError(f'backend {reason}; install ssl_vla_ros[gpu] (onnxruntime-gpu, '
                              'instead of onnxruntime), or set backend to auto or cpu')
        passed_over.append(reason)
    raise BundleError(f'no backend opens {file}: ' + '; '.join(passed_over))
