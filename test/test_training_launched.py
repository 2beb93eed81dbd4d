# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What torchrun and srun tell a process is read, and refused where it cannot be."""

from __future__ import annotations

import pytest
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.training.launched import Launched


def slurm(rank: int, ranks: int, nodes: int, **more: str) -> dict[str, str]:
    """Give what srun sets for a task, the tasks dealt out in blocks."""
    per_node = max(1, ranks // nodes)
    return {
        'SLURM_JOB_NAME': 'pretrain', 'SLURM_PROCID': str(rank), 'SLURM_NTASKS': str(ranks),
        'SLURM_NNODES': str(nodes), 'SLURM_LOCALID': str(rank % per_node),
        'SLURM_NODEID': str(rank // per_node)} | more


def without(environment: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key != name}


@pytest.mark.parametrize(('environment', 'expected'), [
    ({}, Launched()),
    ({'RANK': '3', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'}, Launched(3, 8, 4, 2)),
    # torchrun inside a job, once on each node.
    (slurm(1, 2, 2) | {'RANK': '5', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'},
     Launched(5, 8, 4, 2)),
    (slurm(1, 2, 1, SLURM_NTASKS_PER_NODE='2'), Launched(1, 2, 2, 1, slurm=True)),
    # srun --nodes 2 --ntasks 8: no SLURM_NTASKS_PER_NODE.
    (slurm(5, 8, 2), Launched(5, 8, 4, 2, slurm=True)),
    (slurm(5, 8, 2, SLURM_TASKS_PER_NODE='4(x2)'), Launched(5, 8, 4, 2, slurm=True)),
    (slurm(5, 8, 2, SLURM_NTASKS_PER_NODE='4(x2)'), Launched(5, 8, 4, 2, slurm=True)),
    (slurm(0, 8, 2, SLURM_TASKS_PER_NODE='4,4'), Launched(0, 8, 4, 2, slurm=True)),
    # A step that is smaller than its job.
    (slurm(1, 2, 1, SLURM_TASKS_PER_NODE='4(x2)', SLURM_STEP_TASKS_PER_NODE='2'),
     Launched(1, 2, 2, 1, slurm=True)),
    # A shell on a node of the cluster is no task.
    (slurm(0, 2, 1, SLURM_JOB_NAME='bash'), Launched()),
    (slurm(0, 1, 1), Launched()),
    ({'SLURM_PROCID': '0', 'SLURM_JOB_NAME': 'pretrain'}, Launched()),
])
def test_the_launcher_s_environment_is_read(environment: dict[str, str], expected: Launched
                                            ) -> None:
    assert Launched.found(environment) == expected


@pytest.mark.parametrize(('environment', 'message'), [
    ({'RANK': '8', 'WORLD_SIZE': '8', 'LOCAL_WORLD_SIZE': '4'}, 'RANK is 8, WORLD_SIZE is 8'),
    ({'RANK': '0', 'WORLD_SIZE': '6', 'LOCAL_WORLD_SIZE': '4'}, 'as many processes'),
    ({'RANK': '0', 'WORLD_SIZE': 'x', 'LOCAL_WORLD_SIZE': '4'}, "WORLD_SIZE is 'x', must be an"),
    ({'TORCHELASTIC_RUN_ID': 'x', 'RANK': '0'}, 'WORLD_SIZE is not set; start them with torchr'),
    (slurm(0, 7, 2), 'SLURM_NTASKS is 7, SLURM_NNODES is 2: every node must .*--ntasks-per-node'),
    (slurm(0, 1, 2), 'SLURM_NTASKS is 1, SLURM_NNODES is 2: every node must'),
    (slurm(8, 8, 2), 'SLURM_PROCID is 8, but SLURM_NTASKS is 8'),
    # As many on average, but not on each.
    (slurm(0, 8, 2, SLURM_TASKS_PER_NODE='5,3'), 'SLURM_TASKS_PER_NODE is 5,3, but .* must run 4'),
    (slurm(0, 8, 2, SLURM_TASKS_PER_NODE='4(x3)'), r'SLURM_TASKS_PER_NODE is 4\(x3\), but'),
    (slurm(0, 8, 2, SLURM_TASKS_PER_NODE='four'), "SLURM_TASKS_PER_NODE is 'four', must be num"),
    # Left over from the job around a smaller step.
    (slurm(0, 2, 1, SLURM_NTASKS_PER_NODE='4'), 'SLURM_NTASKS_PER_NODE is 4, .* is 2 on each'),
    (slurm(0, 8, 2, SLURM_NTASKS='many'), "SLURM_NTASKS is 'many', must be an integer"),
    (slurm(0, 8, 2, SLURM_NNODES='0'), 'SLURM_NNODES is 0: every node'),
    (slurm(0, 8, 2, SLURM_LOCALID='4'), 'SLURM_LOCALID is 4, must be below 4'),
    (slurm(0, 8, 2, SLURM_NODEID='2'), 'SLURM_NODEID is 2, must be below 2'),
    (without(slurm(0, 8, 2), 'SLURM_NNODES'), 'SLURM_NNODES is not set; start them with srun'),
    (without(slurm(0, 8, 2), 'SLURM_LOCALID'), 'SLURM_LOCALID is not set; start them with srun'),
])
def test_a_launcher_that_contradicts_itself_is_refused(
        environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Launched.found(environment)
