# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Networks: encoders, decoders, dynamics and heads. An encoder maps pictures to features."""
