# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the recorder; ``config/recorder.yaml`` lists them with the same defaults."""

from __future__ import annotations

from ssl_vla_ros.episodes.chunks import COMPRESSIONS
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.nodes.common import ManagedNode


def declare_parameters(node: ManagedNode) -> None:
    """Declare every parameter of the recorder."""
    node.declare('contract', '', 'robot contract (YAML file)', fixed=True)
    node.declare('session_dir', '', 'directory that episodes are written to', fixed=True)
    node.declare('task', '', 'what is being done, in words; read when an episode starts')
    node.declare('instruction_topic', 'instruction', 'topic (std_msgs/String) whose messages '
                 'become the task; empty: none', fixed=True)
    node.declare('operator', '', 'who teleoperates; read when an episode starts')
    node.declare('compression', 'zstd', f'of the bag: {", ".join(COMPRESSIONS)}', fixed=True)
    node.declare('pre_roll_s', 0.0, 'seconds before the start that an episode begins with',
                 fixed=True, low=0.0, high=600.0)
    node.declare('pre_roll_bytes', 512 * 2**20, 'memory that those seconds may take',
                 fixed=True, low=2**20, high=2**40)
    node.declare('split_duration_s', 0.0, 'length at which an episode is ended and the next '
                 'begun, without a message between them; 0: never', low=0.0, high=86400.0)
    node.declare('split_bytes', 0, 'bytes of messages at which an episode is ended and the next '
                 'begun; 0: never', low=0, high=2**50)
    node.declare('queue_size', 2000, 'messages that may wait for the disk',
                 fixed=True, low=1, high=1_000_000)
    node.declare('queue_bytes', 256 * 2**20, 'bytes that may wait for the disk',
                 fixed=True, low=2**20, high=2**40)
    node.declare('fsync_interval_s', 1.0, 'time a power cut may cost, in seconds',
                 fixed=True, low=0.05, high=60.0)
    node.declare('min_free_bytes', 512 * 2**20, 'free disk below which nothing is recorded',
                 fixed=True, low=0, high=2**50)
    node.declare('drain_s', 1.0, 'longest wait for messages on their way at the stop, in '
                 'seconds', fixed=True, low=0.2, high=60.0)
    node.declare('clock_jump_s', 5.0, 'forward jump of a clock that ends an episode, in '
                 'seconds (of the system clock: in either direction)',
                 fixed=True, low=0.1, high=3600.0)
    node.declare('status_line', True, 'show rates, ages and losses on one line in the terminal')


def check_parameters(node: ManagedNode) -> None:
    """
    Refuse values that no range can refuse.

    Raises
    ------
    ConfigError
        Naming the parameter.

    """
    if not node.value('contract'):
        raise ConfigError(
            'the parameter contract is empty; give the robot contract, for example '
            '-p contract:=config/robots/sim_ur5e.yaml')
    if not node.value('session_dir'):
        raise ConfigError(
            'the parameter session_dir is empty; give a directory for the episodes')
    if node.value('compression') not in COMPRESSIONS:
        raise ConfigError(
            f'the parameter compression is {node.value("compression")!r}, must be one of '
            f'{", ".join(COMPRESSIONS)}')
