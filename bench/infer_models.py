# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles for ``bench_infer.py``: trained a moment, exported for real, set to the rate wanted."""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
import json
from pathlib import Path
import shutil
import subprocess
import sys
import time
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
import onnxruntime

from ssl_vla_ros.contract import parse_contract
from ssl_vla_ros.runtime.manifest import MANIFEST_NAME

_CONFIG = Path(__file__).parents[1] / 'config' / 'train' / 'simclr.yaml'
_CLI = [sys.executable, '-m', 'ssl_vla_ros.cli']


def run_cli(*words: str) -> None:
    """Run ``ssl_vla …``; its messages are shown only if it fails."""
    done = subprocess.run([*_CLI, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f'ssl_vla {" ".join(words)} failed:\n{done.stdout}\n{done.stderr}')


def trained(folder: Path, name: str, data: Path, *settings: str) -> Path:
    """Train SimCLR for a moment, if that was not done before; the run."""
    run = folder / name
    if not (run / 'model.safetensors').is_file():
        shutil.rmtree(run, ignore_errors=True)
        run_cli('train', '--config', str(_CONFIG), '--data', str(data), '--out', str(run),
                'probe_every=0', 'warmup_steps=0', *settings)
    return run


def exported(run: Path, data: Path, precision: str = 'fp32') -> Path:
    """Export a run, if that was not done before; the bundle."""
    out = run.with_name(f'{run.name}_{precision}')
    if not (out / MANIFEST_NAME).is_file():
        run_cli('export', str(run), '--data', str(data), '--out', str(out), '--precision',
                precision)
    return out


def at_rate(bundle: Path, rate_hz: float) -> Path:
    """Copy a bundle with another control rate: what is timed does not depend on it."""
    out = bundle.with_name(f'{bundle.name}_{rate_hz:g}hz')
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(bundle, out)
    path = out / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest['contract']['rate_hz'] = round(rate_hz)
    _set_contract(manifest, str(path))
    path.write_text(json.dumps(manifest))
    return out


def _set_contract(manifest: dict[str, Any], source: str) -> None:
    contract = parse_contract(manifest['contract'], source)
    manifest |= {'contract': contract.to_dict(), 'contract_digest': contract.digest()}


def slowed(bundle: Path, seconds: float) -> Path:
    """Copy a bundle whose encoder multiplies matrices for so long before it gives its features."""
    out = bundle.with_name(f'{bundle.name}_slow')
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(bundle, out)
    count = max(1, round(seconds / _product_s()))
    path = out / 'encoder.onnx'
    model = onnx.load(path)
    graph = model.graph
    true_name = graph.output[0].name
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == true_name:
                node.output[place] = 'slow_features'
    graph.initializer.extend([
        numpy_helper.from_array(np.zeros((512, 512), np.float32), 'slow_weight'),
        numpy_helper.from_array(np.array([512, 512], np.int64), 'slow_shape'),
        numpy_helper.from_array(np.array([1, 1], np.int64), 'slow_one')])
    # From the features on, so that nothing can be folded or run beside them.
    graph.node.extend([
        helper.make_node('ReduceSum', ['slow_features'], ['slow_sum'], keepdims=0),
        helper.make_node('Reshape', ['slow_sum', 'slow_one'], ['slow_seed']),
        helper.make_node('Expand', ['slow_seed', 'slow_shape'], ['slow_0'])])
    for number in range(count):
        graph.node.append(helper.make_node(
            'MatMul', [f'slow_{number}', 'slow_weight'], [f'slow_{number + 1}']))
    graph.node.extend([
        helper.make_node('ReduceSum', [f'slow_{count}'], ['slow_end'], keepdims=0),
        helper.make_node('Add', ['slow_features', 'slow_end'], [true_name])])
    onnx.save(model, path)
    manifest_path = out / MANIFEST_NAME
    manifest = json.loads(manifest_path.read_text())
    manifest['files']['encoder.onnx'] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest_path.write_text(json.dumps(manifest))
    return out


def _product_s() -> float:
    """Time of one product of matrices, as the slow encoder has many."""
    value = np.zeros((512, 512), np.float32)
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['x', 'w'], ['y'])], 'product',
        [helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [512, 512])],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, [512, 512])],
        [numpy_helper.from_array(value, 'w')])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
    model.ir_version = 10
    session = bare_session(model.SerializeToString())
    return median_s(lambda: session.run(None, {'x': value}), 20)


def bare_session(model: str | bytes, threads: int = 1) -> Any:
    """ONNX Runtime as it is, with the runtime's settings of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])


def median_s(work: Any, turns: int, pause_s: float = 0.0) -> float:
    """Median time of a call, after a few for warmth, with a pause before each."""
    times: Sequence[float] = []
    for turn in range(turns + 3):
        time.sleep(pause_s)
        began = time.perf_counter()
        work()
        if turn >= 3:
            times = [*times, time.perf_counter() - began]
    return float(np.median(times))
