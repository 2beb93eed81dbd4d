# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which features of an RLDS episode are cameras, state, action and instruction.

An episode is one ``tf.train.Example``: ``steps/observation/state`` holds the states of all steps
one after the other, ``steps/observation/image`` a JPEG or PNG for each. What the features are is
told by the records themselves; ``features.json`` is only held against them.

State is ``observation/state`` or ``observation/proprio`` where there is one, else every vector of
floats in the observation with at most 64 values; embeddings are longer. Action is ``action``, or
all numbers below it but ``terminate_episode``, which commands nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
import math
from typing import Any

from ssl_vla_ros.dataset.notes import Notes
from ssl_vla_ros.dataset.sources.pictures import decode, is_encoded
from ssl_vla_ros.dataset.sources.rlds_files import FEATURES
from ssl_vla_ros.dataset.sources.rows import distinct, identifier, numbered, UnsuitableError
from ssl_vla_ros.dataset.sources.tfrecord import Example
from ssl_vla_ros.errors import DatasetError

_OBSERVATION, _ACTION = 'steps/observation/', 'steps/action'
#: One value a step, in every RLDS dataset.
STEP_KEYS = ('steps/is_first', 'steps/is_last', 'steps/is_terminal', 'steps/reward',
             'steps/discount')
_STATES = ('steps/observation/state', 'steps/observation/proprio')
#: Where an instruction may be; the first that is not empty counts.
TEXTS = ('steps/language_instruction', 'steps/observation/natural_language_instruction',
         'steps/observation/language_instruction', 'episode_metadata/language_instruction')
_WIDEST = 64


@dataclass(frozen=True)
class RldsCamera:
    """A feature with a picture a step."""

    key: str
    name: str
    height: int
    width: int


