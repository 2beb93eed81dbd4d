# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Two names of a file system exchanged in one step, which Python has no function for."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

#: From <linux/fs.h> and <fcntl.h>.
_RENAME_EXCHANGE, _AT_FDCWD = 2, -100
#: What a kernel or file system without an exchange of names answers.
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def exchange(first: Path, second: Path) -> bool:
    """
    Exchange two names in one step.

    Returns
    -------
    bool
        False, with nothing done, where kernel or file system cannot.

    Raises
    ------
    OSError
        If it fails for another reason.

    """
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, 'renameat2'):
        return False
    if library.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second),
                         _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
