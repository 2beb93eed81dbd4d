# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Names of a contract's streams, as datasets and verdicts write them."""

from __future__ import annotations

from ssl_vla_ros.contract import Camera, Contract, Stream


def stream_labels(contract: Contract) -> list[tuple[str, str, Camera | Stream]]:
    """
    List every stream of a contract as (label, kind, stream), cameras first, in its order.

    Labels have no slash (LeRobot forbids it in names) and are unique: ``image.front``,
    ``state.joint_states``, ``action.gripper.command``; two streams of one topic get the field
    and then a number after it.
    """
    found: list[tuple[str, str, Camera | Stream]] = [
        (f'image.{camera.name}', 'image', camera) for camera in contract.cameras]
    taken = {label for label, _, _ in found}
    for kind in ('state', 'action', 'evaluation'):
        for stream in getattr(contract, kind):
            base = f'{kind}.' + stream.topic.lstrip('~/').replace('/', '.')
            label, number = base, 2
            if label in taken:
                base = label = f'{base}.{stream.field}'
            while label in taken:
                label, number = f'{base}.{number}', number + 1
            taken.add(label)
            found.append((label, kind, stream))
    return found


def unstamped_labels(contract: Contract) -> list[str]:
    """List the streams whose messages have no header: receive times stand for their stamps."""
    return [label for label, _, stream in stream_labels(contract)
            if isinstance(stream, Stream) and not stream.stamped]
