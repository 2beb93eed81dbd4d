# Copyright 2026 The ssl_vla_ros Authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of pictures, one at a time: black, white, frozen, taken twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import zlib

import cv2
import numpy as np
from numpy.typing import NDArray

from ssl_vla_ros.quality.motion import Motion
from ssl_vla_ros.quality.stamps import Floats, SECOND, Stamps
from ssl_vla_ros.quality.thresholds import Thresholds
from ssl_vla_ros.quality.verdict import DOUBTFUL, grade, Reason, REFUSED

#: Width and height of the small picture that is looked at; all that is kept of the last one. At
#: half of it, a hand's slow motion is within what a codec changes.
_SMALL = (64, 48)
#: A flat picture darker, or brighter, than this (of 255) is called black, or white.
_DARK, _BRIGHT = 32.0, 223.0
#: A share of duplicates needs as many pictures to be one.
_ENOUGH = 10


@dataclass(frozen=True)
class Pictures:
    """
    What is kept of one camera's pictures: a few numbers each.

    Attributes
    ----------
    stamps
        (N,) int64 nanoseconds, rising.
    contrast, brightness
        (N,) standard deviation and mean over the picture, of 255.
    same
        (N,) bool: equal to the picture before it.

    """

    label: str
    stamps: Stamps
    contrast: Floats
    brightness: Floats
    same: NDArray[np.bool_]


class PictureWatch:
    """
    Looks at one camera's pictures as they come; memory does not grow with their size.

    Parameters
    ----------
    label
        ``image.front``.
    tolerance
        Grey levels by which equal pictures may differ: 0 where they were recorded as they came,
        more where a lossy codec was between. It is measured against the first of a row of equal
        pictures, so that a slow motion is never taken for a standstill.

    """

    def __init__(self, label: str, tolerance: float = 0.0) -> None:
        self.label = label
        self._tolerance = tolerance
        self._seen: list[tuple[int, float, float, bool]] = []
        self._digest = -1
        self._first: NDArray[np.float32] | None = None

    def take(self, stamp_ns: int, picture: NDArray[np.uint8]) -> None:
        """Look at the next picture, (H, W, 3) uint8."""
        small = cv2.resize(picture, _SMALL, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._tolerance > 0.0:
            same = self._first is not None and (
                float(np.abs(small - self._first).max()) <= self._tolerance)
        else:
            digest = zlib.crc32(np.ascontiguousarray(picture).data)
            same, self._digest = digest == self._digest, digest
        if not same:
            self._first = small
        grey = small.mean(axis=2)
        self._seen.append((stamp_ns, float(grey.std()), float(grey.mean()), bool(same)))

    def result(self) -> Pictures:
        """Return what was seen; pictures whose stamp does not rise are left out."""
        table = np.array([row[1:] for row in self._seen], dtype=np.float64).reshape(-1, 3)
        stamps = np.array([row[0] for row in self._seen], dtype=np.int64)
        keep = np.ones(len(stamps), dtype=bool)
        if len(stamps):
            keep[1:] = stamps[1:] > np.maximum.accumulate(stamps)[:-1]
        return Pictures(self.label, stamps[keep], table[keep, 0], table[keep, 1],
                        table[keep, 2] > 0.5)


def check_pictures(pictures: Pictures, motion: Motion, thresholds: Thresholds
                   ) -> Iterator[Reason]:
    """Find a camera that is covered, stuck, or that sends its pictures twice."""
    if not len(pictures.stamps):
        return
    flat = list(_check_contrast(pictures, thresholds))
    yield from flat
    if any(reason.severity == REFUSED for reason in flat):
        # That black pictures are alike goes without saying.
        return
    found = _check_frozen(pictures, motion, thresholds)
    if found is not None:
        # Its pictures come twice, too, and that needs no saying.
        yield found
        return
    yield from _check_duplicates(pictures, motion, thresholds)


def _check_contrast(pictures: Pictures, thresholds: Thresholds) -> Iterator[Reason]:
    flat = pictures.contrast < thresholds.min_contrast
    share = float(flat.mean())
    bad = grade(share, thresholds.flat_doubtful, thresholds.flat_refused)
    if not flat.any() or bad is None:
        return
    mean = float(pictures.brightness[flat].mean())
    look = 'black' if mean < _DARK else 'white' if mean > _BRIGHT else 'of one colour'
    yield Reason(
        'flat', bad[0], pictures.label, share, bad[1],
        f'{int(flat.sum())} of {len(flat)} pictures are {look} (contrast under '
        f'{thresholds.min_contrast:g} of 255): uncover the lens, look at exposure and light, or '
        'take this camera out of the contract')


def _check_frozen(pictures: Pictures, motion: Motion, thresholds: Thresholds) -> Reason | None:
    """Judge the stretches in which the picture stood still while the arm moved."""
    longest, total, travelled = 0.0, 0.0, 0.0
    length = max(float((pictures.stamps[-1] - pictures.stamps[0]) / SECOND), 1e-9)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], pictures.same, [False]])))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        # The picture before the first repetition is the one that is repeated.
        first, last = int(pictures.stamps[begin - 1]), int(pictures.stamps[end - 1])
        seconds = (last - first) / SECOND
        if seconds < thresholds.frozen_doubtful_s and seconds < thresholds.frozen_refused * length:
            continue
        travel = motion.travel(first, last)
        if travel < thresholds.frozen_motion:
            continue
        total += seconds
        if seconds > longest:
            longest, travelled = seconds, travel
    if not longest:
        return None
    share = total / length
    # Without a state nobody knows whether anything should have moved, unless nothing ever does.
    refused = (share > 0.99 if not motion.known else
               longest >= thresholds.frozen_refused_s or share >= thresholds.frozen_refused)
    moved = (f'while the arm moved by {travelled:.2g}' if motion.known
             else 'and no state says whether anything moved')
    return Reason(
        'frozen', REFUSED if refused else DOUBTFUL, pictures.label, longest,
        thresholds.frozen_refused_s if longest >= thresholds.frozen_refused_s
        else thresholds.frozen_doubtful_s,
        f'the picture stood still for up to {longest:.2f} s ({share:.0%} of the episode) {moved}: '
        'start its driver anew and record again, or trim that part away')


def _check_duplicates(pictures: Pictures, motion: Motion, thresholds: Thresholds
                      ) -> Iterator[Reason]:
    if not motion.known:
        return
    moved = motion.between(pictures.stamps) >= thresholds.duplicate_motion
    if moved.sum() < _ENOUGH:
        return
    share = float(pictures.same[1:][moved].mean())
    if share > thresholds.duplicates_doubtful:
        yield Reason(
            'duplicates', DOUBTFUL, pictures.label, share, thresholds.duplicates_doubtful,
            f'{share:.0%} of the pictures taken while the arm moved equal the one before: the '
            'camera delivers fewer pictures than its driver sends; set the driver to the rate of '
            'the camera')
