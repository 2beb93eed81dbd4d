# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The launch files, without starting anything.

Where ROS's ``launch`` is not installed (it is no pip package), the files run against a stand-in
that only writes down what was called; the checks are about names that must agree.
"""

from __future__ import annotations

from collections.abc import Iterator
import importlib.util
from pathlib import Path
import sys
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
NODES = {'recorder', 'inference', 'policy', 'sim_arm', 'teleop'}
COMMON = {'namespace', 'use_sim_time', 'log_level', 'use_respawn'}


class Call:
    """One call of something in launch or launch_ros: its name and its arguments."""

    def __init__(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.name = name
        self.args = args
        self.kwargs = kwargs


class Recording(ModuleType):
    """A module of which every attribute is a function that records its call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args, **kwargs: Call(name, args, kwargs)


def generate(file: Path) -> Any:
    """Run a launch file and return its description."""
    spec = importlib.util.spec_from_file_location(f'launch_{file.stem.split(".")[0]}', file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.fixture(params=FILES, ids=lambda file: file.name)
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Return every call of one launch file."""
    return recorded(request.param, monkeypatch)


def recorded(file: Path, monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Return every call of a launch file, run against the stand-in."""
    for name in ('launch', 'launch.actions', 'launch.conditions',
                 'launch.launch_description_sources', 'launch.substitutions', 'launch_ros',
                 'launch_ros.actions', 'launch_ros.parameter_descriptions',
                 'launch_ros.substitutions'):
        monkeypatch.setitem(sys.modules, name, Recording(name))
    return list(walk(generate(file)))


def walk(value: Any) -> Iterator[Call]:
    """Yield all calls in a structure of calls, lists and dictionaries."""
    if isinstance(value, Call):
        yield value
        yield from walk(value.args)
        yield from walk(value.kwargs)
    elif isinstance(value, dict):
        for item in value.values():
            yield from walk(item)
    elif not isinstance(value, str):
        try:
            items = iter(value)
        except TypeError:
            return
        for item in items:
            yield from walk(item)


def named(calls: list[Call], name: str) -> list[Call]:
    """Return the calls of one function."""
    return [call for call in calls if call.name == name]


def declared(calls: list[Call]) -> dict[str, Call]:
    """Return the launch arguments of a file."""
    return {call.args[0]: call for call in named(calls, 'DeclareLaunchArgument')}


def path_of(call: Call) -> Path:
    """Resolve a PathJoinSubstitution as an installed package would, to the source tree."""
    path = Path()
    for part in call.args[0]:
        if isinstance(part, str):
            path /= part
        elif part.name == 'PathJoinSubstitution':
            path /= path_of(part)
        else:
            assert (part.name, part.args) == ('FindPackageShare', ('ssl_vla_ros',))
            path /= ROOT
    return path


def test_there_is_a_launch_file_for_each_node() -> None:
    assert {file.name for file in FILES} >= {
        'demo.launch.py', 'inference.launch.py', 'policy.launch.py', 'recorder.launch.py',
        'sim.launch.py'}


def test_the_common_arguments_are_declared_and_described(calls: list[Call]) -> None:
    arguments = declared(calls)
    assert COMMON <= set(arguments)
    assert any(name.endswith('params_file') for name in arguments)
    for name, call in arguments.items():
        assert call.kwargs.get('description'), f'{name} has no description'
        choices = call.kwargs.get('choices')
        assert choices is None or call.kwargs['default_value'] in choices


def test_each_argument_is_used_and_each_used_one_declared(calls: list[Call]) -> None:
    used = {call.args[0] for call in named(calls, 'LaunchConfiguration')}
    assert used == set(declared(calls))


def test_every_path_leads_to_a_file(calls: list[Call]) -> None:
    paths = [path_of(call) for call in named(calls, 'PathJoinSubstitution')]
    assert paths
    for path in paths:
        assert path.exists(), path


def test_nodes_are_ours_and_their_parameters_exist(calls: list[Call]) -> None:
    for node in named(calls, 'Node'):
        name = node.kwargs['executable']
        assert node.kwargs['package'] == 'ssl_vla_ros'
        assert node.kwargs['name'] == name
        assert name in NODES
        _, overrides = node.kwargs['parameters']
        content = yaml.safe_load((ROOT / 'config' / f'{name}.yaml').read_text())
        known = content[f'/**/{name}']['ros__parameters']
        assert set(overrides) - {'use_sim_time'} <= set(known)


def test_large_images_arrive_in_every_node(calls: list[Call]) -> None:
    if named(calls, 'Node'):
        (variable,) = named(calls, 'SetEnvironmentVariable')
        assert variable.args[0] == 'FASTRTPS_DEFAULT_PROFILES_FILE'
        (push,) = named(calls, 'PushROSNamespace')
        assert push.args[0].args == ('namespace',)


def test_lifecycle_nodes_start_themselves_unless_told_otherwise(calls: list[Call]) -> None:
    for node in named(calls, 'Node'):
        if node.kwargs['executable'] in ('recorder', 'inference', 'policy'):
            assert 'autostart' in node.kwargs['parameters'][1]
            assert declared(calls)['autostart'].kwargs['default_value'] == 'true'


def test_an_included_file_declares_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(ROOT / 'launch' / 'demo.launch.py', monkeypatch)
    included = named(calls, 'IncludeLaunchDescription')
    assert len(included) == 4
    for include in included:
        target = path_of(include.args[0].args[0])
        arguments = declared(recorded(target, monkeypatch))
        given = {name for name, _ in include.kwargs['launch_arguments']}
        assert given <= set(arguments), target
        required = {name for name, call in arguments.items()
                    if 'default_value' not in call.kwargs}
        assert required <= given, target


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_ros_launch_reads_the_file(file: Path) -> None:
    pytest.importorskip('launch_ros', reason='launch_ros is not installed (it is no pip package)')
    description = generate(file)
    assert description.entities
