# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Write the files of a bundle: each network exported, converted and compared with torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.bundle.card import card, CARD_NAME, ORIGINS
from ssl_vla_ros.bundle.graphs import (
    ColourGraph, DecoderGraph, EncoderGraph, export_graph, OPSET)
from ssl_vla_ros.bundle.parity import check_parity, picked, run_torch, spread
from ssl_vla_ros.bundle.precision import to_eight_bits, to_half
from ssl_vla_ros.contract import require_compatible
from ssl_vla_ros.dataset.lerobot_v3 import Dataset
from ssl_vla_ros.dataset.streaming import FrameStream
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning
from ssl_vla_ros.objectives.world_model import WorldModel
from ssl_vla_ros.runtime.bundle import describe
from ssl_vla_ros.runtime.manifest import (
    MANIFEST_NAME, read_manifest, SCHEMA_VERSION, verify_files)
from ssl_vla_ros.runtime.parity import (
    ALLOWED, Arrays, Limits, Parity, REFERENCE_NAME, write_reference)
from ssl_vla_ros.training.features import encode_rows, encoder_digest
from ssl_vla_ros.training.runs import open_run, Run
import torch

#: Real frames, or runs of them, that parity is measured on.
PARITY_ROWS = 64
#: Of these, how many travel with the bundle, so that the proof can be repeated anywhere.
REFERENCE_ROWS = 8
#: What stays in fp32 where the others have 8 bits: the head commands an arm, and costs next to
#: nothing; colours are looked at by people, and only then made.
_PRECISE = ('head', 'colours')
#: A decoder's pictures are rounded to whole numbers, which may fall to either side.
_PICTURE_TOLERANCE = 1.0


