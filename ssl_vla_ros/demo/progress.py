# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Progress of a stage: one bar that redraws itself, or a line now and then into a log."""

from __future__ import annotations

from collections.abc import Callable
import sys
import threading
import time

from ssl_vla_ros.demo.memory import tree_rss_mb


class Stage:
    """
    One stage of the demo on the terminal.

    Parameters
    ----------
    title
        What is done, with the stage's number.
    unit
        What is counted.

    """

    def __init__(self, title: str, unit: str = '') -> None:
        self.title = title
        self._unit = unit
        self._begin = time.monotonic()
        self._shown = -1.0
        self._tenth = -1
        self._tty = sys.stdout.isatty()
        self.update(0, 1)

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._begin

    def update(self, done: float, total: float, note: str = '') -> None:
        """Show that ``done`` of ``total`` is through."""
        share = min(1.0, done / max(total, 1e-9))
        now = time.monotonic()
        left = ''
        if 0.02 < share < 1.0:
            left = f' {self.seconds * (1.0 - share) / share:.0f} s left'
        text = (f'{self.title:<34} [{"#" * round(20 * share):.<20}] {done:.0f}/{total:.0f} '
                f'{self._unit} {note}{left}')
        if self._tty:
            if now - self._shown > 0.2 or share >= 1.0:
                self._shown = now
                print(f'\r\033[K{text[:118]}', end='', flush=True)
        elif int(10 * share) != self._tenth:
            self._tenth = int(10 * share)
            print(text, flush=True)

    def done(self, note: str = '') -> None:
        """End the bar with one line that stays."""
        start = '\r\033[K' if self._tty else ''
        print(f'{start}{self.title:<34} done in {self.seconds:6.1f} s  {note}', flush=True)

    def callback(self) -> Callable[[int, int, str], None]:
        """As the ``progress`` argument of the dataset's functions."""
        return lambda done, total, what: self.update(done, total, what)


class MemoryWatch:
    """Peak resident memory of this process and all below it, sampled twice a second."""

    def __init__(self, peak_mb: float = 0.0) -> None:
        self.peak_mb = peak_mb
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self.peak_mb = max(self.peak_mb, tree_rss_mb())

    def close(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()
