# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a demo starts, and files that a power cut may have torn."""

from __future__ import annotations

from pathlib import Path
import shutil
import subprocess

import pytest
from ssl_vla_ros.demo import guard
from ssl_vla_ros.demo.guard import check_disk, check_simulator, read_json, read_rollouts
from ssl_vla_ros.errors import UserError


def test_a_machine_that_can_render_passes() -> None:
    pytest.importorskip('mujoco', reason='MuJoCo is not installed')
    check_simulator()


@pytest.mark.parametrize('platform', ['osmesa', 'nonsense'])
def test_a_machine_that_cannot_render_is_told_what_to_install(
        platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('mujoco', reason='MuJoCo is not installed')
    if platform == 'osmesa' and list(Path('/usr/lib').rglob('libOSMesa*')):
        pytest.skip('OSMesa is installed here, so nothing is missing')
    monkeypatch.setenv('MUJOCO_GL', platform)
    with pytest.raises(UserError) as caught:
        check_simulator()
    sentence = str(caught.value)
    assert sentence.startswith(f'cannot render pictures with MUJOCO_GL={platform}: ')
    assert 'apt install libegl1' in sentence and '\n' not in sentence


@pytest.mark.parametrize(('status', 'errors', 'words'), [
    (-11, '', 'was killed by signal 11 (no output); the graphics driver may be at fault'),
    (1, 'Traceback\nSomeError: a driver', 'ended with 1 (SomeError: a driver); the graphics'),
    (2, 'libEGL warning: x\nerror: a sentence\nlibEGL warning: y', 'a sentence')])
def test_a_driver_that_crashes_is_said_to(
        status: int, errors: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(command: list[str], **rest: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, status, '', errors)

    monkeypatch.setattr(guard.subprocess, 'run', crash)
    with pytest.raises(UserError) as caught:
        check_simulator()
    assert words in str(caught.value)


def test_too_little_room_is_said_with_figures(tmp_path: Path) -> None:
    check_disk(tmp_path, 0)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match=r'GB free, the demo needs \d+ GB; free some space'):
        check_disk(tmp_path, 2 * free)


@pytest.mark.parametrize('text', ['', '{"a": 1', '[]', '3'])
def test_torn_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'x.json'
    path.write_text(text)
    with pytest.raises(UserError, match='delete it, and the same command makes it anew') as caught:
        read_json(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('text', [
    '{}', '{"rollouts": 3}', '{"rollouts": [1]}', '{"rollouts": [{"start": 0}]}',
    '{"rollouts": [{"start": 0, "success": 1}]}', '{"rollouts": [{"success": true}]}'])
def test_results_without_rollouts_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'x.json'
    path.write_text(text)
    with pytest.raises(UserError, match='rollouts is no list of starts and successes'):
        read_rollouts(path)
    path.write_text('{"rollouts": [{"start": 0, "success": true}], "seed": 3}')
    assert read_rollouts(path)['seed'] == 3
