# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""The disk that the recorder writes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import shutil

from ssl_vla_ros.errors import ConfigError


@dataclass(frozen=True)
class Session:
    """The session directory and the room it must keep."""

    path: Path
    min_free_bytes: int

    @classmethod
    def open(cls, path: str, min_free_bytes: int) -> Session:  # noqa: A003
        """
        Make the directory and see that it can be written.

        Raises
        ------
        ConfigError
            If it cannot.

        """
        session = cls(Path(path).expanduser(), min_free_bytes)
        probe = session.path / '.writable'
        try:
            session.path.mkdir(parents=True, exist_ok=True)
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(
                f'the parameter session_dir is {path!r}, which cannot be written: {error}; '
                'give a directory that can') from error
        return session

    def room(self) -> tuple[int, str]:
        """Measure the free bytes, and say why they are too few; '' if there are enough."""
        try:
            free = shutil.disk_usage(self.path).free
        except OSError as error:
            # Not made anew: where a disk was mounted, that would fill the one below it.
            return 0, (f'{self.path}: the session directory is gone: {error}; bring it back, or '
                       'the disk that it is on, or configure the recorder anew')
        if free >= self.min_free_bytes:
            return free, ''
        return free, (f'{self.path}: {free} bytes are free, fewer than min_free_bytes '
                      f'{self.min_free_bytes}; make room, or lower the parameter')
