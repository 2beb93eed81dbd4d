# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Make a node know a client, so that no answer to it is lost.

An answer to a client that the server has not discovered within 100 ms is thrown away by
rmw_fastrtps, and no client can ask whether it has been discovered (ros2/rmw_fastrtps issue 842);
what was asked is done all the same, so that asking again is no way out. But a participant's
readers are announced in the order in which they were made: who answers a younger client of the
same participant has discovered the older ones.
"""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from rcl_interfaces.srv import GetParameterTypes

AGAIN_S = 1.0


def introduce(node: Any, service: str, until: Callable[[Callable[[], Any]], Any]) -> None:
    """
    Return when the node that offers ``service`` has discovered the clients made so far.

    Asks that node something that changes nothing, with a client of its own, until it answers.
    ``until`` spins until a condition holds, and raises when patience ends.
    """
    client = node.create_client(
        GetParameterTypes, f'{service.rpartition("/")[0]}/get_parameter_types')
    asked: list[tuple[float, Any]] = []

    def answered() -> bool:
        if not asked or time.monotonic() - asked[-1][0] > AGAIN_S:
            request = GetParameterTypes.Request(names=['use_sim_time'])
            asked.append((time.monotonic(), client.call_async(request)))
        return any(future.done() for _, future in asked)

    try:
        until(client.service_is_ready)
        until(answered)
    finally:
        node.destroy_client(client)
