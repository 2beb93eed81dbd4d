# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Losses: pure functions, tensors in, one scalar out; computed in float32."""
