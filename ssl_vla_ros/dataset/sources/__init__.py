# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Recordings made by others, one file a format: each becomes a contract and a list of episode jobs.

A source believes nothing that its metadata says without looking at the files. What is merely odd
becomes a note, what makes an episode unusable refuses that episode, and only what makes the whole
source unusable is an error.
"""
