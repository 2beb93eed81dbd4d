# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle's manifest.json: read, validated, and its files compared with their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.errors import BundleError, ContractError
from ssl_vla_ros.runtime.parity import PRECISIONS

SCHEMA_VERSION = 2
MANIFEST_NAME = 'manifest.json'
#: The networks a bundle may hold; the first is in every bundle.
PARTS = ('encoder', 'world_model', 'decoder', 'head', 'colours')
#: Files of these kinds may lie in a bundle without a hash: no runtime reads them.
_DOCUMENTS = ('.md', '.txt', '.json', '.html', '.png', '.jpg', '.yaml')


@dataclass(frozen=True)
class EncoderPart:
    """The encoder: pictures of ``cameras`` (height, width) to features (tokens, dim)."""

    file: str
    objective: str
    cameras: tuple[str, ...]
    height: int
    width: int
    tokens: int
    dim: int


@dataclass(frozen=True)
class WorldModelPart:
    """The world model: ``context`` frames and the actions between, ``horizon`` frames on."""

    file: str
    context: int
    horizon: int


@dataclass(frozen=True)
class PicturePart:
    """
    What ends in a picture (height, width) of each camera.

    The decoder takes features; the colours take pictures, and show what the encoder sees where.
    """

    file: str
    height: int
    width: int


@dataclass(frozen=True)
class HeadPart:
    """The policy head: ``history`` ticks to ``chunk`` actions, of which ``execute`` are run."""

    file: str
    history: int
    chunk: int
    execute: int


@dataclass(frozen=True)
class Manifest:
    """
    A validated manifest.

    ``precisions`` has that of each network, ``data`` is all of the manifest, ``digest`` the
    SHA-256 of its file.
    """

    path: Path
    name: str
    contract: Contract
    files: Mapping[str, str]
    encoder: EncoderPart
    world_model: WorldModelPart | None
    decoder: PicturePart | None
    head: HeadPart | None
    colours: PicturePart | None
    precisions: Mapping[str, str]
    digest: str
    data: Mapping[str, Any]

    @property
    def encoder_sha256(self) -> str:
        """Name the encoder that features come from, and that heads were trained on."""
        return self.files[self.encoder.file]


class _Table:
    """One mapping of the manifest under validation."""

    def __init__(self, data: object, source: Path, name: str) -> None:
        self.source = source
        self.name = name
        if not isinstance(data, Mapping):
            raise BundleError(f'{source}: {name or "the file"} is {data!r}, must be a mapping; '
                              'export the bundle again')
        self.data: Mapping[str, Any] = data

    def get(self, key: str) -> Any:
        if key not in self.data:
            raise BundleError(f'{self.source}: {self.label(key)} is missing; '
                              'export the bundle again')
        return self.data[key]

    def label(self, key: str) -> str:
        return f'{self.name}.{key}' if self.name else key

    def fail(self, key: str, want: str) -> BundleError:
        return BundleError(f'{self.source}: {self.label(key)} is {self.data.get(key)!r}, '
                           f'must be {want}; export the bundle again')

    def text(self, key: str) -> str:
        value = self.get(key)
        if not isinstance(value, str) or not value:
            raise self.fail(key, 'a text')
        return value

    def count(self, key: str, most: int = 1 << 20) -> int:
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise self.fail(key, f'a whole number from 1 to {most}')
        return value

    def precision(self) -> str:
        if self.get('precision') not in PRECISIONS:
            raise self.fail('precision', f'one of {", ".join(PRECISIONS)}')
        return self.text('precision')

    def file(self, files: Mapping[str, str]) -> str:
        name = self.text('file')
        if name not in files:
            raise self.fail('file', f'one of the hashed files ({", ".join(files)})')
        return name


def _files(root: _Table) -> dict[str, str]:
    table = _Table(root.get('files'), root.source, 'files')
    for name, digest in table.data.items():
        if not name or Path(name).name != name or name in ('.', '..'):
            raise BundleError(f'{root.source}: files names {name!r}; a bundle is one flat '
                              'directory, so this must be a plain file name')
        if not isinstance(digest, str) or len(digest) != 64:
            raise table.fail(name, 'a SHA-256 of 64 hexadecimal digits')
    return dict(table.data)


