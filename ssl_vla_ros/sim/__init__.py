# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated arm: scene, servo, lifting task and scripted teleoperator (no ROS, no torch)."""

import os

# A headless machine has no X server. MuJoCo reads this once, when it is first imported, so it is
# set here, before any module of this room can import it.
os.environ.setdefault('MUJOCO_GL', 'egl')
