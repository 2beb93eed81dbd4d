# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Thin ROS 2 nodes over the rooms below; the only place that imports rclpy.

Callbacks keep what came and return; work happens on a thread of its own, in code without ROS.
"""
