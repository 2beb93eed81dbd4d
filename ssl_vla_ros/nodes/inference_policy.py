# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Inference and policy in one process: features go from one to the other without a copy through DDS.

Both are the nodes that run alone, with the same names, topics, services and parameters: the files
of both are given, or parameters for both at once. Each has its own lifecycle and executor, so that
the policy watches over the arm while inference opens a bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
import sys

from ssl_vla_ros.nodes.common import ManagedNode, run_together
from ssl_vla_ros.nodes.inference import InferenceNode
from ssl_vla_ros.nodes.policy import PolicyNode


def make_both() -> list[ManagedNode]:
    """Make inference and policy, joined."""
    inference = InferenceNode()
    try:
        policy = PolicyNode(joined=True)
    except BaseException:
        inference.destroy_node()
        raise
    inference.hand_over = policy.take
    return [inference, policy]


def main(args: Sequence[str] | None = None) -> int:
    """Run both until a signal; returns the exit status."""
    return run_together(make_both, args)


if __name__ == '__main__':
    sys.exit(main())
