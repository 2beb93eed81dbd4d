# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Objectives: one file a method; each owns its networks and turns a batch into a loss.

``OBJECTIVES`` maps the name used in configuration files to the objective and its settings.
"""

from __future__ import annotations

from ssl_vla_ros.objectives.base import Needs, Objective, ObjectiveSpec
from ssl_vla_ros.objectives.behaviour_cloning import BehaviourCloning, BehaviourCloningConfig
from ssl_vla_ros.objectives.beit import Beit, BeitConfig
from ssl_vla_ros.objectives.clip import Clip, clip_needs, ClipConfig
from ssl_vla_ros.objectives.dino import Dino, dino_needs, DinoConfig
from ssl_vla_ros.objectives.jepa import Jepa, jepa_needs, JepaConfig
from ssl_vla_ros.objectives.keypoints import KeypointAutoencoder, KeypointConfig
from ssl_vla_ros.objectives.mae import MaskedAutoencoder, MaskedAutoencoderConfig
from ssl_vla_ros.objectives.moco import MoCo, MoCoConfig
from ssl_vla_ros.objectives.r3m import R3M, r3m_needs, R3MConfig
from ssl_vla_ros.objectives.simclr import SimCLR, SimCLRConfig
from ssl_vla_ros.objectives.temporal import Temporal, temporal_needs, TemporalConfig
from ssl_vla_ros.objectives.videomae import VideoMAE, videomae_needs, VideoMAEConfig
from ssl_vla_ros.objectives.world_model import WorldModel, WorldModelConfig

OBJECTIVES: dict[str, ObjectiveSpec] = {
    'simclr': ObjectiveSpec(SimCLR, SimCLRConfig, 'frames', lambda settings: Needs(pairs=2)),
    'moco': ObjectiveSpec(MoCo, MoCoConfig, 'frames'),
    'clip': ObjectiveSpec(Clip, ClipConfig, 'frames', clip_needs, state=True),
    'mae': ObjectiveSpec(MaskedAutoencoder, MaskedAutoencoderConfig, 'frames'),
    'beit': ObjectiveSpec(Beit, BeitConfig, 'frames'),
    'videomae': ObjectiveSpec(VideoMAE, VideoMAEConfig, 'frames', videomae_needs),
    'temporal': ObjectiveSpec(Temporal, TemporalConfig, 'frames', temporal_needs, state=True),
    'r3m': ObjectiveSpec(R3M, R3MConfig, 'frames', r3m_needs),
    'dino': ObjectiveSpec(Dino, DinoConfig, 'frames', dino_needs),
    'jepa': ObjectiveSpec(Jepa, JepaConfig, 'frames', jepa_needs, state=True),
    'keypoints': ObjectiveSpec(
        KeypointAutoencoder, KeypointConfig, 'frames', own_encoder=True),
    'world_model': ObjectiveSpec(WorldModel, WorldModelConfig, 'windows'),
    'behaviour_cloning': ObjectiveSpec(BehaviourCloning, BehaviourCloningConfig, 'windows'),
}

__all__ = ['Needs', 'Objective', 'OBJECTIVES', 'ObjectiveSpec']
