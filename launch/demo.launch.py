# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Everything at once: simulated arm, teleoperator, recorder and, with a bundle, inference and policy.

``ros2 launch ssl_vla_ros demo.launch.py session_dir:=session bundle:=models/NAME``
"""

from __future__ import annotations

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, NotEqualsSubstitution, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare


def generate_launch_description() -> LaunchDescription:
    """Return the other launch files with the arguments they share."""
    share = FindPackageShare('ssl_vla_ros')
    arguments = [
        DeclareLaunchArgument(
            'namespace', default_value='',
            description='Namespace of the robot: all topics are relative to it'),
        DeclareLaunchArgument(
            'use_sim_time', default_value='false', choices=['true', 'false'],
            description='Let the simulator publish /clock, and all others take it'),
        DeclareLaunchArgument(
            'autostart', default_value='true', choices=['true', 'false'],
            description='Configure and activate the lifecycle nodes at start'),
        DeclareLaunchArgument(
            'log_level', default_value='info', description='Least severe log level shown'),
        DeclareLaunchArgument(
            'use_respawn', default_value='false', choices=['true', 'false'],
            description='Start a node again when it ends'),
        DeclareLaunchArgument(
            'session_dir', default_value='session',
            description='Folder that receives the episodes'),
        DeclareLaunchArgument(
            'contract',
            default_value=PathJoinSubstitution([share, 'config', 'robots', 'sim_ur5e.yaml']),
            description='Robot contract of the recorder; inference and policy take theirs from '
                        'their parameter files, or the one inside the bundle'),
        DeclareLaunchArgument(
            'task', default_value='lift the red cube',
            description='What the operator is about to do, in words'),
        DeclareLaunchArgument(
            'bundle', default_value='',
            description='Model bundle; empty: no inference and no policy'),
    ]
    for name in ('sim_arm', 'teleop', 'recorder', 'inference', 'policy'):
        arguments.append(DeclareLaunchArgument(
            f'{name}_params_file',
            default_value=PathJoinSubstitution([share, 'config', f'{name}.yaml']),
            description=f'Parameters of the node {name}'))
    common = {name: LaunchConfiguration(name) for name in (
        'namespace', 'use_sim_time', 'log_level', 'use_respawn')}
    autostart = LaunchConfiguration('autostart')
    with_bundle = IfCondition(NotEqualsSubstitution(LaunchConfiguration('bundle'), ''))

    def include(name: str, condition: IfCondition | None = None,
                **more: LaunchConfiguration | str) -> GroupAction:
        # In a group, so that the arguments of one file do not reach the next.
        return GroupAction([IncludeLaunchDescription(
            PythonLaunchDescriptionSource(
                PathJoinSubstitution([share, 'launch', f'{name}.launch.py'])),
            launch_arguments={**common, **more}.items())], condition=condition)

    # An included file would take over the recorder's contract, which is never empty here, and with
    # it override the limits in a parameter file of the policy's.
    model = {'autostart': autostart, 'bundle': LaunchConfiguration('bundle'), 'contract': ''}
    return LaunchDescription([
        *arguments,
        include('sim', params_file=LaunchConfiguration('sim_arm_params_file'),
                teleop_params_file=LaunchConfiguration('teleop_params_file')),
        include('recorder', params_file=LaunchConfiguration('recorder_params_file'),
                autostart=autostart, **{name: LaunchConfiguration(name) for name in (
                    'session_dir', 'contract', 'task')}),
        include('inference', with_bundle, **model,
                params_file=LaunchConfiguration('inference_params_file')),
        include('policy', with_bundle, **model,
                params_file=LaunchConfiguration('policy_params_file')),
    ])
