# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The installation that make runs: what it says when something lacks, and how it resumes."""

from __future__ import annotations

import fcntl
import importlib.util
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return requirements/install.py with its .venv in an empty folder, and no pip."""
    spec = importlib.util.spec_from_file_location('install', ROOT / 'requirements' / 'install.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / '.venv'
    for name, value in (
            ('VENV', venv), ('PYTHON', venv / 'bin' / 'python'), ('STAMP', venv / '.installed'),
            ('UNFINISHED', venv / '.installing')):
        monkeypatch.setattr(module, name, value)
    # What the tests need is not what an installation needs.
    free = shutil.disk_usage(tmp_path)._replace(free=10**11)
    monkeypatch.setattr(module.shutil, 'disk_usage', lambda _: free)
    return module


@pytest.fixture
def venv(install: Any) -> Path:
    """Make a real environment without pip, and count it as working."""
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', install.VENV],
                   env=install.clean_environment(), check=True)
    install.venv_works = lambda: True
    return Path(install.VENV)


def site(venv: Path) -> Path:
    (found,) = venv.glob('lib/python3*/site-packages')
    return found


def test_another_python_is_refused_with_what_to_do(
    install: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(install.sys, 'version_info', (3, 9, 1))
    assert install.main() == 1
    message = capsys.readouterr().err
    assert 'this is Python 3.9' in message
    assert '3.11 or 3.12' in message
    assert message.count('\n') == 1


@pytest.mark.parametrize('module', ['venv', 'ensurepip'])
def test_a_python_without_venv_names_the_package_to_install(
    install: Any, module: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real_import = __import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == module:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr('builtins.__import__', without)
    assert install.main() == 1
    message = capsys.readouterr().err
    assert f'has no module {module}' in message
    version = f'{sys.version_info[0]}.{sys.version_info[1]}'
    assert f'sudo apt install python{version}-venv' in message
    assert message.count('\n') == 1


def test_a_full_disk_is_told_before_anything_is_made(
    install: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    usage = type(shutil.disk_usage('/'))(10**10, 10**10 - 10**9, 10**9)
    monkeypatch.setattr(install.shutil, 'disk_usage', lambda _: usage)
    assert install.main() == 1
    assert 'has 1.0 GB free' in capsys.readouterr().err
    assert not install.VENV.exists()


def test_what_is_installed_is_not_installed_again(
    install: Any, venv: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(install, 'STEPS', (('nothing', ['-r', 'absent.txt']),))
    install.STAMP.write_text(install.digest())
    assert install.main() == 0


def test_a_failed_step_leaves_no_stamp_and_says_that_it_can_be_continued(
    install: Any, venv: Path, capfd: pytest.CaptureFixture[str],
) -> None:
    assert install.main() == 1
    assert 'pip could not install torch' in capfd.readouterr().err
    assert not install.STAMP.exists()
    assert install.UNFINISHED.exists()


def test_half_installed_packages_are_removed_when_continuing(
    install: Any, venv: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ('half-1.0.dist-info', 'whole-1.0.dist-info', '~umpy'):
        (site(venv) / name).mkdir()
        (site(venv) / name / 'METADATA').touch()
    (site(venv) / 'whole-1.0.dist-info' / 'RECORD').touch()
    install.UNFINISHED.touch()
    monkeypatch.setattr(install, 'STEPS', ())
    assert install.main() == 0
    assert {path.name for path in site(venv).glob('*-1.0*')} == {'whole-1.0.dist-info'}
    assert not (site(venv) / '~umpy').exists()
    assert install.STAMP.read_text() == install.digest()
    assert not install.UNFINISHED.exists()


def test_an_installation_that_was_not_cut_off_is_not_touched(
    install: Any, venv: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = site(venv) / 'foreign-1.0.dist-info'
    foreign.mkdir()
    monkeypatch.setattr(install, 'STEPS', ())
    assert install.main() == 0
    assert foreign.exists()


def test_a_venv_cut_off_while_it_was_made_is_made_again(
    install: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    install.PYTHON.parent.mkdir(parents=True)
    install.PYTHON.symlink_to('/absent/python')
    (install.VENV / 'rest').touch()
    monkeypatch.setattr(install, 'STEPS', ())
    assert install.main() == 0
    assert install.venv_works()
    assert not (install.VENV / 'rest').exists()


def test_two_installations_wait_for_each_other(install: Any, tmp_path: Path) -> None:
    lock = os.open(ROOT / 'requirements', os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = subprocess.Popen(
        [sys.executable, ROOT / 'requirements' / 'install.py'], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        assert waiting.stdout is not None
        assert 'another installation is running' in waiting.stdout.readline()
        waiting.send_signal(2)
        out, _ = waiting.communicate(timeout=30)
        assert waiting.returncode == 130
        assert 'interrupted' in out
        assert 'Traceback' not in out
    finally:
        waiting.kill()
        waiting.wait()
        os.close(lock)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which('make') is None:
        pytest.skip('make is not installed')
    return subprocess.run(['make', '--no-print-directory', *arguments], cwd=ROOT, timeout=60,
                          capture_output=True, text=True, check=False)


def test_make_without_a_fitting_python_says_so(tmp_path: Path) -> None:
    done = make('install', f'VENV={tmp_path}/venv', 'PYTHON=/absent/python')
    assert done.returncode == 2
    assert 'no Python 3.11 or 3.12 among "/absent/python"' in done.stderr
    assert 'apt install python3' in done.stderr


@pytest.mark.parametrize(('arguments', 'quick'), [
    ((), False), (('QUICK=0',), False), (('QUICK=1',), True)])
def test_make_demo_is_small_when_asked(arguments: tuple[str, ...], quick: bool) -> None:
    done = make('--dry-run', 'demo', *arguments)
    assert done.returncode == 0
    assert ('demo --quick' in done.stdout) is quick


def test_make_alone_tells_the_targets() -> None:
    done = make()
    for target in ('demo', 'test', 'lint', 'clean'):
        assert f'make {target} ' in done.stdout
