# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: every stage of the package on the simulated arm, one after the other."""
