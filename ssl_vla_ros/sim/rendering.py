# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""MuJoCo and its pictures without a screen, or a sentence that says what is missing."""

from __future__ import annotations

import os

from ssl_vla_ros.errors import MissingDependencyError


def _no_opengl(error: Exception) -> MissingDependencyError:
    return MissingDependencyError(
        f'cannot render pictures with MUJOCO_GL={os.environ.get("MUJOCO_GL", "")}: '
        f'{" ".join(str(error).split()) or type(error).__name__}; install EGL (on Debian and '
        'Ubuntu: apt install libegl1 libgl1) and set MUJOCO_GL=egl, or install libosmesa6 and set '
        'MUJOCO_GL=osmesa')


try:
    import mujoco
except ImportError as missing:  # pragma: no cover - depends on the installation
    if not missing.name:
        raise _no_opengl(missing) from missing  # so PyOpenGL says that a library is not there
    raise MissingDependencyError(
        f'the Python package {missing.name} is not installed, and the simulated arm needs it; '
        'run: pip install "ssl_vla_ros[sim]"') from missing
except Exception as broken:
    # It loads OpenGL when it is imported; what that raises without a driver is not documented.
    raise _no_opengl(broken) from broken


def make_renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    """
    Make an off-screen renderer; it belongs to the thread that made it.

    Raises
    ------
    MissingDependencyError
        If OpenGL cannot be set up.

    """
    try:
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # again, undocumented
        raise _no_opengl(error) from error


__all__ = ['make_renderer', 'mujoco']
