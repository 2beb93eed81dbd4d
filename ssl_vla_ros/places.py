# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Where the package's own files lie: in the source tree, or installed in share/."""

from __future__ import annotations

from pathlib import Path
import sys

from ssl_vla_ros.errors import UserError

_NAME = 'ssl_vla_ros'


def own_file(path: Path) -> Path:
    """
    Find a file that a user names: as it stands, or among the package's own.

    ``config/train/mae.yaml`` means the package's, wherever it is installed, unless there is such
    a file below the working directory.
    """
    if path.exists() or path.is_absolute():
        return path
    try:
        return share(str(path))
    except UserError:
        return path  # whoever reads it says best that it is not there


def share(relative: str) -> Path:
    """
    Path of a file of config/, launch/ or models/.

    Raises
    ------
    UserError
        If the file is in none of the places where an installation puts it.

    """
    import os
    source = Path(__file__).resolve().parents[1]
    prefixes = [Path(entry) for entry in os.environ.get('AMENT_PREFIX_PATH', '').split(':')
                if entry]
    places = [source, *(prefix / 'share' / _NAME for prefix in [*prefixes, Path(sys.prefix)])]
    for place in places:
        if (place / relative).exists():
            return place / relative
    raise UserError(
        f'{relative} of {_NAME} is not installed (looked in {", ".join(map(str, places))}); '
        'build the package with colcon, or run from its source tree')
