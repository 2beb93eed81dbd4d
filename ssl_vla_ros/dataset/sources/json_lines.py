# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Files of one JSON object a line, with errors that name the line."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

from ssl_vla_ros.errors import DatasetError


def json_lines(path: Path, numbers: tuple[str, ...], *others: str) -> Iterator[dict[str, Any]]:
    """
    Read objects, one a line; empty lines are skipped.

    Parameters
    ----------
    path
        The file.
    numbers
        Keys that every object needs, with whole numbers from 0 on.
    others
        Other keys that every object needs.

    Raises
    ------
    DatasetError
        If the file cannot be read, naming line and key where one is at fault.

    """
    try:
        lines = path.read_text(encoding='utf-8-sig').split('\n')
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f'{path}: cannot read it: {error}') from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(f'{path}: line {number} is not valid JSON: {error}') from error
        missing = [key for key in (*numbers, *others)
                   if not isinstance(entry, dict) or key not in entry]
        if missing:
            raise DatasetError(f'{path}: line {number} lacks {", ".join(missing)}')
        for key in numbers:
            if type(entry[key]) is not int or entry[key] < 0:
                raise DatasetError(f'{path}: line {number}: {key} is {entry[key]!r}, must be a '
                                   'whole number from 0 on')
        yield entry
