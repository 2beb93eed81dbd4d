# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Who may import whom: the rules of docs/architecture.md, read from the source.

A robot needs no torch, a training machine needs no ROS, and imports run downwards only.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'ssl_vla_ros'
#: Everybody may import these.
BOTTOM = {'contract', 'errors', 'yaml_text'}
#: What each room may import of the others. ``None``: everything.
ROOMS: dict[str, set[str] | None] = {
    'contract': {'contract_sections', 'contract_types'},
    'contract_sections': set(),
    'contract_types': set(),
    'errors': set(),
    'yaml_text': set(),
    'parallel': set(),
    'places': set(),
    'preprocess': set(),
    'safety': set(),
    'messages': set(),
    'quality': {'messages'},
    'episodes': {'messages', 'parallel', 'quality'},
    'runtime': {'preprocess'},
    'sim': set(),
    'nodes': {'episodes', 'messages', 'preprocess', 'runtime', 'safety', 'sim'},
    'dataset': {'episodes', 'messages', 'parallel', 'preprocess', 'quality'},
    'augment': set(),
    'losses': set(),
    'networks': set(),
    'objectives': {'augment', 'losses', 'networks'},
    'training': {'augment', 'dataset', 'losses', 'networks', 'objectives', 'preprocess'},
    'bundle': {'dataset', 'networks', 'objectives', 'preprocess', 'runtime', 'training'},
    'report': set(),
    'demo': None,
    'cli': None,
    'cli_text': set(),
    'cli_augment': {'cli_text', 'training'},
    'cli_bundle': {'bundle', 'cli_text', 'places', 'runtime'},
    'cli_dataset': {'cli_episodes', 'cli_text', 'dataset', 'parallel', 'places'},
    'cli_episodes': {'cli_text', 'dataset', 'episodes', 'parallel', 'quality'},
    'cli_training': {'cli_text', 'places', 'report', 'training'},
    'cli_nodes': {'cli_text', 'demo', 'places', 'runtime'},
}
ROS = {
    'action_msgs', 'builtin_interfaces', 'diagnostic_msgs', 'geometry_msgs', 'launch',
    'launch_ros', 'lifecycle_msgs', 'message_filters', 'rcl_interfaces', 'rclpy', 'rosgraph_msgs',
    'sensor_msgs', 'std_msgs', 'std_srvs', 'tf2_ros', 'trajectory_msgs'}
TORCH = {
    'lightly', 'lightning', 'onnxscript', 'pytorch_lightning', 'timm', 'torch', 'torchvision'}
#: Rooms that run on a robot, or must run where no training package is.
NO_TORCH = {
    'contract', 'contract_sections', 'contract_types', 'errors', 'yaml_text', 'preprocess',
    'safety', 'messages', 'episodes', 'runtime', 'nodes', 'sim', 'dataset', 'parallel',
    'quality', 'report'}


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of each import, late and relative ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parents = module.split('.')
                parents = parents[:len(parents) - node.level + is_package]
                base = '.'.join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f'{base}.{alias.name}'
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name in ('importlib.import_module', 'import_module', '__import__') and node.args:
                argument = node.args[0]
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def violations(root: Path) -> list[str]:
    """Return one sentence for each import that breaks a rule in the package below ``root``."""
    found = []
    for path in sorted((root / PACKAGE).rglob('*.py')):
        relative = path.relative_to(root)
        parts = relative.with_suffix('').parts
        is_package = parts[-1] == '__init__'
        module = '.'.join(parts[:-1] if is_package else parts)
        room = parts[1]
        if room == '__init__':
            room = 'contract'
        if room not in ROOMS:
            found.append(f'{relative}: the room {room!r} has no line in ROOMS of {__file__}')
            continue
        allowed = ROOMS[room]
        for line, name in imports(path.read_text(encoding='utf-8'), module, is_package):
            top, *rest = name.split('.')
            where = f'{relative}:{line}: {room} imports {name}'
            if top in ROS and room != 'nodes':
                found.append(f'{where}: ROS belongs in nodes/ alone')
            if top in TORCH and room in NO_TORCH:
                found.append(f'{where}: no torch here')
            if top == PACKAGE and rest and allowed is not None:
                other = rest[0]
                if other in ROOMS and other not in {room, *BOTTOM, *allowed}:
                    found.append(f'{where}: imports run downwards only')
    return found


def test_imports_follow_the_architecture() -> None:
    assert violations(ROOT) == []


def test_every_room_is_read() -> None:
    """The rules hold something: the rooms that must exist were walked."""
    rooms = {path.stem for path in (ROOT / PACKAGE).iterdir()}
    assert {'contract', 'errors', 'safety', 'messages', 'episodes', 'runtime', 'nodes', 'sim',
            'dataset'} <= rooms


@pytest.mark.parametrize(('file', 'source', 'complaint'), [
    ('runtime/bad.py', 'import torch', 'no torch'),
    ('runtime/bad.py', 'def f():\n    from torch import nn', 'no torch'),
    ('nodes/bad.py', 'import lightning.pytorch as pl', 'no torch'),
    ('nodes/bad.py', "import importlib\nimportlib.import_module('torch')", 'no torch'),
    ('episodes/bad.py', 'import rclpy.node', 'nodes/ alone'),
    ('dataset/bad.py', 'from sensor_msgs.msg import Image', 'nodes/ alone'),
    ('cli.py', 'import rclpy', 'nodes/ alone'),
    ('runtime/bad.py', 'from ssl_vla_ros.nodes.policy import main', 'downwards'),
    ('runtime/bad.py', 'from ssl_vla_ros import training', 'downwards'),
    ('runtime/bad.py', 'from ..dataset import cache', 'downwards'),
    ('runtime/__init__.py', 'from ..dataset import cache', 'downwards'),
    ('losses/bad.py', 'import ssl_vla_ros.networks.backbone', 'downwards'),
    ('messages/bad.py', 'from ssl_vla_ros.episodes import reader', 'downwards'),
    ('safety.py', 'from ssl_vla_ros.runtime import timing', 'downwards'),
    ('attic/bad.py', '', 'no line in ROOMS'),
])
def test_a_broken_rule_is_found(tmp_path: Path, file: str, source: str, complaint: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    (sentence,) = violations(tmp_path)
    assert complaint in sentence
    assert file in sentence


@pytest.mark.parametrize(('file', 'source'), [
    ('nodes/good.py', 'import rclpy\nfrom sensor_msgs.msg import Image'),
    ('nodes/good.py', 'from ssl_vla_ros.runtime import timing'),
    ('training/good.py', 'import torch\nfrom ssl_vla_ros.losses import mae'),
    ('runtime/good.py', 'from . import timing\nfrom ..contract import Contract'),
    ('cli.py', 'from ssl_vla_ros.training import run'),
])
def test_an_allowed_import_is_not_found(tmp_path: Path, file: str, source: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(tmp_path) == []


def test_what_a_robot_runs_loads_neither_torch_nor_ros() -> None:
    """The same rule, held against what really is imported, through third parties too."""
    modules = []
    for room in ('contract', 'errors', 'preprocess', 'safety', 'messages', 'episodes', 'runtime'):
        path = ROOT / PACKAGE / room
        files = path.rglob('*.py') if path.is_dir() else [path.with_suffix('.py')]
        for file in files:
            parts = file.relative_to(ROOT).with_suffix('').parts
            modules.append('.'.join(part for part in parts if part != '__init__'))
    code = (
        'import importlib, sys\n'
        f'for name in {sorted(modules)!r}: importlib.import_module(name)\n'
        f'print(sorted({TORCH | ROS!r} & sys.modules.keys()))')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'
