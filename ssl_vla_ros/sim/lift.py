# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The lifting task: reset, step, look and judge, without ROS."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.sim.scene import (
    ARM_JOINTS, build_model, CAMERAS, CUBE_HALF_SIZE, GRIPPER_CLOSED_RAD, TIMESTEP_S)
from ssl_vla_ros.sim.servo import TwistServo, Vector, yaw_pose

#: The servo loop and the joint-state publisher of the simulated driver run at this rate.
SERVO_RATE_HZ = 125
CONTROL_RATE_HZ = 20
#: A commanded twist older than this stops the tool, as MoveIt Servo's incoming_command_timeout.
COMMAND_TIMEOUT_S = 0.25
#: The cube counts as lifted from this height of its centre above the table (metres).
LIFTED_HEIGHT_M = 0.10

_SUBSTEPS = round(1.0 / (SERVO_RATE_HZ * TIMESTEP_S))
_GUESS = np.array([-1.5708, -1.5708, 1.8, -1.8, -1.5708, 0.0])


@dataclass(frozen=True)
class StartRange:
    """From where a start is drawn: the cube's place on the table, its yaw, the tool's place."""

    x_m: tuple[float, float] = (-0.12, 0.12)
    y_m: tuple[float, float] = (0.42, 0.60)
    yaw_rad: tuple[float, float] = (-0.3927, 0.3927)
    tool_jitter_m: float = 0.03


@dataclass(frozen=True)
class Start:
    """One start: where the cube lies and where the tool begins."""

    cube_xy: tuple[float, float]
    cube_yaw: float
    tool: tuple[float, float, float]


def draw_start(seed: int, index: int, area: StartRange | None = None) -> Start:
    """Start number ``index`` of the sequence ``seed``; the same on every machine."""
    area = area or StartRange()
    rng = np.random.default_rng([seed, index])
    jitter = rng.uniform(-area.tool_jitter_m, area.tool_jitter_m, 3)
    return Start(
        cube_xy=(float(rng.uniform(*area.x_m)), float(rng.uniform(*area.y_m))),
        cube_yaw=float(rng.uniform(*area.yaw_rad)),
        tool=(float(jitter[0]), float(0.50 + jitter[1]), float(0.26 + jitter[2])))


class LiftSim:
    """
    A UR5e lifting a cube, stepped at the servo rate.

    Parameters
    ----------
    height, width
        Size of the rendered pictures in pixels.
    render
        Whether ``image`` may be called. A simulator without pictures needs no OpenGL.

    """

    def __init__(self, height: int = 128, width: int = 128, render: bool = True) -> None:
        self.model = build_model()
        self.data = mujoco.MjData(self.model)
        self.servo = TwistServo(self.model)
        joints = [self.model.joint(name) for name in ARM_JOINTS]
        self._arm_qpos = np.array([joint.qposadr[0] for joint in joints])
        self._arm_dofs = np.array([joint.dofadr[0] for joint in joints])
        self._finger = self.model.joint('gripper/left_driver_joint')
        self._cube_qpos = int(self.model.joint('cube').qposadr[0])
        self._cube_body = self.model.body('cube').id
        self._tool_site = self.model.site('gripper/pinch').id
        self._renderer: mujoco.Renderer | None = None
        if render:
            self._renderer = mujoco.Renderer(self.model, height, width)
            flags = self._renderer.scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.twist: Vector = np.zeros(6)
        self.gripper = 0.0
        self.reset(draw_start(0, 0))

    def close(self) -> None:
        """Free the OpenGL context; call it in the thread that rendered."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def reset(self, start: Start) -> None:
        """Put arm and cube where ``start`` says, at rest, the gripper open."""
        mujoco.mj_resetData(self.model, self.data)
        joints = self.servo.solve(np.array(start.tool), yaw_pose(0.0), _GUESS)
        self.servo.reset(joints)
        self.data.qpos[self._arm_qpos] = joints
        self.data.ctrl[:6] = joints
        half_yaw = 0.5 * start.cube_yaw
        cube = self.data.qpos[self._cube_qpos:self._cube_qpos + 7]
        cube[:3] = [*start.cube_xy, CUBE_HALF_SIZE]
        cube[3:] = [np.cos(half_yaw), 0.0, 0.0, np.sin(half_yaw)]
        self.twist = np.zeros(6)
        self.gripper = 0.0
        mujoco.mj_forward(self.model, self.data)

    def step(self) -> None:
        """Advance by one servo period (8 ms) under the present commands."""
        self.data.ctrl[:6] = self.servo.advance(self.twist, 1.0 / SERVO_RATE_HZ)
        self.data.ctrl[6] = 255.0 * self.gripper
        mujoco.mj_step(self.model, self.data, _SUBSTEPS)

    def image(self, camera: str) -> NDArray[np.uint8]:
        """Picture (height, width, 3) rgb8 of the camera ``front`` or ``wrist``."""
        if self._renderer is None:
            raise RuntimeError('this simulator was made with render=False')
        self._renderer.update_scene(self.data, CAMERAS[camera])
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def joint_positions(self) -> Vector:
        """Positions (7,) of the arm's joints and the gripper's knuckle, rad."""
        return np.append(self.data.qpos[self._arm_qpos],
                         self.data.qpos[self._finger.qposadr[0]])

    def joint_velocities(self) -> Vector:
        """Velocities (7,) of the same joints, rad/s."""
        return np.append(self.data.qvel[self._arm_dofs],
                         self.data.qvel[self._finger.dofadr[0]])

    def joint_efforts(self) -> Vector:
        """Actuator torques (7,) at the same joints, N m."""
        return self.data.actuator_force[:7].copy()

    def cube_position(self) -> Vector:
        """Centre of the cube (3,), m."""
        return self.data.xpos[self._cube_body].copy()

    def cube_quaternion(self) -> Vector:
        """Orientation of the cube (w, x, y, z)."""
        return self.data.xquat[self._cube_body].copy()

    def tool_position(self) -> Vector:
        """Point between the fingertips (3,), m."""
        return self.data.site_xpos[self._tool_site].copy()

    def tool_yaw(self) -> float:
        """Turn of the tool about the vertical, rad; 0 as after a reset."""
        rotation = self.data.site_xmat[self._tool_site]
        return float(np.arctan2(-rotation[0], rotation[1]))

    def lifted(self) -> bool:
        """Whether the cube is held above ``LIFTED_HEIGHT_M``."""
        return bool(self.cube_position()[2] > LIFTED_HEIGHT_M)


def yaw_of(quaternion: Vector) -> float:
    """Yaw (rad) of a quaternion (w, x, y, z)."""
    w, x, y, z = (float(value) for value in quaternion)
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def square_yaw(yaw: float) -> float:
    """Fold a yaw into ±45°: a cube turned by 90° looks and grasps the same."""
    quarter = 0.5 * np.pi
    return float((yaw + 0.25 * np.pi) % quarter - 0.25 * np.pi)


__all__ = [
    'COMMAND_TIMEOUT_S', 'CONTROL_RATE_HZ', 'draw_start', 'GRIPPER_CLOSED_RAD', 'LIFTED_HEIGHT_M',
    'LiftSim', 'SERVO_RATE_HZ', 'square_yaw', 'Start', 'StartRange', 'yaw_of']
