# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""HDF5 recordings: which layout it is, by what is in the files."""

from __future__ import annotations

from pathlib import Path

import h5py

from ssl_vla_ros.dataset.sources.base import ImportOptions, Source
from ssl_vla_ros.dataset.sources.hdf5_aloha import open_aloha
from ssl_vla_ros.dataset.sources.hdf5_file import child, find_hdf5, names_in, opened
from ssl_vla_ros.dataset.sources.hdf5_robomimic import open_robomimic
from ssl_vla_ros.errors import DatasetError


def open_hdf5(path: Path, options: ImportOptions) -> Source:
    """
    Open a recording of robomimic's or ALOHA's layout.

    Parameters
    ----------
    path
        A file, or a directory of files.
    options
        What the files may not say: rate, task, robot.

    Raises
    ------
    DatasetError
        If no file can be read, or its layout is neither.

    """
    files = find_hdf5(path)
    if not files:
        raise DatasetError(f'{path}: there is no .hdf5 or .h5 file here')
    reason: DatasetError | None = None
    for file in files:
        try:
            with opened(file) as handle:
                kinds = {name: child(handle, name) for name in ('data', 'observations')}
                names = names_in(handle)
        except DatasetError as error:
            reason = reason or error
            continue
        if isinstance(kinds['data'], h5py.Group):
            return open_robomimic(path, files, options)
        if isinstance(kinds['observations'], h5py.Group):
            return open_aloha(path, files, options)
        reason = reason or DatasetError(
            f'{file}: is neither robomimic (data/demo_0 …) nor ALOHA (observations, action); it '
            f'has {", ".join(names) or "nothing"}')
    raise reason or DatasetError(f'{path}: no file can be read')
