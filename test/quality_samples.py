# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A healthy recording of a small moving arm, and every way to spoil it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
import math
from pathlib import Path
from typing import Any

from dataset_episodes import (
    array_message, image_message, joints_message, MS, PERIOD_NS, Recording, small_contract,
    START_NS, twist_message)
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.contract import Contract, parse_contract
from ssl_vla_ros.episodes.check import check_episode
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import Verdict

CAMERAS = ('front', 'wrist')
#: What a camera sees: (seconds, its name, a source of noise).
Look = Callable[[float, str, np.random.Generator], NDArray[np.uint8]]
#: The command comes this long before the joints follow it.
DELAY_S = 0.1


def limited_contract() -> Contract:
    """Make the small contract with limits of both joints."""
    data = small_contract().to_dict()
    data.pop('evaluation')
    data['limits'] = {
        'input_timeout_s': 0.5,
        'action': {name: {'min': -10.0, 'max': 10.0, 'max_step': 10.0, 'free_start': True}
                   for name in ('linear.x', 'gripper')},
        'joints': {'shoulder': {'min': -2.0, 'max': 2.0, 'margin': 0.1, 'max_velocity': 4.0},
                   'elbow': {'min': -2.0, 'max': 2.0, 'margin': 0.1}}}
    return parse_contract(data, 'limited.yaml')


def speed(seconds: float) -> float:
    """Give what is commanded: swings of different lengths, never twice the same."""
    return math.sin(1.3 * seconds) + 0.5 * math.sin(2.9 * seconds + 1.0)


def angle(seconds: float) -> float:
    """Integrate ``speed``, a little later: where the shoulder is."""
    later = seconds - DELAY_S
    return 0.5 * (-math.cos(1.3 * later) / 1.3 - 0.5 * math.cos(2.9 * later + 1.0) / 2.9)


def view(seconds: float, camera: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw stripes that move with the arm, with a sensor's noise."""
    columns = np.arange(48)
    stripes = 120.0 + 80.0 * np.sin(columns / 5.0 + 6.0 * angle(seconds) + (camera == 'wrist'))
    picture = np.repeat(stripes[None, :, None], 32, axis=0).repeat(3, axis=2)
    return np.clip(picture + rng.normal(0.0, 2.0, picture.shape), 0, 255).astype(np.uint8)


@dataclass
class Arm:
    """
    What a recording is made from; change a field, then ``record``.

    Every function takes seconds after the start; ``offset_s`` moves a topic's stamps.
    """

    seconds: float = 6.0
    contract: Contract = field(default_factory=limited_contract)
    joints: Callable[[float], tuple[float, float]] = lambda t: (angle(t), -0.6 * angle(t))
    twist: Callable[[float], float] = speed
    gripper: Callable[[float], float] = lambda t: float(t % 4.0 > 0.4)
    view: Look = view
    camera_step: int = 1
    joint_names: list[str] | None = None
    offset_s: dict[str, float] = field(default_factory=dict)

    def recording(self) -> Recording:
        """Make all messages: pictures and commands at 20 Hz, joints at 100 Hz."""
        rng = np.random.default_rng(3)
        made = Recording(self.contract)
        put = made.messages.append
        ticks = round(self.seconds * 20)
        for tick in range(ticks):
            now = START_NS + tick * PERIOD_NS
            seconds = tick / 20
            for camera in CAMERAS if tick % self.camera_step == 0 else ():
                topic = f'camera/{camera}/image_raw'
                put((now + 5 * MS, topic, image_message(
                    self._stamp(now, topic), self.view(seconds, camera, rng))))
            put((now + 3 * MS, 'twist', twist_message(
                self._stamp(now + MS, 'twist'), self.twist(seconds))))
            put((now + 3 * MS, 'gripper', array_message([self.gripper(seconds)])))
        for step in range(ticks * 5):
            now = START_NS + step * 10 * MS
            put((now + MS, 'joint_states', joints_message(
                self._stamp(now, 'joint_states'), list(self.joints(step / 100)),
                self.joint_names)))
        return made

    def _stamp(self, now: int, topic: str) -> int:
        return now + round(self.offset_s.get(topic, 0.0) * 1e9)

    def write(self, session: Path, **how: Any) -> Path:
        """Write it as an episode."""
        return self.recording().write(session, **how)


def judged(arm: Arm | Recording, session: Path, **bounds: Any) -> Verdict:
    """Write an episode and check it."""
    return check_episode(arm.write(session), Thresholds(**bounds))


def found(verdict: Verdict) -> set[tuple[str, str, str]]:
    """Every finding as (severity, key, stream): nothing else may have fired."""
    return {(reason.severity, reason.key, reason.stream) for reason in verdict.reasons}


def at(seconds: float) -> int:
    """Receive time, in nanoseconds."""
    return START_NS + round(seconds * 1e9)
