# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Ruff, mypy in strict mode, and the linters of ament with ament's own settings."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ('bench', 'launch', 'requirements', 'ssl_vla_ros', 'test')
HEADER = ('# Copyright 2026 The ssl_vla_ros Authors\n'
          '# SPDX-License-Identifier: Apache-2.0\n')


def sources() -> list[Path]:
    """Return every Python file of ours, relative to the root."""
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py')]
    return sorted(path.relative_to(ROOT) for path in [*files, ROOT / 'setup.py'])


def check(*command: str) -> None:
    """Run a linter in the root; its output is the message of a failure."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get('PATH', '')])
    program = shutil.which(command[0], path=path)
    if program is None:
        pytest.skip(f'{command[0]} is not installed (requirements/dev.txt)')
    done = subprocess.run(
        [program, *command[1:]], cwd=ROOT, env={**os.environ, 'PATH': path},
        capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        # ament lists every file that it read, too.
        lines = [line for line in (done.stdout + done.stderr).splitlines()
                 if not line.startswith(('checking ', '* '))]
        pytest.fail('\n'.join(lines), pytrace=False)


def test_nothing_is_left_unfinished() -> None:
    # Put together here, so that this file does not find itself.
    marks = ['@' + '@', 'TO' + 'DO', 'FIX' + 'ME', 'X' * 3]
    texts = [path for path in ROOT.rglob('*')
             if path.suffix in ('.py', '.md', '.yaml', '.xml', '.toml', '.cfg', '.txt', '.sh')
             and not any(part.startswith('.') or part in ('out', 'build', 'install', 'log')
                         for part in path.relative_to(ROOT).parts)]
    assert len(texts) > 100
    found = [f'{path.relative_to(ROOT)}: {mark}' for path in texts for mark in marks
             if mark in path.read_text(encoding='utf-8')]
    assert found == []


def test_ruff() -> None:
    check('ruff', 'check', '--output-format', 'concise', '.')


def test_mypy_strict() -> None:
    check('mypy')


def test_ament_flake8() -> None:
    check('ament_flake8', *map(str, sources()))


def test_ament_pep257() -> None:
    check('ament_pep257', *map(str, sources()))


def test_ament_xmllint() -> None:
    check('ament_xmllint', 'package.xml', 'config')


def test_every_source_file_has_the_header() -> None:
    files = sources()
    assert len(files) > 20
    bare = [str(path) for path in files
            if (text := (ROOT / path).read_text(encoding='utf-8'))
            and not text.startswith(HEADER)]
    assert bare == []


def test_a_linter_s_complaint_fails(tmp_path: Path) -> None:
    bad = tmp_path / 'bad.py'
    bad.write_text('import os\nx = "double"\n')
    with pytest.raises(pytest.fail.Exception, match='F401'):
        check('ament_flake8', str(bad))
