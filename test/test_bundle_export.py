# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Exporting small runs: proven equal to torch, loaded by the runtime, or no bundle at all."""

from __future__ import annotations

from functools import partial
import hashlib
import json
from pathlib import Path
import shutil

import numpy as np
import onnx
import pytest
from ssl_vla_ros.bundle import writer
from ssl_vla_ros.bundle.export import export_bundle
from ssl_vla_ros.bundle.parity import check_parity, run_torch
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.errors import BundleError, ConfigError
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.runtime.parity import (
    ALLOWED, read_reference, REFERENCE_NAME, write_reference)
from ssl_vla_ros.runtime.verify import verify_bundle
from ssl_vla_ros.training.runs import Run
from ssl_vla_ros.training.train import train
from tiny_training import small_config, write_toy
import torch


class Runs:
    """A dataset, an encoder, and what was trained on it."""

    def __init__(self, root: Path) -> None:
        self.data = root / 'data'
        self.dataset = write_toy(self.data)
        self.encoder = train(small_config('keypoints'), self.data, root / 'encoder', quiet=True)
        self.world_model = self._on_encoder('world_model', root)
        self.head = self._on_encoder('behaviour_cloning', root)

    def _on_encoder(self, objective: str, root: Path) -> Run:
        return train(small_config(objective, encoder=self.encoder.path), self.data,
                     root / objective, quiet=True)


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp('runs'))