def _encoder(root: _Table, contract: Contract, files: Mapping[str, str]) -> EncoderPart:
    part = _Table(root.get('encoder'), root.source, 'encoder')
    cameras = part.get('cameras')
    if (not isinstance(cameras, list) or not cameras
            or any(camera not in contract.camera_names for camera in cameras)
            or len(set(cameras)) != len(cameras)):
        raise part.fail('cameras', "some of the contract's cameras "
                                   f'({", ".join(contract.camera_names)}), each once')
    return EncoderPart(part.file(files), str(part.data.get('objective', '')), tuple(cameras),
                       part.count('height'), part.count('width'), part.count('tokens'),
                       part.count('dim'))


def _optional(root: _Table, key: str) -> _Table | None:
    data = root.data.get(key)
    return None if data is None else _Table(data, root.source, key)


def _picture(root: _Table, key: str, files: Mapping[str, str]) -> PicturePart | None:
    part = _optional(root, key)
    return None if part is None else PicturePart(
        part.file(files), part.count('height'), part.count('width'))


def read_manifest(directory: Path) -> Manifest:
    """
    Read and validate ``directory``/manifest.json; the other files are not touched.

    Raises
    ------
    BundleError
        Naming file, key and value of whatever is missing or wrong.

    """
    path = directory / MANIFEST_NAME
    if not directory.is_dir():
        raise BundleError(f'{directory}: no such bundle directory; give the directory that '
                          'holds manifest.json (ssl_vla export makes one)')
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path}: cannot read the bundle's manifest: {error.strerror}; "
                          'give a directory that ssl_vla export has finished') from error
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise BundleError(f'{path}: not valid JSON ({error}): it was altered or copied in part; '
                          'copy the bundle again') from error
    root = _Table(data, path, '')
    version = root.get('schema_version')
    if version != SCHEMA_VERSION:
        raise BundleError(f'{path}: schema_version is {version!r}, this version reads '
                          f'{SCHEMA_VERSION}; export the bundle again with this version')
    try:
        contract = parse_contract(root.get('contract'), f'{path} (contract)')
    except ContractError as error:
        raise BundleError(str(error)) from error
    if contract.digest() != root.text('contract_digest'):
        raise BundleError(f'{path}: contract_digest is {root.data["contract_digest"]!r}, but the '
                          f'embedded contract has {contract.digest()!r}: the manifest was '
                          'altered; export the bundle again')
    files = _files(root)
    model = _optional(root, 'world_model')
    head = _optional(root, 'head')
    head_part = None
    if head is not None:
        head_part = HeadPart(head.file(files), head.count('history'), head.count('chunk'),
                             head.count('execute'))
        if head_part.execute > head_part.chunk:
            raise head.fail('execute', f'at most head.chunk ({head_part.chunk})')
    return Manifest(
        path=path, name=root.text('name'), contract=contract, files=files,
        encoder=_encoder(root, contract, files),
        world_model=None if model is None else WorldModelPart(
            model.file(files), model.count('context'), model.count('horizon')),
        decoder=_picture(root, 'decoder', files), colours=_picture(root, 'colours', files),
        head=head_part, precisions={
            part: _Table(root.data[part], path, part).precision()
            for part in PARTS
            if root.data.get(part) is not None},
        digest=hashlib.sha256(raw).hexdigest(), data=root.data)


def verify_files(manifest: Manifest) -> None:
    """
    Compare every file of the bundle with its hash.

    Raises
    ------
    BundleError
        If a file is missing or differs, or one that may hold weights has no hash.

    """
    directory = manifest.path.parent
    for name, wanted in manifest.files.items():
        digest = hashlib.sha256()
        try:
            with open(directory / name, 'rb') as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise BundleError(f'{directory / name}: cannot read this file of the bundle: '
                              f'{error.strerror}; copy the bundle again') from error
        if digest.hexdigest() != wanted:
            raise BundleError(
                f'{directory / name}: SHA-256 is {digest.hexdigest()}, manifest.json says '
                f'{wanted}: the file was altered or copied in part; copy the bundle again')
    for path in sorted(directory.rglob('*')):
        name = path.relative_to(directory).as_posix()
        if (path.is_file() and name not in manifest.files
                and path.suffix.lower() not in _DOCUMENTS):
            # ONNX files may pull in weights from files beside them: none may go unverified.
            raise BundleError(f'{path}: manifest.json gives no hash for this file; remove it, '
                              'or export the bundle again')
