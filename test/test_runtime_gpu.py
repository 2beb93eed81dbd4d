# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What runs networks on GPUs: as far as it goes without one, and whole where there is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
import shutil
import subprocess

import numpy as np
import onnxruntime
import pytest
from ssl_vla_ros.errors import BundleError, MissingDependencyError
from ssl_vla_ros.runtime import backend
from ssl_vla_ros.runtime.backend import NATIVE, open_session
from ssl_vla_ros.runtime.binding import BoundSession
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.runtime.cuda_memory import Cuda
from ssl_vla_ros.runtime.engines import engine_directory
from ssl_vla_ros.runtime.tensorrt_engine import open_engine, tensorrt_or_why
from tiny_bundle import HEIGHT, make_bundle, WIDTH


def _gpu() -> str:
    """Why nothing can run on a GPU here; '' if it can."""
    if shutil.which('nvidia-smi') is None:
        return 'no NVIDIA driver here'
    if subprocess.run(['nvidia-smi', '-L'], capture_output=True).returncode:
        return 'no GPU here'
    if importlib.util.find_spec('cuda') is None:
        return 'cuda-python is not installed'
    return ''


NO_GPU = _gpu()
NO_TENSORRT = NO_GPU or (
    '' if importlib.util.find_spec('tensorrt') else 'TensorRT is not installed')
NO_CUDA_PROVIDER = NO_GPU or (
    '' if 'CUDAExecutionProvider' in onnxruntime.get_available_providers()
    else 'this onnxruntime has no CUDA (onnxruntime-gpu has)')


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / 'tiny')


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(
        0, 250, (count, 2, HEIGHT, WIDTH, 3)).astype(np.uint8)


def test_bound_memory_gives_what_the_plain_session_gives(bundle: Path) -> None:
    """The same code as on a GPU, with memory of the CPU."""
    plain = open_session(bundle / 'encoder.onnx', 'cpu', 1, 'fp32').session
    bound = BoundSession(onnxruntime, plain, None, device='cpu')
    assert bound.get_inputs()[0].name == 'images'
    assert bound.get_providers() == ['CPUExecutionProvider']
    kept = []
    for count in (1, 3, 1, 1):
        images = pictures(count) + np.uint8(len(kept))
        kept.append((bound.run(None, {'images': images})[0],
                     plain.run(None, {'images': images})[0]))
    # An output stays what it was when the memory it came from is used again.
    for found, wanted in kept:
        np.testing.assert_array_equal(found, wanted)