@pytest.fixture(scope='module')
def bundle(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('models') / 'toy'
    done = export_bundle(runs.encoder.path, out, runs.data, world_model_run=runs.world_model.path,
                         head_run=runs.head.path)
    assert set(done.parity) == {
        f'{part}.onnx' for part in ('encoder', 'decoder', 'world_model', 'head', 'colours')}
    assert [path.name for path in out.parent.iterdir()] == ['toy'], 'nothing is left beside it'
    return out


def windows(dataset: Dataset, length: int) -> np.ndarray:
    """Pictures (length, 1, H, W, 3) of the first rows."""
    return dataset.frames('front', 0)[:length, None]


def test_the_card_says_what_the_manifest_says(bundle: Path) -> None:
    manifest = json.loads((bundle / 'manifest.json').read_text())
    text = (bundle / 'README.md').read_text()
    assert text.startswith('# toy\n')
    for part in ('encoder', 'decoder', 'world_model', 'head', 'colours'):
        assert f'| {part} | `' in text
    for told in (manifest['dataset_digest'], manifest['git_commit'], 'licence of the weights: '
                 'not stated', 'robot `toy` at 20 Hz', 'Cameras: front.', 'dx, dy',
                 '`images` uint8 (batch, 1, 32, 32, 3)'):
        assert told in text
    assert f'{manifest["metrics"]["head"]["held_out.loss"]:.3g}' in text


def test_no_path_of_this_machine_travels_with_a_bundle(bundle: Path) -> None:
    for file in bundle.iterdir():
        content = file.read_bytes()
        for path in (Path(writer.__file__).parents[2], Path(torch.__file__).parents[1],
                     bundle.parent):
            assert str(path).encode() not in content, (file.name, path)


def test_bytes_are_only_at_the_ports(bundle: Path) -> None:
    """Bytes go in and out: TensorRT computes nothing with them."""
    for file in sorted(bundle.glob('*.onnx')):
        graph = onnx.shape_inference.infer_shapes(onnx.load(file)).graph
        inputs = {port.name for port in graph.input}
        outputs = {port.name for port in graph.output}
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
                assert value.name in inputs | outputs, (file.name, value.name)
        for node in graph.node:
            taken = [name for name in node.input if name in inputs]
            if 'images' in taken:
                assert node.op_type == 'Cast', (file.name, node.op_type)


@torch.no_grad()
def test_an_encoder_alone_and_of_another_kind_is_a_bundle(runs: Runs, tmp_path: Path) -> None:
    """A masked autoencoder has nothing that draws pictures from its features alone."""
    run = train(small_config('mae'), runs.data, tmp_path / 'mae', quiet=True)
    done = export_bundle(run.path, tmp_path / 'bundle', runs.data)
    assert set(done.parity) == {'encoder.onnx', 'colours.onnx'}
    loaded = load_bundle(done.path, backend='cpu')
    images = windows(runs.dataset, 4)
    np.testing.assert_allclose(
        np.stack([loaded.encode(image) for image in images]),
        run.encoder()(torch.from_numpy(images)), atol=1e-4)
    assert loaded.manifest.encoder.objective == 'mae'
    assert loaded.manifest.decoder is None and loaded.manifest.head is None


@torch.no_grad()
def test_the_runtime_gives_what_torch_gives(runs: Runs, bundle: Path) -> None:
    loaded = load_bundle(bundle, backend='cpu')
    images = windows(runs.dataset, 4)
    features = np.stack([loaded.encode(image) for image in images])
    expected = runs.encoder.encoder()(torch.from_numpy(images))
    np.testing.assert_allclose(features, expected, atol=1e-4)
    actions = runs.dataset.column('action')[:4].astype(np.float32)
    dynamics = runs.world_model.objective().get_submodule('dynamics')
    np.testing.assert_allclose(
        loaded.predict(features[:2], actions),
        dynamics(torch.from_numpy(features[None, :2]), torch.from_numpy(actions[None]))[0],
        atol=1e-4)
    state = runs.dataset.column('observation.state')[:2].astype(np.float32)
    head = runs.head.objective().get_submodule('head')
    np.testing.assert_allclose(
        loaded.act(features[:2], state),
        head(torch.from_numpy(features[None, :2]), torch.from_numpy(state[None]))[0], atol=1e-4)
    drawn = loaded.decode(features[0]).astype(np.int16)
    wanted = runs.encoder.objective().decode(expected[:1])[0]  # type: ignore[operator]
    assert np.abs(drawn - wanted.numpy().astype(np.int16)).max() <= 1


def test_the_manifest_says_where_it_comes_from(runs: Runs, bundle: Path) -> None:
    manifest = json.loads((bundle / 'manifest.json').read_text())
    assert manifest['name'] == 'toy'
    assert manifest['dataset_digest'] == runs.dataset.digest()
    assert manifest['contract_digest'] == runs.dataset.contract.digest()
    assert manifest['config_digest'] == runs.encoder.info['config_digest']
    kind = {'precision': 'fp32', 'opset': 18}
    encoder, world_model, head = (
        {key: run.info[key] for key in ('git_commit', 'dataset_digest', 'config_digest')}
        for run in (runs.encoder, runs.world_model, runs.head))
    assert manifest['encoder'].items() >= encoder.items()
    assert manifest['world_model'] == {
        'file': 'world_model.onnx', 'context': 2, 'horizon': 3, **kind, **world_model}
    assert manifest['head'] == {
        'file': 'head.onnx', 'history': 2, 'chunk': 4, 'execute': 2, **kind, **head}
    card = (bundle / 'README.md').read_text()
    assert f'- configuration of head: `{runs.head.info["config_digest"]}`' in card
    assert f'- dataset: `{runs.dataset.digest()}`' in card
    for seen in manifest['parity'].values():
        assert seen['cpu']['samples'] > 10
        assert seen['cpu']['max_abs_error'] <= seen['cpu']['tolerance']
        assert seen['cpu']['cosine'] >= 0.9999
    assert manifest['licences'] == {'software': 'Apache-2.0', 'weights': 'not stated'}
    networks = manifest['networks']
    assert networks.keys() == manifest['metrics'].keys() | {'decoder', 'colours'}
    assert networks['encoder'] == {
        'inputs': [{'name': 'images', 'type': 'uint8', 'shape': ['batch', 1, 32, 32, 3],
                    'axes': ['batch', 'camera', 'row', 'column', 'channel'],
                    'units': 'rgb8, 0 … 255'}],
        'output': {'name': 'features', 'type': 'float32', 'shape': ['batch', 4, 2],
                   'axes': ['batch', 'token', 'dimension'], 'units': 'none'}}
    assert set(manifest['metrics']) == {'encoder', 'world_model', 'head'}


def test_an_altered_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / 'copy')
    file = tmp_path / 'copy' / 'head.onnx'
    file.write_bytes(file.read_bytes() + b'\0')
    with pytest.raises(BundleError, match=r'head\.onnx'):
        load_bundle(tmp_path / 'copy', backend='cpu')


def quick(runs: Runs, out: Path, **others: Path) -> None:
    export_bundle(runs.encoder.path, out, runs.data, **others)


