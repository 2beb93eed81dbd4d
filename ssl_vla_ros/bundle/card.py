# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A bundle's card: what its manifest says, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CARD_NAME = 'README.md'
#: What a network comes from: keys of a run's ``run.json``, of each network and of the bundle.
ORIGINS = {'git_commit': 'code', 'dataset_digest': 'dataset', 'config_digest': 'configuration'}
#: Figures of the training that say what a network is worth, and how they are called.
_FIGURES = {
    'probe.mean_r2': 'mean R² of a linear probe, held-out episodes',
    'probe.r2.scene.x': 'R² to the x of what is handled',
    'probe.r2.scene.y': 'y', 'probe.r2.scene.z': 'z', 'probe.r2.scene.yaw': 'yaw',
    'probe.effective_rank': 'effective rank',
    'error_ratio_last': 'error at the horizon ÷ that of copying the last frame',
    'error_ratio_shuffled_last': 'the same with shuffled actions',
    'held_out.loss': 'loss on held-out episodes',
}


def card(manifest: Mapping[str, Any]) -> str:
    """Write the card of a manifest, in Markdown."""
    return '\n'.join(_lines(manifest)) + '\n'


def _lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    contract, encoder = manifest['contract'], manifest['encoder']
    name = manifest['name']
    yield f'# {name}'
    yield ''
    yield (f'Made by `ssl_vla export` on {manifest["created"][:10]} for the robot '
           f'`{contract["robot"]}` at {contract["rate_hz"]:g} Hz. Everything here, and more, is '
           'in `manifest.json`; `ssl_vla verify DIRECTORY` repeats the proof of parity.')
    yield ''
    yield f'    ros2 launch ssl_vla_ros inference.launch.py bundle:=$PWD/{name}'
    if 'head' in manifest:
        yield f'    ros2 launch ssl_vla_ros policy.launch.py bundle:=$PWD/{name}'
    yield ''
    yield '## Networks'
    yield ''
    yield '| | takes | gives | precision | parity with torch (CPU) |'
    yield '|---|---|---|---|---|'
    for part, ports in manifest['networks'].items():
        seen = manifest['parity'][manifest[part]['file']]['cpu']
        yield (f'| {part} | {"; ".join(_port(port) for port in ports["inputs"])} | '
               f'{_port(ports["output"])} | {manifest[part]["precision"]} | largest difference '
               f'{seen["max_abs_error"]:.1g}, smallest cosine {seen["cosine"]:.5f} |')
    yield ''
    yield f'Cameras: {", ".join(encoder["cameras"])}. Objective: `{encoder["objective"]}`.'
    yield f'Actions: {_names(contract["action"])}. State: {_names(contract["state"])}.'
    yield ''
    yield '## What it was trained to, and reaches'
    yield ''
    for part, metrics in manifest['metrics'].items():
        told = [f'{text}: {metrics[key]:.3g}' for key, text in _FIGURES.items()
                if isinstance(metrics.get(key), int | float)]
        yield f'- {part}: {"; ".join(told) or "see manifest.json"}'
    yield ''
    yield '## Where it comes from'
    yield ''
    yield f'- encoder: `{manifest["encoder_digest"]}`'
    for key, text in ORIGINS.items():
        # One line where all agree; a bundle may join networks of different days.
        found = {part: manifest[part].get(key, manifest[key]) for part in manifest['metrics']}
        for value in dict.fromkeys(found.values()):
            whose = ', '.join(part for part, its in found.items() if its == value)
            only = '' if len(set(found.values())) == 1 else f' of {whose}'
            yield f'- {text}{only}: `{value}`'
    for key, text in manifest['licences'].items():
        yield f'- licence of the {key}: {text}'
    yield ''
    yield ('Features mean something for cameras placed as they were in the training, and a head '
           'for that robot alone. Limits in the contract are enforced by the policy node; they '
           'are no certified safety.')


def _port(port: Mapping[str, Any]) -> str:
    return f'`{port["name"]}` {port["type"]} ({", ".join(map(str, port["shape"]))})'


def _names(streams: Any) -> str:
    return ', '.join(name for stream in streams for name in stream['names'])
