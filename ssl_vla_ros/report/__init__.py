# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What a run did, for people: a terminal table, one HTML file, plots and videos."""
