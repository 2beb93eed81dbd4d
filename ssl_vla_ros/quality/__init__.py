# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether an episode is worth training on: a verdict with reasons, from its streams alone.

Pure functions over arrays, no files: ``episodes/check.py`` feeds them raw bags and
``dataset/check.py`` aligned rows. Every check has its thresholds in ``thresholds``, and
docs/quality.md says why each is what it is.
"""
