# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Which ONNX Runtime provider runs a network: TensorRT, CUDA or the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
import shutil
import subprocess
from typing import Any

from ssl_vla_ros.errors import BundleError, MissingDependencyError

#: Backends from fastest to slowest, with ONNX Runtime's name of each.
PROVIDERS = {
    'tensorrt': 'TensorrtExecutionProvider',
    'cuda': 'CUDAExecutionProvider',
    'cpu': 'CPUExecutionProvider',
}
_ASK_S = 10.0


@dataclass(frozen=True)
class OpenedSession:
    """An ``onnxruntime.InferenceSession``, the backend it runs on, and why on that one."""

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


def gpu_name() -> str:
    """Name of the first GPU, as its driver or the board's firmware tells it; empty if unknown."""
    board = Path('/proc/device-tree/model')
    if board.is_file():
        return board.read_text(errors='replace').strip('\0 \n')
    tool = shutil.which('nvidia-smi')
    if tool is None:
        return ''
    try:
        told = subprocess.run([tool, '--query-gpu=name', '--format=csv,noheader'], check=True,
                              capture_output=True, text=True, timeout=_ASK_S).stdout
    except (OSError, subprocess.SubprocessError):
        return ''
    return told.splitlines()[0].strip() if told.strip() else ''


def engine_directory(file: Path, version: str, precision: str) -> Path:
    """
    Where the TensorRT engines of one network are kept; made if need be.

    Engines take minutes to build, and hold for one network, one version of TensorRT, one kind of
    GPU and one precision alone. They lie outside of the bundle, whose files are all hashed.
    """
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    key = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    card = ''.join(letter if letter.isalnum() else '_' for letter in gpu_name()) or 'unknown_gpu'
    place = cache / 'ssl_vla_ros' / 'tensorrt' / f'{key}_{version}_{card}_{precision}'
    place.mkdir(parents=True, exist_ok=True)
    return place


def _provider(runtime: Any, backend: str, file: Path, precision: str) -> Any:
    if backend == 'cuda':
        # What was trained in float32 is computed in float32: fp16 is there for speed.
        return PROVIDERS[backend], {'use_tf32': '0'}
    if backend != 'tensorrt':
        return PROVIDERS[backend]
    engines = str(engine_directory(file, f'ort{runtime.__version__}', precision))
    return (PROVIDERS[backend], {
        'trt_engine_cache_enable': True, 'trt_engine_cache_path': engines,
        'trt_timing_cache_enable': True, 'trt_timing_cache_path': engines,
        'trt_fp16_enable': precision == 'fp16', 'trt_int8_enable': precision == 'int8'})


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
        if backend != 'cpu':
            providers.append(PROVIDERS['cpu'])  # for the few operators a GPU provider lacks
        return runtime.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no base class
        raise BundleError(f'{file}: ONNX Runtime cannot open this network on {backend}: '
                          f'{" ".join(str(error).split())}; export the bundle again') from error


def open_session(file: Path, backend: str, threads: int, precision: str,
                 cores: Sequence[int] = ()) -> OpenedSession:
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
    runtime = onnxruntime_or_why()
    available = runtime.get_available_providers()
    passed_over: list[str] = []
    for name in PROVIDERS if backend == 'auto' else (backend,):
        if PROVIDERS[name] not in available:
            reason = f'{name}: the installed onnxruntime {runtime.__version__} has no ' \
                     f'{PROVIDERS[name]}'
        else:
            try:
                session = _open(runtime, file, name, threads, precision, cores)
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
