# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What an episode is made from, as one digest: whether it must be imported again."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
import json
from pathlib import Path

from ssl_vla_ros.errors import DatasetError

#: Files up to this size are hashed whole; of larger ones size and modification time stand for it.
SMALL = 64 * 1024


def fingerprint(root: Path, files: Iterable[Path], *facts: object) -> str:
    """
    SHA-256 of files and facts.

    Parameters
    ----------
    root
        Where the files' names begin: a source that was moved as it is keeps its fingerprints.
    files
        What the episode is read from.
    facts
        JSON-ready values that change the episode and are in none of the files: which rows of
        them, the sentence a user gave.

    Raises
    ------
    DatasetError
        If a file is missing or unreadable.

    """
    total = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for path in files:
        try:
            status = path.stat()
            if path.is_dir():
                raise DatasetError(f'{path}: is a directory, must be a file')
            content = path.read_bytes() if status.st_size <= SMALL else None
        except FileNotFoundError:
            raise DatasetError(f'{path}: the file is missing') from None
        except OSError as error:
            raise DatasetError(f'{path}: cannot read it: {error.strerror}') from error
        name = path.relative_to(root) if path.is_relative_to(root) else path
        what = (f'{status.st_mtime_ns}' if content is None
                else hashlib.sha256(content).hexdigest())
        total.update(json.dumps([name.as_posix(), status.st_size, what]).encode())
    return total.hexdigest()
