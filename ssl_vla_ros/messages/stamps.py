# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Header stamps as whole nanoseconds, from a message or straight from its serialized bytes."""

from __future__ import annotations

import struct
from typing import Any

from ssl_vla_ros.errors import MessageError

_SECOND = 1_000_000_000
# The header is the first field of every stamped message, and the stamp the first of the header:
# int32 sec and uint32 nanosec follow the four bytes of CDR encapsulation without padding.
_STAMP_LE = struct.Struct('<iI')
_STAMP_BE = struct.Struct('>iI')
_ENCAPSULATION = 4


def stamp_ns(stamp: Any) -> int:
    """Nanoseconds of a ``builtin_interfaces/Time`` (or Duration): any object with both fields."""
    return int(stamp.sec) * _SECOND + int(stamp.nanosec)


def header_stamp_ns(cdr: bytes | memoryview) -> int:
    """
    Read the header stamp of a serialized message without deserializing it.

    Parameters
    ----------
    cdr
        A serialized message whose first field is ``std_msgs/Header``.

    Raises
    ------
    MessageError
        Cause ``short`` if the bytes end before the stamp does, ``encapsulation`` if they do not
        start as CDR does, ``stamp`` if the nanoseconds are not below one second.

    """
    if len(cdr) < _ENCAPSULATION + _STAMP_LE.size:
        raise MessageError(
            'short', f'{len(cdr)} bytes are too few for a message with a header stamp')
    if cdr[0] != 0:
        raise MessageError(
            'encapsulation', f'the message starts with byte {cdr[0]:#04x}, which is no CDR')
    # The lowest bit of the second byte says little endian, in XCDR1 and XCDR2 alike.
    layout = _STAMP_LE if cdr[1] & 1 else _STAMP_BE
    sec, nanosec = layout.unpack_from(cdr, _ENCAPSULATION)
    if nanosec >= _SECOND:
        raise MessageError('stamp', f'the header stamp has {nanosec} nanoseconds, over a second')
    return int(sec) * _SECOND + int(nanosec)
