# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Aligned datasets: from episode bags to LeRobotDataset v3.0, importers and the frame cache."""
