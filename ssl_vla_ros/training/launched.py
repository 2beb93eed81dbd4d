# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How this process was started: alone, or as one of many by torchrun or SLURM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import os

from ssl_vla_ros.errors import ConfigError


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

    """

    rank: int = 0
    ranks: int = 1
    per_node: int = 1
    nodes: int = 1

    @classmethod
    def found(cls, environment: Mapping[str, str] | None = None) -> Launched:
        """
        Read what torchrun, or else SLURM's srun, has put into the environment.

        Raises
        ------
        ConfigError
            If the numbers contradict each other.

        """
        given = os.environ if environment is None else environment
        if 'TORCHELASTIC_RUN_ID' in given or {'RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE'} <= set(
                given):
            names = ('RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')
        # An interactive shell on a SLURM node has the variables, but is no task of srun.
        elif 'SLURM_PROCID' in given and given.get('SLURM_JOB_NAME') not in (
                'bash', 'interactive') and int(given.get('SLURM_NTASKS', '1')) > 1:
            names = ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NTASKS_PER_NODE')
        else:
            return cls()
        try:
            rank, ranks = int(given[names[0]]), int(given[names[1]])
            per_node = int(given.get(names[2]) or ranks)
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f'the environment says that several processes train, but {names} cannot be read '
                f'from it ({error}); start them with torchrun or srun') from error
        if not 0 <= rank < ranks or per_node < 1 or ranks % per_node:
            raise ConfigError(
                f'{names[0]} is {rank}, {names[1]} is {ranks}, {names[2]} is {per_node}: every '
                'node must run as many processes as the others')
        return cls(rank, ranks, per_node, ranks // per_node)
