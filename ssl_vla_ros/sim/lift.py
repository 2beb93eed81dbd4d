# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The lifting task: reset, step, look and judge, without ROS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.sim.geometry import square_yaw, Vector, yaw_of, yaw_pose
from ssl_vla_ros.sim.rendering import make_renderer, mujoco
from ssl_vla_ros.sim.scene import (
    ARM_JOINTS, build_model, CAMERAS, CUBE_HALF_SIZE, GRIPPER_CLOSED_RAD, TIMESTEP_S)
from ssl_vla_ros.sim.sensor import CameraSensor
from ssl_vla_ros.sim.servo import TwistServo
from ssl_vla_ros.sim.trajectory import Trajectory

#: The servo loop and the joint-state publisher of the simulated driver run at this rate.
SERVO_RATE_HZ = 125
CONTROL_RATE_HZ = 20
#: A commanded twist older than this stops the tool, as MoveIt Servo's incoming_command_timeout.
COMMAND_TIMEOUT_S = 0.25
#: The cube counts as lifted from this height of its centre above the table (metres).
LIFTED_HEIGHT_M = 0.10

#: Physics steps in one servo period, and between two pictures.
SERVO_SUBSTEPS = round(1.0 / (SERVO_RATE_HZ * TIMESTEP_S))
CONTROL_SUBSTEPS = round(1.0 / (CONTROL_RATE_HZ * TIMESTEP_S))

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
    light_seed: int = 0   # of the cameras' exposure and noise


def draw_start(seed: int, index: int, area: StartRange | None = None) -> Start:
    """Start number ``index`` of the sequence ``seed``; the same on every machine."""
    area = area or StartRange()
    rng = np.random.default_rng([seed, index])
    jitter = rng.uniform(-area.tool_jitter_m, area.tool_jitter_m, 3)
    return Start(
        cube_xy=(float(rng.uniform(*area.x_m)), float(rng.uniform(*area.y_m))),
        cube_yaw=float(rng.uniform(*area.yaw_rad)),
        tool=(float(jitter[0]), float(0.50 + jitter[1]), float(0.26 + jitter[2])),
        light_seed=int(rng.integers(2 ** 31)))


