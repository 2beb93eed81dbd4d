# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Stamped tensors as ``sensor_msgs/Image`` of encoding ``32FC1``.

There is no stamped array among the common messages, and this package defines none: an Image has
a header, a size and a fast path. Rows are tokens or horizon steps, columns the dimension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.errors import MessageError
from ssl_vla_ros.messages.images import checked_rows, set_rows

ENCODING = '32FC1'


def fill_tensor(msg: Any, values: NDArray[np.float32]) -> Any:
    """
    Write a float32 array of shape (rows, columns) into an Image; the header is the caller's.

    Raises
    ------
    MessageError
        Cause ``size`` if the array is not two-dimensional float32 with values in it.

    """
    if values.ndim != 2 or values.dtype != np.float32 or values.size == 0:
        raise MessageError(
            'size', f'a tensor message holds float32 (rows, columns), not {values.dtype} '
            f'{values.shape}')
    msg.encoding = ENCODING
    set_rows(msg, values)
    return msg


def read_tensor(msg: Any) -> NDArray[np.float32]:
    """
    Read the float32 array (rows, columns) of a tensor message; a copy of the caller's own.

    Raises
    ------
    MessageError
        Cause ``encoding``, ``size``, ``step``, ``length`` or ``nan`` (infinite counts too).

    """
    if msg.encoding != ENCODING:
        raise MessageError(
            'encoding', f'a tensor message has encoding {ENCODING}, not {msg.encoding!r}')
    rows = np.ascontiguousarray(checked_rows(msg, 4))
    values = rows.view('>f4' if msg.is_bigendian else '<f4').astype(np.float32)
    if not np.isfinite(values).all():
        raise MessageError('nan', 'the tensor holds values that are not finite')
    return values
