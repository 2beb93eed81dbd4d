# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Files of a run without pickle: tensors in safetensors, everything else in JSON.

Lightning's state (networks, optimiser, loops, callbacks) is a nest of mappings and lists. Tensors
are lifted out of it into one safetensors file; the nest, with references in their place, becomes
its JSON metadata: so a checkpoint is one file, replaced by one rename.

All metadata is one JSON text under the key ``ssl_vla_ros``: safetensors writes several keys in an
order of chance, and the same run shall give the same bytes. It holds the format, what the file is
about, and a SHA-256 over all else and every tensor, so that a flipped bit does not train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
from ssl_vla_ros.errors import ConfigError
import torch

_KEY = 'ssl_vla_ros'


@dataclass(frozen=True)
class FileKind:
    """What is expected in a file, and what to say and to do if it is not there."""

    name: str
    complaint: str
    remedy: str


CHECKPOINT = FileKind(
    'ssl_vla_ros.checkpoint.2', 'not a readable checkpoint', 'delete it to train anew')
MODEL = FileKind(
    'ssl_vla_ros.model.1', 'cannot load the weights', 'train again into a new directory')


def replace_durably(part: Path, path: Path) -> None:
    """Rename a written file to ``path``; both outlast a power cut once this returns."""
    with part.open('rb') as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of a header and of names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, kind: FileKind,
                  about: Mapping[str, Any], **header: Any) -> None:
    """
    Write one safetensors file, durable and replaced in one step.

    Parameters
    ----------
    tensors
        Contiguous, in main memory, none sharing memory with another.
    path, kind
        Where, and the format to name.
    about
        Plain data that tells whose tensors they are.
    header
        More plain data to keep beside them.

    """
    content = {'format': kind.name, 'about': dict(about), **header}
    text = json.dumps({**content, 'sha256': _digest(tensors, content)}, sort_keys=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.part')
    save_file(dict(tensors), part, metadata={_KEY: text})
    replace_durably(part, path)


def read_tensors(path: Path, kind: FileKind) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """
    Read what ``write_tensors`` wrote: tensors, and the header with ``about``.

    Raises
    ------
    ConfigError
        If the file is missing, cut off, changed by as little as a bit, or something else.

    """
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        header = json.loads(metadata.get(_KEY, '{}'))
        found, expected = header.get('format'), header.pop('sha256', None)
        if found == kind.name and _digest(tensors, header) != expected:
            raise ValueError('its SHA-256 is another than when it was written')
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f'{path}: {kind.complaint}: {reason}; {kind.remedy}') from error
    if found != kind.name:
        raise ConfigError(
            f'{path}: {kind.complaint}: format is {found!r}, expected {kind.name!r}; '
            f'{kind.remedy}')
    return tensors, header


def require_same_run(path: Path, kind: FileKind, found: Mapping[str, Any],
                     wanted: Mapping[str, Any]) -> None:
    """
    Refuse a file of another run, by what the two are about.

    Raises
    ------
    ConfigError
        Naming the first digest that differs.

    """
    for key in ('config_digest', 'dataset_digest', 'encoder_digest'):
        if found.get(key) != wanted.get(key):
            raise ConfigError(
                f'{path}: {key} is {str(found.get(key))[:12]}, that of this run is '
                f'{str(wanted.get(key))[:12]}: it belongs to another run; {kind.remedy}')


def _flatten(value: Any, tensors: dict[str, torch.Tensor], path: str) -> Any:
    """Plain JSON for ``value``, its tensors moved to ``tensors``."""
    if isinstance(value, torch.Tensor):
        name = f't{len(tensors)}'
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {'tensor': name}
    if value is None or isinstance(value, bool | int | float | str):
        return {'value': value}
    if isinstance(value, dict):
        # Keys are numbers in an optimiser's state: JSON mappings would make text of them.
        return {'map': [[_flatten(key, tensors, path), _flatten(item, tensors, f'{path}.{key}')]
                        for key, item in value.items()]}
    if isinstance(value, tuple):
        return {'tuple': [_flatten(item, tensors, path) for item in value]}
    if isinstance(value, list):
        return {'list': [_flatten(item, tensors, path) for item in value]}
    raise TypeError(f'{path}: a {type(value).__name__} cannot be stored in a checkpoint')


def _restore(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    (kind, content), = value.items()
    if kind == 'tensor':
        return tensors[content]
    if kind == 'value':
        return content
    if kind == 'map':
        return {_restore(key, tensors): _restore(item, tensors) for key, item in content}
    items = [_restore(item, tensors) for item in content]
    return tuple(items) if kind == 'tuple' else items


def save_nested(state: dict[str, Any], path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write ``state`` to one safetensors file, durable and replaced in one step."""
    tensors: dict[str, torch.Tensor] = {}
    tree = _flatten(state, tensors, '')
    write_tensors(tensors, path, CHECKPOINT, about or {}, tree=tree)


def load_nested(path: Path) -> dict[str, Any]:
    """
    Read what ``save_nested`` wrote.

    Raises
    ------
    ConfigError
        If the file is missing, cut off, changed, or something else.

    """
    return _nested(path, *read_tensors(path, CHECKPOINT))


def _nested(path: Path, tensors: dict[str, torch.Tensor], header: dict[str, Any]
            ) -> dict[str, Any]:
    try:
        state: dict[str, Any] = _restore(header['tree'], tensors)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f'{path}: {CHECKPOINT.complaint}: {error!r}; {CHECKPOINT.remedy}') from error
    return state


class SafetensorsIO(CheckpointIO):
    """
    Lightning's checkpoint plugin: ``save_nested`` and ``load_nested`` for one run.

    Parameters
    ----------
    about
        Of the run; a file that tells another configuration or dataset is refused.

    """

    def __init__(self, about: Mapping[str, Any] | None = None) -> None:
        self._about = about

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any,
                        storage_options: Any | None = None) -> None:
        """Write the trainer's state."""
        save_nested(checkpoint, Path(path), self._about)

    def load_checkpoint(self, path: Any, map_location: Any | None = None,
                        weights_only: bool | None = None) -> dict[str, Any]:
        """Read the trainer's state; it holds no code, so it is always weights only."""
        file = Path(path)
        tensors, header = read_tensors(file, CHECKPOINT)
        if self._about is not None:
            require_same_run(file, CHECKPOINT, header['about'], self._about)
        return _nested(file, tensors, header)

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