class LiftSim:
    """
    A UR5e lifting a cube, stepped at the servo rate.

    ``twist`` and ``gripper`` hold until they are changed. ``command_twist`` and
    ``command_trajectory`` behave as a robot's driver does: the newest command wins, and a twist
    that is not renewed for ``COMMAND_TIMEOUT_S`` stops the tool.

    Parameters
    ----------
    height, width
        Size of the rendered pictures in pixels.
    render
        Whether ``image`` may be called. A simulator without pictures needs no OpenGL.

    Raises
    ------
    MissingDependencyError
        If pictures are wanted and cannot be rendered here.

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
        self._sensor = CameraSensor(tuple(CAMERAS))
        self._renderer: mujoco.Renderer | None = None
        if render:
            self._renderer = make_renderer(self.model, height, width)
            flags = self._renderer.scene.flags
            flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self.twist: Vector = np.zeros(6)
        self.gripper = 0.0
        #: How often a twist ran out because none followed it.
        self.timeouts = 0
        self._substep = 0                  # within the present servo period
        self._expires: int | None = None   # physics steps until the commanded twist is too old
        self._trajectory: Trajectory | None = None
        self._trajectory_s = 0.0
        self.reset(draw_start(0, 0))

    def close(self) -> None:
        """Free the OpenGL context; call it in the thread that rendered."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def reset(self, start: Start) -> None:
        """Put arm and cube where ``start`` says, at rest, the gripper open."""
        self._sensor.reset(start.light_seed)
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
        self._substep = 0
        self._expires = None
        self._trajectory = None
        mujoco.mj_forward(self.model, self.data)

    @property
    def trajectory_active(self) -> bool:
        """Whether a joint trajectory is being followed."""
        return self._trajectory is not None

    def command_twist(self, twist: Vector) -> None:
        """Take a twist (6,) in m/s and rad/s for ``COMMAND_TIMEOUT_S``; ends a trajectory."""
        self._end_trajectory()
        self.twist = np.array(twist, dtype=np.float64)
        self._expires = round(COMMAND_TIMEOUT_S / TIMESTEP_S)

    def command_trajectory(self, trajectory: Trajectory) -> None:
        """Follow a planned trajectory of the arm's joints from now on; ends a twist."""
        self.twist = np.zeros(6)
        self._expires = None
        self._trajectory, self._trajectory_s = trajectory, 0.0

    def _end_trajectory(self) -> None:
        if self._trajectory is not None:
            self._trajectory = None
            self.servo.reset(self.servo.joints)

    def _targets(self) -> Vector:
        """Joint targets (6,) for the servo period that begins."""
        if self._trajectory is None:
            return self.servo.advance(self.twist, 1.0 / SERVO_RATE_HZ)
        self._trajectory_s += 1.0 / SERVO_RATE_HZ
        self.servo.joints = self._trajectory.at(np.array([self._trajectory_s]))[0]
        if self._trajectory_s >= self._trajectory.duration_s:
            self._end_trajectory()
        return self.servo.joints

    def step(self) -> None:
        """Advance by one servo period (8 ms) under the present commands."""
        self.advance(SERVO_SUBSTEPS)

    def advance(self, substeps: int) -> None:
        """
        Advance by physics steps of ``TIMESTEP_S``; the servo keeps its own rate among them.

        ``advance(CONTROL_SUBSTEPS)`` is exactly one control period, of six and a quarter servo
        periods.
        """
        left = substeps
        while left > 0:
            if self._substep == 0:
                if self._expires is not None and self._expires <= 0:
                    self.timeouts += int(np.any(self.twist))
                    self.twist, self._expires = np.zeros(6), None
                self.data.ctrl[:6] = self._targets()
                self.data.ctrl[6] = 255.0 * self.gripper
            count = min(left, SERVO_SUBSTEPS - self._substep)
            mujoco.mj_step(self.model, self.data, count)
            self._substep = (self._substep + count) % SERVO_SUBSTEPS
            left -= count
            if self._expires is not None:
                self._expires -= count
        # A step leaves the places of bodies, sites and cameras as they were before it.
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    def image(self, camera: str) -> NDArray[np.uint8]:
        """Picture (height, width, 3) rgb8 of the camera ``front`` or ``wrist``."""
        if self._renderer is None:
            raise RuntimeError('this simulator was made with render=False')
        self._renderer.update_scene(self.data, CAMERAS[camera])
        return self._sensor.expose(camera, self._renderer.render())

    def focal_length(self, camera: str) -> float:
        """Focal length of a camera in pixels, the same along both axes."""
        if self._renderer is None:
            raise RuntimeError('this simulator was made with render=False')
        fovy = float(np.deg2rad(self.model.camera(CAMERAS[camera]).fovy[0]))
        return float(0.5 * self._renderer.height / np.tan(0.5 * fovy))

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
        torques: Vector = self.data.actuator_force[:7].copy()
        return torques

    def cube_position(self) -> Vector:
        """Centre of the cube (3,), m."""
        place: Vector = self.data.xpos[self._cube_body].copy()
        return place

    def cube_quaternion(self) -> Vector:
        """Orientation of the cube (w, x, y, z)."""
        quaternion: Vector = self.data.xquat[self._cube_body].copy()
        return quaternion

    def tool_position(self) -> Vector:
        """Point between the fingertips (3,), m."""
        place: Vector = self.data.site_xpos[self._tool_site].copy()
        return place

    def tool_quaternion(self) -> Vector:
        """Orientation of the tool (w, x, y, z); at rest it points straight down."""
        quaternion: Vector = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, self.data.site_xmat[self._tool_site])
        return quaternion

    def tool_yaw(self) -> float:
        """Turn of the tool about the vertical, rad; 0 as after a reset."""
        rotation = self.data.site_xmat[self._tool_site]
        return float(np.arctan2(-rotation[0], rotation[1]))

    def lifted(self) -> bool:
        """Whether the cube is held above ``LIFTED_HEIGHT_M``."""
        return bool(self.cube_position()[2] > LIFTED_HEIGHT_M)


__all__ = [
    'COMMAND_TIMEOUT_S', 'CONTROL_RATE_HZ', 'CONTROL_SUBSTEPS', 'draw_start',
    'GRIPPER_CLOSED_RAD', 'LIFTED_HEIGHT_M', 'LiftSim', 'SERVO_RATE_HZ', 'SERVO_SUBSTEPS',
    'square_yaw', 'Start', 'StartRange', 'yaw_of']
