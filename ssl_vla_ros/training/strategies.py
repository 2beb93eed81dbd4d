# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""How several processes train one network: with copies of it, or with each its part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from ssl_vla_ros.errors import ConfigError
from ssl_vla_ros.networks.text import ByteTransformer
from ssl_vla_ros.networks.timm_trunk import TimmViT
from ssl_vla_ros.networks.transformer import Block
from ssl_vla_ros.objectives.base import Objective
from ssl_vla_ros.training.checkpoint import SafetensorsIO
from ssl_vla_ros.training.config import TrainConfig
from ssl_vla_ros.training.launched import Launched
import torch
from torch import nn, Tensor
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict, set_model_state_dict, set_optimizer_state_dict, StateDictOptions)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, FullyShardedDataParallel, OptimStateKeyType

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


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
            SafetensorsIO().save_checkpoint(checkpoint, path)
        self.barrier()

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None
                        ) -> dict[str, Any]:
        """Read the whole state in every process, and keep this one's part of it."""
        assert self.model is not None
        state = SafetensorsIO().load_checkpoint(Path(self.broadcast(checkpoint_path)))
        set_model_state_dict(self.model, state['state_dict'], options=_WHOLE)
        for optimiser, values in zip(self.optimizers, state['optimizer_states'], strict=True):
            named = FullyShardedDataParallel.rekey_optim_state_dict(
                values, OptimStateKeyType.PARAM_NAME, self.model)
            set_optimizer_state_dict(self.model, optimiser, named, options=_WHOLE)
        return state


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
    if config.strategy == 'fsdp':
        return ShardedStrategy(place.ranks, backend)
    # Not every objective uses every part of a shared encoder: MAE leaves the fusion alone.
    return DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
