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
def stop_on_signals(stop: Handler, stopped: Callable[[], bool]) -> Iterator[None]:
    """
    Let SIGINT and SIGTERM call ``stop`` instead of ending the process.

    Once ``stopped`` they go on doing so, to the end of ``terminate_as_interrupt`` around this: of
    several processes one may get its signal when another's has already made all of them stop, and
    must not leave the others alone with what is still to be written down.
    """
    with _handling((signal.SIGINT, signal.SIGTERM), stop, stopped):
        yield


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise ``KeyboardInterrupt``, as SIGINT does: one way to end, one message."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling((signal.SIGINT,), None), _handling((signal.SIGTERM,), handle):
        yield


@contextmanager
def _handling(numbers: Sequence[signal.Signals], handler: Handler | None,
              keep: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Handle signals so (None: as before), and as before after that unless they are to be kept."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread alone, which keeps its handlers
        return
    before = {number: signal.getsignal(number) for number in numbers}
    if handler is not None:
        for number in numbers:
            signal.signal(number, handler)
    try:
        yield
    finally:
        if not keep():
            for number, previous in before.items():
                if previous is not None:    # None: set by whoever embeds Python
                    signal.signal(number, previous)
