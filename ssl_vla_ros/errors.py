# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
The errors a user may meet.

Each message names the file, key and value at fault and says what to do; the command line prints
the message alone, without a traceback, and exits with status 2.
"""

from __future__ import annotations

import errno

#: What a user mends: no room, no permission, a file where a directory is wanted.
_DISK_ERRORS = frozenset((
    errno.EEXIST, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG))
_PLACE_ERRORS = frozenset((errno.ENOENT, errno.ENOTDIR))
#: Packages that a robot needs not, and the extra of setup.py that brings each.
_EXTRAS = {
    'av': 'train', 'google': 'train', 'google_crc32c': 'train', 'h5py': 'train',
    'lightning': 'train', 'mujoco': 'sim', 'onnx': 'train', 'onnxruntime': 'cpu',
    'onnxscript': 'train', 'pyarrow': 'train', 'safetensors': 'train', 'timm': 'train',
    'torch': 'train', 'torchvision': 'train'}


class UserError(Exception):
    """Something the user can mend: the message says what and how."""


class ConfigError(UserError):
    """A configuration file or a command-line override is wrong."""


class ContractError(UserError):
    """A robot contract is wrong, or two contracts that meet do not agree."""


class EpisodeError(UserError):
    """A recorded episode cannot be used."""


class DatasetError(UserError):
    """A dataset on disk cannot be used, or cannot be written."""


class BundleError(UserError):
    """A model bundle is missing something, was altered, or does not fit this robot."""


class WorkerError(UserError):
    """A process that shared the work was killed."""


class MissingDependencyError(UserError):
    """A pip package of one of the extras is not installed."""


class MessageError(ValueError):
    """
    One ROS message that cannot be used; it is counted by ``cause`` and never becomes data.

    Attributes
    ----------
    cause
        A short key such as ``step`` or ``missing_joint``, for counters and diagnostics.

    """

    def __init__(self, cause: str, text: str) -> None:
        super().__init__(text)
        self.cause = cause


def sentence_of(error: ImportError | OSError) -> str:
    """Say what a user is told of an error that is none of ours; '' if it is not theirs to mend."""
    if isinstance(error, ImportError):
        package = (error.name or '').partition('.')[0]
        if package not in _EXTRAS:
            return ''
        return (f'the Python package {package} is not installed; run: '
                f'pip install "ssl_vla_ros[{_EXTRAS[package]}]"')
    where = f'{error.filename}: ' if error.filename else ''
    if error.errno in _PLACE_ERRORS and where:
        return f'{where}{error.strerror}; give a place that is there and can be written'
    if error.errno not in _DISK_ERRORS:
        return ''
    return (f'{where}{error.strerror}; what was finished before is kept, and the same command '
            'continues once this is mended')
