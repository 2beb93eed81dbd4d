# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The simulated driver's loop: one thread steps, renders and hands out what a robot would publish.

Without ROS. The thread makes the simulator itself, because an OpenGL context belongs to the thread
that made it. Other threads leave commands, of which the newest counts, and ask for new starts,
which take effect between two pictures only: the two cameras never show different worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import threading
import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.sim.commands import CommandInbox
from ssl_vla_ros.sim.geometry import Vector
from ssl_vla_ros.sim.lift import (
    CONTROL_RATE_HZ, CONTROL_SUBSTEPS, draw_start, LiftSim, SERVO_SUBSTEPS)
from ssl_vla_ros.sim.pacing import Pacer
from ssl_vla_ros.sim.scene import CAMERAS, TIMESTEP_S

#: The cube counts as lifted once it was up for this many pictures in a row.
HOLD_TICKS = 10
#: A picture that begins later than this share of the control period counts as late.
LATE_SHARE = 0.5
_STEP_NS = round(TIMESTEP_S * 1e9)
_STATE_EVERY_TICKS = 10
#: Two readings of clocks this close together are taken as one instant (ns).
_ONE_INSTANT_NS = 200_000

Answer = Callable[[dict[str, Any] | None, str], None]


@dataclass(frozen=True)
class Joints:
    """Positions (rad), velocities (rad/s) and efforts (N m), (7,) each."""

    positions: Vector
    velocities: Vector
    efforts: Vector


@dataclass(frozen=True)
class Poses:
    """Places (3,) in m and quaternions (w, x, y, z) of tool and cube, in the base frame."""

    tool: Vector
    tool_quaternion: Vector
    cube: Vector
    cube_quaternion: Vector


