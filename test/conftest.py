# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of many tests: a ROS domain of their own, the simulated arm, the example data."""

from __future__ import annotations

from collections.abc import Iterator
import fcntl
import itertools
import os
from pathlib import Path
import socket
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ssl_vla_ros.sim.lift import LiftSim

# As ssl_vla_ros.sim does; MuJoCo reads it when it is imported, which a test may do before.
os.environ.setdefault('MUJOCO_GL', 'egl')

# Before they are imported: their assertions tell what they compared, like those of a test.
pytest.register_assert_rewrite('recorder_rig', 'node_harness')

ROOT = Path(__file__).parents[1]
FASTDDS_PROFILE = ROOT / 'config' / 'fastdds_large_image.xml'
SHARED_DATA = ROOT.parent / 'shared' / 'data'
# DDS derives its ports from the domain. Up to 101 they stay below 32768, where Linux begins to
# hand out ports to anybody.
DOMAINS = range(1, 102)
DOMAIN_LOCKS = Path(tempfile.gettempdir()) / 'ssl_vla_ros_test_domains'
# Each test starts its search where the last one stopped, so that a domain rests before it is
# used again; each process starts elsewhere, so that two rarely try the same.
_turn = itertools.count(os.getpid() * 7)


def is_quiet(domain: int) -> bool:
    """Whether no DDS participant of this machine uses the domain (its first unicast ports)."""
    for participant in range(4):
        port = 7400 + 250 * domain + 10 + 2 * participant
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                return False
    return True


def lock_domain() -> tuple[int, int]:
    """
    Take a domain that no other test process on this machine holds.

    Returns
    -------
    tuple
        The domain, and the descriptor of its locked file: the lock ends with it, also when the
        process is killed.

    """
    DOMAIN_LOCKS.mkdir(exist_ok=True)
    for _ in DOMAINS:
        domain = DOMAINS[next(_turn) % len(DOMAINS)]
        # O_CLOEXEC (Python's default): children that outlive a test must not hold its lock.
        descriptor = os.open(DOMAIN_LOCKS / str(domain), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        if is_quiet(domain):
            return domain, descriptor
        os.close(descriptor)
    raise RuntimeError(f'each of the ROS domains {DOMAINS[0]} to {DOMAINS[-1]} is in use')


@pytest.fixture(scope='session')
def ros_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Set what every ROS process under test needs, but for the domain, in ``os.environ``."""
    pytest.importorskip('rclpy', reason='rclpy is not installed')
    values = {
        # Read once by a process, when it makes its first node: so it holds for the session.
        'FASTRTPS_DEFAULT_PROFILES_FILE': str(FASTDDS_PROFILE),
        'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp',
        'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        'ROS_LOG_DIR': str(tmp_path_factory.mktemp('ros_log')),
        'ROS_PYTHON_CHECK_FIELDS': '1',
        # Logs reach a captured pipe line by line.
        'PYTHONUNBUFFERED': '1',
    }
    if 'AMENT_PREFIX_PATH' not in os.environ:
        # ROS installed from wheels: its share/ stands in the environment's root.
        values['AMENT_PREFIX_PATH'] = sys.prefix
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            patch.setenv(name, value)
        # A static peer or a discovery server of the user's shell would join foreign nodes.
        for name in ('ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER', 'ROS_LOCALHOST_ONLY'):
            patch.delenv(name, raising=False)
        yield values


@pytest.fixture
def ros_domain(
    ros_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch,
) -> Iterator[int]:
    """
    Give the test a ROS domain that nobody else on this machine uses.

    ``os.environ`` is set for this process and its children; children are started with it as it
    is (``env=None``) or with a changed copy of all of it.
    """
    domain, descriptor = lock_domain()
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain))
    try:
        yield domain
    finally:
        os.close(descriptor)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of example data that is kept beside the repository, or skip the test."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f'no example data: {SHARED_DATA} does not exist')
    return SHARED_DATA


@pytest.fixture(scope='session')
def blind_arm() -> Iterator[LiftSim]:
    """Return the simulated arm without cameras; it is one for all tests: reset it first."""
    lift = pytest.importorskip('ssl_vla_ros.sim.lift', reason='MuJoCo is not installed')
    yield lift.LiftSim(render=False)


@pytest.fixture(scope='session')
def seeing_arm() -> Iterator[LiftSim]:
    """Return the simulated arm with cameras of 128 pixels; one for all tests: reset it first."""
    lift = pytest.importorskip('ssl_vla_ros.sim.lift', reason='MuJoCo is not installed')
    arm = lift.LiftSim()
    yield arm
    arm.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how far losses and gradients are from those of others, if they were compared here."""
    table = sys.modules.get('parity_table')
    found = table.lines() if table is not None else []
    if found:
        terminalreporter.section('largest differences, over the largest value of the reference')
        for line in found:
            terminalreporter.write_line(line)
