# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Rotations of the tool and the cube; numpy alone, so that the teleoperator needs no simulator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def yaw_pose(yaw: float) -> Vector:
    """Rotation matrix (3, 3) of a tool that points straight down, turned by ``yaw`` radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[-s, c, 0.0], [c, s, 0.0], [0.0, 0.0, -1.0]])


def yaw_of(quaternion: Vector) -> float:
    """Yaw (rad) of a quaternion (w, x, y, z)."""
    w, x, y, z = (float(value) for value in quaternion)
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def square_yaw(yaw: float) -> float:
    """Fold a yaw into ±45°: a cube turned by 90° looks and grasps the same."""
    quarter = 0.5 * np.pi
    return float((yaw + 0.25 * np.pi) % quarter - 0.25 * np.pi)


def tool_yaw_of(quaternion: Vector) -> float:
    """
    Turn (rad) about the vertical of a tool that points down, from its quaternion (w, x, y, z).

    It is 0 for the orientation of ``yaw_pose(0.0)``, which is no rotation of zero.
    """
    w, x, y, z = (float(value) for value in quaternion)
    first = 1.0 - 2.0 * (y * y + z * z)
    second = 2.0 * (x * y - w * z)
    return float(np.arctan2(-first, second))
