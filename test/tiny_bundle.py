# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A small real bundle for tests: real ONNX files, hashes and manifest, computable by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper, TensorProto
from ssl_vla_ros.contract import Contract, parse_contract

HEIGHT = WIDTH = 16
CONTEXT, HORIZON, HISTORY, CHUNK, EXECUTE = 2, 4, 2, 16, 3
#: The world model adds this times the sum of an action to every feature, at each step.
STEP = 0.01
#: The head commands this times (mean of the newest features - 0.5), the same for each value.
GAIN = 10.0


def contract_data() -> dict[str, Any]:
    """Return the contract of a robot with two joints, a twist and a gripper, at 20 Hz."""
    return {
        'robot': 'tiny', 'rate_hz': 20,
        'cameras': {
            name: {'topic': f'camera/{name}/image_raw', 'type': 'sensor_msgs/Image',
                   'height': 32, 'width': 32} for name in ('front', 'wrist')},
        'state': [{'topic': 'joint_states', 'type': 'sensor_msgs/JointState',
                   'names': ['elbow', 'wrist']}],
        'action': [
            {'topic': 'servo_node/delta_twist_cmds', 'type': 'geometry_msgs/TwistStamped',
             'names': ['linear.x', 'angular.z']},
            {'topic': 'gripper/command', 'type': 'std_msgs/Float64MultiArray',
             'names': ['gripper']}],
        'limits': {
            'input_timeout_s': 0.8,  # tests share the machine with others
            'action': {
                'linear.x': {'min': -0.4, 'max': 0.4, 'max_step': 0.1},
                'angular.z': {'min': -1.0, 'max': 1.0, 'max_step': 0.5},
                'gripper': {'min': 0.0, 'max': 1.0, 'max_step': 1.0, 'free_start': True}},
            'joints': {'elbow': {'min': -2.0, 'max': 2.0, 'margin': 0.1, 'max_velocity': 10.0},
                       'wrist': {'min': -2.0, 'max': 2.0}}}}


def tiny_contract() -> Contract:
    """Return that contract, validated."""
    return parse_contract(contract_data(), 'tiny.yaml')