@dataclass(frozen=True)
class RldsVector:
    """A feature with ``width`` numbers a step."""

    key: str
    name: str
    width: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its values: RLDS has none for them."""
        return numbered(self.name, self.width)


@dataclass(frozen=True)
class RldsSchema:
    """What is read of every episode, beside its instruction."""

    cameras: tuple[RldsCamera, ...]
    state: tuple[RldsVector, ...]
    action: tuple[RldsVector, ...]


def count_steps(example: Example, where: str) -> int:
    """
    Count the steps of an episode.

    Raises
    ------
    DatasetError
        If its features do not agree on that, or there is none.

    """
    counts = {key: example.count(key) for key in STEP_KEYS
              if key in example and example.count(key)}
    if not counts:
        counts = {key: example.count(key) for key in example
                  if key.startswith(_OBSERVATION) and example.kind(key) == 'bytes'}
    if not counts:
        steps = any(key.startswith('steps/') for key in example)
        raise DatasetError(
            f'{where}: nothing tells how many steps there are: no {STEP_KEYS[0]}, no picture'
            if steps else f'{where}: is no RLDS episode: it has no steps/…, but '
            + (', '.join(list(example)[:8]) or 'nothing'))
    first, *others = counts
    for key in others:
        if counts[key] != counts[first]:
            raise DatasetError(
                f'{where}: {first} has {counts[first]} steps, {key} {counts[key]}')
    return counts[first]


def infer_schema(example: Example, where: str) -> tuple[RldsSchema, list[str]]:
    """
    Tell what the features of an episode are.

    Returns
    -------
    tuple
        The schema, and the features that are in none of its parts, with a reason where one is
        not plain.

    Raises
    ------
    DatasetError
        If the episode has no steps, or a first picture is damaged.

    """
    steps = count_steps(example, where)
    left_out: list[str] = []
    cameras = list(_cameras(example, where, left_out))
    state_keys = [key for key in _STATES if _width(example, key, steps)][:1] or [
        key for key in example if key.startswith(_OBSERVATION) and example.kind(key) == 'float'
        and 0 < _width(example, key, steps) <= _WIDEST]
    action_keys = [_ACTION] if _width(example, _ACTION, steps) else [
        key for key in example if key.startswith(f'{_ACTION}/')
        and 0 < _width(example, key, steps) <= _WIDEST
        and not key.endswith('/terminate_episode')]
    text = next((key for key in TEXTS if key in example), '')
    schema = RldsSchema(
        tuple(cameras), _vectors(example, state_keys, steps, _OBSERVATION),
        _vectors(example, action_keys, steps, f'{_ACTION}/'))
    used = {*STEP_KEYS[:3], *state_keys, *action_keys, text,
            *(camera.key for camera in cameras),
            *(f'episode_metadata/has_{camera.name}' for camera in cameras)}
    told = {entry.partition(' ')[0] for entry in left_out}
    left_out += [key for key in example if key not in used | told]
    return schema, left_out


def _width(example: Example, key: str, steps: int) -> int:
    """Numbers a step, 0 if it is nothing of that kind."""
    if key not in example or example.kind(key) not in ('float', 'int64') or '/ragged_' in key:
        return 0
    width, rest = divmod(example.count(key), steps)
    return 0 if rest else width


def _vectors(example: Example, keys: list[str], steps: int, prefix: str
             ) -> tuple[RldsVector, ...]:
    names = distinct(identifier(key.removeprefix(prefix).removeprefix('steps/'), 'value')
                     for key in keys)
    return tuple(RldsVector(key, name, _width(example, key, steps))
                 for key, name in zip(keys, names, strict=True))


def _cameras(example: Example, where: str, left_out: list[str]) -> Iterator[RldsCamera]:
    taken: list[str] = []
    for key in example:
        if not key.startswith('steps/') or example.kind(key) != 'bytes':
            continue
        data = example[key][0] if example.count(key) else b''
        if not isinstance(data, bytes) or not is_encoded(data):
            continue
        if 'depth' in key:
            left_out.append(f'{key} (depth)')
            continue
        try:
            height, width = decode(data, f'{where}: {key}').shape[:2]
        except UnsuitableError as error:
            left_out.append(f'{key} ({error.reason})')
            continue
        taken = distinct([*taken, identifier(
            key.removeprefix(_OBSERVATION).removeprefix('steps/'), 'camera')])
        yield RldsCamera(key, taken[-1], height, width)


def note_declared(declared: Mapping[str, Any], schema: RldsSchema, example: Example,
                  problems: Notes) -> None:
    """Hold ``features.json`` against the records, and note what is not as it says."""
    shapes = dict(_leaves(declared, ''))
    if not shapes:
        problems.add(f'{FEATURES} declares no feature: not used')
        return
    for key in sorted(shapes.keys() - set(example)):
        problems.add(f'{FEATURES} declares {key!r}, which the records do not have')
    for key in example:
        if key not in shapes and '/ragged_' not in key:
            problems.add(f'the records have {key!r}, which {FEATURES} does not declare')
    for camera in schema.cameras:
        said = shapes.get(camera.key)
        # No number stands for a side that may be of any length.
        if said and any(side not in (true, -1) for side, true in zip(
                said, (camera.height, camera.width), strict=False)):
            problems.add(f'{FEATURES}: {camera.key} is {said}, the pictures are '
                         f'{camera.height}x{camera.width}')
    for vector in (*schema.state, *schema.action):
        said = shapes.get(vector.key)
        if said is not None and -1 not in said and math.prod(said) != vector.width:
            problems.add(f'{FEATURES}: {vector.key} has the shape {said}, the records have '
                         f'{vector.width} values a step')


def _leaves(node: Any, prefix: str) -> Iterator[tuple[str, tuple[int, ...] | None]]:
    """Yield each feature's key in the records and its shape, None where it has none."""
    if not isinstance(node, Mapping):
        return
    inner = node.get('featuresDict')
    if isinstance(inner, Mapping) and isinstance(inner.get('features'), Mapping):
        for name, child in inner['features'].items():
            yield from _leaves(child, f'{prefix}/{name}' if prefix else str(name))
    elif isinstance(node.get('sequence'), Mapping):
        yield from _leaves(node['sequence'].get('feature'), prefix)
    elif prefix:
        kind = next((node[name] for name in ('tensor', 'image')
                     if isinstance(node.get(name), Mapping)), None)
        shape = kind.get('shape') if kind is not None else None
        sides = shape.get('dimensions', []) if isinstance(shape, Mapping) else None
        if isinstance(sides, list) and all(
                str(side).removeprefix('-').isdecimal() for side in sides):
            yield prefix, tuple(int(side) for side in sides)
        else:
            yield prefix, None
