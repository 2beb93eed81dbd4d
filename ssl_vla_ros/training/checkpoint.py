# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints without pickle: tensors in safetensors, everything else in JSON.

Lightning's state (networks, optimiser, loops, callbacks) is a nest of mappings and lists. Tensors
are lifted out of it into one safetensors file; the nest, with references in their place, becomes
its JSON metadata: so a checkpoint is one file, replaced by one rename.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from safetensors import safe_open, SafetensorError
from safetensors.torch import save_file
from ssl_vla_ros.errors import ConfigError
import torch

_FORMAT = 'ssl_vla_ros.checkpoint.1'


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


def save_nested(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` to one safetensors file, durable and replaced in one step."""
    tensors: dict[str, torch.Tensor] = {}
    tree = json.dumps(_flatten(state, tensors, ''))
    part = path.with_name(f'.{path.name}.part')
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, part, metadata={'format': _FORMAT, 'tree': tree})
    with part.open('rb') as file:
        os.fsync(file.fileno())
    part.replace(path)


def load_nested(path: Path) -> dict[str, Any]:
    """
    Read what ``save_nested`` wrote.

    Raises
    ------
    ConfigError
        If the file is missing, cut off, or something else.

    """
    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise ConfigError(
            f'{path}: not a readable checkpoint ({error}); delete it to train anew') from error
    if metadata.get('format') != _FORMAT:
        raise ConfigError(
            f'{path}: format is {metadata.get("format")!r}, expected {_FORMAT!r}')
    state: dict[str, Any] = _restore(json.loads(metadata['tree']), tensors)
    return state


class SafetensorsIO(CheckpointIO):
    """Lightning's checkpoint plugin over ``save_nested`` and ``load_nested``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any,
                        storage_options: Any | None = None) -> None:
        """Write the trainer's state."""
        save_nested(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any | None = None,
                        weights_only: bool | None = None) -> dict[str, Any]:
        """Read the trainer's state; it holds no code, so it is always weights only."""
        return load_nested(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)
