# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Several objectives over one encoder, their losses weighted."""

from __future__ import annotations

from collections.abc import Mapping
import hashlib
from typing import Any

from ssl_vla_ros.networks.vision import VisionEncoder
from ssl_vla_ros.objectives.base import Batch, Needs, Objective
import torch
from torch import nn, Tensor


def joint_needs(needs: Mapping[str, Needs]) -> Needs:
    """
    Give what a sample must hold for all members of a mix.

    Raises
    ------
    ValueError
        If two members want clips of different strides: a clip has one.

    """
    strides = {name: need.stride for name, need in needs.items() if need.frames > 1}
    if len(set(strides.values())) > 1:
        said = ', '.join(f'{name}: {stride}' for name, stride in strides.items())
        raise ValueError(f'the members of a mix want different strides ({said}); set model.NAME.'
                         'stride alike')
    every = list(needs.values())
    return Needs(
        frames=max(need.frames for need in every), stride=max([*strides.values(), 1]),
        actions=max(need.actions for need in every), state=any(need.state for need in every),
        text=any(need.text for need in every), episode=any(need.episode for need in every),
        pairs=max(need.pairs for need in every))


class Mix(Objective):
    """
    Weighted sum of objectives that share an encoder.

    Each member gets of every sample what it asked for: those that want fewer frames than others
    get the first ones, those that want one get that of a random moment of the clip. Its random
    numbers are its own, told by its name, so a member learns the same whatever stands beside it.

    Parameters
    ----------
    members
        Objectives by name, all built on ``encoder``.
    weights
        By name, above 0.
    needs
        Of each member.
    encoder
        What they share.

    Raises
    ------
    ValueError
        If a member has another encoder, which no file would hold.

    """

    def __init__(self, members: Mapping[str, Objective], weights: Mapping[str, float],
                 needs: Mapping[str, Needs], encoder: VisionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.members = nn.ModuleDict(members)
        self.weights = dict(weights)
        self._needs = dict(needs)
        self._joint = joint_needs(needs)
        for name, member in members.items():
            if getattr(member, 'encoder', None) is not encoder:
                raise ValueError(f'{name} does not work on the encoder of the mix')
        # The encoder is in every member; in a file it stands once.
        self.register_state_dict_post_hook(  # type: ignore[no-untyped-call]
            _leave_out_copies)
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _put_copies_back)

    def _each(self) -> list[tuple[str, Objective]]:
        found = []
        for name, member in self.members.items():
            assert isinstance(member, Objective)
            found.append((name, member))
        return found

    def prepare(self, rows: Batch) -> None:
        """Let each member take its statistics."""
        for _, member in self._each():
            member.prepare(rows)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Weighted sum; parts are named by the member first."""
        parts: dict[str, Tensor] = {}
        total: list[Tensor] = []
        drawn = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        for name, member in self._each():
            # Two, so that a moment that is drawn of a clip moves no number that follows.
            moment, own = (
                torch.Generator(device=generator.device).manual_seed(_seed(drawn, name, use))
                for use in ('moment', 'own'))
            found = member(cut(batch, self._needs[name], self._joint, moment), own)
            total.append(self.weights[name] * found['loss'])
            parts |= {f'{name}/{part}': value for part, value in found.items()}
        return {'loss': torch.stack(total).sum(), **parts}

    def begin_step(self, progress: float) -> None:
        """Tell every member how much of the training is done."""
        super().begin_step(progress)
        for _, member in self._each():
            member.begin_step(progress)

    def end_step(self) -> None:
        """Let every teacher follow."""
        for _, member in self._each():
            member.end_step()

    def mend_gradients(self) -> None:
        """Let every member change its gradients."""
        for _, member in self._each():
            member.mend_gradients()

    def teachers(self) -> dict[str, tuple[nn.Module, nn.Module]]:
        """Teachers of all members."""
        return {name: pair for _, member in self._each()
                for name, pair in member.teachers().items()}


def cut(batch: Batch, need: Needs, given: Needs, generator: torch.Generator) -> Batch:
    """Give a member of a mix the part of a batch that it asked for, and nothing else."""
    asked = {'state': need.state, 'actions': need.actions > 0, 'valid': need.actions > 0,
             'instruction': need.text, 'episode': need.episode}
    found = {name: value for name, value in batch.items() if asked.get(name, True)}
    if given.frames > need.frames:
        if need.frames == 1 and not need.actions:
            count = len(batch['images'])
            place = torch.randint(given.frames, (count,), generator=generator,
                                  device=batch['images'].device)
            sample = torch.arange(count, device=place.device)
            for name in ('images', 'state'):
                if name in found:
                    found[name] = found[name][sample, place]
        else:
            for name in ('images', 'state'):
                if name in found:
                    found[name] = (found[name][:, 0] if need.frames == 1
                                   else found[name][:, :need.frames])
    if need.actions and given.actions > need.actions:
        for name in ('actions', 'valid'):
            found[name] = found[name][:, :need.actions]
    return found


def _seed(drawn: int, name: str, use: str) -> int:
    digest = hashlib.sha256(f'{drawn} {name} {use}'.encode()).digest()
    return int.from_bytes(digest[:8], 'big') >> 1


def _copies(module: nn.Module) -> list[str]:
    assert isinstance(module, Mix)
    return [f'members.{name}.encoder.' for name in module.members]


def _leave_out_copies(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any
                      ) -> None:
    for copied in _copies(module):
        for key in [key for key in state if key.startswith(prefix + copied)]:
            del state[key]


def _put_copies_back(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    own = f'{prefix}encoder.'
    for key in [key for key in state if key.startswith(own)]:
        for copied in _copies(module):
            state[prefix + copied + key[len(own):]] = state[key]
