# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Act inside limits, once enabled: ``ros2 launch ssl_vla_ros policy.launch.py bundle:=…``."""

from __future__ import annotations

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument, GroupAction, OpaqueFunction, SetEnvironmentVariable)
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushROSNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def _node(context: LaunchContext) -> list[Node]:
    """Return the node; an argument that was not given leaves its parameter to ``params_file``."""
    given = {name: LaunchConfiguration(name).perform(context)
             for name in ('bundle', 'contract', 'backend')}
    priority = LaunchConfiguration('thread_priority').perform(context)
    joined = LaunchConfiguration('with_inference').perform(context) == 'true'
    # Two nodes have no one name, and each takes its own part of the files.
    program = {'executable': 'inference_policy'} if joined else {
        'executable': 'policy', 'name': 'policy'}
    inference_file = LaunchConfiguration('inference_params_file').perform(context)
    files = [*([inference_file] if joined else []), LaunchConfiguration('params_file')]
    return [Node(
        package='ssl_vla_ros', **program, output='screen',
        parameters=[*files, {
            'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool),
            'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
            **{name: ParameterValue(value, value_type=str)
               for name, value in given.items() if value},
            **({'thread_priority': ParameterValue(priority, value_type=int)}
               if priority else {}),
        }],
        ros_arguments=['--log-level', LaunchConfiguration('log_level')],
        respawn=LaunchConfiguration('use_respawn'), respawn_delay=2.0)]


def generate_launch_description() -> LaunchDescription:
    """Return the policy with its arguments; it commands nothing until ``~/enable`` is called."""
    config = PathJoinSubstitution([FindPackageShare('ssl_vla_ros'), 'config'])
    arguments = [
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the robot: all topics are relative to it'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Take the time from /clock'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([config, 'policy.yaml']),
            description='Parameters of the node'),
        DeclareLaunchArgument(
            'with_inference', default_value='false', choices=['true', 'false'],
            description='Run inference in the same process: features need no way through DDS'),
        DeclareLaunchArgument(
            'inference_params_file',
            default_value=PathJoinSubstitution([config, 'inference.yaml']),
            description='Parameters of the inference node, with_inference'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=['true', 'false'],
            description='Configure and activate the node at start'),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='Least severe log level shown'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=['true', 'false'],
            description='Start the node again when it ends'),
        DeclareLaunchArgument(
            'bundle', description='Model bundle: a folder with manifest.json'),
        DeclareLaunchArgument(
            'contract', default_value='',
            description="Robot contract; empty: as in params_file, else the bundle's own"),
        DeclareLaunchArgument(
            'backend', default_value='',
            choices=['', 'auto', 'cpu', 'cuda', 'tensorrt', 'tensorrt_native'],
            description='What runs the networks; empty: as in params_file'),
        DeclareLaunchArgument(
            'thread_priority', default_value='',
            description='Real-time priority (SCHED_FIFO, 1 to 98) of the process, for a busy '
                        'machine; empty: as in params_file'),
    ]
    # The node starts itself (its parameter "autostart"): unlike lifecycle events sent from here,
    # that also holds for a node that was respawned.
    return LaunchDescription([*arguments, GroupAction([
        # Images larger than 512 KiB are lost without it; a profile of your own goes first.
        SetEnvironmentVariable(
            'FASTRTPS_DEFAULT_PROFILES_FILE',
            EnvironmentVariable(
                'FASTRTPS_DEFAULT_PROFILES_FILE',
                default_value=PathJoinSubstitution([config, 'fastdds_large_image.xml']))),
        PushROSNamespace(LaunchConfiguration('namespace')),
        OpaqueFunction(function=_node),
    ])])