@pytest.fixture
def fast_graphs(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    """Take graphs exported before: what is tested here is what becomes of them."""
    monkeypatch.setattr(
        writer, 'export_graph',
        lambda network, inputs, output, path: shutil.copy(bundle / path.name, path))


@pytest.mark.usefixtures('fast_graphs')
@pytest.mark.parametrize('kept', [('encoder', 'colours'), ()])
def test_a_network_without_samples_is_not_taken_for_proven(
        kept: tuple[str, ...], bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / 'copy'
    shutil.copytree(bundle, copy)
    samples = read_reference(copy / REFERENCE_NAME)
    write_reference(copy / REFERENCE_NAME, {part: samples[part] for part in kept})
    path = copy / 'manifest.json'
    manifest = json.loads(path.read_text())
    manifest['files'][REFERENCE_NAME] = hashlib.sha256(
        (copy / REFERENCE_NAME).read_bytes()).hexdigest()
    path.write_text(json.dumps(manifest))
    told = ', '.join(sorted(kept)) or 'nothing'
    with pytest.raises(BundleError, match=f'has samples of {told}, the networks of .* head'):
        verify_bundle(copy, ['cpu'])


def test_what_was_trained_on_another_encoder_is_refused(runs: Runs, tmp_path: Path) -> None:
    other = train(small_config('keypoints', seed=5), runs.data, tmp_path / 'other', quiet=True)
    head = train(small_config('behaviour_cloning', encoder=other.path), runs.data,
                 tmp_path / 'head', quiet=True)
    with pytest.raises(BundleError, match='head was trained on the features of another encoder'):
        quick(runs, tmp_path / 'out', head_run=head.path)
    with pytest.raises(BundleError, match='is no policy head'):
        quick(runs, tmp_path / 'out', head_run=runs.world_model.path)
    with pytest.raises(BundleError, match='is no world model'):
        quick(runs, tmp_path / 'out', world_model_run=runs.head.path)
    with pytest.raises(ConfigError, match='trains no encoder'):
        export_bundle(runs.head.path, tmp_path / 'out', runs.data)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['head', 'other']


@pytest.mark.usefixtures('fast_graphs')
@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError('disk full')])
def test_an_interrupted_export_leaves_the_old_bundle(
        error: type[BaseException] | BaseException, runs: Runs, bundle: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / 'toy'
    shutil.copytree(bundle, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def stop(*_: object, **__: object) -> None:
        raise error
    for place in ('check_parity', '_sha256'):
        with monkeypatch.context() as patch:
            patch.setattr(writer, place, stop)
            with pytest.raises(type(error) if isinstance(error, OSError) else KeyboardInterrupt):
                quick(runs, out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ['toy']
    quick(runs, out)
    assert sorted(path.name for path in out.iterdir()) == [
        'README.md', 'colours.onnx', 'decoder.onnx', 'encoder.onnx', 'manifest.json',
        'reference.npz']
    assert [path.name for path in tmp_path.iterdir()] == ['toy']


@pytest.mark.usefixtures('fast_graphs')
def test_a_bundle_moved_aside_by_a_killed_export_is_put_back(
        runs: Runs, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundle, tmp_path / '.toy.old')

    def stop(*_: object, **__: object) -> None:
        raise BundleError('stopped')
    monkeypatch.setattr(writer, 'check_parity', stop)
    with pytest.raises(BundleError, match='stopped'):
        quick(runs, tmp_path / 'toy')
    load_bundle(tmp_path / 'toy', backend='cpu')


@pytest.mark.usefixtures('fast_graphs')
def test_graphs_that_differ_give_no_bundle(
        runs: Runs, tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = writer.encoder_digest

    def disturb(encoder: torch.nn.Module) -> str:
        digest = original(encoder)  # type: ignore[arg-type]
        with torch.no_grad():  # the graph keeps the weights it was exported with
            for parameter in encoder.parameters():
                parameter.mul_(1.05)
        return digest
    monkeypatch.setattr(writer, 'encoder_digest', disturb)
    with pytest.raises(BundleError, match=r'encoder\.onnx: cpu differs from torch in fp32: max'):
        quick(runs, tmp_path / 'toy')
    assert list(tmp_path.iterdir()) == []


def test_parity_looks_at_each_sample_and_at_nan(runs: Runs, bundle: Path) -> None:
    encoder = runs.encoder.encoder()
    inputs = {'images': windows(runs.dataset, 6)}
    expected = run_torch(encoder, inputs)
    check = partial(check_parity, bundle / 'encoder.onnx', inputs=inputs, precision='fp32',
                    limits=ALLOWED['fp32'])
    found, passed_over = check(expected)
    assert found['cpu'].samples == 6
    assert found.keys() | passed_over.keys() == {
        'cpu', 'cuda', 'tensorrt', 'tensorrt_native'}
    expected[5, 0, 0] += 1.0
    with pytest.raises(BundleError, match='differs from torch in fp32: max error 1 '):
        check(expected)
    expected[5, 0, 0] = np.nan
    with pytest.raises(BundleError, match='max error nan'):
        check(expected)


def test_what_is_no_bundle_is_not_replaced(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'thesis.txt').write_text('three years')
    (tmp_path / 'file').write_text('x')
    for name in ('mine', 'file'):
        with pytest.raises(BundleError, match='exists and is no bundle'):
            quick(runs, tmp_path / name)
    assert (tmp_path / 'mine' / 'thesis.txt').read_text() == 'three years'
