# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The parts of a robot contract as frozen dataclasses.

``ssl_vla_ros.contract`` reads and validates them, and hands them on; import them from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import math
from typing import Any

#: The only types without a header: their rows carry the receive time and are flagged.
UNSTAMPED_TYPES = ('std_msgs/Float64MultiArray',)


@dataclass(frozen=True)
class Camera:
    """One camera: where it is published and the size kept of it in datasets (pixels)."""

    name: str
    topic: str
    type: str  # noqa: A003
    height: int
    width: int
    reliability: str = 'reliable'


@dataclass(frozen=True)
class Stream:
    """One topic that carries numbers, and the ``names`` of those numbers that are used."""

    topic: str
    type: str  # noqa: A003
    field: str
    names: tuple[str, ...]
    reliability: str = 'reliable'

    @property
    def stamped(self) -> bool:
        """Whether the messages carry a header stamp of their own."""
        return self.type not in UNSTAMPED_TYPES

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values in datasets: velocities and efforts are marked as such."""
        if self.field in ('velocity', 'effort', 'velocities'):
            return tuple(f'{name}.{self.field}' for name in self.names)
        return self.names


@dataclass(frozen=True)
class ExtraTopic:
    """
    A topic that is recorded as it comes and becomes no column: tf, camera_info, force-torque.

    ``durability: transient_local`` is for latched topics such as tf_static: every episode begins
    with what was last sent before it.
    """

    topic: str
    type: str  # noqa: A003
    reliability: str = 'reliable'
    durability: str = 'volatile'


@dataclass(frozen=True)
class Sync:
    """How streams are brought to the control clock, and how far off a stamp may be (seconds)."""

    image: str = 'nearest'
    state: str = 'linear'
    action: str = 'next'
    max_skew_s: float = 0.05
    max_flagged_fraction: float = 0.1
    #: What becomes of an episode with more flagged ticks: ``refuse``, or ``split`` into its runs
    #: of at least ``min_run_s`` seconds without one.
    on_gap: str = 'refuse'
    min_run_s: float = 1.0


@dataclass(frozen=True)
class ActionLimit:
    """
    Range of one commanded value, and the most it may change from one tick to the next.

    ``max_step`` holds for the first command, too, so a policy is enabled only where the value's
    start is known: a velocity starts from zero, a value named like one of the state's from there,
    any other from the last command sent. Where none of these is to be had, ``free_start: true``
    (``limits.action.NAME.free_start``, false where it is not written) lets the first command be
    anywhere in the range: for values that are commanded as a whole, such as a gripper's opening,
    never for a pose that an arm would leap to.
    """

    min: float  # noqa: A003
    max: float  # noqa: A003
    max_step: float
    free_start: bool = False


@dataclass(frozen=True)
class JointLimit:
    """Range of a joint in rad (or m) within which the policy may go on commanding."""

    min: float  # noqa: A003
    max: float  # noqa: A003
    margin: float = 0.0
    max_velocity: float = math.inf


@dataclass(frozen=True)
class Limits:
    """What the policy may command. A contract without limits records, but runs no policy."""

    input_timeout_s: float
    action: Mapping[str, ActionLimit]
    joints: Mapping[str, JointLimit]


@dataclass(frozen=True)
class Contract:
    """A validated robot contract; ``source`` is the file it came from, for error messages."""

    robot: str
    rate_hz: int
    cameras: tuple[Camera, ...]
    state: tuple[Stream, ...]
    action: tuple[Stream, ...]
    evaluation: tuple[Stream, ...]
    sync: Sync
    limits: Limits | None
    source: str
    extra: tuple[ExtraTopic, ...] = ()

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state's values, in their order."""
        return tuple(name for stream in self.state for name in stream.columns)

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the action's values, in their order."""
        return tuple(name for stream in self.action for name in stream.columns)

    @property
    def evaluation_names(self) -> tuple[str, ...]:
        """Names of the values recorded for evaluation alone (never an input of a policy)."""
        return tuple(name for stream in self.evaluation for name in stream.columns)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in their order."""
        return tuple(camera.name for camera in self.cameras)

    def topics(self) -> dict[str, str]:
        """Every topic with its message type, cameras first and extra ones last."""
        found = {camera.topic: camera.type for camera in self.cameras}
        for stream in (*self.state, *self.action, *self.evaluation):
            found[stream.topic] = stream.type
        for item in self.extra:
            found[item.topic] = item.type
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the contract as plain JSON-ready values; ``parse_contract`` reads it back."""
        data: dict[str, Any] = {
            'robot': self.robot,
            'rate_hz': self.rate_hz,
            'cameras': {
                camera.name: {
                    'topic': camera.topic, 'type': camera.type, 'height': camera.height,
                    'width': camera.width, 'reliability': camera.reliability}
                for camera in self.cameras},
            'sync': {
                'image': self.sync.image, 'state': self.sync.state, 'action': self.sync.action,
                'max_skew_s': self.sync.max_skew_s,
                'max_flagged_fraction': self.sync.max_flagged_fraction}
            # Only where it says so: the digests of contracts without it stay as they are.
            | ({'on_gap': self.sync.on_gap, 'min_run_s': self.sync.min_run_s}
               if self.sync.on_gap != 'refuse' else {}),
        }
        for part in ('state', 'action', 'evaluation'):
            data[part] = [
                {'topic': stream.topic, 'type': stream.type, 'field': stream.field,
                 'names': list(stream.names), 'reliability': stream.reliability}
                for stream in getattr(self, part)]
        if self.extra:  # only then: the digests of contracts without it stay as they are
            data['extra'] = [
                {'topic': item.topic, 'type': item.type, 'reliability': item.reliability,
                 'durability': item.durability} for item in self.extra]
        if self.limits is not None:
            data['limits'] = {
                'input_timeout_s': self.limits.input_timeout_s,
                'action': {
                    name: {'min': limit.min, 'max': limit.max, 'max_step': limit.max_step}
                    # Only where it says so: the digests of contracts without it stay as they are.
                    | ({'free_start': True} if limit.free_start else {})
                    for name, limit in self.limits.action.items()},
                'joints': {
                    name: {'min': limit.min, 'max': limit.max, 'margin': limit.margin}
                    | ({} if math.isinf(limit.max_velocity)
                       else {'max_velocity': limit.max_velocity})
                    for name, limit in self.limits.joints.items()},
            }
        return data

    def digest(self) -> str:
        """SHA-256 of the contract's content; the file's name and comments do not matter."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(text.encode()).hexdigest()
