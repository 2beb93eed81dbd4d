# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How several processes train one network: with copies of it, or with each its part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.text import ByteTransformer
from ssl_vla_ros.networks.timm_trunk import TimmViT
from ssl_vla_ros.networks.transformer import Block
from ssl_vla_ros.objectives.base import Objective
from ssl_vla_ros.training.checkpoint import CHECKPOINT
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.launched import Launched
import torch
from torch import nn, Tensor
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict, get_optimizer_state_dict, set_model_state_dict, StateDictOptions)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import distribute_tensor, DTensor
from torch.optim import Optimizer

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class SlurmTasks(SLURMEnvironment):
    """
    The tasks of srun, as ``Launched`` has checked them.

    Lightning takes no job started with ``--ntasks``. And on SIGUSR1 it would write a checkpoint
    of its own, which it goes on from while our batches go on from ours; so it is told not to.
    """

    def __init__(self) -> None:
        super().__init__(auto_requeue=False)

    @staticmethod
    def _validate_srun_variables() -> None:
        pass

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Trust the numbers, which were read from the same variables."""


class ShardedStrategy(ModelParallelStrategy):
    """
    Fully sharded data parallel (FSDP2): each process holds a part of weights and optimiser.

    Checkpoints are those of a single process, in one safetensors file: a run can go on with
    another number of processes, or without sharding.
    """

    def __init__(self, processes: int, backend: str) -> None:
        super().__init__(data_parallel_size=processes, tensor_parallel_size=1,
                         save_distributed_checkpoint=False, process_group_backend=backend)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any,
                        storage_options: Any | None = None) -> None:
        """Write the state, which Lightning has gathered on the first process."""
        path = Path(self.broadcast(filepath))
        if self.global_rank == 0:
            self.checkpoint_io.save_checkpoint(checkpoint, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None
                        ) -> dict[str, Any]:
        """Read the whole state in every process, and keep this one's part of it."""
        assert self.model is not None
        path = Path(self.broadcast(checkpoint_path))
        state = self.checkpoint_io.load_checkpoint(path)
        set_model_state_dict(self.model, state['state_dict'], options=_WHOLE)
        names = {id(value): name for name, value in self.model.named_parameters()}
        for optimiser, values in zip(self.optimizers, state['optimizer_states'], strict=True):
            optimiser.load_state_dict(placed_state(values, optimiser, names, path))
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Gather an optimiser's state on the first process, numbered as one process numbers it."""
        assert self.model is not None
        found = get_optimizer_state_dict(self.model, optimizer, options=_WHOLE)
        return {} if self.global_rank else numbered_state(found)


def numbered_state(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the state of an optimiser by parameters' names as one by numbers, in group order."""
    names = [name for group in values['param_groups'] for name in group['params']]
    numbers = {name: number for number, name in enumerate(names)}
    return {
        'state': {numbers[name]: item for name, item in values['state'].items()},
        'param_groups': [{**group, 'params': [numbers[name] for name in group['params']]}
                         for group in values['param_groups']]}


def placed_state(values: Mapping[str, Any], optimiser: Optimizer, names: Mapping[int, str],
                 path: Path) -> dict[str, Any]:
    """
    Split what a checkpoint holds of an optimiser as the parameters are split.

    A number in the file means a place in the optimiser's groups, and nothing else: the order of
    the module's parameters is another one, and frozen ones are in no group.

    Parameters
    ----------
    values
        State of an optimiser over whole parameters.
    optimiser
        The one that shall go on from it, by ``load_state_dict``.
    names
        Of parameters, by their ``id``.
    path
        Of the checkpoint, for error messages.

    Raises
    ------
    ConfigError
        If groups or shapes are others.

    """
    stored, live = values['param_groups'], optimiser.param_groups
    sizes = [[len(group['params']) for group in groups] for groups in (stored, live)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f'{path}: the optimiser has groups of {sizes[0]} parameters, now they are '
            f'{sizes[1]}: it belongs to another network; {CHECKPOINT.remedy}')
    state: dict[int, dict[str, Any]] = {}
    for old, new in zip(stored, live, strict=True):
        for number, parameter in zip(old['params'], new['params'], strict=True):
            # A parameter that no loss has reached yet has none.
            for key, value in values['state'].get(number, {}).items():
                if key != 'step' and value.shape != parameter.shape:
                    raise ConfigError(
                        f'{path}: {key} of {names[id(parameter)]} has shape '
                        f'{tuple(value.shape)}, the parameter {tuple(parameter.shape)}: it '
                        f'belongs to another network; {CHECKPOINT.remedy}')
                if key != 'step' and isinstance(parameter, DTensor):
                    value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
                state.setdefault(number, {})[key] = value
    return {**values, 'state': state}


def shard(objective: Objective, mesh: DeviceMesh) -> None:
    """
    Split the weights of an objective over the processes of a mesh, block by block.

    The text transformer stays whole: it runs the layers of its blocks one by one, to leave padding
    out, which a split block does not allow; it is small.
    """
    whole = {id(block) for module in objective.modules() if isinstance(module, ByteTransformer)
             for block in module.modules()}
    for module in list(objective.modules()):
        blocks = ([module] if isinstance(module, Block) and id(module) not in whole else
                  list(module.model.blocks) if isinstance(module, TimmViT) else [])
        for block in blocks:
            fully_shard(block, mesh=mesh)
    # Objectives reach into their parts, not only through forward: so what is in no block stays
    # gathered from the beginning of a step to the end of its backward pass.
    fully_shard(objective, mesh=mesh, reshard_after_forward=False)


def whole_state(objective: nn.Module) -> dict[str, Tensor]:
    """Weights of a split objective, put together on the first process; every one must call."""
    found = get_model_state_dict(objective, options=_WHOLE)
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def make_strategy(config: TrainConfig, place: Launched) -> Strategy | str:
    """
    Give Lightning's strategy for the processes that were started.

    Raises
    ------
    ConfigError
        If ``strategy`` asks for several processes and there is one.

    """
    if place.ranks == 1:
        if config.strategy != 'auto':
            raise ConfigError(
                f'strategy is {config.strategy}, which is for several processes, and this is the '
                'only one; start them with torchrun --nproc-per-node N, or set strategy=auto')
        return 'auto'
    backend = 'nccl' if torch.cuda.is_available() else 'gloo'
    strategy: ShardedStrategy | DDPStrategy
    if config.strategy == 'fsdp':
        strategy = ShardedStrategy(place.ranks, backend)
    else:
        # Not every objective uses every part of a shared encoder: MAE leaves the fusion alone.
        # Gradients lie where they are exchanged: one copy less, in time and in memory.
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True,
                               gradient_as_bucket_view=True)
    if place.slurm:
        strategy.cluster_environment = SlurmTasks()
    return strategy
