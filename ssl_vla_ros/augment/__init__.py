# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Augmentation: batched, on the device, with per-sample parameters, reproducible from a seed."""
