# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
What stands between a policy and the robot: limits, a watchdog and a latch.

The limits come from the contract and have no defaults: without them no limiter can be made. The
watchdog runs on a steady clock, so that no jump of ROS time feeds it. The latch starts disabled,
keeps the first reason of a halt, and opens only when a person enables it again. This is not
certified safety: an emergency stop and the robot's own protection stay in charge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
import math
import time

import numpy as np
from numpy.typing import NDArray
from ssl_vla_ros.contract import JointLimit, Limits
from ssl_vla_ros.errors import ContractError

Vector = NDArray[np.float64]


class CommandRefusedError(ValueError):
    """
    A command, or the state it would act on, must not be used.

    Attributes
    ----------
    cause
        ``nan``, ``length``, ``stale``, ``unknown_start``, ``unknown_joint``, ``joint_position``
        or ``joint_velocity``.

    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


class CommandLimiter:
    """
    Keep commands inside the contract's limits.

    Each value is clamped to its range, and to within ``max_step`` of the value commanded before,
    the first one to within ``max_step`` of where it starts. Without a known start nothing is
    commanded, unless the contract gives that value ``free_start``: its range alone holds then. A
    command of a joint's position keeps that joint's margin and velocity as well.

    Parameters
    ----------
    limits
        The contract's ``limits``.
    action_names
        Names of the values, in the order of the command.
    rate_hz
        Commands in a second.

    Raises
    ------
    ContractError
        If the contract has no limits, or none for one of the values.

    """

    def __init__(self, limits: Limits | None, action_names: Sequence[str],
                 rate_hz: float) -> None:
        if limits is None:
            raise ContractError(
                'the robot contract has no limits; a policy runs only inside limits: add '
                f'limits.input_timeout_s and limits.action for {", ".join(action_names)}')
        missing = [name for name in action_names if name not in limits.action]
        if missing:
            raise ContractError(
                f'the robot contract gives no limits.action for {", ".join(missing)}; each '
                'commanded value needs min, max and max_step')
        self.names = tuple(action_names)
        self._joints = limits.joints
        self._low = np.array([limits.action[name].min for name in self.names])
        self._high = np.array([limits.action[name].max for name in self.names])
        self._step = np.array([limits.action[name].max_step for name in self.names])
        self._free = np.array([limits.action[name].free_start for name in self.names])
        for index, name in enumerate(self.names):
            joint = self._joints.get(name)
            if joint is not None:  # the command is this joint's position
                self._low[index] = max(self._low[index], joint.min + joint.margin)
                self._high[index] = min(self._high[index], joint.max - joint.margin)
                self._step[index] = min(self._step[index], joint.max_velocity / rate_hz)
                if self._low[index] >= self._high[index]:
                    raise ContractError(
                        f'limits.action.{name} and limits.joints.{name} with its margin have no '
                        'value in common; make one of them wider')
        self._last = np.full(len(self.names), math.nan)
        self._seen: tuple[int, dict[str, float]] | None = None
        self._period_ns = 1e9 / rate_hz
        #: How often each value was asked for outside of its limits.
        self.clamped: dict[str, int] = dict.fromkeys(self.names, 0)

    @property
    def last(self) -> Vector:
        """Last command (A,); NaN where nothing was commanded or known yet."""
        return self._last.copy()

    def reset(self, start: Mapping[str, float]) -> None:
        """
        Begin anew from values known to be in force.

        Raises
        ------
        CommandRefusedError
            If a value that is not of ``free_start`` has none; everything stays as it was.

        """
        last = np.array([start.get(name, math.nan) for name in self.names])
        self._refuse_unknown(last)
        self._last = last
        self.forget_joints()

    def _refuse_unknown(self, start: Vector) -> None:
        unknown = [self.names[index] for index in np.flatnonzero(np.isnan(start) & ~self._free)]
        if unknown:
            raise CommandRefusedError(
                'unknown_start', f'nothing tells where {", ".join(unknown)} starts, so max_step '
                "cannot hold for the first command: let the contract's state carry it under the "
                'same name or, if its first command may be anywhere in its range, write '
                'free_start: true under '
                + ' and '.join(f'limits.action.{name}' for name in unknown))

    def forget_joints(self) -> None:
        """Let the next state begin the judging of velocities."""
        self._seen = None

    def limit(self, command: Vector) -> Vector:
        """
        Return the command (A,) that may be sent in place of ``command`` (A,).

        Raises
        ------
        CommandRefusedError
            If the command has another length, a value that is not finite, or an unknown start.

        """
        command = np.asarray(command, np.float64)
        if command.shape != self._low.shape:
            raise CommandRefusedError('length', f'the command has shape {command.shape}, must '
                                                f'have {len(self.names)} values')
        if not np.isfinite(command).all():
            bad = [name for name, value in zip(self.names, command, strict=True)
                   if not math.isfinite(value)]
            raise CommandRefusedError('nan', f'the command is not finite in {", ".join(bad)}')
        self._refuse_unknown(self._last)
        allowed = self._towards(command)
        for index in np.flatnonzero(np.abs(allowed - command) > 1e-9):
            self.clamped[self.names[index]] += 1
        self._last = allowed
        return allowed.copy()

    def halt_step(self, to_zero: Iterable[str]) -> tuple[Vector, bool]:
        """
        Return the next command (A,) of a smooth halt, and whether it is the last one.

        Values of ``to_zero`` (velocities) go to zero, each as fast as ``max_step`` lets it; the
        others are held where they are. A value never commanded stays NaN: do not send it.
        """
        target = self._last.copy()
        for name in to_zero:
            target[self.names.index(name)] = 0.0
        # Not through the range: halting must be possible where zero lies outside of it.
        step = np.clip(target - self._last, -self._step, self._step)
        self._last = np.where(np.isnan(self._last), target, self._last + np.nan_to_num(step))
        still = np.isnan(target) | (np.abs(self._last - target) < 1e-9)
        return self._last.copy(), bool(still.all())

    def _towards(self, command: Vector) -> Vector:
        allowed: Vector = np.clip(command, self._low, self._high)
        # From outside of its range, where a robot may stand at the start, a value comes back by
        # steps as well; from inside, a step towards a value in range never leaves the range.
        known = ~np.isnan(self._last)
        allowed[known] = np.clip(allowed[known], (self._last - self._step)[known],
                                 (self._last + self._step)[known])
        return allowed

    def check_joints(self, stamp_ns: int, joints: Mapping[str, float]) -> None:
        """
        Refuse to go on when a joint is where, or as fast as, it must not be.

        ``joints`` are a state's values by name, ``stamp_ns`` is its stamp. Velocities are judged
        over at least one control period.

        Raises
        ------
        CommandRefusedError
            Naming the joint.

        """
        for name, limit in self._joints.items():
            value = joints.get(name)
            if value is None:
                raise CommandRefusedError('unknown_joint', f'the state has no {name}')
            if not math.isfinite(value):
                raise CommandRefusedError('nan', f'joint {name} is {value}')
            if not limit.min + limit.margin <= value <= limit.max - limit.margin:
                raise CommandRefusedError(
                    'joint_position', f'joint {name} is at {value:.4f}, must stay within '
                    f'[{limit.min:g}, {limit.max:g}] by {limit.margin:g}')
        if self._seen is None or stamp_ns < self._seen[0]:
            self._seen = (stamp_ns, dict(joints))
            return
        elapsed_ns = stamp_ns - self._seen[0]
        if elapsed_ns < 0.5 * self._period_ns:
            return
        for name, limit in self._joints.items():
            self._check_velocity(name, limit, joints[name], elapsed_ns * 1e-9)
        self._seen = (stamp_ns, dict(joints))

    def _check_velocity(self, name: str, limit: JointLimit, value: float,
                        elapsed_s: float) -> None:
        assert self._seen is not None
        velocity = abs(value - self._seen[1][name]) / elapsed_s
        if velocity > limit.max_velocity:
            raise CommandRefusedError(
                'joint_velocity', f'joint {name} moves at {velocity:.3f}, must stay below '
                f'{limit.max_velocity:g}')


def refuse_stale(ages_s: Mapping[str, float], timeout_s: float) -> None:
    """
    Refuse inputs whose header stamps are too far from now, in the past or in the future.

    Raises
    ------
    CommandRefusedError
        Naming the first such input and its age.

    """
    for name, age in ages_s.items():
        if not abs(age) <= timeout_s:
            raise CommandRefusedError('stale', f'{name}: {age:.3f} s old by the header stamp, at '
                                               f'most {timeout_s:g} s are allowed')


class Watchdog:
    """
    Tell which inputs have fallen silent, by a steady clock.

    Parameters
    ----------
    inputs
        Names of the inputs that must keep coming.
    timeout_s
        Longest silence allowed of each.
    clock
        Seconds of a clock that never jumps.

    """

    def __init__(self, inputs: Iterable[str], timeout_s: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        if not timeout_s > 0.0:
            raise ValueError(f'timeout_s is {timeout_s}, must be above 0')
        self._timeout_s = timeout_s
        self._clock = clock
        self._fed = dict.fromkeys(inputs, -math.inf)

    def feed(self, name: str) -> None:
        """Note that the input ``name`` has just come."""
        if name not in self._fed:
            raise KeyError(f'unknown input {name!r}; known: {", ".join(self._fed)}')
        self._fed[name] = self._clock()

    def silent(self) -> dict[str, float]:
        """Return the inputs over their time, with their silence in seconds (inf: never came)."""
        now = self._clock()
        return {name: now - fed for name, fed in self._fed.items()
                if now - fed > self._timeout_s}


class Latch:
    """
    Whether commands may be sent: ``disabled`` at the start, ``enabled``, or ``halted``.

    A halt keeps its first reason and stays until ``enable`` or ``disable`` is called.
    """

    def __init__(self) -> None:
        self.state = 'disabled'
        self.reason = 'not enabled yet'

    @property
    def enabled(self) -> bool:
        """Whether commands may be sent."""
        return self.state == 'enabled'

    def enable(self) -> None:
        """Let commands through, from any state."""
        self.state, self.reason = 'enabled', ''

    def disable(self, reason: str) -> None:
        """Let nothing through until ``enable``; no fault is implied."""
        self.state, self.reason = 'disabled', reason

    def halt(self, reason: str) -> bool:
        """Latch a fault; False if nothing was enabled, or a fault is latched already."""
        if self.state == 'halted':
            return False
        was_enabled = self.enabled
        self.state, self.reason = 'halted', reason
        return was_enabled
