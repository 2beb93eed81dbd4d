# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles in fewer bits, and the proof repeated where the bundle is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import onnx
import pytest
from ssl_vla_ros import cli
from ssl_vla_ros.bundle.export import export_bundle
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.runtime.bundle import load_bundle
from ssl_vla_ros.runtime.parity import compare, Limits, read_reference, REFERENCE_NAME
from ssl_vla_ros.runtime.verify import verify_bundle
from ssl_vla_ros.training.runs import Run
from ssl_vla_ros.training.train import train
from tiny_bundle import make_bundle
from tiny_training import small_config, write_toy

Runs = dict[str, Any]


@pytest.fixture(scope='module')
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    root = tmp_path_factory.mktemp('runs')
    write_toy(root / 'data')
    # Wide enough for 8 bits to be worth it.
    network = {'vit': {'channels': 48, 'depth': 2, 'heads': 3}}
    encoder = train(small_config('mae', network=network), root / 'data', root / 'mae', quiet=True)

    def on_encoder(objective: str) -> Run:
        return train(small_config(objective, encoder=encoder.path), root / 'data',
                     root / objective, quiet=True)
    return {'data': root / 'data', 'encoder': encoder.path,
            'world_model_run': on_encoder('world_model').path,
            'head_run': on_encoder('behaviour_cloning').path}


def export(runs: Runs, out: Path, precision: str, **more: Any) -> Path:
    parts = {name: runs[name] for name in ('world_model_run', 'head_run')}
    return export_bundle(runs['encoder'], out, runs['data'], precision=precision, **parts,
                         **more).path


@pytest.fixture(scope='module')
def bundles(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp('models')
    return {precision: export(runs, folder / precision, precision)
            for precision in ('fp32', 'fp16', 'int8')}


def kinds(path: Path) -> set[int]:
    """Element types of a graph's weights."""
    return {tensor.data_type for tensor in onnx.load(path).graph.initializer
            if np.prod(tensor.dims) > 100}


def test_each_precision_is_what_it_says_and_close_to_torch(bundles: dict[str, Path]) -> None:
    least = {'fp32': 0.9999, 'fp16': 0.999, 'int8': 0.99}
    for precision, path in bundles.items():
        manifest = json.loads((path / 'manifest.json').read_text())
        assert manifest['precision'] == precision
        for file, seen in manifest['parity'].items():
            told = manifest[file.removesuffix('.onnx')]['precision']
            assert told == (
                'fp32' if precision == 'int8' and file in ('head.onnx', 'colours.onnx')
                else precision)
            assert seen['cpu']['cosine'] >= least[told]
    assert kinds(bundles['fp32'] / 'encoder.onnx') == {onnx.TensorProto.FLOAT}
    assert onnx.TensorProto.FLOAT16 in kinds(bundles['fp16'] / 'encoder.onnx')
    assert onnx.TensorProto.INT8 in kinds(bundles['int8'] / 'encoder.onnx')
    assert onnx.TensorProto.INT8 in kinds(bundles['int8'] / 'world_model.onnx')
    assert kinds(bundles['int8'] / 'head.onnx') == {onnx.TensorProto.FLOAT}
    sizes = [(path / 'encoder.onnx').stat().st_size for path in bundles.values()]
    assert sizes == sorted(sizes, reverse=True)


def test_whatever_the_precision_a_bundle_is_used_alike(bundles: dict[str, Path]) -> None:
    images = read_reference(bundles['fp32'] / REFERENCE_NAME)['encoder'][0]['images'][0]
    exact, *others = [load_bundle(path, backend='cpu').encode(images)
                      for path in bundles.values()]
    for features in others:
        assert features.dtype == np.float32
        assert 0.0 < np.abs(features - exact).max() < 0.5


def test_too_little_precision_gives_no_bundle(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r'cpu differs from torch in int8: .*at least 0\.999999'
                                          r'.*no bundle is written; export with a higher'):
        export(runs, tmp_path / 'out', 'int8', min_cosine=0.999999)
    with pytest.raises(BundleError, match="precision is 'fp8', must be one of fp32, fp16, int8"):
        export(runs, tmp_path / 'out', 'fp8')
    with pytest.raises(BundleError, match=r'min_cosine is 2\.0, must lie above 0'):
        export(runs, tmp_path / 'out', 'int8', min_cosine=2.0)
    assert not list(tmp_path.iterdir())


def change(bundle: Path, **changes: Any) -> None:
    """Change the manifest as somebody would who wants it to be taken."""
    path = bundle / 'manifest.json'
    manifest = json.loads(path.read_text()) | changes
    manifest['files'] = {file: hashlib.sha256((bundle / file).read_bytes()).hexdigest()
                         for file in manifest['files'] if (bundle / file).exists()}
    path.write_text(json.dumps(manifest))


def test_verify_repeats_the_proof_without_torch(bundles: dict[str, Path]) -> None:
    code = ('import sys; from ssl_vla_ros import cli; status = cli.main(sys.argv[1:]); '
            'assert "torch" not in sys.modules; assert "onnx" not in sys.modules; '
            'sys.exit(status)')
    for precision, path in bundles.items():
        told = subprocess.run([sys.executable, '-c', code, 'verify', str(path)], check=True,
                              capture_output=True, text=True).stdout
        assert 'hashes, shapes and contract are right' in told, precision
        for part in ('encoder', 'world_model', 'head', 'colours'):
            assert f'  {part:<12} cpu ' in told
        assert 'Next: ros2 launch ssl_vla_ros inference.launch.py' in told
    assert len(verify_bundle(bundles['fp32'], ['cpu']).rows) == 4


def test_verify_tells_a_machine_that_computes_something_else(
        bundles: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(bundles['fp32'], tmp_path / 'copy')
    for part in ('encoder', 'head'):
        graph = onnx.load(copy / f'{part}.onnx')
        weight = max(graph.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
        values = onnx.numpy_helper.to_array(weight) * 1.1
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), weight.name))
        onnx.save(graph, copy / f'{part}.onnx')
    change(copy)
    assert cli.main(['verify', str(copy), '--backend', 'cpu']) == 1
    lines = capsys.readouterr().out.splitlines()
    outside = {line.split()[0] for line in lines if line.endswith('OUTSIDE OF THE LIMITS')}
    assert outside == {'encoder', 'head'}
    assert 'do not run it here' in lines[-1]


