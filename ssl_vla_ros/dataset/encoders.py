# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""
Which H.264 encoder writes a dataset's videos, and with which options.

A hardware encoder counts as being there only if it encodes pictures of the wanted size and they
come back: FFmpeg lists encoders that no hardware of this machine can run. What was chosen stands
in the dataset's own notes (``meta/ssl_vla.json``), because other encoders write other bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
import io
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace
import numpy as np

from ssl_vla_ros.errors import DatasetError

SOFTWARE = 'libx264'
AUTO = 'auto'
PIXEL_FORMAT = 'yuv420p'
#: Robot pictures are small and features are learned from them: quality before size.
QUALITY = 14
#: Every second picture is a key frame, so that a random read decodes two at most.
GROUP = 2
_PRIMARIES_SMPTE170M = 6
_G = str(GROUP)
# No reordering anywhere (bf=0), so pts start at 0 without an edit list.
#: Options by encoder, in the order in which ``auto`` tries them.
#:
#: x264: one thread, because the same pictures shall give the same bytes and small pictures gain
#: nothing from more. No lookahead, for the same reason: x264's looks at small pictures with
#: instructions that read past their edge (7 of 480 builds came out different, none without), and
#: a group of two leaves it nothing to plan.
OPTIONS: Mapping[str, Mapping[str, str]] = {
    'h264_nvenc': {'preset': 'p4', 'rc': 'constqp', 'qp': str(QUALITY), 'g': _G, 'bf': '0',
                   'delay': '0', 'forced-idr': '1'},
    'h264_qsv': {'global_quality': str(QUALITY), 'g': _G, 'bf': '0', 'async_depth': '1'},
    'h264_videotoolbox': {'q:v': '80', 'g': _G, 'bf': '0', 'realtime': '0'},
    SOFTWARE: {'crf': str(QUALITY), 'g': _G, 'bf': '0', 'preset': 'veryfast', 'threads': '1',
               'mbtree': '0', 'rc-lookahead': '0', 'sc_threshold': '0', 'weightp': 'none'},
}
#: How many pictures a hardware encoder has to bring back before it is trusted.
_PROBE = 6


def choose_encoder(wanted: str, sizes: list[tuple[int, int]]) -> tuple[str, str]:
    """
    Find the encoder to use.

    Parameters
    ----------
    wanted
        ``auto``, or one of ``OPTIONS``.
    sizes
        Heights and widths of the pictures.

    Returns
    -------
    tuple
        The encoder's name, and why it was chosen, in words.

    Raises
    ------
    DatasetError
        If the wanted one is unknown, or does not work here.

    """
    if wanted not in (AUTO, *OPTIONS):
        raise DatasetError(
            f'encoder is {wanted!r}, must be one of {", ".join((AUTO, *OPTIONS))}')
    if wanted == SOFTWARE:
        return SOFTWARE, 'as asked for'
    refused: list[str] = []
    for name in OPTIONS if wanted == AUTO else (wanted,):
        problem = '' if name == SOFTWARE else next(filter(None, (
            _problem(name, height, width) for height, width in sizes)), '')
        if not problem:
            return name, ('as asked for' if wanted == name else
                          f'the first that works here{"; not " if refused else ""}'
                          + '; not '.join(refused))
        refused.append(f'{name} ({problem})')
    raise DatasetError(
        f'encoder {refused[0]} does not work on this machine; choose --encoder {AUTO} or '
        f'--encoder {SOFTWARE}')


def _problem(name: str, height: int, width: int) -> str:
    """Say why an encoder cannot be used for a size; '' if it can."""
    try:
        found = sum(1 for _ in _round_trip(name, height, width))
    except (av.error.FFmpegError, ValueError, OSError) as error:
        return str(getattr(error, 'strerror', None) or error)
    return '' if found == _PROBE else f'{found} of {_PROBE} pictures came back'


def _round_trip(name: str, height: int, width: int) -> Iterator[object]:
    file = io.BytesIO()
    with av.open(file, 'w', format='mp4') as container:
        stream = open_stream(container, name, height, width, 20)
        for index in range(_PROBE):
            level = np.full((height * 3 // 2, width), 40 + 20 * index, np.uint8)
            picture: Any = av.VideoFrame.from_ndarray(level, format=PIXEL_FORMAT)
            picture.pts, picture.time_base = index, Fraction(1, 20)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, 'r') as found:
        yield from found.decode(video=0)


def open_stream(container: Any, name: str, height: int, width: int, fps: int) -> Any:
    """Add a video stream to an MP4 that is being written: limited-range BT.601, constant rate."""
    stream = container.add_stream(name, rate=fps, options=dict(OPTIONS[name]))
    stream.height, stream.width = height, width
    stream.pix_fmt = PIXEL_FORMAT
    stream.time_base = Fraction(1, fps)
    context = stream.codec_context
    context.thread_count = 1
    context.color_range = ColorRange.MPEG
    context.colorspace = Colorspace.ITU601
    context.color_primaries = _PRIMARIES_SMPTE170M
    context.color_trc = _PRIMARIES_SMPTE170M
    return stream