class _Graph:
    """Collects nodes and constants, then saves an ONNX file."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def const(self, value: Any, dtype: Any = np.float32) -> str:
        name = f'c{len(self.constants)}'
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = '', **attributes: Any) -> str:
        output = output or f'n{len(self.nodes)}'
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def save(self, path: Path, inputs: list[Any], output: Any) -> None:
        ports = [helper.make_tensor_value_info(name, kind, ['batch', *shape])
                 for name, kind, shape in [*inputs, output]]
        graph = helper.make_graph(self.nodes, path.stem, ports[:-1], ports[-1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)])
        model.ir_version = 10
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def _encoder(path: Path, cameras: int, slow: int) -> None:
    """Mean colour of each camera in [0, 1]; NaN for a picture whose mean is above 0.98."""
    graph = _Graph()
    pixels = graph.add('Cast', 'images', to=TensorProto.FLOAT)
    mean = graph.add('ReduceMean', pixels, graph.const([2, 3], np.int64), keepdims=0)
    mean = graph.add('Div', mean, graph.const(255.0))
    root = graph.add('Sqrt', graph.add('Sub', graph.const(0.98), mean))
    spice = graph.add('Mul', root, graph.const(1e-12))
    if slow:
        # Work that depends on the input, so that it cannot be folded: slow x 512^3 products.
        total = graph.add('ReduceSum', mean, keepdims=1)
        total = graph.add('Reshape', total, graph.const([1, 1], np.int64))
        matrix = graph.add('Expand', total, graph.const([512, 512], np.int64))
        weight = graph.const(np.zeros((512, 512)))
        for _ in range(slow):
            matrix = graph.add('MatMul', matrix, weight)
        spice = graph.add('Add', spice, graph.add('ReduceMean', matrix, keepdims=0))
    graph.add('Add', mean, spice, output='features')
    graph.save(path, [('images', TensorProto.UINT8, [cameras, HEIGHT, WIDTH, 3])],
               ('features', TensorProto.FLOAT, [cameras, 3]))


def _world_model(path: Path, cameras: int, actions: int) -> None:
    """Last frame plus STEP times the running sum of the actions from it on."""
    graph = _Graph()
    last = graph.add('Slice', 'features', graph.const([CONTEXT - 1], np.int64),
                     graph.const([CONTEXT], np.int64), graph.const([1], np.int64))
    future = graph.add('Slice', 'actions', graph.const([CONTEXT - 1], np.int64),
                       graph.const([CONTEXT - 1 + HORIZON], np.int64),
                       graph.const([1], np.int64))
    step = graph.add('ReduceSum', future, graph.const([2], np.int64), keepdims=1)
    moved = graph.add('CumSum', step, graph.const(1, np.int64))
    moved = graph.add('Mul', moved, graph.const(STEP))
    moved = graph.add('Unsqueeze', moved, graph.const([3], np.int64))
    graph.add('Add', last, moved, output='prediction')
    graph.save(path, [('features', TensorProto.FLOAT, [CONTEXT, cameras, 3]),
                      ('actions', TensorProto.FLOAT, [CONTEXT - 1 + HORIZON, actions])],
               ('prediction', TensorProto.FLOAT, [HORIZON, cameras, 3]))


def _decoder(path: Path, cameras: int) -> None:
    """Pictures of one colour: the features."""
    graph = _Graph()
    bright = graph.add('Mul', 'features', graph.const(255.0))
    bright = graph.add('Clip', bright, graph.const(0.0), graph.const(255.0))
    pixels = graph.add('Cast', bright, to=TensorProto.UINT8)
    pixels = graph.add('Unsqueeze', pixels, graph.const([2, 3], np.int64))
    graph.add('Expand', pixels, graph.const([1, 1, HEIGHT, WIDTH, 1], np.int64), output='images')
    graph.save(path, [('features', TensorProto.FLOAT, [cameras, 3])],
               ('images', TensorProto.UINT8, [cameras, HEIGHT, WIDTH, 3]))


def _colours(path: Path, cameras: int) -> None:
    """Every eighth pixel of every eighth row."""
    graph = _Graph()
    graph.add('Slice', 'images', graph.const([0, 0], np.int64),
              graph.const([HEIGHT, WIDTH], np.int64), graph.const([2, 3], np.int64),
              graph.const([8, 8], np.int64), output='colours')
    graph.save(path, [('images', TensorProto.UINT8, [cameras, HEIGHT, WIDTH, 3])],
               ('colours', TensorProto.UINT8, [cameras, HEIGHT // 8, WIDTH // 8, 3]))


def _head(path: Path, cameras: int, state: int, actions: int) -> None:
    """GAIN times (mean newest feature - 0.5) for every value; NaN for a mean above 0.9."""
    graph = _Graph()
    last = graph.add('Slice', 'features', graph.const([HISTORY - 1], np.int64),
                     graph.const([HISTORY], np.int64), graph.const([1], np.int64))
    mean = graph.add('ReduceMean', last, graph.const([1, 2, 3], np.int64), keepdims=0)
    spice = graph.add('Sqrt', graph.add('Sub', graph.const(0.9), mean))
    still = graph.add('ReduceMean', 'state', graph.const([1, 2], np.int64), keepdims=0)
    command = graph.add('Mul', graph.add('Sub', mean, graph.const(0.5)), graph.const(GAIN))
    for extra in (spice, still):
        command = graph.add('Add', command, graph.add('Mul', extra, graph.const(1e-12)))
    command = graph.add('Unsqueeze', command, graph.const([1, 2], np.int64))
    graph.add('Expand', command, graph.const([1, CHUNK, actions], np.int64), output='actions')
    graph.save(path, [('features', TensorProto.FLOAT, [HISTORY, cameras, 3]),
                      ('state', TensorProto.FLOAT, [HISTORY, state])],
               ('actions', TensorProto.FLOAT, [CHUNK, actions]))


def write_manifest(directory: Path, contract: Contract, **changes: Any) -> None:
    """Write manifest.json with the hashes of the files as they are; ``changes`` on top."""
    cameras = len(contract.cameras)
    data: dict[str, Any] = {
        'schema_version': 2, 'name': 'tiny', 'created': '2026-01-01T00:00:00Z',
        'contract': contract.to_dict(), 'contract_digest': contract.digest(),
        'files': {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                  for path in sorted(directory.glob('*.onnx'))},
        'encoder': {'objective': 'mean_colour', 'cameras': list(contract.camera_names),
                    'height': HEIGHT, 'width': WIDTH, 'tokens': cameras, 'dim': 3},
        'world_model': {'context': CONTEXT, 'horizon': HORIZON},
        'decoder': {'height': HEIGHT, 'width': WIDTH},
        'colours': {'height': HEIGHT // 8, 'width': WIDTH // 8},
        'head': {'history': HISTORY, 'chunk': CHUNK, 'execute': EXECUTE},
    }
    for part in ('encoder', 'world_model', 'decoder', 'head', 'colours'):
        data[part] |= {'file': f'{part}.onnx', 'precision': 'fp32', 'opset': 18}
    data |= changes
    (directory / 'manifest.json').write_text(json.dumps(data), encoding='utf-8')


def make_bundle(directory: Path, contract: Contract | None = None, *, slow: int = 0) -> Path:
    """
    Write a whole bundle.

    Parameters
    ----------
    directory
        Made if need be, and returned.
    contract
        ``tiny_contract`` if None.
    slow
        Matrix products of 512 x 512 added to the encoder; each takes some milliseconds.

    """
    contract = contract or tiny_contract()
    directory.mkdir(parents=True, exist_ok=True)
    cameras, actions = len(contract.cameras), len(contract.action_names)
    _encoder(directory / 'encoder.onnx', cameras, slow)
    _world_model(directory / 'world_model.onnx', cameras, actions)
    _decoder(directory / 'decoder.onnx', cameras)
    _colours(directory / 'colours.onnx', cameras)
    _head(directory / 'head.onnx', cameras, len(contract.state_names), actions)
    write_manifest(directory, contract)
    return directory
