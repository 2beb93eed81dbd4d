# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Features, predictions and surprise: ``… inference.launch.py image:=/camera/image_raw``."""

from __future__ import annotations

from pathlib import Path

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
             for name in ('bundle', 'contract', 'backend', 'image')}
    priority = LaunchConfiguration('thread_priority').perform(context)
    package = FindPackageShare('ssl_vla_ros').perform(context)
    own_file = LaunchConfiguration('params_file').perform(context)
    if not given['bundle'] and Path(own_file) == Path(package) / 'config' / 'inference.yaml':
        # Nobody has named a bundle in any way: the one that comes along.
        given['bundle'] = str(Path(package) / 'models' / 'sim_ur5e')
    return [Node(
        package='ssl_vla_ros', executable='inference', name='inference', output='screen',
        parameters=[LaunchConfiguration('params_file'), {
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
    """Return the inference node with its arguments."""
    config = PathJoinSubstitution([FindPackageShare('ssl_vla_ros'), 'config'])
    arguments = [
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the robot: all topics are relative to it'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Take the time from /clock'),
        DeclareLaunchArgument(
            'params_file', default_value=PathJoinSubstitution([config, 'inference.yaml']),
            description='Parameters of the node'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=['true', 'false'],
            description='Configure and activate the node at start'),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='Least severe log level shown'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=['true', 'false'],
            description='Start the node again when it ends'),
        DeclareLaunchArgument(
            'bundle', default_value='',
            description='Model bundle: a folder with manifest.json; empty: as in params_file, and '
                        'without one of your own that of the simulated arm, which comes along'),
        DeclareLaunchArgument(
            'image', default_value='',
            description='Topic that every camera of the bundle takes its pictures from, to try a '
                        "model with one camera; empty: the contract's"),
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