class BundleWriter:
    """
    Writes every file of a bundle, each proven, to a directory of its own.

    Parameters
    ----------
    part
        The directory.
    encoder_run, data, precision, min_cosine, progress
        As ``export_bundle`` takes them.

    """

    def __init__(self, part: Path, encoder_run: Path, data: Path, precision: str,
                 min_cosine: float | None, progress: Callable[[str], None]) -> None:
        self._part = part
        self._precision = precision
        self._min_cosine = min_cosine
        self._progress = progress
        self._run = run = open_run(encoder_run)
        self._dataset = Dataset.open(data)
        require_compatible(run.contract, self._dataset.contract, str(run.path))
        objective = run.objective()
        self._encoder = run.encoder()
        self._digest = encoder_digest(self._encoder)
        self._table: dict[int, NDArray[np.float32]] = {}
        self._references: dict[str, tuple[Arrays, NDArray[Any]]] = {}
        self._manifest: dict[str, Any] = {}
        self._metrics: dict[str, Any] = {}
        #: Parity by file and backend, and why backends were left out.
        self.found: dict[str, dict[str, Parity]] = {}
        self.passed_over: dict[str, str] = {}
        self._add_encoder(objective)

    def _add_encoder(self, objective: torch.nn.Module) -> None:
        encoder, run = self._encoder, self._run
        rows = spread(self._dataset.num_rows, 2 * PARITY_ROWS)
        pictures = np.stack(self._pictures(rows), axis=1)
        self._add('encoder', EncoderGraph(encoder), 'features', {'images': pictures})
        self._manifest['encoder'] |= {
            'objective': run.config.title, 'cameras': list(self._dataset.camera_names),
            'height': encoder.height, 'width': encoder.width, 'tokens': encoder.tokens,
            'dim': encoder.dim}
        self._note('encoder', run)
        colours = ColourGraph(encoder, torch.from_numpy(pictures[1::2]))
        self._add('colours', colours, 'colours', {'images': pictures})
        self._manifest['colours'] |= _size(colours(torch.from_numpy(pictures[:1])))
        if hasattr(objective, 'decode'):
            decoder = DecoderGraph(objective)
            features = self._features(rows[:, None])[:, 0]
            self._add('decoder', decoder, 'images', {'features': features})
            self._manifest['decoder'] |= _size(decoder(torch.from_numpy(features[:1])))

    def add_world_model(self, run: Run) -> None:
        """Add a run of objective ``world_model``."""
        model = run.objective()
        if not isinstance(model, WorldModel):
            raise BundleError(f'{run.path}: objective {run.config.title!r} is no world '
                              'model; give a run of objective world_model')
        self._require_same_encoder(run, 'world model')
        context, horizon = model.config.context, model.config.horizon
        spans = self._spans(context + horizon)
        self._add('world_model', model.dynamics, 'prediction', {
            'features': self._features(spans[:, :context]),
            'actions': self._dataset.column('action').astype(np.float32)[spans[:, :-1]]})
        self._manifest['world_model'] |= {'context': context, 'horizon': horizon}
        self._note('world_model', run)

    def add_head(self, run: Run) -> None:
        """Add a run of objective ``behaviour_cloning``."""
        cloned = run.objective()
        if not isinstance(cloned, BehaviourCloning):
            raise BundleError(f'{run.path}: objective {run.config.title!r} is no policy '
                              'head; give a run of objective behaviour_cloning')
        self._require_same_encoder(run, 'head')
        config = cloned.config
        spans = self._spans(config.history)
        self._add('head', cloned.head, 'actions', {
            'features': self._features(spans),
            'state': self._dataset.column('observation.state').astype(np.float32)[spans]})
        self._manifest['head'] |= {
            'history': config.history, 'chunk': config.chunk, 'execute': config.execute}
        self._note('head', run)

    def _note(self, part: str, run: Run) -> None:
        """Say what a network was trained on and by which code, and what it reached."""
        self._metrics[part] = run.info['metrics']
        self._manifest[part] |= {key: run.info[key] for key in ORIGINS}

    def _require_same_encoder(self, run: Run, what: str) -> None:
        require_compatible(self._run.contract, run.contract, str(self._run.path))
        if run.info.get('encoder_digest') != self._digest:
            raise BundleError(
                f'{run.path}: this {what} was trained on the features of another encoder '
                f'({str(run.info.get("encoder_digest"))[:12]}, the bundle\'s is '
                f'{self._digest[:12]}); train it again with encoder= the run that is exported')

    def _add(self, part: str, network: torch.nn.Module, output: str, samples: Arrays) -> None:
        """Export one network and prove it on every second sample; the others give ranges."""
        count = len(next(iter(samples.values())))
        inputs = picked(samples, np.arange(0, count, 2))
        others = picked(samples, np.arange(1, count, 2)) if count > 1 else inputs
        precision = self._precision
        if precision == 'int8' and part in _PRECISE:
            precision = 'fp32'
        self._progress(f'exporting the {part} ({precision})')
        file = self._part / f'{part}.onnx'
        # Two samples, even where there is one: a batch of 1 would be baked into the graph.
        examples = {key: torch.from_numpy(value[[0, -1]]) for key, value in inputs.items()}
        if precision == 'fp32':
            export_graph(network, examples, output, file)
        else:
            plain = file.with_suffix('.fp32')
            export_graph(network, examples, output, plain)
            if precision == 'fp16':
                to_half(plain, file)
            else:
                to_eight_bits(plain, file, others)
            plain.unlink()
        self._progress(f'comparing the {part} with torch')
        expected = run_torch(network, inputs)
        self.found[file.name], self.passed_over = check_parity(
            file, expected, inputs, precision, self._limits(part, precision))
        kept = spread(len(expected), REFERENCE_ROWS)
        self._references[part] = picked(inputs, kept), expected[kept]
        self._manifest[part] = {'file': file.name, 'precision': precision, 'opset': OPSET}

    def _limits(self, part: str, precision: str) -> Limits:
        limits = ALLOWED[precision]
        if part in ('decoder', 'colours') and precision == 'fp32':
            limits = replace(limits, max_abs_error=_PICTURE_TOLERANCE)
        return limits if self._min_cosine is None else replace(
            limits, min_cosine=self._min_cosine)

    def finish(self, name: str, licence: str) -> None:
        """Write the frames that parity can be checked on again, and the manifest."""
        write_reference(self._part / REFERENCE_NAME, self._references)
        run, contract = self._run, self._run.contract
        manifest = {
            'schema_version': SCHEMA_VERSION, 'name': name,
            'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
            'precision': self._precision,
            'contract': contract.to_dict(), 'contract_digest': contract.digest(),
            **{key: run.info[key] for key in ORIGINS}, 'encoder_digest': self._digest,
            'licences': {'software': 'Apache-2.0', 'weights': licence or 'not stated'},
            'software': {package: importlib.metadata.version(package)
                         for package in ('torch', 'onnx', 'onnxruntime')},
            'metrics': self._metrics, **self._manifest,
            'parity': {file: {backend: parity.to_dict() for backend, parity in seen.items()}
                       for file, seen in self.found.items()},
            'files': {file.name: _sha256(file) for file in sorted(self._part.iterdir())}}
        path = self._part / MANIFEST_NAME
        _write_json(path, manifest)
        # What the runtime would refuse is not given to anybody.
        read = read_manifest(self._part)
        manifest['networks'] = {part: describe(read, part) for part in self._references}
        _write_json(path, manifest)
        (self._part / CARD_NAME).write_text(card(manifest), encoding='utf-8')
        verify_files(read_manifest(self._part))

    def _pictures(self, rows: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        # A few rows alone: read from the videos, whatever the disk has room for.
        pictures = FrameStream(self._dataset, self._encoder.height, self._encoder.width)
        return [pictures.read(camera, rows) for camera in self._dataset.camera_names]

    def _spans(self, length: int) -> NDArray[np.int64]:
        """Give runs of ``length`` consecutive rows, each of one episode, all over the data."""
        starts: list[int] = []
        begin = 0
        for rows in self._dataset.lengths:
            starts.extend(range(begin, begin + rows - length + 1))
            begin += rows
        if not starts:
            raise BundleError(
                f'{self._dataset.path}: no episode has {length} rows to check parity on')
        first = np.asarray(starts, dtype=np.int64)[spread(len(starts), 2 * PARITY_ROWS)]
        spans: NDArray[np.int64] = first[:, None] + np.arange(length)
        return spans

    def _features(self, spans: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features (windows, length, tokens, dim) of the given rows."""
        unique, inverse = np.unique(spans, return_inverse=True)
        missing = np.array([row for row in unique.tolist() if row not in self._table], np.int64)
        if len(missing):
            self._table |= zip(missing.tolist(), encode_rows(
                self._encoder, self._pictures(missing)), strict=True)
        table = np.stack([self._table[row] for row in unique.tolist()])
        return table[inverse.reshape(spans.shape)]


def _size(pictures: torch.Tensor) -> dict[str, int]:
    """Height and width of pictures (batch, cameras, height, width, 3)."""
    return {'height': int(pictures.shape[2]), 'width': int(pictures.shape[3])}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_json(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, durable."""
    with path.open('w', encoding='utf-8') as file:
        json.dump(manifest, file, indent=1)
        file.write('\n')
        file.flush()
        os.fsync(file.fileno())
