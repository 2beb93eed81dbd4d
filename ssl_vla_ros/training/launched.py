# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How this process was started: alone, or as one of many by torchrun or SLURM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os
import re

from ssl_vla_ros.errors import ConfigError

#: Lightning, too, takes these for shells on a node of the cluster, which are no task of srun.
_SHELLS = ('bash', 'interactive')
_SRUN = 'start them with srun --nodes N --ntasks-per-node M'


@dataclass(frozen=True)
class Launched:
    """
    Place of this process among those that train together.

    Attributes
    ----------
    rank, ranks
        Number of this process, and how many there are on all nodes.
    per_node, nodes
        Processes of one node, and nodes.
    slurm
        Whether srun started them.

    """

    rank: int = 0
    ranks: int = 1
    per_node: int = 1
    nodes: int = 1
    slurm: bool = False

    @classmethod
    def found(cls, environment: Mapping[str, str] | None = None) -> Launched:
        """
        Read what torchrun, or else SLURM's srun, has put into the environment.

        Raises
        ------
        ConfigError
            If the numbers contradict each other, or nodes have different numbers of processes.

        """
        given = os.environ if environment is None else environment
        if 'TORCHELASTIC_RUN_ID' in given or {'RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'} <= set(
                given):
            return _of_torchrun(given)
        if {'SLURM_PROCID', 'SLURM_NTASKS'} <= set(given) and (
                given.get('SLURM_JOB_NAME') not in _SHELLS):
            return _of_slurm(given)
        return cls()


def _of_torchrun(given: Mapping[str, str]) -> Launched:
    remedy = 'start them with torchrun --nproc-per-node N'
    rank, ranks, per_node = (
        _number(given, name, remedy) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'))
    if not 0 <= rank < ranks or per_node < 1 or ranks % per_node:
        raise ConfigError(
            f'RANK is {rank}, WORLD_SIZE is {ranks}, LOCAL_WORLD_SIZE is {per_node}: every node '
            f'must run as many processes as the others; {remedy} on each')
    return Launched(rank, ranks, per_node, ranks // per_node)


def _of_slurm(given: Mapping[str, str]) -> Launched:
    """Read the variables of a task; of those of job and step, srun sets the step's."""
    rank, ranks = (_number(given, name, _SRUN) for name in ('SLURM_PROCID', 'SLURM_NTASKS'))
    spread = next((name for name in ('SLURM_STEP_TASKS_PER_NODE', 'SLURM_TASKS_PER_NODE')
                   if name in given), '')
    counts = _counts(given, spread) if spread else []
    alone = ranks == 1 and 'SLURM_NNODES' not in given
    nodes = 1 if alone else _number(given, 'SLURM_NNODES', _SRUN)
    told = f'SLURM_NTASKS is {ranks}, SLURM_NNODES is {nodes}'
    if not 0 <= rank < ranks:
        raise ConfigError(f'SLURM_PROCID is {rank}, but {told}; {_SRUN}')
    if nodes < 1 or ranks % nodes:
        raise ConfigError(
            f'{told}: every node must run as many processes as the others; {_SRUN}')
    per_node = ranks // nodes
    if counts and counts != [per_node] * nodes:
        raise ConfigError(
            f'{spread} is {given[spread]}, but {told}: every node must run {per_node}; '
            f'{_SRUN}')
    if 'SLURM_NTASKS_PER_NODE' in given and (
            set(_counts(given, 'SLURM_NTASKS_PER_NODE')) != {per_node}):
        raise ConfigError(
            f'SLURM_NTASKS_PER_NODE is {given["SLURM_NTASKS_PER_NODE"]}, but {told}, which is '
            f'{per_node} on each; {_SRUN}')
    for name, end in (('SLURM_LOCALID', per_node), ('SLURM_NODEID', nodes)):
        if ranks > 1 and not 0 <= _number(given, name, _SRUN) < end:
            raise ConfigError(f'{name} is {given[name]}, must be below {end}: {told}; {_SRUN}')
    return Launched(rank, ranks, per_node, nodes, slurm=ranks > 1)


def _number(given: Mapping[str, str], name: str, remedy: str) -> int:
    try:
        return int(given[name])
    except KeyError:
        raise ConfigError(
            f'the environment says that several processes train, but {name} is not set; {remedy}'
        ) from None
    except ValueError:
        raise ConfigError(f'{name} is {given[name]!r}, must be an integer; {remedy}') from None


def _counts(given: Mapping[str, str], name: str) -> list[int]:
    """Tasks of each node, from SLURM's short form: ``4(x2),3`` is 4, 4 and 3."""
    counts: list[int] = []
    for part in given[name].split(','):
        found = re.fullmatch(r'(\d+)(?:\(x(\d+)\))?', part.strip())
        if found is None:
            raise ConfigError(
                f'{name} is {given[name]!r}, must be numbers such as 4 or 4(x2); {_SRUN}')
        counts += [int(found[1])] * int(found[2] or 1)
    return counts
