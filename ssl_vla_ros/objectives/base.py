# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What every objective is, and what the trainer tells it about the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn, Tensor

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class DataShape:
    """Sizes an objective needs to build its networks."""

    cameras: int
    height: int
    width: int
    state_size: int
    action_size: int
    tokens: int = 0   # of the frozen features, for objectives that train on features
    dim: int = 0
    tasks: tuple[str, ...] = ()   # distinct instructions, for objectives that read them


@dataclass(frozen=True)
class Needs:
    """
    What an objective wants of each sample of a batch.

    Attributes
    ----------
    frames, stride
        Pictures of a sample, and rows of the dataset from one to the next. With one frame
        ``images`` is (batch, cameras, height, width, 3); with more (batch, frames, cameras, …).
    actions
        Rows of ``actions`` (batch, actions, action) from the first frame on, one after the other
        whatever the stride, with ``valid`` (batch, actions); 0: none.
    state
        Whether ``state`` (batch, [frames,] state) is wanted.
    episode
        Whether ``episode`` (batch,), numbers of the recordings, is wanted.
    text
        Whether ``instruction`` (batch,), numbers of ``DataShape.tasks``, is wanted.
    pairs
        Fewest samples of a batch that the loss can tell apart.

    """

    frames: int = 1
    stride: int = 1
    actions: int = 0
    state: bool = False
    text: bool = False
    episode: bool = False
    pairs: int = 1


class Objective(nn.Module):
    """
    A network with its loss.

    ``forward`` takes a batch and a random generator and returns ``{'loss': …}`` plus named parts,
    each a scalar. A part ``x`` may have a companion ``x_chance``: what it costs to know nothing.
    ``prepare`` is called once, before the first step, with rows of the training split alone.

    Attributes
    ----------
    progress
        Share of the training that is done, 0 … 1, for schedules.

    """

    progress = 0.0

    def prepare(self, rows: Batch) -> None:
        """Take statistics of the training split; the base class needs none."""

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss and its parts."""
        raise TypeError(f'{type(self).__name__} must define forward')

    def begin_step(self, progress: float) -> None:
        """Note how much of the training is done, before a step."""
        self.progress = progress

    def end_step(self) -> None:
        """Follow the weights after the optimiser moved them; the base class has no teacher."""

    def mend_gradients(self) -> None:
        """Change gradients before the optimiser uses them; the base class leaves them."""

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        """(student, teacher) by name, for the watch over collapse."""
        return {}


@dataclass(frozen=True)
class ObjectiveSpec:
    """
    An objective as the registry knows it.

    Attributes
    ----------
    build
        With ``data`` 'frames' (DataShape, settings, VisionEncoder) → Objective; with 'windows',
        (DataShape, settings) → Objective.
    settings
        Its dataclass of settings.
    data
        'frames': pictures, with what ``needs`` says. 'windows': features, state and actions over
        time.
    needs
        From settings to what a sample must hold.
    state
        Whether it can see the robot's state beside pictures (``network.proprioception``).
    own_encoder
        Whether it brings an encoder of its own architecture: (DataShape, settings) → Objective.

    """

    build: Any
    settings: type
    data: str
    needs: Callable[[Any], Needs] = lambda settings: Needs()
    state: bool = False
    own_encoder: bool = False


def chance(choices: int, like: Tensor) -> Tensor:
    """Cross-entropy of guessing among so many choices."""
    return torch.log(torch.tensor(float(choices), device=like.device))


def require_tasks(shape: DataShape, objective: str, remedy: str) -> None:
    """
    See that there are instructions to tell apart.

    Raises
    ------
    ValueError
        If there are none, or all are the same.

    """
    if len(shape.tasks) < 2:
        found = f'only {shape.tasks[0]!r}' if shape.tasks else 'none'
        raise ValueError(f'{objective} needs instructions that differ, the dataset has {found}; '
                         f'{remedy}')
