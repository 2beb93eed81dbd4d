# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The signals that stop a demo: as Ctrl-C while it works, not at all while it cleans up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import signal
from types import FrameType

#: Ctrl-C, kill, and a terminal that is closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[None]:
    """Let each of them raise KeyboardInterrupt; what the caller ignores (nohup) stays ignored."""
    previous = {number: signal.getsignal(number) for number in STOPPING}
    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def unstoppable() -> Iterator[None]:
    """Ignore them, whatever the user presses meanwhile."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
