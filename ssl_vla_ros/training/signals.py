# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Signals while a run is trained: the present step is finished and a checkpoint written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
import signal
import threading
from types import FrameType

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def stop_on_signals(stop: Handler) -> Iterator[None]:
    """Let SIGINT and SIGTERM call ``stop`` instead of ending the process."""
    with _handling((signal.SIGINT, signal.SIGTERM), stop):
        yield


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt``, as SIGINT does: one way to end, one message."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGTERM,), handle):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone, which keeps its handlers
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
