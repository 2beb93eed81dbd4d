# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ``ssl_vla`` that become a ROS node: record, infer, act."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
import importlib.util
import os
from pathlib import Path
from typing import Any

from ssl_vla_ros.cli_text import AddCommand
from ssl_vla_ros.errors import ConfigError, MissingDependencyError
import yaml


def add_node_commands(command: AddCommand, groups: Any) -> None:
    """Add record, infer and act to the command line."""
    part = command(groups, 'record', _record, 'run the recorder node')
    part.add_argument('--contract', type=Path, required=True, help='robot contract (YAML)')
    part.add_argument('--session', type=Path, required=True, help='where episodes go')
    part.add_argument('--task', default='', help='what is being done, in words')
    _add_options(part)
    for name, run, text in (('infer', _infer, 'run the inference node'),
                            ('act', _act, 'run the policy node, disabled until it is enabled')):
        part = command(groups, name, run, text)
        part.add_argument('--bundle', type=Path, required=name == 'act', help=(
            '' if name == 'act' else 'default: that of --params-file, else the one that comes '
            'along, of the simulated arm'))
        part.add_argument('--contract', type=Path, help='robot; default: the one in the bundle')
        part.add_argument('--backend', help='default: auto, or as in --params-file',
                          choices=['auto', 'cpu', 'cuda', 'tensorrt', 'tensorrt_native'])
        if name == 'infer':
            part.add_argument('--image', default='', help='topic that every camera of the bundle '
                              'takes its pictures from, to try a model with one camera')
        if name == 'act':
            part.add_argument('--with-inference', action='store_true',
                              help='run inference in the same process')
        _add_options(part)


def _add_options(part: argparse.ArgumentParser) -> None:
    part.add_argument('--namespace', default='', help='of the robot: topics are relative to it')
    part.add_argument('--use-sim-time', action='store_true', help='take the time from /clock')
    part.add_argument('--params-file', type=Path, help='parameters of the node, as those in '
                      'config/; what is given here wins')
    part.add_argument('-p', '--param', action='append', default=[], metavar='NAME:=VALUE',
                      help='any parameter of the node, as often as needed; wins over all others')


def _run_node(node: str, parameters: dict[str, object], options: argparse.Namespace) -> int:
    """Become one of this package's nodes, with the Fast DDS profile that pictures need."""
    from ssl_vla_ros.demo.processes import node_command
    from ssl_vla_ros.places import own_file, share
    if importlib.util.find_spec('rclpy') is None:
        raise MissingDependencyError(
            'ROS 2 is not in this environment (no Python package rclpy); run: '
            'source /opt/ros/jazzy/setup.bash')
    environment = dict(os.environ)
    environment.setdefault(
        'FASTRTPS_DEFAULT_PROFILES_FILE', str(share('config/fastdds_large_image.xml')))
    command = node_command(node, {
        **parameters, 'autostart': True, 'exit_on_failure': True,
        **({'use_sim_time': True} if options.use_sim_time else {})})
    if options.params_file:
        _read_params(options, node)
        # The first, so that whatever else is given wins.
        place = command.index('--ros-args') + 1
        command[place:place] = ['--params-file', str(own_file(options.params_file).resolve())]
    for told in options.param:
        if not all(told.partition(':=')):
            raise ConfigError(f'--param {told!r} must be NAME:=VALUE, such as threads:=2')
        command += ['-p', told]
    if options.namespace:
        command += ['-r', f'__ns:=/{options.namespace.strip("/")}']
    # The node takes this process's place: signals and exit status are its own.
    os.execve(command[0], command, environment)


def _read_params(options: argparse.Namespace, node: str) -> Mapping[str, object]:
    """
    Read what --params-file says to a node; ROS itself ignores what is meant for another.

    Raises
    ------
    ConfigError
        If the file cannot be read, or says nothing to this node.

    """
    from ssl_vla_ros.places import own_file
    path = own_file(options.params_file)
    like = f'it must look like config/{node}.yaml'
    try:
        data = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise ConfigError(f'--params-file {path}: {error.strerror}; those of the package are '
                          'config/NODE.yaml') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f'--params-file {path}: not valid YAML '
                          f'({" ".join(str(error).split())}); {like}') from error
    found: dict[str, object] = {}
    nodes = ('inference', 'policy') if node == 'inference_policy' else (node,)
    sections = data if isinstance(data, Mapping) else {}
    for name, section in sections.items():
        if not isinstance(section, Mapping) or not isinstance(
                section.get('ros__parameters'), Mapping):
            raise ConfigError(f'--params-file {path}: {name} has no mapping ros__parameters; '
                              f'{like}')
        if str(name).rsplit('/', 1)[-1] in ('*', '**', *nodes):
            found |= section['ros__parameters']
    if not found:
        raise ConfigError(f'--params-file {path}: says nothing to {" or ".join(nodes)} (it has '
                          f'{", ".join(map(str, sections)) or "nothing"}); {like}')
    return found


def _record(options: argparse.Namespace) -> int:
    from ssl_vla_ros.contract import load_contract
    from ssl_vla_ros.places import own_file
    contract = own_file(options.contract)
    load_contract(contract)  # a mistake is told before anything starts
    return _run_node('recorder', {
        'contract': contract.resolve(), 'session_dir': options.session.resolve(),
        **({'task': options.task} if options.task else {})}, options)


def _infer(options: argparse.Namespace) -> int:
    from ssl_vla_ros.places import share
    told = any(item.startswith('bundle:=') for item in options.param) or (
        options.params_file and _read_params(options, 'inference').get('bundle'))
    if not options.bundle and not told:
        options.bundle = share('models/sim_ur5e')
    return _run_bundle_node(
        'inference', options, {'image': options.image} if options.image else {})


def _act(options: argparse.Namespace) -> int:
    return _run_bundle_node(
        'inference_policy' if options.with_inference else 'policy', options)


def _run_bundle_node(node: str, options: argparse.Namespace,
                     more: Mapping[str, object] | None = None) -> int:
    from ssl_vla_ros.places import own_file
    from ssl_vla_ros.runtime.manifest import read_manifest
    parameters: dict[str, object] = dict(more or {})
    if options.bundle:
        read_manifest(options.bundle)
        parameters['bundle'] = options.bundle.resolve()
    if options.backend:
        parameters['backend'] = options.backend
    if options.contract:
        parameters['contract'] = own_file(options.contract).resolve()
    return _run_node(node, parameters, options)
