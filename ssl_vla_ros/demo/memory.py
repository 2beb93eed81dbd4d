# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Resident memory of a process tree, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_PAGE = os.sysconf('SC_PAGE_SIZE')


def tree_rss_mb(root: int | None = None) -> float:
    """
    Resident memory of a process and its descendants, in megabytes (10⁶ bytes).

    Pages shared between processes count in each, so the figure is an upper bound.
    """
    parents: dict[int, int] = {}
    resident: dict[int, int] = {}
    for entry in Path('/proc').iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The command may hold blanks and brackets: fields are counted from its last bracket.
            fields = (entry / 'stat').read_bytes().rpartition(b')')[2].split()
        except OSError:
            continue  # it ended while we looked
        parents[int(entry.name)] = int(fields[1])
        resident[int(entry.name)] = int(fields[21]) * _PAGE
    root = os.getpid() if root is None else root
    total = 0
    for pid in resident:
        ancestor = pid
        while ancestor not in (0, root) and ancestor in parents:
            ancestor = parents[ancestor]
        if ancestor == root:
            total += resident[pid]
    return total / 1e6
