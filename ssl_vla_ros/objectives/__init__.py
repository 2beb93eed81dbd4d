# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Objectives: one file a method; each owns its networks and turns a batch into a loss.

``OBJECTIVES`` maps the name used in configuration files to the objective and its settings.
"""

from __future__ import annotations

from ssl_vla_ros.objectives.base import Objective, ObjectiveSpec
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
from ssl_vla_ros.objectives.keypoints import KeypointAutoencoder, KeypointConfig
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.world_model import WorldModel, WorldModelConfig

OBJECTIVES: dict[str, ObjectiveSpec] = {
    'keypoints': ObjectiveSpec(KeypointAutoencoder, KeypointConfig, 'frames'),
    'mae': ObjectiveSpec(MaskedAutoencoder, MaskedAutoencoderConfig, 'frames'),
    'world_model': ObjectiveSpec(WorldModel, WorldModelConfig, 'windows'),
    'behaviour_cloning': ObjectiveSpec(BehaviourCloning, BehaviourCloningConfig, 'windows'),
}

__all__ = ['Objective', 'OBJECTIVES', 'ObjectiveSpec']
