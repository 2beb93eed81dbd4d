# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Raw episodes: one MCAP bag each, lossless and crash-safe, without torch and without rclpy.

``writer`` and ``recording`` make them, ``reader`` opens finished ones, ``recover`` finishes what
a killed process left; ``intake`` and ``accounting`` hold the promise that no message vanishes
uncounted: published = written + lost + dropped + rejected, for each topic.
"""
