# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""What was predicted beside what came: pairs of pictures, one after another."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from ssl_vla_ros.runtime.history import JUMP_S
from ssl_vla_ros.runtime.pictures import Pictures

#: Dark line between pictures, pixels.
_GAP = 1


class FilmStrip:
    """
    Keep predictions until their time comes, and show them below what was really seen then.

    Parameters
    ----------
    ahead_s
        How far ahead the predictions look.
    period_s
        The control period: a picture within half of it is of the predicted time.
    pairs
        Pairs of one strip, oldest left; each begins where the one before was predicted to, so
        that they tile the time.

    """

    def __init__(self, ahead_s: float, period_s: float, pairs: int = 6) -> None:
        self._ahead_ns = round(ahead_s * 1e9)
        self._near_ns = round(0.5 * period_s * 1e9)
        self._predicted: deque[tuple[int, Pictures]] = deque(
            maxlen=round(ahead_s / period_s) + 2)
        self._pairs: deque[Pictures] = deque(maxlen=pairs)
        self._room = pairs
        self._newest_ns = 0
        self._shown_ns = 0

    def clear(self) -> None:
        """Forget every picture."""
        self._predicted.clear()
        self._pairs.clear()
        self._shown_ns = 0

    def push(self, stamp_ns: int, real: Pictures, predicted: Pictures | None) -> Pictures | None:
        """
        Take a tick.

        Parameters
        ----------
        stamp_ns
            Of the pictures; after a jump everything is forgotten.
        real
            (cameras, height, width, 3) as seen.
        predicted
            (cameras, h, w, 3) as foreseen from here on, or None.

        Returns
        -------
        numpy.ndarray or None
            The strip (2 · cameras · h + gaps, pairs · w + gaps, 3), the cameras' pairs below one
            another, if it has a new pair.

        """
        if abs(stamp_ns - self._newest_ns) > JUMP_S * 1e9 or stamp_ns < self._newest_ns:
            self.clear()
        self._newest_ns = stamp_ns
        due = None
        while self._predicted and self._predicted[0][0] <= stamp_ns + self._near_ns:
            when, pictures = self._predicted.popleft()
            if abs(when - stamp_ns) <= self._near_ns:
                due = pictures
        if predicted is not None:
            self._predicted.append((stamp_ns + self._ahead_ns, predicted))
        if due is None or self._shown_ns and (
                stamp_ns < self._shown_ns + self._ahead_ns - self._near_ns):
            return None
        self._shown_ns = stamp_ns
        self._pairs.append(_column(real, due))
        return self._strip()

    def _strip(self) -> Pictures:
        height, width = self._pairs[0].shape[:2]
        strip = np.zeros((height, self._room * (width + _GAP) - _GAP, 3), np.uint8)
        for place, column in enumerate(self._pairs, start=self._room - len(self._pairs)):
            left = place * (width + _GAP)
            strip[:, left:left + width] = column
        return strip


def _column(real: Pictures, predicted: Pictures) -> Pictures:
    """One pair of each camera, real above predicted."""
    height, width = predicted.shape[1:3]
    gap = np.zeros((_GAP, width, 3), np.uint8)
    parts: list[Pictures] = []
    for seen, foreseen in zip(real, predicted, strict=True):
        if seen.shape != foreseen.shape:
            seen = cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
        parts += [seen, gap, foreseen, gap]
    return np.concatenate(parts[:-1])
