# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""`ssl_vla export`: trained runs to one bundle, or no bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.bundle.graphs import DecoderGraph, export_graph, OPSET
from ssl_vla_ros.bundle.parity import check_parity, Parity
from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning
from ssl_vla_ros.objectives.world_model import WorldModel
from ssl_vla_ros.training.features import encode_rows, encoder_digest
from ssl_vla_ros.training.runs import open_run, Run
import torch

#: Real frames the parity report is made on.
PARITY_ROWS = 64
#: A decoder's pictures are rounded to whole numbers, which may fall to either side.
_PICTURE_TOLERANCE = 1.0


@dataclass
class Exported:
    """What an export wrote."""

    path: Path
    parity: dict[str, Parity] = field(default_factory=dict)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_same_encoder(run: Run, encoder: Run, encoder_key: str, what: str) -> None:
    require_compatible(encoder.contract, run.contract, str(encoder.path))
    if run.info.get('encoder_digest') != encoder_key:
        raise BundleError(
            f'{run.path}: this {what} was trained on the features of another encoder '
            f'({str(run.info.get("encoder_digest"))[:12]}, the bundle\'s is {encoder_key[:12]}); '
            'train it again with encoder= the run that is exported')


def _parity_inputs(dataset: Dataset, height: int, width: int
                   ) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]]]:
    """Rows spread over the dataset, with their pictures."""
    # A few rows alone: read from the videos, whatever the disk has room for.
    pictures = FrameStream(dataset, height, width)
    rows = np.linspace(0, dataset.num_rows - 1, min(PARITY_ROWS, dataset.num_rows))
    picked = np.unique(rows.astype(np.int64))
    return picked, [pictures.read(camera, picked) for camera in dataset.camera_names]