class Outputs(Protocol):
    """Where the loop's results go; every call comes from the loop's thread."""

    def clock_ns(self) -> int:
        """Read the clock that stamps data, where that is not simulated time."""

    def on_ready(self, focal_lengths: Mapping[str, float]) -> None:
        """Take the focal length of each camera in pixels, once, before anything else."""

    def on_clock(self, stamp_ns: int) -> None:
        """Learn that simulated time has come to ``stamp_ns``."""

    def on_joints(self, stamp_ns: int, joints: Joints) -> None:
        """Take the joints' state, 125 times a simulated second."""

    def on_poses(self, stamp_ns: int, poses: Poses) -> None:
        """Take the poses, 20 times a simulated second."""

    def on_pictures(self, stamp_ns: int, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
        """Take the pictures of all cameras, which show one instant: that of the poses."""

    def on_refused(self, reason: str) -> None:
        """Learn that a command was refused where it should have begun."""

    def on_state(self, state: Mapping[str, Any]) -> None:
        """Take the loop's own state, twice a simulated second and on each change."""


class SimLoop:
    """
    Run a ``LiftSim`` in a thread of its own.

    Parameters
    ----------
    outputs
        Takes the results.
    seed, start
        Which sequence of starts, and the number in it to begin with.
    speed
        Simulated seconds for each second; 0 is as fast as possible.
    simulated_stamps
        Stamp with simulated time, which begins with the process and goes on through resets;
        otherwise with ``outputs.clock_ns`` at the instant each physics step was due.
    height, width
        Of the pictures, pixels.

    """

    def __init__(self, outputs: Outputs, *, seed: int, start: int, speed: float,
                 simulated_stamps: bool, height: int, width: int) -> None:
        self._outputs = outputs
        self._seed, self._start = seed, start
        self._size = (height, width)
        self._simulated_stamps = simulated_stamps
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._speed = speed
        self._requests: list[tuple[int | None, Answer]] = []
        self._first_stamp_ns = 0
        self._offset_ns: int | None = None
        self._ticks = self._late = self._held = 0
        self._lifted = False
        self._factor_at = (0, 0)
        #: Where commands for the arm go in.
        self.commands = CommandInbox()
        #: The newest stamp given out; 0 before the first.
        self.stamp_ns = 0
        #: What ended the thread, if it was not ``stop``.
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._guarded, name='sim_loop', daemon=True)

    # -- from any thread -------------------------------------------------------------------

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it; calling it again does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def request_start(self, index: int | None, answer: Answer) -> None:
        """
        Ask for start number ``index``, or the present one again with None.

        ``answer(result, reason)`` is called in the loop's thread: with what ``~/state`` will
        say of the start, or with None and a reason.
        """
        with self._lock:
            self._requests.append((index, answer))

    # -- the thread ------------------------------------------------------------------------

    def _guarded(self) -> None:
        try:
            sim = self._make()
            try:
                self._run(sim)
            finally:
                sim.close()
        except Exception as error:
            self.error = error
        finally:
            with self._lock:
                requests, self._requests = self._requests, []
            for _, answer in requests:
                answer(None, 'the simulator has stopped')

    def _make(self) -> LiftSim:
        sim = LiftSim(*self._size)
        sim.reset(draw_start(self._seed, self._start))
        self._outputs.on_ready({camera: sim.focal_length(camera) for camera in CAMERAS})
        return sim

    def _run(self, sim: LiftSim) -> None:
        pacer = Pacer(self._speed, self._stop.wait)
        self._factor_at = (0, time.monotonic_ns())
        step = 0
        while not self._stop.is_set():
            # The next servo period or picture, whichever is first.
            coming = min(step - step % SERVO_SUBSTEPS + SERVO_SUBSTEPS,
                         step - step % CONTROL_SUBSTEPS + CONTROL_SUBSTEPS)
            late_s = pacer.wait_until(coming * _STEP_NS)
            if self._stop.is_set():
                return
            refused = self.commands.apply(sim)
            if refused:
                self._outputs.on_refused(refused)
            sim.advance(coming - step)
            step = coming
            picture = step % CONTROL_SUBSTEPS == 0
            stamp = self._stamp(pacer, step, picture)
            changed = picture and self._apply_starts(sim, stamp)
            self.stamp_ns = stamp
            self._outputs.on_clock(stamp)
            if step % SERVO_SUBSTEPS == 0:
                self._outputs.on_joints(stamp, Joints(
                    sim.joint_positions(), sim.joint_velocities(), sim.joint_efforts()))
            if picture:
                self._tick(sim, stamp)
                self._ticks += 1
                if self._speed and late_s * self._speed > LATE_SHARE / CONTROL_RATE_HZ:
                    self._late += 1
                if self._judge(sim) or changed or self._ticks % _STATE_EVERY_TICKS == 0:
                    self._outputs.on_state(self._state(sim, pacer, step))

    def _stamp(self, pacer: Pacer, step: int, measure: bool) -> int:
        if self._simulated_stamps:
            return step * _STEP_NS
        # The instant at which the step was due, on the clock that stamps: reading that clock here
        # would add the loop's own delays to the stamps of a world that moved evenly.
        if measure or self._offset_ns is None:
            before = time.monotonic_ns()
            reading = self._outputs.clock_ns()
            after = time.monotonic_ns()
            if after - before < _ONE_INSTANT_NS or self._offset_ns is None:
                self._offset_ns = reading - (before + after) // 2
        return pacer.due_ns(step * _STEP_NS) + self._offset_ns

    def _apply_starts(self, sim: LiftSim, stamp_ns: int) -> bool:
        with self._lock:
            requests, self._requests = self._requests, []
        if requests:
            self.commands.clear()
        for index, answer in requests:
            wanted = self._start if index is None else index
            try:
                sim.reset(draw_start(self._seed, wanted))
            except ValueError as error:
                sim.reset(draw_start(self._seed, self._start))
                answer(None, f'start {wanted} of seed {self._seed}: {error}')
                continue
            self._start, self._first_stamp_ns = wanted, stamp_ns
            self._held, self._lifted = 0, False
            answer({'start': wanted, 'seed': self._seed, 'first_stamp_ns': stamp_ns}, '')
        return bool(requests)

    def _tick(self, sim: LiftSim, stamp: int) -> None:
        if self._first_stamp_ns == 0:
            self._first_stamp_ns = stamp
        # Poses first: who answers to them thinks while the pictures are drawn.
        self._outputs.on_poses(stamp, Poses(
            sim.tool_position(), sim.tool_quaternion(), sim.cube_position(),
            sim.cube_quaternion()))
        self._outputs.on_pictures(stamp, {camera: sim.image(camera) for camera in CAMERAS})

    def _judge(self, sim: LiftSim) -> bool:
        """Follow whether the cube is up; True when it has just become lifted."""
        self._held = self._held + 1 if sim.lifted() else 0
        was, self._lifted = self._lifted, self._lifted or self._held >= HOLD_TICKS
        return self._lifted and not was

    def _state(self, sim: LiftSim, pacer: Pacer, step: int) -> dict[str, Any]:
        now = time.monotonic_ns()
        then_step, then = self._factor_at
        self._factor_at = (step, now)
        return {
            'start': self._start, 'seed': self._seed, 'first_stamp_ns': self._first_stamp_ns,
            'lifted': self._lifted, 'held_ticks': self._held,
            'cube_height_m': float(sim.cube_position()[2]),
            'trajectory_active': sim.trajectory_active,
            **self.commands.counts(), 'command_timeouts': sim.timeouts,
            'sim_time_s': step * TIMESTEP_S, 'speed': self._speed,
            'real_time_factor': (step - then_step) * _STEP_NS / max(now - then, 1),
            'ticks': self._ticks, 'late_ticks': self._late, 'slipped_s': pacer.slipped_s}
