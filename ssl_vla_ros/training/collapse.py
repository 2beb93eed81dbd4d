# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A watch over collapse while an objective is trained.

Every look returns sentences that were not told before, one for each cause; the caller warns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
import hashlib
import math

from ssl_vla_ros.training.probes import ProbeResult
import torch
from torch import nn, Tensor

#: A part whose name with this ending is reported too is a loss with a level of chance.
CHANCE = '_chance'
#: Values of a parameter that a fingerprint holds; an update that spares all of them by accident
#: would have to spare those of every parameter.
_SAMPLE = 256


class CollapseWatch:
    """
    Tell collapse from what training reports.

    Parameters
    ----------
    warmup
        Steps before which no loss is judged: every loss begins at chance.
    patience
        Looks at a loss, after the warm-up, that must all be at chance.
    margin
        Share of the level of chance by which a loss must have come below it. A guess among K
        choices costs ln K, give or take the noise of a batch. Below it by 2 % is little: a
        calibrated guess among 128 that is right 7 times in 100, not once, costs 2 % less.

    """

    def __init__(self, warmup: int, patience: int = 20, margin: float = 0.02) -> None:
        if warmup < 0 or patience < 1 or not 0.0 <= margin < 1.0:
            raise ValueError(f'warmup is {warmup}, patience {patience} and margin {margin}; they '
                             'must be at least 0, at least 1, and from 0 to below 1')
        self._warmup = warmup
        self._patience = patience
        self._margin = margin
        self._told: set[str] = set()
        self._losses: dict[str, deque[float]] = {}
        self._before: dict[str, tuple[bytes, bytes]] = {}

    def observe_probe(self, step: int, result: ProbeResult) -> list[str]:
        """
        Judge the features: constant, of rank one, or of nothing that can be read linearly.

        Parameters
        ----------
        step
            Steps done.
        result
            Of the probe at that step.

        """
        return self._new({cause: f'collapse at step {step}: {sentence}'
                          for cause, sentence in result.causes().items()})

    def observe_parts(self, step: int, parts: Mapping[str, float]) -> list[str]:
        """
        Judge every part ``x`` that has a companion ``x_chance``: does it stay at chance.

        A loss above chance is no better than one at it, and counts as well.

        Parameters
        ----------
        step
            Steps done.
        parts
            What the objective reported, each a number.

        Raises
        ------
        ValueError
            If a level of chance has no loss beside it.

        """
        found = {}
        for name, chance in parts.items():
            loss = name.removesuffix(CHANCE)
            if loss == name:
                continue
            if loss not in parts:
                raise ValueError(f'{name} is reported, but there is no {loss}')
            # A single choice costs nothing, known or not.
            if step <= self._warmup or not chance > 0.0:
                continue
            recent = self._losses.setdefault(loss, deque(maxlen=self._patience))
            recent.append(parts[loss] / chance)
            if len(recent) == self._patience and min(recent) >= 1.0 - self._margin:
                found[f'chance {loss}'] = (
                    f'collapse at step {step}: {loss} stays at chance: '
                    f'{chance * sum(recent) / len(recent):.4g} over the last {self._patience} '
                    f'looks, and to guess costs ln {math.exp(chance):.0f} = {chance:.4g}')
        return self._new(found)

    def observe_teachers(self, step: int,
                         pairs: Mapping[str, tuple[nn.Module, nn.Module]]) -> list[str]:
        """
        Judge slow copies: does each follow its student, and is it another network than it.

        Parameters
        ----------
        step
            Steps done.
        pairs
            (student, teacher) by name. Parameters of both are compared by their names.

        Raises
        ------
        ValueError
            If student and teacher share no parameter's name.

        """
        found = {}
        for name, (student, teacher) in pairs.items():
            now = _fingerprint(student), _fingerprint(teacher)
            before = self._before.get(name)
            self._before[name] = now
            if before is None or before[0] == now[0]:
                continue  # nothing was trained since the last look
            if before[1] == now[1]:
                found[f'frozen {name}'] = (
                    f'collapse at step {step}: the EMA teacher of {name} is frozen: none of its '
                    'parameters has moved since the last look, but its student has')
            elif _same(name, student, teacher):
                found[f'same {name}'] = (
                    f'collapse at step {step}: the teacher of {name} is the student itself: all '
                    'parameters are equal after an update of the student')
        return self._new(found)

    def _new(self, found: Mapping[str, str]) -> list[str]:
        sentences = [sentence for cause, sentence in found.items() if cause not in self._told]
        self._told |= found.keys()
        return sentences


@torch.no_grad()
def _fingerprint(module: nn.Module) -> bytes:
    """SHA-256 of a sample of every parameter: equal as long as nothing has moved."""
    digest = hashlib.sha256()
    for parameter in module.parameters():
        values = parameter.detach().flatten()
        # An odd step meets every column of a matrix whose width is a power of two.
        step = max(1, len(values) // _SAMPLE) | 1
        digest.update(values[::step].cpu().double().numpy().tobytes())
    return digest.digest()


def _same(name: str, student: nn.Module, teacher: nn.Module) -> bool:
    """Whether all parameters that both have are equal, bit for bit."""
    ours: dict[str, Tensor] = dict(student.named_parameters())
    theirs: dict[str, Tensor] = dict(teacher.named_parameters())
    common = ours.keys() & theirs.keys()
    if not common:
        raise ValueError(f'{name}: student and teacher have no parameter in common')
    return all(torch.equal(ours[key].detach(), theirs[key].detach()) for key in common)
