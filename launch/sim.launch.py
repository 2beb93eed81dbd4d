# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated UR5e and its scripted teleoperator: ``ros2 launch ssl_vla_ros sim.launch.py``."""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushROSNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Return simulator and teleoperator with their arguments."""
    config = PathJoinSubstitution([FindPackageShare('ssl_vla_ros'), 'config'])
    arguments = [
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the robot: all topics are relative to it'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Publish the simulated time on /clock, and stamp by it'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([config, 'sim_arm.yaml']),
            description='Parameters of the simulated arm'),
        DeclareLaunchArgument(
            'teleop_params_file', default_value=PathJoinSubstitution([config, 'teleop.yaml']),
            description='Parameters of the teleoperator'),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='Least severe log level shown'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=['true', 'false'],
            description='Start a node again when it ends'),
    ]
    use_sim_time = ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)
    return LaunchDescription([*arguments, GroupAction([
        # Images larger than 512 KiB are lost without it; a profile of your own goes first.
        SetEnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE',
            EnvironmentVariable(
                'FASTRTPS_DEFAULT_PROFILES_FILE',
                default_value=PathJoinSubstitution([config, 'fastdds_large_image.xml']))),
        PushROSNamespace(LaunchConfiguration('namespace')),
        # The simulator makes the time; it does not take it from its own topic.
        Node(
            package='ssl_vla_ros', executable='sim_arm', name='sim_arm', output='screen',
            parameters=[LaunchConfiguration('params_file'), {'publish_clock': use_sim_time}],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            respawn=LaunchConfiguration('use_respawn'), respawn_delay=2.0),
        Node(
            package='ssl_vla_ros', executable='teleop', name='teleop', output='screen',
            parameters=[LaunchConfiguration('teleop_params_file'), {
                'use_sim_time': use_sim_time}],
            ros_arguments=['--log-level', LaunchConfiguration('log_level')],
            respawn=LaunchConfiguration('use_respawn'), respawn_delay=2.0),
    ])])
