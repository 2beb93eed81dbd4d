# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters and the opening of a bundle, which inference and policy share."""

from __future__ import annotations

from collections.abc import Sequence

from ssl_vla_ros.contract import load_contract
from ssl_vla_ros.errors import BundleError
from ssl_vla_ros.nodes.common import ManagedNode
from ssl_vla_ros.runtime.bundle import Bundle, load_bundle


def declare_model(node: ManagedNode) -> None:
    """Declare ``contract``, ``bundle``, ``backend`` and ``threads``."""
    node.declare('contract', '', 'robot contract file; empty: the one inside the bundle',
                 fixed=True)
    node.declare('bundle', '', 'directory of the exported bundle', read_only=True)
    node.declare('backend', 'auto', 'auto, cpu, cuda or tensorrt', read_only=True)
    node.declare('threads', 1, 'CPU threads of one network', fixed=True, low=1, high=256)


def open_model(node: ManagedNode, parts: Sequence[str], directory: str = '') -> Bundle:
    """
    Verify, open and warm up a bundle.

    Parameters
    ----------
    node
        Its parameters say which bundle, on which backend.
    parts
        Networks to open.
    directory
        Instead of the parameter ``bundle``.

    Raises
    ------
    UserError
        If the parameters, the contract or the bundle are wrong.

    """
    directory = directory or node.value('bundle')
    if not directory:
        raise BundleError("parameter bundle is empty; set it to a bundle's directory "
                          '(-p bundle:=models/NAME)')
    contract = load_contract(node.value('contract')) if node.value('contract') else None
    bundle = load_bundle(directory, backend=node.value('backend'),
                         threads=node.value('threads'), robot=contract, parts=parts)
    bundle.warm_up()
    node.get_logger().info(f'bundle {bundle.manifest.name} ({bundle.manifest.digest[:12]}) on '
                           f'{bundle.backend_note or "no backend yet"}')
    return bundle