def export_bundle(encoder_run: Path, out: Path, data: Path, *, world_model_run: Path | None = None,
                  head_run: Path | None = None, name: str = '') -> Exported:
    """
    Export an encoder, and what was trained on its features, to one directory.

    Parameters
    ----------
    encoder_run, world_model_run, head_run
        Finished runs; the last two are optional.
    out
        The bundle's directory; replaced as a whole when all is well, untouched otherwise.
    data
        Dataset whose real frames the parity report is made on.
    name
        Of the bundle; ``out``'s name by default.

    Raises
    ------
    BundleError
        If a graph cannot be exported, parity fails, or the runs do not belong together.

    """
    place = Path(os.path.abspath(out))  # '.' has no name to write beside
    _require_bundle_or_nothing(place)
    part = place.with_name(f'.{place.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        parity = _write(
            part, encoder_run, data, world_model_run, head_run, name or place.name)
        _replace(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Exported(out, parity)


def _write(part: Path, encoder_run: Path, data: Path, world_model_run: Path | None,
           head_run: Path | None, name: str) -> dict[str, Parity]:
    """Write every file of a bundle, checked, to the directory ``part``."""
    run = open_run(encoder_run)
    dataset = Dataset.open(data)
    require_compatible(run.contract, dataset.contract, str(run.path))
    objective = run.objective()
    encoder = run.encoder()
    key = encoder_digest(encoder)
    rows, pictures = _parity_inputs(dataset, encoder.height, encoder.width)
    images = np.stack(pictures, axis=1)
    features = encode_rows(encoder, pictures)
    found: dict[str, Parity] = {}
    manifest: dict[str, Any] = {
        'schema_version': 1, 'name': name,
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'contract': run.contract.to_dict(), 'contract_digest': run.contract.digest(),
        'dataset_digest': run.info['dataset_digest'], 'config_digest': run.info['config_digest'],
        'encoder_digest': key, 'git_commit': run.info['git_commit'], 'licence': 'Apache-2.0',
        'software': {package: importlib.metadata.version(package)
                     for package in ('torch', 'onnx', 'onnxruntime')},
        'metrics': {'encoder': run.info['metrics']}}

    def add(file: str, network: torch.nn.Module, output: str,
            inputs: dict[str, NDArray[Any]], tolerance: float | None = None) -> None:
        # Two samples, even where there is one: a batch of 1 would be baked into the graph.
        examples = {key: torch.from_numpy(value[[0, -1]]) for key, value in inputs.items()}
        export_graph(network, examples, output, part / file)
        extra = {} if tolerance is None else {'tolerance': tolerance}
        found[file] = check_parity(network, part / file, inputs, **extra)

    add('encoder.onnx', encoder, 'features', {'images': images})
    manifest['encoder'] = {
        'file': 'encoder.onnx', 'objective': run.config.title,
        'cameras': list(dataset.camera_names), 'height': encoder.height, 'width': encoder.width,
        'tokens': encoder.tokens, 'dim': encoder.dim, 'opset': OPSET}
    if hasattr(objective, 'decode'):
        decoder = DecoderGraph(objective)
        add('decoder.onnx', decoder, 'images', {'features': features}, _PICTURE_TOLERANCE)
        shape = decoder(torch.from_numpy(features[:1])).shape
        manifest['decoder'] = {
            'file': 'decoder.onnx', 'height': int(shape[2]), 'width': int(shape[3])}
    if world_model_run is not None:
        other = open_run(world_model_run)
        model = other.objective()
        if not isinstance(model, WorldModel):
            raise BundleError(f'{other.path}: objective {other.config.title!r} is no world '
                              'model; give a run of objective world_model')
        _require_same_encoder(other, run, key, 'world model')
        context, horizon = model.config.context, model.config.horizon
        spans = _spans(dataset, context + horizon)
        add('world_model.onnx', model.dynamics, 'prediction', {
            'features': _gather(encoder, dataset, spans[:, :context]),
            'actions': dataset.column('action').astype(np.float32)[spans[:, :-1]]})
        manifest['world_model'] = {
            'file': 'world_model.onnx', 'context': context, 'horizon': horizon}
        manifest['metrics']['world_model'] = other.info['metrics']
    if head_run is not None:
        other = open_run(head_run)
        cloned = other.objective()
        if not isinstance(cloned, BehaviourCloning):
            raise BundleError(f'{other.path}: objective {other.config.title!r} is no policy '
                              'head; give a run of objective behaviour_cloning')
        _require_same_encoder(other, run, key, 'head')
        history = cloned.config.history
        spans = _spans(dataset, history)
        add('head.onnx', cloned.head, 'actions', {
            'features': _gather(encoder, dataset, spans),
            'state': dataset.column('observation.state').astype(np.float32)[spans]})
        manifest['head'] = {
            'file': 'head.onnx', 'history': history, 'chunk': cloned.config.chunk,
            'execute': cloned.config.execute}
        manifest['metrics']['head'] = other.info['metrics']
    manifest['parity'] = {file: parity.to_dict() for file, parity in found.items()}
    manifest['files'] = {file.name: _sha256(file) for file in sorted(part.glob('*.onnx'))}
    with (part / 'manifest.json').open('w', encoding='utf-8') as file:
        json.dump(manifest, file, indent=1)
        file.write('\n')
        file.flush()
        os.fsync(file.fileno())
    return found


def _spans(dataset: Dataset, length: int) -> NDArray[np.int64]:
    """At most ``PARITY_ROWS`` runs of ``length`` consecutive rows, each in one episode."""
    starts: list[int] = []
    begin = 0
    for rows in dataset.lengths:
        starts.extend(range(begin, begin + rows - length + 1))
        begin += rows
    if not starts:
        raise BundleError(f'{dataset.path}: no episode has {length} rows to check parity on')
    pick = np.linspace(0, len(starts) - 1, min(PARITY_ROWS, len(starts))).astype(np.int64)
    first = np.asarray(starts, dtype=np.int64)[pick]
    spans: NDArray[np.int64] = first[:, None] + np.arange(length)
    return spans


def _gather(encoder: Any, dataset: Dataset, spans: NDArray[np.int64]) -> NDArray[np.float32]:
    """Features (windows, length, tokens, dim) of the given rows."""
    pictures = FrameStream(dataset, encoder.height, encoder.width)
    unique, inverse = np.unique(spans, return_inverse=True)
    table = encode_rows(
        encoder, [pictures.read(camera, unique) for camera in dataset.camera_names])
    return table[inverse.reshape(spans.shape)]


def _replace(part: Path, out: Path) -> None:
    """Put a finished directory in place of an older one, which stays if that fails."""
    old = _old(out)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.replace(old)
    try:
        part.replace(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _old(out: Path) -> Path:
    return out.with_name(f'.{out.name}.old')


def _require_bundle_or_nothing(out: Path) -> None:
    """Refuse to replace what is no bundle; put back one that a killed export had moved aside."""
    if not out.exists():
        if (_old(out) / 'manifest.json').is_file():
            _old(out).replace(out)
        return
    if not out.is_dir() or (
            not (out / 'manifest.json').is_file() and any(out.iterdir())):
        raise BundleError(f'{out} exists and is no bundle; choose another --out')
