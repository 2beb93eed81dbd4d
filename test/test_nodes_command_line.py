# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes started by ``ssl_vla``: which parameters win, and what is said of those that are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

import pytest

rclpy = pytest.importorskip('rclpy', reason='rclpy is not installed')

from node_harness import json_of, Robot, robot  # noqa: E402, I100
from rcl_interfaces.srv import GetParameters  # noqa: E402
from rclpy.parameter import parameter_value_to_python  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from tiny_bundle import make_bundle  # noqa: E402
import yaml  # noqa: E402

pytestmark = pytest.mark.ros
CLI = [sys.executable, '-m', 'ssl_vla_ros.cli']


@contextmanager
def told(folder: Path, *words: str) -> Iterator[Path]:
    """Run a command, and end it cleanly; gives its log."""
    log = folder / 'command.log'
    with log.open('wb') as file:
        process = subprocess.Popen([*CLI, *words], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield log
        process.send_signal(signal.SIGTERM)
        assert process.wait(20.0) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def parameters(me: Robot, node: str, *names: str) -> list[Any]:
    answer = me.call(GetParameters, f'{node}/get_parameters',
                     GetParameters.Request(names=list(names)))
    return [parameter_value_to_python(value) for value in answer.values]


def test_what_is_given_wins_over_the_file_and_a_mistyped_name_is_told(
        tmp_path: Path, ros_domain: int) -> None:
    bundle = make_bundle(tmp_path / 'tiny')
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump({'/**/inference': {'ros__parameters': {
        'backend': 'cpu', 'threads': 3, 'max_age_s': 0.25, 'bundle': 'nowhere'}}}))
    with robot() as me, told(
            tmp_path, 'infer', '--bundle', str(bundle), '--params-file', str(file),
            '-p', 'threads:=2', '-p', 'thread_prioritty:=50', '--namespace', 'left') as log:
        info = me.listen(String, '/left/inference/model_info', latched=True)
        me.until(lambda: info, 'model_info')
        assert json_of(info)['backend_note'] == 'cpu, as asked for'
        assert parameters(me, '/left/inference', 'backend', 'threads', 'max_age_s', 'bundle') == [
            'cpu', 2, 0.25, str(bundle)]
        said = [line for line in log.read_text().splitlines() if 'has no effect' in line]
        assert len(said) == 1 and 'parameter thread_prioritty was given' in said[0]
        assert said[0].endswith('did you mean thread_priority?')
        assert 'threads 2, cores any, thread_priority 0, on cpu' in log.read_text()


def test_a_file_alone_says_all_of_it(tmp_path: Path, ros_domain: int) -> None:
    bundle = make_bundle(tmp_path / 'tiny')
    file = tmp_path / 'mine.yaml'
    file.write_text(yaml.safe_dump({'/**/inference': {'ros__parameters': {
        'bundle': str(bundle), 'use_sim_time': True}}}))
    with robot() as me, told(tmp_path, 'infer', '--params-file', str(file)):
        info = me.listen(String, '/inference/model_info', latched=True)
        me.until(lambda: info, 'model_info')
        assert json_of(info)['name'] == 'tiny'    # not the one that comes along
        assert parameters(me, '/inference', 'use_sim_time') == [True]


def test_a_file_without_a_bundle_takes_the_one_that_comes_along(
        tmp_path: Path, ros_domain: int) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text('inference: {ros__parameters: {threads: 2}}')
    with robot() as me, told(tmp_path, 'infer', '--params-file', str(file)):
        info = me.listen(String, '/inference/model_info', latched=True)
        me.until(lambda: info, 'model_info')
        assert json_of(info)['name'] == 'sim_ur5e'
        assert parameters(me, '/inference', 'threads') == [2]


@pytest.mark.parametrize('words, error', [
    (['-p', 'threads=2'], "--param 'threads=2' must be NAME:=VALUE"),
    (['--params-file', 'absent.yaml'], '--params-file absent.yaml: No such file')])
def test_what_cannot_be_a_parameter_is_refused(
        tmp_path: Path, ros_domain: int, words: list[str], error: str) -> None:
    bundle = make_bundle(tmp_path / 'tiny')
    done = subprocess.run([*CLI, 'infer', '--bundle', str(bundle), *words], capture_output=True,
                          text=True, timeout=60.0)
    assert done.returncode == 2 and done.stderr.startswith(f'error: {error}'), done.stderr


@pytest.mark.parametrize('text, error', [
    ('a: [1', 'not valid YAML'), ('threads: 2', 'threads has no mapping ros__parameters'),
    ('inferense: {ros__parameters: {threads: 2}}', 'says nothing to inference (it has inferense)'),
    ('', 'says nothing to inference (it has nothing)')])
def test_a_file_that_says_nothing_to_the_node_is_refused(
        tmp_path: Path, ros_domain: int, text: str, error: str) -> None:
    file = tmp_path / 'mine.yaml'
    file.write_text(text)
    done = subprocess.run([*CLI, 'infer', '--params-file', str(file)], capture_output=True,
                          text=True, timeout=60.0)
    assert done.returncode == 2 and done.stderr.startswith(f'error: --params-file {file}: ')
    assert error in done.stderr and 'must look like config/inference.yaml' in done.stderr


def test_a_number_for_a_text_says_how_a_text_is_written(tmp_path: Path, ros_domain: int) -> None:
    done = subprocess.run([*CLI, 'infer', '-p', 'cores:=1'], capture_output=True, text=True,
                          timeout=60.0)
    assert done.returncode == 1
    assert """cores:="'2'" on a command line""" in done.stderr, done.stderr