def test_verify_says_what_is_missing(bundles: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(bundles['fp32'], tmp_path / 'copy')
    with pytest.raises(BundleError, match='backend cuda: the installed onnxruntime'):
        verify_bundle(copy, ['cuda'])
    (copy / REFERENCE_NAME).write_bytes(b'PK no zip')
    with pytest.raises(BundleError, match=r'reference\.npz: SHA-256 is'):
        verify_bundle(copy)
    change(copy)
    with pytest.raises(BundleError, match=r'reference\.npz: cannot read the frames that parity'):
        verify_bundle(copy)
    (copy / REFERENCE_NAME).unlink()
    change(copy)
    with pytest.raises(BundleError, match=r'files has no reference\.npz'):
        verify_bundle(copy)
    with pytest.raises(BundleError, match=r'files has no reference\.npz'):
        verify_bundle(make_bundle(tmp_path / 'tiny'))


def test_an_array_of_objects_is_not_unpickled(bundles: dict[str, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(bundles['fp32'], tmp_path / 'copy')
    with (copy / REFERENCE_NAME).open('wb') as file:
        np.savez(file, **{'encoder/images': np.array([print], object), 'encoder//': np.ones(1)})
    change(copy)
    with pytest.raises(BundleError, match='cannot read the frames'):
        verify_bundle(copy)


def test_cosines_are_of_each_sample_and_of_what_differs() -> None:
    rng = np.random.default_rng(0)
    common = 100.0 * rng.normal(size=8)
    expected = common + rng.normal(size=(50, 8))
    noise = common + rng.normal(size=(50, 8))
    limits = Limits(None, 0.999)
    same = compare(expected, expected, limits)
    assert (same.max_abs_error, same.cosine, same.holds) == (0.0, 1.0, True)
    assert same.centred_cosine == pytest.approx(1.0)
    other = compare(expected, noise, limits)
    assert other.cosine > 0.999                # as good as the same, it seems
    assert other.centred_cosine is not None
    assert abs(other.centred_cosine) < 0.3     # and has nothing of it
    turned = expected.copy()
    turned[7] *= -1.0
    assert compare(expected, turned, limits).cosine == pytest.approx(-1.0)
    assert compare(np.zeros((2, 3)), np.zeros((2, 3)), limits).holds
    assert not compare(expected, np.full_like(expected, np.nan), limits).holds
    with pytest.raises(ValueError, match=r'outputs are \(50, 7\), must be \(50, 8\)'):
        compare(expected, expected[:, :7], limits)
