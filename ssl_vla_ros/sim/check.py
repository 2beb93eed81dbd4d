# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can run the simulated arm: ``python -m ssl_vla_ros.sim.check``."""

from __future__ import annotations

import sys

from ssl_vla_ros.errors import UserError


def main() -> int:
    """Render an empty world; returns the exit status, after one sentence where it cannot."""
    try:
        from ssl_vla_ros.sim.rendering import make_renderer, mujoco
        make_renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).close()
        import ssl_vla_ros.sim.scene  # noqa: F401 - the arm's model needs packages of its own
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
