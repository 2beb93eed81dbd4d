# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""A whole demo report, as the demo writes it."""

from __future__ import annotations

from typing import Any


def example_report() -> dict[str, Any]:
    """Return a report with every part, made anew."""
    topics = ['camera/front/image_raw', 'joint_states', 'gripper/command']
    return {
        'policy': {
            'ssl': {'successes': 17, 'rollouts': 20},
            'ssl_in_process': {'successes': 18, 'rollouts': 20},
            'true_pose': {'successes': 20, 'rollouts': 20},
            'random': {'successes': 3, 'rollouts': 20},
            'imagenet': {'successes': 9, 'rollouts': 20},
            'proprioception': {'successes': 0, 'rollouts': 20}},
        'world_model': {
            'error_ratio_h8': 0.62, 'error_ratio_h8_shuffled': 1.31,
            'error_by_horizon': [0.9, 0.8, 0.7, 0.65, 0.64, 0.63, 0.62, 0.62],
            'error_by_horizon_shuffled': [1.0, 1.1, 1.2, 1.25, 1.3, 1.3, 1.31, 1.31]},
        'inference': {
            'rate_hz': 20.0, 'age_p50_ms': 14.25, 'age_p99_ms': 31.5, 'missed_fraction': 0.0004},
        'recording': {
            'published': dict.fromkeys(topics, 7123), 'written': dict.fromkeys(topics, 7120),
            'lost': dict.fromkeys(topics, 1), 'dropped': dict.fromkeys(topics, 0),
            'rejected': dict.fromkeys(topics, 2)},
        'parity': {'encoder.onnx': {'cpu': {
            'samples': 64, 'max_abs_error': 5.4e-07, 'cosine': 1.0, 'tolerance': 1e-4}}},
        'wall_s': 803.2, 'peak_rss_mb': 2345.0,
        'stages': {'record': 301.0, 'train': 400.5},
        'curves': {'encoder': {
            'loss': [[step, 1.0 / (1 + step)] for step in range(0, 2000, 2)],
            'rank': [[0, 40.0], [100, 41.0]]}},
        'probes': {'ssl': {'cube x': 0.98, 'yaw': 0.9}, 'random': {'cube x': 0.41}},
    }