def test_a_shape_that_only_the_network_knows_is_bound_too(tmp_path: Path) -> None:
    from onnx import helper, save, TensorProto
    graph = helper.make_graph(
        [helper.make_node('NonZero', ['x'], ['places'])], 'open',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['batch', 4])],
        [helper.make_tensor_value_info('places', TensorProto.INT64, [2, 'found'])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    model.ir_version = 10
    save(model, str(tmp_path / 'open.onnx'))
    session = onnxruntime.InferenceSession(tmp_path / 'open.onnx')
    bound = BoundSession(onnxruntime, session, None, device='cpu')
    for values, count in (([[0, 1, 0, 2]], 2), ([[3, 1, 5, 2]], 4)):
        found = bound.run(['places'], {'x': np.asarray(values, np.float32)})[0]
        assert found.shape == (2, count)


@pytest.mark.skipif(importlib.util.find_spec('tensorrt') is not None,
                    reason='TensorRT is installed here')
def test_what_is_missing_is_named_with_what_to_do(bundle: Path) -> None:
    with pytest.raises(MissingDependencyError, match='pip install tensorrt cuda-python'):
        tensorrt_or_why()
    with pytest.raises(BundleError, match='backend tensorrt_native: TensorRT is not installed'):
        open_session(bundle / 'encoder.onnx', NATIVE, 1, 'fp32')
    opened = open_session(bundle / 'encoder.onnx', 'auto', 1, 'fp32')
    assert 'tensorrt_native: TensorRT is not installed' in opened.note


@pytest.mark.skipif(importlib.util.find_spec('cuda') is not None,
                    reason='cuda-python is installed here')
def test_without_cudas_binding_pip_is_named() -> None:
    with pytest.raises(MissingDependencyError, match='pip install cuda-python'):
        Cuda()


def test_a_board_without_onnx_runtime_runs_on_tensorrt_itself(
        bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise MissingDependencyError('onnxruntime is not installed')

    session = open_session(bundle / 'encoder.onnx', 'cpu', 1, 'fp32').session
    monkeypatch.setattr(backend, 'onnxruntime_or_why', missing)
    with pytest.raises(MissingDependencyError, match='onnxruntime is not installed'):
        open_session(bundle / 'encoder.onnx', 'auto', 1, 'fp32')
    monkeypatch.setattr(backend, '_native', lambda *_: session)
    opened = open_session(bundle / 'encoder.onnx', 'auto', 1, 'fp32')
    assert (opened.backend, opened.session) == (NATIVE, session)
    assert 'tensorrt: onnxruntime is not installed' in opened.note


def test_eight_bits_are_for_cpus(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BundleError, match=r'encoder\.onnx: int8 is quantised for CPUs'):
        open_engine(bundle / 'encoder.onnx', 'int8')
    every = list(backend.PROVIDERS.values())
    monkeypatch.setattr(onnxruntime, 'get_available_providers', lambda: every)
    with pytest.raises(BundleError, match='export with --precision fp16'):
        open_session(bundle / 'encoder.onnx', 'tensorrt', 1, 'int8')


def test_engines_hold_for_one_file_version_and_precision(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    file, other = bundle / 'encoder.onnx', bundle / 'head.onnx'
    places = {engine_directory(*key) for key in (
        (file, 'trt10.1', 'fp32'), (file, 'trt10.1', 'fp16'), (file, 'trt10.2', 'fp32'),
        (other, 'trt10.1', 'fp32'), (file, 'trt10.1', 'fp32'))}
    assert len(places) == 4
    assert all(place.is_dir() and (tmp_path / 'cache') in place.parents for place in places)
    assert bundle not in {parent for place in places for parent in place.parents}


def test_opening_tells_what_is_done(bundle: Path) -> None:
    told: list[str] = []
    load_bundle(bundle, backend='cpu', progress=told.append)
    assert told == [f'opening {part}.onnx on cpu'
                    for part in ('encoder', 'world_model', 'decoder', 'head', 'colours')]


@pytest.mark.skipif(bool(NO_CUDA_PROVIDER), reason=NO_CUDA_PROVIDER)
def test_cuda_gives_what_the_cpu_gives(bundle: Path) -> None:
    session = open_session(bundle / 'encoder.onnx', 'cuda', 1, 'fp32').session
    plain = open_session(bundle / 'encoder.onnx', 'cpu', 1, 'fp32').session
    for count in (1, 4, 1):
        images = pictures(count)
        np.testing.assert_allclose(session.run(None, {'images': images})[0],
                                   plain.run(None, {'images': images})[0], atol=1e-5)


@pytest.mark.skipif(bool(NO_TENSORRT), reason=NO_TENSORRT)
def test_tensorrt_itself_gives_what_the_cpu_gives(
        bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    told: list[str] = []
    for _ in range(2):
        session = open_engine(bundle / 'encoder.onnx', 'fp32', told.append)
        plain = open_session(bundle / 'encoder.onnx', 'cpu', 1, 'fp32').session
        for count in (1, 4, 20, 1):
            images = pictures(count)
            np.testing.assert_allclose(session.run(None, {'images': images})[0],
                                       plain.run(None, {'images': images})[0], atol=1e-5)
    assert told[0].startswith('building') and told[-1].startswith('loading')
