# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Start the simulated arm: ``python -m ssl_vla_ros.nodes.sim_arm``.

The simulator is imported when the node is made, so that a missing package is one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

from ssl_vla_ros.nodes.plain import PlainNode, run_plain


def make() -> PlainNode:
    """Make the node."""
    from ssl_vla_ros.nodes.sim_driver import SimArm

    return SimArm()


def main(args: Sequence[str] | None = None) -> int:
    """Run the node; returns the exit status."""
    return run_plain(make, args)


if __name__ == '__main__':
    raise SystemExit(main())
