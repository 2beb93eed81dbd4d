# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a node does when its own code raises, in a process of its own."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ros
NODES = Path(__file__).parents[1] / 'ssl_vla_ros' / 'nodes'

NODE = """
import sys
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.nodes.common import ManagedNode, run

class Node(ManagedNode):
    def __init__(self):
        super().__init__('node')
        self.declare('fails', '', 'where to fail')
        self.declare('rate', 5.0, 'a rate', low=1.0, high=10.0)
        self.declare('model', 'a', 'which model', fixed=True)
    def step(self, name):
        print(name, flush=True)
        if self.value('fails') == name:
            raise ValueError('this is wrong')
        if self.value('fails') == name + ' user':
            raise ConfigError('the parameter is wrong')
    def configure(self):
        self.step('configure')
    def activate(self):
        self.step('activate')
        self.steady_timer(0.05, lambda: self.step('tick') if self.value('fails') == 'tick' else 0)
        from rclpy.parameter import Parameter
        answer, = self.set_parameters([Parameter('model', value='b')])
        print('set', answer.successful, answer.reason)
        print('running', flush=True)
    def deactivate(self):
        self.step('deactivate')
    def cleanup(self):
        self.step('cleanup')
    def close(self):
        self.step('close')

sys.exit(run(Node))
"""


def run_node(*parameters: str, end_with: signal.Signals | None = signal.SIGTERM,
             wait_for: str = 'running') -> tuple[int, list[str]]:
    process = subprocess.Popen(
        [sys.executable, '-c', NODE, '--ros-args', '-p', 'autostart:=true',
         *(word for item in parameters for word in ('-p', item))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line.rstrip())
            if wait_for in line and end_with is not None:
                process.send_signal(end_with)
                end_with = None
        return process.wait(20), lines
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_brings_the_node_down_in_order(
        ros_domain: int, number: signal.Signals) -> None:
    status, lines = run_node(end_with=number)
    assert status == 0
    steps = [line for line in lines if line in (
        'configure', 'activate', 'deactivate', 'cleanup', 'close')]
    assert steps == ['configure', 'activate', 'deactivate', 'cleanup', 'close']
    assert any(line.startswith('set False model takes effect') for line in lines)


def test_configure_that_raises_is_logged_with_its_traceback_and_undone(ros_domain: int) -> None:
    status, lines = run_node('fails:=configure', wait_for='cleanup')
    assert status == 0
    text = '\n'.join(lines)
    assert 'Traceback' in text
    assert 'this is wrong' in text
    assert 'activate' not in lines
    assert lines.index('configure') < lines.index('cleanup')


def test_a_users_mistake_is_one_sentence(ros_domain: int) -> None:
    _, lines = run_node('fails:=activate user', wait_for='deactivate')
    text = '\n'.join(lines)
    assert 'cannot activate: the parameter is wrong' in text
    assert 'Traceback' not in text


def test_deactivate_that_raises_keeps_nothing_from_being_closed(ros_domain: int) -> None:
    status, lines = run_node('fails:=deactivate')
    assert status == 0
    assert lines[-1] == 'close'
    assert 'cleanup' in lines


def test_a_callback_that_raises_ends_the_node_with_status_1(ros_domain: int) -> None:
    status, lines = run_node('fails:=tick', end_with=None)
    assert status == 1
    assert 'close' in lines
    assert 'Traceback' in '\n'.join(lines)


def test_a_parameter_out_of_range_is_named_in_one_line(ros_domain: int) -> None:
    status, lines = run_node('rate:=99.0', end_with=None)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith('cannot start:')
    assert 'rate' in lines[0]


def attributes(tree: ast.AST, *, stored: bool) -> set[str]:
    """Names of ``self``'s attributes in some code: all, or those it sets."""
    return {item.attr for item in ast.walk(tree)
            if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name)
            and item.value.id == 'self' and (not stored or isinstance(item.ctx, ast.Store))}


def test_no_node_sets_an_attribute_that_rclpy_keeps_for_itself() -> None:
    """``self._subscriptions = []`` once took a node's /clock from it, and nothing said so."""
    LifecycleNode = pytest.importorskip('rclpy.lifecycle').LifecycleNode
    theirs: set[str] = set()
    for base in LifecycleNode.__mro__:
        if base.__module__.startswith('rclpy'):
            theirs |= set(vars(base))
            theirs |= attributes(ast.parse(inspect.getsource(base)), stored=False)
    assert '_subscriptions' in theirs
    checked, clashes = 0, []
    for path in sorted(NODES.glob('*.py')):
        for item in ast.walk(ast.parse(path.read_text())):
            if isinstance(item, ast.ClassDef) and any(
                    ast.unparse(base).endswith('Node') for base in item.bases):
                checked += 1
                clashes += [f'{path.name}: {item.name}.{name}'
                            for name in sorted(attributes(item, stored=True) & theirs)]
    assert checked >= 7
    assert not clashes
