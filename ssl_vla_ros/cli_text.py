# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share: arguments, progress, tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
import re
import sys
from typing import Any

from ssl_vla_ros.errors import ConfigError

#: Adds one subcommand to a group: (group, name, what it runs, one line about it).
AddCommand = Callable[[Any, str, Callable[[argparse.Namespace], int], str],
                      argparse.ArgumentParser]


def progress_bar(done: int, total: int, what: str) -> None:
    """Progress on standard error: one line that redraws itself on a terminal."""
    if sys.stderr.isatty():
        print(f'\r\033[K{what} {done}/{total}', end='\n' if done >= total else '',
              file=sys.stderr, flush=True)
    elif done >= total or done % max(1, total // 10) == 0:
        print(f'{what} {done}/{total}', file=sys.stderr, flush=True)


def positive(text: str) -> int:
    """Read a whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{text} must be at least 1')
    return value


def numbers(text: str) -> list[int]:
    """
    Read episode numbers such as ``3,5-9``; each once, in order.

    Raises
    ------
    ConfigError
        If it is no such list.

    """
    found: set[int] = set()
    for part in text.split(','):
        match = re.fullmatch(r'\s*(\d+)(?:-(\d+))?\s*', part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise ConfigError(f'{text!r} are no episode numbers; write them as 3,5-9')
        found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(found)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first aligned to the left and the others to the right."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = []
    for row in (head, *rows):
        first, *others = (cell.ljust(width) if not place else cell.rjust(width)
                          for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        lines.append('  '.join([first, *others]).rstrip())
    return '\n'.join(lines)
