# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Load an exported bundle and run its networks with ONNX Runtime.

Nothing runs that was not verified first: manifest, hashes, names and shapes of inputs and
outputs, and the robot's contract. Output that is not finite, or of another shape than the
manifest promises, is refused where it arises, so that no caller can pass it on as data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import Contract, require_compatible
from ssl_vla_ros.errors import BundleError, ContractError
from ssl_vla_ros.runtime.backend import BACKENDS, open_session
from ssl_vla_ros.runtime.manifest import Manifest, PARTS, read_manifest, verify_files
from ssl_vla_ros.runtime.pictures import Pictures, SharedPictures

_ELEMENT = {'uint8': 'tensor(uint8)', 'float32': 'tensor(float)'}

Floats = NDArray[np.float32]
#: Name, element type and shape after the batch dimension.
_Port = tuple[str, str, tuple[int, ...]]


class InferenceError(RuntimeError):
    """
    A network gave nothing that may be used.

    Attributes
    ----------
    cause
        ``nan``, ``output_shape`` or ``onnxruntime``, for counters and diagnostics.

    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


def _ports(manifest: Manifest, part: str) -> tuple[list[_Port], _Port]:
    """Return the inputs and the one output that the manifest promises of a network."""
    encoder = manifest.encoder
    features = (encoder.tokens, encoder.dim)
    actions, state = len(manifest.contract.action_names), len(manifest.contract.state_names)
    cameras = len(encoder.cameras)
    if part == 'encoder':
        return ([('images', 'uint8', (cameras, encoder.height, encoder.width, 3))],
                ('features', 'float32', features))
    if part == 'world_model':
        model = manifest.world_model
        assert model is not None
        steps = model.context - 1 + model.horizon
        return ([('features', 'float32', (model.context, *features)),
                 ('actions', 'float32', (steps, actions))],
                ('prediction', 'float32', (model.horizon, *features)))
    if part == 'decoder':
        decoder = manifest.decoder
        assert decoder is not None
        return ([('features', 'float32', features)],
                ('images', 'uint8', (cameras, decoder.height, decoder.width, 3)))
    if part == 'colours':
        colours = manifest.colours
        assert colours is not None
        return ([('images', 'uint8', (cameras, encoder.height, encoder.width, 3))],
                ('colours', 'uint8', (cameras, colours.height, colours.width, 3)))
    head = manifest.head
    assert head is not None
    return ([('features', 'float32', (head.history, *features)),
             ('state', 'float32', (head.history, state))],
            ('actions', 'float32', (head.chunk, actions)))


def describe(manifest: Manifest, part: str) -> dict[str, Any]:
    """Describe inputs and output of a network, as the manifest does: shapes, axes, units."""
    inputs, output = _ports(manifest, part)
    return {'inputs': [_described(port) for port in inputs], 'output': _described(output)}


#: What the axes after the batch are, and what the numbers mean.
_MEANING = {
    ('images', 4): ('camera, row, column, channel', 'rgb8, 0 … 255'),
    ('colours', 4): ('camera, row, column, channel', 'rgb8: principal components of the features'),
    ('features', 2): ('token, dimension', 'none'),
    ('features', 3): ('tick (oldest first), token, dimension', 'none'),
    ('prediction', 3): ('tick ahead, token, dimension', 'none, as features'),
    ('actions', 2): ('tick (oldest first), action_names', "those of the contract's action topics"),
    ('state', 2): ('tick (oldest first), state_names', "those of the contract's state topics"),
}


def _described(port: _Port) -> dict[str, Any]:
    name, kind, shape = port
    axes, units = _MEANING[name, len(shape)]
    return {'name': name, 'type': kind, 'shape': ['batch', *shape],
            'axes': ['batch', *axes.split(', ')], 'units': units}


class _Network:
    """One ONNX file, its promised inputs and output, and the session that runs it."""

    def __init__(self, manifest: Manifest, part: str, session: Any) -> None:
        self.file = manifest.path.parent / getattr(manifest, part).file
        self.inputs, self.output = _ports(manifest, part)
        self._session = session
        self._check('input', self.inputs, session.get_inputs())
        self._check('output', [self.output], session.get_outputs())

    def _check(self, kind: str, wanted: Sequence[_Port], found: Sequence[Any]) -> None:
        names = [port[0] for port in wanted]
        if sorted(names) != sorted(port.name for port in found):
            raise BundleError(f'{self.file}: has the {kind}s {[port.name for port in found]}, '
                              f'manifest.json promises {names}; export the bundle again')
        by_name = {port.name: port for port in found}
        for name, kind_of, shape in wanted:
            port = by_name[name]
            if port.type != _ELEMENT[kind_of]:
                raise BundleError(f'{self.file}: {kind} {name!r} is {port.type}, must be '
                                  f'{_ELEMENT[kind_of]}; export the bundle again')
            # Dimensions without a number are checked on the first real output instead.
            fits = len(port.shape) == len(shape) + 1 and all(
                not isinstance(have, int) or have == want
                for have, want in zip(port.shape[1:], shape, strict=True))
            if not fits or port.shape[0] not in (1, None) and isinstance(port.shape[0], int):
                raise BundleError(
                    f'{self.file}: {kind} {name!r} has shape {list(port.shape)}, manifest.json '
                    f'promises [batch, {", ".join(map(str, shape))}]; export the bundle again')

    def __call__(self, **arrays: NDArray[Any]) -> NDArray[Any]:
        batch = -1
        for name, kind, shape in self.inputs:
            array = arrays[name]
            if array.shape[1:] != shape or array.dtype != np.dtype(kind):
                raise ValueError(f'{name} is {array.dtype} {array.shape}, must be {kind} '
                                 f'(batch, {", ".join(map(str, shape))})')
            batch = array.shape[0]
        try:
            result: NDArray[Any] = self._session.run([self.output[0]], arrays)[0]
        except Exception as error:  # onnxruntime's errors share no base class
            raise InferenceError('onnxruntime', f'{self.file.name}: {error}') from error
        if result.shape != (batch, *self.output[2]):
            raise InferenceError('output_shape', f'{self.file.name} gave {result.shape}, must be '
                                                 f'{(batch, *self.output[2])}')
        if result.dtype == np.float32 and not np.isfinite(result).all():
            raise InferenceError('nan', f'{self.file.name} gave NaN or infinite values')
        return result

    def zeros(self, batch: int) -> dict[str, NDArray[Any]]:
        return {name: np.zeros((batch, *shape), kind) for name, kind, shape in self.inputs}


class Bundle:
    """
    A verified bundle, ready to run; made by ``load_bundle``.

    Attributes
    ----------
    manifest
        What manifest.json says.
    contract
        The robot's contract where one was given, else the one embedded in the bundle.
    backend, backend_note
        ``tensorrt``, ``tensorrt_native``, ``cuda`` or ``cpu``, and why it is
        this one.

    """

    def __init__(self, manifest: Manifest, contract: Contract, networks: Mapping[str, _Network],
                 backend: str, backend_note: str) -> None:
        self.manifest = manifest
        self.contract = contract
        self.backend = backend
        self.backend_note = backend_note
        self._networks = networks

    def has(self, part: str) -> bool:
        """Whether the network of that name is in the bundle and was loaded."""
        return part in self._networks

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the networks that were loaded."""
        return tuple(self._networks)

    def _network(self, part: str) -> _Network:
        if part not in self._networks:
            raise BundleError(f'{self.manifest.path}: has no {part}, or it was not loaded; '
                              f'export a bundle with one (loaded: {", ".join(self._networks)})')
        return self._networks[part]

    def run(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Output of a network for named inputs (batch, …), as the manifest describes them."""
        return self._network(part)(**inputs)

    def warm_up(self, runs: int = 3) -> None:
        """
        Run every network on zeros, so that the first real frame is no slower than the others.

        Raises
        ------
        BundleError
            If a network fails, or gives another shape than promised or values not finite.

        """
        for part, network in self._networks.items():
            # Prediction and surprise together are a batch of two.
            batches = (1, 2) if part == 'world_model' else (1,)
            try:
                for batch in batches:
                    for _ in range(runs):
                        network(**network.zeros(batch))
            except InferenceError as error:
                raise BundleError(f'{network.file}: the {part} does not run: {error}; export the '
                                  'bundle again') from error

    def prepare(self, pictures: Mapping[str, Pictures] | SharedPictures) -> Pictures:
        """
        Bring rgb8 pictures of any size to the encoder's (cameras, height, width, 3).

        What it gives is read-only: several bundles that look at one tick share it if they are
        given the same ``SharedPictures``.

        Raises
        ------
        ValueError
            If a camera is missing, or a picture is no (H, W, 3) uint8 array.

        """
        encoder = self.manifest.encoder
        tick = pictures if isinstance(pictures, SharedPictures) else SharedPictures(pictures)
        return tick.sized(encoder.cameras, encoder.height, encoder.width)

    def encode(self, images: Pictures) -> Floats:
        """Features (tokens, dim) of pictures (cameras, height, width, 3)."""
        features: Floats = self._network('encoder')(images=images[None])[0]
        return features

    def predict(self, features: Floats, actions: Floats) -> Floats:
        """
        Features (horizon, tokens, dim) to come.

        Parameters
        ----------
        features
            (context, tokens, dim), oldest first.
        actions
            (context - 1 + horizon, A); action i leads from frame i to frame i + 1.

        """
        prediction: Floats = self.predict_batch(features[None], actions[None])[0]
        return prediction

    def predict_batch(self, features: Floats, actions: Floats) -> Floats:
        """Like ``predict``, for a batch: (batch, horizon, tokens, dim)."""
        return self._network('world_model')(features=features, actions=actions)

    def decode(self, features: Floats) -> Pictures:
        """Pictures (cameras, height, width, 3) of features (tokens, dim)."""
        pictures: Pictures = self._network('decoder')(features=features[None])[0]
        return pictures

    def colour(self, images: Pictures) -> Pictures:
        """Pictures (cameras, rows, columns, 3) of what the encoder sees where."""
        pictures: Pictures = self._network('colours')(images=images[None])[0]
        return pictures

    def act(self, features: Floats, state: Floats) -> Floats:
        """Actions (chunk, A) from features (history, tokens, dim) and state (history, S)."""
        actions: Floats = self._network('head')(features=features[None], state=state[None])[0]
        return actions


def load_bundle(
    path: str | Path, *, backend: str = 'auto', threads: int = 1,
    robot: Contract | None = None, parts: Sequence[str] = PARTS, cores: Sequence[int] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """
    Verify a bundle and open its networks.

    Parameters
    ----------
    path
        Directory with manifest.json and the ONNX files.
    backend
        ``auto`` (TensorRT, else CUDA, else CPU), or one of ``tensorrt``, ``tensorrt_native``,
        ``cuda``, ``cpu``.
    threads
        Threads of one network. One is fastest beside other work on a small CPU.
    robot
        The contract of the robot it shall run on; None takes the bundle's own.
    parts
        Which networks to open; a wanted one that the bundle does not have is left out (ask
        ``Bundle.has``), save the encoder's description, which every bundle has.
    cores
        CPU cores that threads beside the caller's are bound to; none: wherever there is room.
    progress
        Called with what is being done.

    Raises
    ------
    BundleError
        If anything is missing, altered or does not fit, naming file, key and value.

    """
    directory = Path(path)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise ValueError(f'parts has {unknown}; known: {PARTS}')
    manifest = read_manifest(directory)
    if robot is not None:
        try:
            require_compatible(manifest.contract, robot, f'the bundle {directory}')
        except ContractError as error:
            raise BundleError(str(error)) from error
    verify_files(manifest)
    there = [part for part in parts if getattr(manifest, part) is not None]
    among: tuple[str, ...] = BACKENDS
    passed_over = ''
    while True:
        networks: dict[str, _Network] = {}
        used, note = backend, ''
        try:
            for part in there:
                opened = open_session(
                    directory / getattr(manifest, part).file, used, threads,
                    manifest.precisions[part], cores, progress, among)
                networks[part] = _Network(manifest, part, opened.session)
                # What the first network settles on holds for all: one bundle, one backend.
                used, note = opened.backend, note or opened.note
        except BundleError as error:
            if backend != 'auto' or used in ('auto', 'cpu'):
                raise
            # The first network ran there, another does not: all of them on the next.
            among = among[among.index(used) + 1:]
            passed_over += f'; {used}: {error}'
            continue
        return Bundle(manifest, robot or manifest.contract, networks, used, note + passed_over)
