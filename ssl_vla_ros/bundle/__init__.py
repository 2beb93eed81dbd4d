# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Bundles: export trained runs to ONNX with a manifest, and prove that nothing changed."""
