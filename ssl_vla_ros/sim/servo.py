# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Cartesian servoing: twists of the tool in, joint position targets out (as MoveIt Servo does)."""

from __future__ import annotations

import numpy as np

from ssl_vla_ros.sim.geometry import Vector, yaw_pose
from ssl_vla_ros.sim.rendering import mujoco
from ssl_vla_ros.sim.scene import ARM_JOINTS

#: The tool's target may not leave this box (metres, in the arm's base frame).
WORKSPACE_LOW = np.array([-0.30, 0.28, 0.012])
WORKSPACE_HIGH = np.array([0.30, 0.72, 0.45])
#: Damping of the least-squares inverse; keeps joint steps finite near a singularity.
_DAMPING = 1e-4
#: Share of the pose error removed in each step; under 1 so that a target jump stays smooth.
_GAIN = 0.5


class TwistServo:
    """
    Integrate a tool twist into a pose target and follow it by damped least squares.

    The target is integrated from commands alone, never from the measured pose: a sagging arm
    then does not drag its own target along.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._data = mujoco.MjData(model)
        self._site = model.site('gripper/pinch').id
        joints = [model.joint(name) for name in ARM_JOINTS]
        self._qpos = np.array([joint.qposadr[0] for joint in joints])
        self._dofs = np.array([joint.dofadr[0] for joint in joints])
        self.low: Vector = model.jnt_range[[joint.id for joint in joints], 0]
        self.high: Vector = model.jnt_range[[joint.id for joint in joints], 1]
        self._jacobian = np.zeros((6, model.nv))
        self.joints: Vector = np.zeros(len(ARM_JOINTS))
        self.position: Vector = np.zeros(3)
        self.rotation: Vector = np.eye(3)

    def _kinematics(self) -> tuple[Vector, Vector]:
        self._data.qpos[self._qpos] = self.joints
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        return (self._data.site_xpos[self._site].copy(),
                self._data.site_xmat[self._site].reshape(3, 3).copy())

    def reset(self, joints: Vector) -> None:
        """Take ``joints`` (6, rad) as the present target."""
        self.joints = np.asarray(joints, dtype=np.float64).copy()
        self.position, self.rotation = self._kinematics()

    def solve(self, position: Vector, rotation: Vector, guess: Vector) -> Vector:
        """
        Joint positions (6, rad) that put the tool at a pose.

        Raises
        ------
        ValueError
            If the pose is out of reach: 200 steps leave more than 0.1 mm or 1 mrad.

        """
        self.joints = np.asarray(guess, dtype=np.float64).copy()
        self.position, self.rotation = position.copy(), rotation.copy()
        for _ in range(200):
            error = self._step()
            if np.all(np.abs(error[:3]) < 1e-4) and np.all(np.abs(error[3:]) < 1e-3):
                return self.joints.copy()
        raise ValueError(f'no joint positions reach the tool pose {position.tolist()}')

    def _step(self) -> Vector:
        position, rotation = self._kinematics()
        delta = self.rotation @ rotation.T
        error = np.concatenate([
            self.position - position,
            0.5 * np.array([delta[2, 1] - delta[1, 2], delta[0, 2] - delta[2, 0],
                            delta[1, 0] - delta[0, 1]])])
        mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:],
                          self._site)
        jacobian = self._jacobian[:, self._dofs]
        gram = jacobian @ jacobian.T + _DAMPING * np.eye(6)
        step = jacobian.T @ np.linalg.solve(gram, _GAIN * error)
        self.joints = np.clip(self.joints + np.clip(step, -0.1, 0.1), self.low, self.high)
        return error

    def advance(self, twist: Vector, dt: float) -> Vector:
        """
        Move the target by ``twist`` for ``dt`` seconds and follow it by one step.

        Parameters
        ----------
        twist
            (6,) linear x, y, z in m/s and angular x, y, z in rad/s, in the base frame.
        dt
            Seconds since the last call.

        Returns
        -------
        numpy.ndarray
            (6,) joint position targets in rad.

        """
        # A joint trajectory may have left the tool outside the box: it may then come back, but
        # its target must not jump there.
        self.position = np.clip(
            self.position + twist[:3] * dt, np.minimum(WORKSPACE_LOW, self.position),
            np.maximum(WORKSPACE_HIGH, self.position))
        angle = float(np.linalg.norm(twist[3:])) * dt
        if angle > 0.0:
            axis = twist[3:] / np.linalg.norm(twist[3:])
            quaternion, turn = np.zeros(4), np.zeros(9)
            mujoco.mju_axisAngle2Quat(quaternion, axis, angle)
            mujoco.mju_quat2Mat(turn, quaternion)
            self.rotation = turn.reshape(3, 3) @ self.rotation
        self._step()
        return self.joints


__all__ = ['TwistServo', 'Vector', 'WORKSPACE_HIGH', 'WORKSPACE_LOW', 'yaw_pose']
