# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Training: configuration, data, Lightning module, checkpoints and probes."""

from ssl_vla_ros.networks.torchvision_ops import declare_missing_operators

# Lightning imports torchmetrics, which imports torchvision: so before any module of this room.
declare_missing_operators()
