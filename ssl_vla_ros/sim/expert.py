# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A scripted teleoperator: reach above the cube, descend, close, lift, with a hand's noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ssl_vla_ros.sim.geometry import Vector


@dataclass(frozen=True)
class ExpertStyle:
    """How a teleoperator moves; the defaults lift a cube in about three seconds."""

    max_speed: float = 0.30           # m/s
    max_turn: float = 1.5             # rad/s
    gain: float = 4.0                 # 1/s; a hand slows down as it nears its goal
    tremor: float = 0.02              # m/s, standard deviation of the slow wander of a hand
    tremor_turn: float = 0.05         # rad/s
    tremor_time_s: float = 0.15       # how long the wander remembers itself
    pause_probability: float = 0.004  # chance, in each tick, that the hand rests
    pause_ticks: tuple[int, int] = (2, 6)
    hover_m: float = 0.08             # height above the cube where the approach ends
    grasp_height_m: float = 0.018     # height of the fingertips when they close
    lift_height_m: float = 0.22
    close_ticks: int = 8              # ticks to wait for the fingers


@dataclass(frozen=True)
class Command:
    """What the teleoperator's hand does in one tick."""

    linear: Vector    # (3,) m/s
    yaw_rate: float   # rad/s
    gripper: float    # 0 open … 1 closed


class ScriptedExpert:
    """
    Four phases (approach, descend, close, lift) driven by what the teleoperator sees.

    Parameters
    ----------
    seed
        Of the noise; the same seed and the same views give the same commands.
    dt
        Seconds between calls.
    style
        Speeds, noise and heights.

    """

    def __init__(self, seed: int, dt: float = 0.05, style: ExpertStyle | None = None) -> None:
        self.style = style or ExpertStyle()
        self._dt = dt
        self._rng = np.random.default_rng(seed)
        self.phase = 'approach'
        self._wait = 0
        self._pause = 0
        self._wander = np.zeros(4)

    @property
    def done(self) -> bool:
        """Whether the cube should now be up; the hand only holds from here on."""
        return self.phase == 'hold'

    def _noise(self) -> Vector:
        style = self.style
        keep = float(np.exp(-self._dt / style.tremor_time_s))
        scale = np.array([style.tremor] * 3 + [style.tremor_turn])
        kick = self._rng.normal(size=4) * scale * np.sqrt(1.0 - keep * keep)
        self._wander = keep * self._wander + kick
        return self._wander

    def _towards(self, error: Vector, yaw_error: float) -> tuple[Vector, float]:
        linear = self.style.gain * error
        speed = float(np.linalg.norm(linear))
        if speed > self.style.max_speed:
            linear *= self.style.max_speed / speed
        turn = float(np.clip(self.style.gain * yaw_error, -self.style.max_turn,
                             self.style.max_turn))
        return linear, turn

    def command(
        self, tool: Vector, tool_yaw: float, cube: Vector, cube_yaw: float
    ) -> Command:
        """
        Next command from the tool's and the cube's place.

        Parameters
        ----------
        tool, cube
            (3,) positions in m, in the arm's base frame.
        tool_yaw, cube_yaw
            Turns about the vertical in rad; the cube's folded into ±45°.

        """
        style = self.style
        noise = self._noise()
        closed = 1.0 if self.phase in ('close', 'lift', 'hold') else 0.0
        if self._pause > 0:
            self._pause -= 1
            return Command(0.2 * noise[:3], 0.2 * float(noise[3]), closed)
        if self._rng.random() < style.pause_probability:
            self._pause = int(self._rng.integers(*style.pause_ticks))

        yaw_error = cube_yaw - tool_yaw
        flat = float(np.linalg.norm((cube - tool)[:2]))
        if self.phase == 'approach':
            goal = np.array([cube[0], cube[1], cube[2] + style.hover_m])
            linear, turn = self._towards(goal - tool, yaw_error)
            if flat < 0.012 and abs(yaw_error) < 0.08 and tool[2] - goal[2] < 0.03:
                self.phase = 'descend'
        elif self.phase == 'descend':
            goal = np.array([cube[0], cube[1], style.grasp_height_m])
            linear, turn = self._towards(goal - tool, yaw_error)
            if tool[2] < style.grasp_height_m + 0.006:
                self.phase = 'close'
                self._wait = style.close_ticks
        elif self.phase == 'close':
            linear, turn, noise = np.zeros(3), 0.0, 0.3 * noise
            self._wait -= 1
            if self._wait <= 0:
                self.phase = 'lift'
        else:
            goal = np.array([tool[0], tool[1], style.lift_height_m])
            linear, turn = self._towards(goal - tool, 0.0)
            if tool[2] > style.lift_height_m - 0.03:
                self.phase = 'hold'
        closed = 1.0 if self.phase in ('close', 'lift', 'hold') else 0.0
        return Command(linear + noise[:3], turn + float(noise[3]), closed)
