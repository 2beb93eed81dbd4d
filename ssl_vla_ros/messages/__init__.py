# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Between ROS messages and numpy arrays, without rclpy.

Every function takes any object with the fields of the message: rclpy's classes, those of rosbags
and those of mcap-ros2-support alike, so that the live nodes and the offline tools share one path.
A message that cannot be used raises ``MessageError`` with a cause that callers count.
"""
