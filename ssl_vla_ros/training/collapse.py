# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
A watch over collapse while an objective is trained.

Every look returns sentences that were not told before, one for each cause; the caller warns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
import hashlib
import math

from ssl_vla_ros.training.probes import ProbeResult, Spread
import torch
from torch import nn, Tensor
from torch.distributed.tensor import DTensor

#: A part whose name with this ending is reported too is a loss with a level of chance.
CHANCE = '_chance'
#: A part whose name ends so counts words or prototypes in use.
USED = '_used'
#: Steps in which a loss that will be learned may rest at chance, whatever the warm-up.
_BEGINNING = 100
#: Words in use, as a perplexity, below which there is one and traces of others. DINO without
#: centring comes from 3 of 64 to 1.2 in 50 steps, and only then ever more slowly nearer to 1.
_ONE = 1.25
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
        Share of the level of chance that a loss at chance may be away from it. A guess among K
        choices costs ln K, give or take the noise of a batch. Below it by 2 % is little: a
        calibrated guess among 128 that is right 7 times in 100, not once, costs 2 % less. Above
        it is no collapse to the uniform guess: healthy runs of DINO hold 1.05 to 1.15 ln K.
    every
        Steps from one look at a loss to the next.

    """

    def __init__(self, warmup: int, patience: int = 20, margin: float = 0.02, every: int = 1
                 ) -> None:
        if warmup < 0 or patience < 1 or every < 1 or not 0.0 <= margin < 1.0:
            raise ValueError(f'warmup is {warmup}, patience {patience}, margin {margin} and every '
                             f'{every}; they must be at least 0, at least 1, from 0 to below 1, '
                             'and at least 1')
        self.every = every
        self._warmup = warmup
        self._patience = patience
        self._margin = margin
        self._told: set[str] = set()
        self._losses: dict[str, deque[float]] = {}
        self._before: dict[str, tuple[bytes, bytes]] = {}

    @classmethod
    def of_run(cls, steps: int, warmup_steps: int) -> CollapseWatch:
        """
        Make the watch over a run: what stays at chance is told before it ends.

        Losses are judged after the learning rate's warm-up and a tenth of the run, and after 100
        steps, but from its middle on at the latest; over a twentieth of it, and at least 20
        looks. With a warm-up of 100 steps one at chance is told at step 70 of 100, 150 of 300,
        and 220 of 800. In a run of fewer than 40 steps one that is stuck cannot be told from one
        that has only begun.

        Parameters
        ----------
        steps, warmup_steps
            Of the run, and of its learning rate.

        """
        every = max(1, steps // 1000)
        return cls(warmup=min(max(_BEGINNING, warmup_steps + steps // 10), steps // 2),
                   patience=max(20, steps // 20 // every), every=every)

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

    def observe_features(self, step: int, spreads: Mapping[str, Spread]) -> list[str]:
        """
        Judge what objectives train, between probes: is it constant, or of rank one.

        Parameters
        ----------
        step
            Steps done.
        spreads
            Of ``rows`` and ``class_token``, as ``probing.trained_spreads`` gives them.

        """
        return self._new({cause: f'collapse at step {step}: {sentence}'
                          for name, spread in spreads.items()
                          for cause, sentence in spread.causes(name).items()})

    def observe_parts(self, step: int, parts: Mapping[str, float]) -> list[str]:
        """
        Judge losses with a level of chance, and counts of words in use.

        A part ``x`` that has a companion ``x_chance`` is told if it stays at chance, not if it
        passes by; a part ``x_used`` if it stays at one: where all assignments are the same, the
        loss on them is nearly 0, and looks as if all were learned.

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
        for name, value in parts.items():
            if name.endswith(USED):
                recent = self._recent(step, name, value)
                if len(recent) == self._patience and max(recent) < _ONE:
                    found[f'one {name}'] = (
                        f'collapse at step {step}: {name} stays at one: all was assigned to the '
                        f'same over the last {self._patience} looks')
            loss = name.removesuffix(CHANCE)
            if loss == name:
                continue
            if loss not in parts:
                raise ValueError(f'{name} is reported, but there is no {loss}')
            # A single choice costs nothing, known or not.
            if not value > 0.0:
                continue
            recent = self._recent(step, loss, parts[loss] / value)
            if self._at_chance(recent):
                found[f'chance {loss}'] = (
                    f'collapse at step {step}: {loss} stays at chance: '
                    f'{value * _mean(recent):.4g} over the last {self._patience} looks, and to '
                    f'guess costs ln {math.exp(value):.0f} = {value:.4g}')
        return self._new(found)

    def _recent(self, step: int, name: str, value: float) -> list[float]:
        """Last values of a part, this one included, but none of the warm-up."""
        if step <= self._warmup:
            return []
        recent = self._losses.setdefault(name, deque(maxlen=self._patience))
        recent.append(value)
        return list(recent)

    def _at_chance(self, recent: Sequence[float]) -> bool:
        """Whether a loss, as shares of chance, is there in all looks and does not move away."""
        if len(recent) < self._patience or min(recent) < 1.0 - self._margin:
            return False
        half = len(recent) // 2
        # A loss that only passes by moves by more than that from one half to the other.
        moves = half > 0 and (
            abs(_mean(recent[:half]) - _mean(recent[-half:])) > 0.25 * self._margin)
        return _mean(recent) <= 1.0 + self._margin and not moves

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


def judged(parts: Mapping[str, object]) -> list[str]:
    """Name the parts that ``CollapseWatch.observe_parts`` judges, and their levels of chance."""
    return [name for name in parts
            if name.endswith((CHANCE, USED)) or name + CHANCE in parts]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _local(value: Tensor) -> Tensor:
    """Give a tensor's values, or this process's share of them."""
    found: Tensor = value.to_local() if isinstance(value, DTensor) else value
    return found.detach()


@torch.no_grad()
def _fingerprint(module: nn.Module) -> bytes:
    """SHA-256 of a sample of every parameter: equal as long as nothing has moved."""
    samples: list[Tensor] = []
    for parameter in module.parameters():
        values = _local(parameter).flatten()
        # An odd step meets every column of a matrix whose width is a power of two.
        step = max(1, len(values) // _SAMPLE) | 1
        samples.append(values[::step].double())
    # One transfer from an accelerator, not one for each parameter.
    joined = torch.cat(samples) if samples else torch.zeros(0)
    return hashlib.sha256(joined.cpu().numpy().tobytes()).digest()


def _same(name: str, student: nn.Module, teacher: nn.Module) -> bool:
    """Whether all parameters that both have are equal, bit for bit."""
    ours: dict[str, Tensor] = dict(student.named_parameters())
    theirs: dict[str, Tensor] = dict(teacher.named_parameters())
    common = ours.keys() & theirs.keys()
    if not common:
        raise ValueError(f'{name}: student and teacher have no parameter in common')
    return all(torch.equal(_local(ours[key]), _local(theirs[key])) for key in common)
