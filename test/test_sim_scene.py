# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The scene: it compiles, is light enough to render, and its cameras see what is there."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray
import pytest
from ssl_vla_ros.sim.lift import draw_start, LiftSim, Start, StartRange
from ssl_vla_ros.sim.scene import ARM_JOINTS, CAMERAS, CUBE_HALF_SIZE, MAX_FACES, TIMESTEP_S


def red(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of the cube: nothing else in the scene is red."""
    wide = picture.astype(int)
    mask: NDArray[np.bool_] = (wide[..., 0] > 100) & (wide[..., 0] > 2 * wide[..., 1])
    return mask


def project(arm: LiftSim, camera: str, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixel (row, column) of a point, by a pinhole of our own."""
    view = arm.data.camera(CAMERAS[camera])
    x, y, z = view.xmat.reshape(3, 3).T @ (point - view.xpos)
    focal = 64.0 / np.tan(0.5 * np.deg2rad(arm.model.camera(CAMERAS[camera]).fovy[0]))
    return np.array([64.0 + focal * y / z, 64.0 - focal * x / z]) - 0.5


def test_the_model_has_the_robot_s_joints_and_cameras(blind_arm: LiftSim) -> None:
    model = blind_arm.model
    for name in ARM_JOINTS:
        assert model.joint(name).type[0] == mujoco.mjtJoint.mjJNT_HINGE
    assert model.nu == 7
    assert model.opt.timestep == TIMESTEP_S
    for name in CAMERAS.values():
        assert model.camera(name).id >= 0


def test_meshes_are_decimated(blind_arm: LiftSim) -> None:
    faces = blind_arm.model.mesh_facenum
    assert len(faces) > 20
    # A mesh of many separate sheets cannot be brought down all the way.
    assert (faces <= MAX_FACES).mean() > 0.7
    assert faces.sum() < 50_000
    # They still are meshes, not specks.
    assert faces.min() > 100


def test_a_decimated_mesh_stays_where_it_was(blind_arm: LiftSim) -> None:
    """The links keep their lengths: the tool is where the forward kinematics of a UR5e put it."""
    blind_arm.reset(draw_start(0, 0))
    data = mujoco.MjData(blind_arm.model)
    mujoco.mj_forward(blind_arm.model, data)
    # All joints at 0: a UR5e stretches 0.425 + 0.392 m along -x from the shoulder.
    elbow = data.body('forearm_link').xpos - data.body('upper_arm_link').xpos
    wrist = data.body('wrist_1_link').xpos - data.body('forearm_link').xpos
    assert np.linalg.norm(elbow[[0, 2]]) == pytest.approx(0.425, abs=1e-3)
    assert np.linalg.norm(wrist[[0, 2]]) == pytest.approx(0.392, abs=1e-3)
    for name in ('upper_arm_link', 'forearm_link'):
        body = blind_arm.model.body(name)
        for geom in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]):
            # Their visual meshes are near the body they belong to.
            assert np.linalg.norm(data.geom_xpos[geom] - data.body(name).xpos) < 0.45


@pytest.mark.parametrize('camera', CAMERAS)
@pytest.mark.parametrize('index', range(4))
def test_the_cube_is_drawn_where_a_pinhole_puts_it(
    seeing_arm: LiftSim, camera: str, index: int,
) -> None:
    seeing_arm.reset(draw_start(11, index))
    where = project(seeing_arm, camera, seeing_arm.cube_position())
    pixels = np.argwhere(red(seeing_arm.image(camera)))
    assert len(pixels) > 30
    assert np.abs(pixels.mean(axis=0) - where).max() < 3.0


def test_the_front_camera_sees_the_cube_in_every_corner(seeing_arm: LiftSim) -> None:
    area = StartRange()
    for x in area.x_m:
        for y in area.y_m:
            seeing_arm.reset(Start((x, y), 0.3, (0.0, 0.5, 0.26)))
            mask = red(seeing_arm.image('front'))
            assert mask.sum() > 30
            # Whole, not cut by the frame.
            assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


@pytest.mark.parametrize('camera', CAMERAS)
def test_pictures_are_rgb_and_have_content(seeing_arm: LiftSim, camera: str) -> None:
    seeing_arm.reset(draw_start(0, 0))
    picture = seeing_arm.image(camera)
    assert picture.shape == (128, 128, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 10
    # The arm is dark, the table is light: both are in the picture.
    grey = picture.mean(axis=2)
    assert (grey < 60).mean() > 0.02
    assert (grey > 110).mean() > 0.3


def test_a_picture_is_not_overwritten_by_the_next(seeing_arm: LiftSim) -> None:
    seeing_arm.reset(draw_start(0, 0))
    first = seeing_arm.image('front')
    kept = first.copy()
    seeing_arm.reset(draw_start(0, 1))
    second = seeing_arm.image('front')
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_the_cube_rests_and_the_arm_does_not_sag(blind_arm: LiftSim) -> None:
    blind_arm.reset(draw_start(3, 1))
    cube, tool = blind_arm.cube_position(), blind_arm.tool_position()
    assert cube[2] == pytest.approx(CUBE_HALF_SIZE)
    for _ in range(125):
        blind_arm.step()
    assert np.abs(blind_arm.cube_position() - cube).max() < 1e-3
    assert np.abs(blind_arm.tool_position() - tool).max() < 1e-3
