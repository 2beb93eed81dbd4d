# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The launch files, without starting anything.

Where ROS's ``launch`` is not installed (it is no pip package), the files run against a stand-in
that only writes down what was called; the checks are about names that must agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


class Context:
    """As much of a ``LaunchContext`` as functions of ours use, and what they asked it for."""

    def __init__(self, configurations: Mapping[str, str]) -> None:
        self.launch_configurations = dict(configurations)
        self.asked: list[Call] = []


class Configuration(Call):
    """A ``LaunchConfiguration``: an argument, whose value is known while the launch runs."""

    def perform(self, context: Context) -> str:
        """Return the argument's value; the real one, too, refuses an unknown one."""
        context.asked.append(self)
        return context.launch_configurations[self.args[0]]


class Share(Call):
    """A ``FindPackageShare``: where the package is installed; here, its sources."""

    def perform(self, context: Context) -> str:
        """Return the directory."""
        return str(ROOT)


class Recording(ModuleType):
    """A module of which every attribute is a function that records its call."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        kind = {'LaunchConfiguration': Configuration, 'FindPackageShare': Share}.get(name, Call)
        return lambda *args, **kwargs: kind(name, args, kwargs)


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


def recorded(file: Path, monkeypatch: pytest.MonkeyPatch,
             given: Mapping[str, str] | None = None) -> list[Call]:
    """
    Return every call of a launch file, run against the stand-in.

    ``given`` are the launch's arguments; None gives a value to each that would be empty, so that
    everything is called that can be.
    """
    for name in ('launch', 'launch.actions', 'launch.conditions',
                 'launch.launch_description_sources', 'launch.substitutions', 'launch_ros',
                 'launch_ros.actions', 'launch_ros.parameter_descriptions',
                 'launch_ros.substitutions'):
        monkeypatch.setitem(sys.modules, name, Recording(name))
    calls = list(walk(generate(file)))
    context = Context({name: value_of(call, given) for name, call in declared(calls).items()})
    for call in named(calls, 'OpaqueFunction'):
        assert call.args == (), 'OpaqueFunction takes keywords alone'
        assert set(call.kwargs) <= {'function', 'args', 'kwargs', 'condition'}
        calls += walk(call.kwargs['function'](
            context, *call.kwargs.get('args', ()), **call.kwargs.get('kwargs', {})))
    return calls + context.asked


def value_of(argument: Call, given: Mapping[str, str] | None) -> str:
    """Return the value that an argument has in a launch: the given one, else its default."""
    name = argument.args[0]
    if given is not None and name in given:
        return given[name]
    assert given is None or 'default_value' in argument.kwargs, f'{name} is required'
    default = argument.kwargs.get('default_value', '')
    if isinstance(default, Call):
        return str(path_of(default))
    return default or ('' if given is not None else argument.kwargs.get('choices', ['given'])[-1])


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


#: What must be given to each launch file, and what may be.
GIVEN = {
    'inference': ({'bundle': '/models/arm'}, {'contract': '/etc/slow.yaml', 'backend': 'cpu'}),
    'policy': ({'bundle': '/models/arm'}, {'contract': '/etc/slow.yaml', 'backend': 'cpu'}),
    'recorder': ({'session_dir': '/data'}, {'contract': '/etc/slow.yaml', 'task': 'lift it'}),
}


@pytest.mark.parametrize('name', GIVEN)
def test_an_argument_overrides_the_parameter_file_only_when_it_was_given(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / 'launch' / f'{name}.launch.py'
    required, optional = GIVEN[name]
    for given in (required, required | optional, required | dict.fromkeys(optional, '')):
        (node,) = named(recorded(file, monkeypatch, given), 'Node')
        source, overrides = node.kwargs['parameters']
        assert (source.name, source.args) == ('LaunchConfiguration', ('params_file',))
        wanted = {key: value for key, value in given.items() if value}
        assert set(overrides) == {'use_sim_time', 'autostart', *wanted}
        for key, value in wanted.items():
            # As text, also where YAML would read a number.
            assert (overrides[key].name, overrides[key].args, overrides[key].kwargs) == (
                'ParameterValue', (value,), {'value_type': str})


@pytest.mark.parametrize('given, wanted', [
    ({}, str(ROOT / 'models' / 'sim_ur5e')), ({'params_file': '/etc/mine.yaml'}, None),
    ({'params_file': '/etc/mine.yaml', 'bundle': '/models/arm'}, '/models/arm')])
def test_the_bundle_that_comes_along_is_taken_only_where_none_is_named(
        given: dict[str, str], wanted: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = named(recorded(ROOT / 'launch' / 'inference.launch.py', monkeypatch, given), 'Node')
    found = node.kwargs['parameters'][1].get('bundle')
    assert (found.args[0] if found else None) == wanted
    assert wanted is None or not wanted.startswith(str(ROOT)) or Path(wanted).is_dir()


@pytest.mark.parametrize('name', ['inference', 'policy'])
def test_a_priority_is_a_number_for_the_node(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / 'launch' / f'{name}.launch.py'
    (node,) = named(recorded(file, monkeypatch, {'bundle': '/m', 'thread_priority': '50'}), 'Node')
    found = node.kwargs['parameters'][1]['thread_priority']
    assert (found.args, found.kwargs) == (('50',), {'value_type': int})


def test_with_inference_both_nodes_get_their_files_and_no_common_name(
        monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / 'launch' / 'policy.launch.py'
    given = {'bundle': '/models/arm', 'with_inference': 'true'}
    (node,) = named(recorded(file, monkeypatch, given), 'Node')
    # A name would be both nodes' name: ROS renames every node of the process.
    assert 'name' not in node.kwargs
    assert node.kwargs['executable'] == 'inference_policy'
    *files, overrides = node.kwargs['parameters']
    assert files[0] == str(ROOT / 'config' / 'inference.yaml')
    assert files[1].args == ('params_file',)
    for name in ('inference', 'policy'):
        content = yaml.safe_load((ROOT / 'config' / f'{name}.yaml').read_text())
        assert set(overrides) - {'use_sim_time'} <= set(
            content[f'/**/{name}']['ros__parameters'])


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


def test_the_demo_s_contract_and_task_reach_the_recorder_alone(
        monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(ROOT / 'launch' / 'demo.launch.py', monkeypatch)
    arguments = declared(calls)
    contract = path_of(arguments['contract'].kwargs['default_value'])
    assert contract == ROOT / 'config' / 'robots' / 'sim_ur5e.yaml'
    assert arguments['task'].kwargs['default_value'] == 'lift the red cube'
    given = {path_of(include.args[0].args[0]).stem: dict(include.kwargs['launch_arguments'])
             for include in named(calls, 'IncludeLaunchDescription')}
    for name in ('contract', 'task'):
        assert given['recorder.launch'][name].args == (name,)
    # Included files see the arguments of the file that includes them, unless told otherwise.
    for file in ('inference.launch', 'policy.launch'):
        assert given[file]['contract'] == ''


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.name)
def test_ros_launch_reads_the_file(file: Path) -> None:
    pytest.importorskip('launch_ros', reason='launch_ros is not installed (it is no pip package)')
    description = generate(file)
    assert description.entities
